//! Prekeys: what is asked of the store, and answered.

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::prekey::{PrekeyBundle, PrekeyPair};
use parlor_common::time::Timestamp;

use crate::limits::PrekeyLimits;

/// Prekeys of a device whose signatures hold, to be kept.
#[derive(Debug)]
pub struct PrekeysPut {
    /// The device that signed them.
    pub device: DeviceKey,
    /// Its next signed pair; absent to leave the one before.
    pub signed: Option<PrekeyPair>,
    /// More one-time pairs.
    pub one_time: Vec<PrekeyPair>,
    /// Whether those that are there are dropped first.
    pub replace: bool,
    /// The server's clock.
    pub at: Timestamp,
    /// One-time pairs that are kept for a device.
    pub max_one_time: u32,
}

/// A wish to start sessions with an account's devices.
#[derive(Debug)]
pub struct BundlesAsked {
    /// The device that asks, for its account. It gets no bundle of itself.
    pub asker: DeviceKey,
    /// Whose devices.
    pub of: Username,
    /// The server's clock.
    pub at: Timestamp,
    /// How much of this is too much.
    pub limits: PrekeyLimits,
}

/// What became of a wish for bundles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taking {
    /// One of each device with a signed pair that is not too old.
    Taken(Vec<PrekeyBundle>),
    /// The asking device belongs to no account any more.
    NoAccount,
    /// The account has asked too often today.
    TooMany {
        /// When it may ask again.
        until: Timestamp,
    },
    /// Nobody has that name.
    UnknownUser,
}
