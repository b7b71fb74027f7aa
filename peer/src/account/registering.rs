//! Registration: a new account with its first device.

use parlor_common::Blob;
use parlor_common::device_list::DeviceList;
use parlor_common::id::Username;
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{self, RegisterStarted, Request};
use rand::CryptoRng;

use super::sealed::{self, Opener};
use super::{AccountError, NewDevice, Password, Place, RecoveryCode, new_account_secret};
use crate::node::record::Identity;
use crate::opaque::Registration;

/// A registration that has started.
#[derive(Debug)]
pub struct Registering {
    place: Place,
    device: NewDevice,
    opaque: Registration,
}

/// What a registration makes: an identity to be stored, and a code to be written down.
#[derive(Debug)]
pub struct NewAccount {
    /// Who this device is from now on.
    pub identity: Identity,
    /// To be shown once, on standard error, and never stored.
    pub recovery_code: RecoveryCode,
}

impl Registering {
    /// Starts to register `name` at `server`, with `device` as its first device. Where not everybody
    /// may register the request gets a ticket; it can be sent again with another one.
    pub fn start(
        name: Username,
        server: ServerAddress,
        device: NewDevice,
        password: &Password,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Request), AccountError> {
        let place = Place::new(name, server)?;
        let (opaque, message) = Registration::start(password.expose_bytes(), rng)?;
        let request = Request::RegisterStart {
            name: place.name.clone(),
            message: Blob(message),
            ticket: None,
        };
        Ok((Self { place, device, opaque }, request))
    }

    /// Hardens the password and makes the account: its key, its first device list, its boxes. Slow.
    /// The profile is to be written before the request leaves, and put in force when it is done.
    pub fn finish(
        self,
        started: &RegisterStarted,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Request, NewAccount), AccountError> {
        let Self { place, device, opaque } = self;
        let (upload, export) =
            opaque.finish(&started.message.0, place.parties(), started.argon2, rng)?;
        let account = new_account_secret(rng);
        let recovery_code = RecoveryCode::generate(rng);
        let list = DeviceList::first(place.name.clone(), account.public(), device.entry(now), now);
        let registration = rendezvous::Registration {
            upload: Blob(upload),
            devices: list.sign(&account, None),
            account_box: sealed::seal(&account, &place.name, Opener::Password(&export), rng),
            recovery_box: sealed::seal(
                &account,
                &place.name,
                Opener::Recovery(&recovery_code),
                rng,
            ),
        };
        let list = registration.devices.clone();
        let identity = device.belonging_to(place, account.public(), list);
        let request = Request::RegisterFinish(Box::new(registration));
        Ok((request, NewAccount { identity, recovery_code }))
    }
}
