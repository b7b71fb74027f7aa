//! Login, by OPAQUE or by the recovery code: the server learns that somebody knows the password, or
//! holds the account key, and never either of them.
//!
//! A try is counted when it begins: a client that has guessed wrong notices it by the first reply
//! and never sends the second message.

use parlor_common::id::Username;
use parlor_common::identity::Signature;
use parlor_common::recovery;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    AccountChange, Argon2Params, ErrorCode, ErrorReply, Event, LoggedIn, LoginStarted,
    RecoveryStarted,
};
use rand::CryptoRng;

use super::buckets::Kind;
use super::connections::Login;
use super::exchange::{Exchange, bad_opaque, no_exchange};
use super::output::Asker;
use super::query::{Account, Answer, Credentials, LoginAttempt, LoginStart, Origin, Query, Way};
use super::reply::{Handled, locked, ok, refusal, too_fast, unavailable};
use super::{After, Server};
use crate::opaque::{Binding, Known};

impl Server {
    /// First flight of a login.
    pub(super) fn login_start(
        &mut self,
        asker: Asker,
        name: Username,
        message: Vec<u8>,
        now: Timestamp,
    ) -> Handled {
        let attempt = self.login_attempt(asker, name, Way::Password, now)?;
        let after =
            After::LoginStart { name: attempt.name.clone(), message, origin: attempt.origin };
        self.ask(asker, Query::StartLogin(attempt), after)
    }

    fn login_attempt(
        &self,
        asker: Asker,
        name: Username,
        way: Way,
        now: Timestamp,
    ) -> Result<Box<LoginAttempt>, ErrorReply> {
        let (origin, limits) = (self.origin(asker, now)?, self.params.limits);
        Ok(Box::new(LoginAttempt { name, way, origin, limits }))
    }

    /// Answers the first flight; where there is no such account, or it is shut, as if there were
    /// one with another password.
    pub(super) fn login_started(
        &mut self,
        asker: Asker,
        (name, message, origin): (Username, &[u8], Origin),
        answer: Answer,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        let known = let_in(answer)?;
        self.draw_in_all(asker, Kind::Logins, origin.at)?;
        let argon2 = known.as_ref().map_or(Argon2Params::DEFAULT, |known| known.argon2);
        let account = known.as_deref().map_or(Known::Nobody, Credentials::known);
        let exporter = self.exporter(asker)?;
        let binding = Binding { name: &name, server: &self.params.key, exporter: &exporter };
        let started = self.params.opaque.start_login(account, message, &binding, rng);
        let (message, pending) = started.map_err(|_| bad_opaque())?;
        self.begin(asker, Exchange::Login { name, pending, origin });
        ok(LoginStarted { message: message.into(), argon2 })
    }

    /// Last flight of a login.
    pub(super) fn login_finish(&mut self, asker: Asker, message: &[u8], now: Timestamp) -> Handled {
        let exchange = self.take_exchange(asker);
        let Some(Exchange::Login { name, pending, origin }) = exchange else {
            return Err(no_exchange("login.start"));
        };
        let exporter = self.exporter(asker)?;
        let binding = Binding { name: &name, server: &self.params.key, exporter: &exporter };
        if pending.finish(message, &binding).is_err() {
            return Err(self.failed(name, origin));
        }
        self.finish_login(asker, name, Way::Password, now)
    }

    /// First flight of a recovery: the account key, sealed under a code that no one can try.
    pub(super) fn recovery_start(
        &mut self,
        asker: Asker,
        name: Username,
        now: Timestamp,
    ) -> Handled {
        let attempt = self.login_attempt(asker, name, Way::Recovery, now)?;
        let after = After::RecoveryStart { name: attempt.name.clone(), origin: attempt.origin };
        self.ask(asker, Query::StartLogin(attempt), after)
    }

