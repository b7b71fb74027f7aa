//! The way into an account by its recovery code: whoever opens the recovery box holds the account
//! key, and proves that on one connection. A new password is to follow.

use parlor_common::id::Username;
use parlor_common::identity::AccountSecret;
use parlor_common::link::ServerAddress;
use parlor_common::recovery;
use parlor_common::wire::rendezvous::{LoggedIn, RecoveryStarted, Request};

use super::sealed::{self, Opener};
use super::{AccountError, OpenAccount, Place, RecoveryCode};

/// A recovery that has started.
#[derive(Debug)]
pub struct Recovering {
    place: Place,
}

impl Recovering {
    /// Starts to recover the account `name` at `server`.
    pub fn start(name: Username, server: ServerAddress) -> Result<(Self, Request), AccountError> {
        let place = Place::new(name, server)?;
        let request = Request::RecoveryStart { name: place.name.clone() };
        Ok((Self { place }, request))
    }

    /// Opens the account key, and proves to hold it. `exporter` is what the connection exports for
    /// logins; a wrong code shows here, and nothing more is then to be sent.
    pub fn prove(
        self,
        started: &RecoveryStarted,
        code: &RecoveryCode,
        exporter: &[u8; 32],
    ) -> Result<(Request, Recovered), AccountError> {
        let Self { place } = self;
        let account = sealed::open(&started.recovery_box, &place.name, Opener::Recovery(code))
            .map_err(|_| AccountError::WrongRecoveryCode)?;
        let proof = recovery::prove(&account, &place.name, exporter);
        Ok((Request::RecoveryFinish { proof }, Recovered { place, account }))
    }
}

/// A recovery that was proven.
#[derive(Debug)]
pub struct Recovered {
    place: Place,
    account: AccountSecret,
}

impl Recovered {
    /// Checks the account's devices by its key. What was sealed under the old password stays so.
    pub fn open(self, logged_in: LoggedIn) -> Result<OpenAccount, AccountError> {
        OpenAccount::new(self.place, self.account, logged_in.devices)
    }
}
