//! Registration, login, recovery, and what changes an account, step by step: values and requests
//! in and out. The caller owns the connection, and runs the slow steps where they block nobody.
//!
//! ```text
//! NewDevice::generate ── its key is the TLS identity of the connection
//! Registering::start  ── register.start  ──► RegisterStarted
//! Registering::finish ── register.finish ──► Done            (slow: Argon2id)
//!
//! LoggingIn::start    ── login.start     ──► LoginStarted
//! LoggingIn::finish   ── login.finish    ──► LoggedIn        (slow: Argon2id)
//! Pending::open       ── an OpenAccount, and the key that its password gives
//! or, without the password:
//! Recovering::start   ── recovery.start  ──► RecoveryStarted
//! Recovering::prove   ── recovery.finish ──► LoggedIn
//! Recovered::open     ── an OpenAccount
//!
//! OpenAccount::add_device      ── device.add      ──► Done
//! OpenAccount::remove_device   ── device.remove   ──► Done
//! OpenAccount::rekey           ── account.rekey   ──► Done
//! OpenAccount::change_password ── password.start  ──► RegisterStarted
//! ChangingPassword::finish     ── password.finish ──► Done   (slow: Argon2id)
//! ```
//! The account key exists in an [`OpenAccount`] only, and is erased with it.

mod login;
mod open;
mod password;
mod recovering;
mod recovery;
mod registering;
pub mod sealed;
mod strength;

use parlor_common::device_list::{DeviceEntry, DeviceListError, MAX_DEVICES, SignedDeviceList};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::{AccountKey, AccountSecret, DeviceSecret, ServerKey};
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

pub use login::{LoggingIn, Pending};
pub use open::{ChangingPassword, OpenAccount, Rekeyed};
pub use password::{Password, PasswordError};
pub use recovering::{Recovered, Recovering};
pub use recovery::{ParseRecoveryCodeError, RecoveryCode};
pub use registering::{NewAccount, Registering};
pub use sealed::BadBox;
pub use strength::WeakPassword;

use crate::crypto::group::KeyPair;
use crate::node::record::Identity;
use crate::opaque::{OpaqueError, Parties};

/// Why there is no account, none on this device, or no change of it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AccountError {
    /// The sealed account key does not open, though the password was right.
    #[error("{0}; ask whoever runs the rendezvous, or use the recovery code")]
    BadBox(#[from] BadBox),
    /// The device list that was served does not hold for the account.
    #[error("the rendezvous served devices that do not hold: {0}")]
    DeviceList(#[from] DeviceListError),
    /// The link pins no key.
    #[error("the link has no server key: use one that starts with parlor://KEY@")]
    NoServerKey,
    /// The device is none of the account's.
    #[error("the account has no device {0}; parlor devices lists them")]
    NoSuchDevice(DeviceId),
    /// The password exchange ended.
    #[error(transparent)]
    Opaque(#[from] OpaqueError),
    /// A device is not removed by itself.
    #[error(
        "this is the device that you are on; remove it from another one, or see parlor account \
         delete"
    )]
    ThisDevice,
    /// The account has as many devices as an account may have.
    #[error("the account has {MAX_DEVICES} devices, which is the most; remove one first")]
    TooManyDevices,
    /// The recovery box does not open: the code is another, or there is no such account. A
    /// rendezvous answers both alike.
    #[error("wrong recovery code, or no such account")]
    WrongRecoveryCode,
}

/// Where an account is: its name, and the server with the key that the person's link pins.
#[derive(Clone, Debug)]
struct Place {
    name: Username,
    server: ServerAddress,
    key: ServerKey,
}

impl Place {
    fn new(name: Username, server: ServerAddress) -> Result<Self, AccountError> {
        let key = server.key.ok_or(AccountError::NoServerKey)?;
        Ok(Self { name, server, key })
    }

    const fn parties(&self) -> Parties<'_> {
        Parties { name: &self.name, server: &self.key }
    }
}

/// The keys of a device that belongs to no account yet.
#[derive(Debug)]
pub struct NewDevice {
    key: DeviceSecret,
    dh: KeyPair,
}

impl NewDevice {
    /// Draws a device's keys. `rng` must be the operating system's generator.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self { key: DeviceSecret::from_seed(&seed), dh: KeyPair::generate(rng) }
    }

    /// The device's key, to connect with: registration and login count for this device only.
    pub const fn key(&self) -> &DeviceSecret {
        &self.key
    }

    fn entry(&self, now: Timestamp) -> DeviceEntry {
        DeviceEntry::new(self.key.public(), self.dh.public().to_bytes(), now)
    }

    /// The identity that this device has once the account's list names it.
    fn belonging_to(
        self,
        place: Place,
        account: AccountKey,
        devices: SignedDeviceList,
    ) -> Identity {
        Identity {
            name: place.name,
            server: place.server,
            account_key: account,
            devices,
            device: self.key,
            dh: self.dh,
        }
    }
}

fn new_account_secret(rng: &mut dyn CryptoRng) -> AccountSecret {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut_slice());
    AccountSecret::from_seed(&seed)
}

#[cfg(test)]
mod tests;