    pub(super) fn recovery_started(
        &mut self,
        asker: Asker,
        (name, origin): (Username, Origin),
        answer: Answer,
    ) -> Handled {
        let known = let_in(answer)?;
        let fake = self.params.opaque.box_of_unknown(&name);
        let recovery_box = known.as_ref().map_or(fake, |known| known.recovery_box.clone());
        let account_key = known.filter(|known| !known.shut).map(|known| known.account_key);
        self.begin(asker, Exchange::Recovery { name, account_key, origin });
        ok(RecoveryStarted { recovery_box })
    }

    /// Last flight of a recovery.
    pub(super) fn recovery_finish(
        &mut self,
        asker: Asker,
        proof: &Signature,
        now: Timestamp,
    ) -> Handled {
        let exchange = self.take_exchange(asker);
        let Some(Exchange::Recovery { name, account_key, origin }) = exchange else {
            return Err(no_exchange("recovery.start"));
        };
        let exporter = self.exporter(asker)?;
        let holds =
            account_key.is_some_and(|key| recovery::check(&key, &name, &exporter, proof).is_ok());
        if !holds {
            return Err(self.failed(name, origin));
        }
        self.finish_login(asker, name, Way::Recovery, now)
    }

    fn finish_login(&mut self, asker: Asker, name: Username, way: Way, now: Timestamp) -> Handled {
        let attempt = self.login_attempt(asker, name.clone(), way, now)?;
        self.ask(asker, Query::FinishLogin(attempt), After::LoginFinish { name, way })
    }

    pub(super) fn logged_in(
        &mut self,
        asker: Asker,
        (name, way): (Username, Way),
        answer: Answer,
        now: Timestamp,
    ) -> Handled {
        let Answer::Account(account) = answer else { return Err(unavailable()) };
        let Account { account_box, devices } = *account.ok_or_else(wrong_password)?;
        if way == Way::Recovery {
            let change = AccountChange::Recovered;
            self.tell_other_devices(asker, name.clone(), Event::AccountChanged { change });
        }
        if let Some(connection) = self.connections.get_mut(asker.conn) {
            connection.login = Some(Login { name, at: now });
        }
        ok(LoggedIn { account_box, devices })
    }

    /// A login whose last flight was wrong.
    fn failed(&mut self, name: Username, origin: Origin) -> ErrorReply {
        self.record(origin.failed_login(name, ErrorCode::WrongPassword));
        wrong_password()
    }

    /// The account whose password was proved on this connection in the last five minutes.
    pub(super) fn fresh_login(&self, asker: Asker, now: Timestamp) -> Result<Username, ErrorReply> {
        let connection = self.connections.get(asker.conn).ok_or_else(unavailable)?;
        let name = connection.fresh_login(now).cloned();
        name.ok_or_else(|| {
            let message = "log in on this connection first: a login is good for five minutes";
            refusal(ErrorCode::LoginNeeded, message)
        })
    }

    /// What both ends of this connection, and nobody else, know.
    fn exporter(&self, asker: Asker) -> Result<[u8; 32], ErrorReply> {
        let connection = self.connections.get(asker.conn);
        connection.map(|connection| connection.exporter).ok_or_else(unavailable)
    }

    /// Where a request comes from.
    pub(super) fn origin(&self, asker: Asker, now: Timestamp) -> Result<Origin, ErrorReply> {
        let connection = self.connections.get(asker.conn).ok_or_else(unavailable)?;
        Ok(Origin { remote: connection.remote.ip(), device: connection.device, at: now })
    }
}

/// The credentials of a try that may go on.
fn let_in(answer: Answer) -> Result<Option<Box<Credentials>>, ErrorReply> {
    let Answer::LoginStarted(start) = answer else { return Err(unavailable()) };
    match start {
        LoginStart::Allowed(known) => Ok(known),
        LoginStart::TooFast { until } => Err(too_fast("too many logins; try again later", until)),
        LoginStart::Locked { until } => Err(locked(until)),
    }
}

fn wrong_password() -> ErrorReply {
    refusal(ErrorCode::WrongPassword, "wrong password, or no such account")
}
