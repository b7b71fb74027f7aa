//! Login by the password: OPAQUE, bound to one connection.

use parlor_common::Blob;
use parlor_common::id::Username;
use parlor_common::link::ServerAddress;
use parlor_common::wire::rendezvous::{LoggedIn, LoginStarted, Request};
use rand::CryptoRng;

use super::sealed::{self, Opener};
use super::{AccountError, OpenAccount, Password, Place};
use crate::opaque::{ExportKey, Login};

/// A login that has started.
#[derive(Debug)]
pub struct LoggingIn {
    place: Place,
    opaque: Login,
}

impl LoggingIn {
    /// Starts to log in as `name` at `server`.
    pub fn start(
        name: Username,
        server: ServerAddress,
        password: &Password,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Request), AccountError> {
        let place = Place::new(name, server)?;
        let (opaque, message) = Login::start(password.expose_bytes(), rng)?;
        let request = Request::LoginStart { name: place.name.clone(), message: Blob(message) };
        Ok((Self { place, opaque }, request))
    }

    /// Hardens the password and proves it. Slow. `exporter` is what the connection exports for
    /// logins; a wrong password shows here, and nothing more is then to be sent.
    pub fn finish(
        self,
        started: &LoginStarted,
        exporter: &[u8; 32],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Request, Pending), AccountError> {
        let Self { place, opaque } = self;
        let (message, export) =
            opaque.finish(&started.message.0, place.parties(), exporter, started.argon2, rng)?;
        let request = Request::LoginFinish { message: Blob(message) };
        Ok((request, Pending { place, export }))
    }
}

/// A login that was proven: the rendezvous' answer to it opens the account.
#[derive(Debug)]
pub struct Pending {
    place: Place,
    export: ExportKey,
}

impl Pending {
    /// Opens the account key, and checks the account's devices by it. The key that the password
    /// gives seals what is to be opened by the same password.
    pub fn open(self, logged_in: LoggedIn) -> Result<(OpenAccount, ExportKey), AccountError> {
        let Self { place, export } = self;
        let LoggedIn { account_box, devices } = logged_in;
        let account = sealed::open(&account_box, &place.name, Opener::Password(&export))?;
        Ok((OpenAccount::new(place, account, devices)?, export))
    }
}
