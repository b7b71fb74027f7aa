//! Mailboxes: what is asked of the store, and answered.

use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;

use crate::limits::MailboxLimits;

/// Whose part of a mailbox an envelope takes: a keyed hash of sender and recipient. Who has the
/// store alone sees which envelopes of one mailbox have the same sender, and not who that is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share(pub [u8; 32]);

/// Envelopes that are left in a mailbox, all of them or none.
#[derive(Debug)]
pub struct EnvelopesPosted {
    /// By whom.
    pub from: Username,
    /// In whose.
    pub to: Username,
    /// For which of the recipient's devices.
    pub device: DeviceId,
    /// The sender's part of the mailbox.
    pub share: Share,
    /// Their bytes, in order.
    pub envelopes: Vec<Vec<u8>>,
    /// When.
    pub at: Timestamp,
    /// How much of this is too much.
    pub limits: MailboxLimits,
}

/// What became of envelopes that were posted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Posting {
    /// They are held for this device.
    Held(DeviceKey),
    /// The recipient wants to hear nothing of the sender: nothing is kept.
    Dropped,
    /// The two are no mutual contacts, or there is no such account.
    NoContact,
    /// The device is not on the recipient's list.
    NoDevice,
    /// The sender has blocked the recipient.
    Blocked,
    /// As much waits for the recipient as may.
    Full,
    /// As much of this sender waits for the recipient as may.
    ShareFull,
    /// The sender has posted too much today.
    TooMany {
        /// When the next one is taken.
        until: Timestamp,
    },
}
