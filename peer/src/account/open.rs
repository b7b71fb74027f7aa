//! An account whose key is open: what its owner does to it.

use parlor_common::Blob;
use parlor_common::device_list::{DeviceEntry, MAX_DEVICES, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::DeviceId;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{RegisterStarted, Rekeying, Request};
use rand::CryptoRng;

use super::sealed::{self, Opener};
use super::{AccountError, NewDevice, Password, Place, RecoveryCode, new_account_secret};
use crate::node::record::Identity;
use crate::opaque::{ExportKey, Registration};

/// An account after a login: its secret key, and its devices as the rendezvous serves them.
#[derive(Debug)]
pub struct OpenAccount {
    place: Place,
    account: AccountSecret,
    devices: VerifiedDeviceList,
}

/// What a new account key makes.
#[derive(Debug)]
pub struct Rekeyed {
    /// The first list under the new key, which names it: to be kept before the request leaves, and
    /// to be adopted when it is in force.
    pub devices: SignedDeviceList,
    /// To be shown once, on standard error, and never stored. The one before opens nothing more.
    pub recovery_code: RecoveryCode,
}

impl OpenAccount {
    pub(super) fn new(
        place: Place,
        account: AccountSecret,
        devices: SignedDeviceList,
    ) -> Result<Self, AccountError> {
        let devices = devices.verify(&place.name, &account.public())?;
        Ok(Self { place, account, devices })
    }

    /// The account's devices, as the rendezvous serves them.
    pub const fn devices(&self) -> &VerifiedDeviceList {
        &self.devices
    }

    /// Checks that this is the account of a profile, and that the rendezvous serves no older list
    /// of devices than the profile has.
    pub fn check_is(&self, identity: &Identity) -> Result<(), AccountError> {
        let known = identity.devices.clone();
        let known = known.verify(&self.place.name, &self.account.public())?;
        Ok(self.devices.check_follows(&known)?)
    }

    /// Adds `device` as the account's newest. The profile is to be written before the request
    /// leaves, and put in force when it is done.
    pub fn add_device(
        self,
        device: NewDevice,
        now: Timestamp,
    ) -> Result<(Request, Identity), AccountError> {
        let next = self.devices.with_device(device.entry(now), now);
        if next.devices.len() > MAX_DEVICES {
            return Err(AccountError::TooManyDevices);
        }
        let devices = next.sign(&self.account, None);
        let identity = device.belonging_to(self.place, self.account.public(), devices.clone());
        Ok((Request::DeviceAdd { devices }, identity))
    }

    /// Takes a device off the account, from another one of it, which signs that. Gives the list
    /// that is then in force.
    pub fn remove_device(
        &self,
        device: DeviceId,
        by: &DeviceSecret,
        now: Timestamp,
    ) -> Result<(Request, SignedDeviceList), AccountError> {
        if device == DeviceId::of(&by.public()) {
            return Err(AccountError::ThisDevice);
        }
        if !self.devices.list().devices.iter().any(|known| known.id == device) {
            return Err(AccountError::NoSuchDevice(device));
        }
        let devices = self.devices.without(&[device], now).sign(&self.account, Some(by));
        Ok((Request::DeviceRemove { devices: devices.clone() }, devices))
    }

    /// Gives the account a new key, with `device` as its only one. `export` is what the account's
    /// password gave: the password stays.
    pub fn rekey(
        self,
        device: &DeviceSecret,
        export: &ExportKey,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Request, Rekeyed), AccountError> {
        let entry = self.entry(device)?.clone();
        let (account, recovery_code) = (new_account_secret(rng), RecoveryCode::generate(rng));
        let devices = self.devices.rekeyed(account.public(), entry, now).sign(&account, None);
        let mut seal = |opener| sealed::seal(&account, &self.place.name, opener, rng);
        let account_box = seal(Opener::Password(export));
        let recovery_box = seal(Opener::Recovery(&recovery_code));
        let rekeying = Rekeying { devices: devices.clone(), account_box, recovery_box };
        let request = Request::AccountRekey(Box::new(rekeying));
        Ok((request, Rekeyed { devices, recovery_code }))
    }

    fn entry(&self, device: &DeviceSecret) -> Result<&DeviceEntry, AccountError> {
        let key = device.public();
        self.devices.device(&key).ok_or_else(|| AccountError::NoSuchDevice(DeviceId::of(&key)))
    }

    /// Starts to give the account a new password.
    pub fn change_password(
        self,
        password: &Password,
        rng: &mut dyn CryptoRng,
    ) -> Result<(ChangingPassword, Request), AccountError> {
        let (opaque, message) = Registration::start(password.expose_bytes(), rng)?;
        let request = Request::PasswordStart { message: Blob(message) };
        Ok((ChangingPassword { account: self, opaque }, request))
    }
}

/// A change of the password that has started.
#[derive(Debug)]
pub struct ChangingPassword {
    account: OpenAccount,
    opaque: Registration,
}

impl ChangingPassword {
    /// Hardens the new password, and seals the account key under it. Slow. The old password counts
    /// until the request is done.
    pub fn finish(
        self,
        started: &RegisterStarted,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Request, OpenAccount), AccountError> {
        let Self { account, opaque } = self;
        let place = &account.place;
        let (upload, export) =
            opaque.finish(&started.message.0, place.parties(), started.argon2, rng)?;
        let opener = Opener::Password(&export);
        let account_box = sealed::seal(&account.account, &place.name, opener, rng);
        Ok((Request::PasswordFinish { upload: Blob(upload), account_box }, account))
    }
}
