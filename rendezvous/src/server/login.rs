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
        self.record_refusal(origin.failed_login(name, ErrorCode::WrongPassword));
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
        let (remote, device) = (connection.remote.ip(), connection.device);
        Ok(Origin { remote, source: self.sources.of(remote, now), device, at: now })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ConnId;
    use super::super::testing::{PASSWORD, World, first_list, name};
    use super::*;
    use crate::admin::UserChange;
    use crate::limits::Limits;
    use crate::server::ServerParams;

    /// What becomes of `times` wrong logins in a row, at the same moment.
    fn guess(world: &mut World, as_name: &str, times: usize) -> Vec<ErrorCode> {
        let conn = world.connect(9);
        (0..times).map(|_| world.login(conn, as_name, "wrong").unwrap_err()).collect()
    }

    fn login(world: &mut World, device: u8) -> Result<ConnId, ErrorReply> {
        let conn = world.connect(device);
        world.try_login(conn, "alice", PASSWORD).map(|_| conn)
    }

    fn unlock(world: &mut World, of: &str) {
        world.change_user(of, UserChange::Unlock);
    }

    #[test]
    fn guesses_are_delayed_then_locked_out_and_still_so_after_a_restart() {
        use ErrorCode::{Locked, TooFast, WrongPassword};
        let mut world = World::new();
        world.register("alice", 1);
        let expected = [[WrongPassword; 4].as_slice(), &[TooFast; 5], &[Locked; 6]].concat();
        assert_eq!(guess(&mut world, "alice", 15), expected);
        let until = world.now + Duration::from_secs(15 * 60);
        let refused = login(&mut world, 9).unwrap_err();
        assert_eq!((refused.code, refused.until), (Locked, Some(until)));
        assert_eq!(
            world.audited_reasons("login_failed"),
            [("locked", 7), ("too_fast", 5), ("wrong_password", 4),]
                .map(|(reason, count)| (reason.to_owned(), count))
        );
        assert_eq!(world.audited("locked_out"), 1);

        let mut world = world.restart(|params| params);
        assert_eq!(login(&mut world, 9).unwrap_err().code, Locked);
        world.wait(Duration::from_secs(15 * 60));
        login(&mut world, 9).unwrap();
    }

    #[test]
    fn an_unlock_lets_the_owner_in_at_once() {
        let mut world = World::new();
        world.register("alice", 1);
        guess(&mut world, "alice", 15);
        unlock(&mut world, "alice");
        login(&mut world, 9).unwrap();
        assert_eq!(world.audited("user_unlocked"), 1);
    }

    #[test]
    fn a_name_that_nobody_has_is_delayed_and_locked_alike() {
        let mut world = World::new();
        world.register("alice", 1);
        let known = guess(&mut world, "alice", 15);
        world.address = [192, 0, 2, 8].into();
        assert_eq!(guess(&mut world, "ghost", 15), known);
    }

    #[test]
    fn strangers_do_not_lock_the_owner_out() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        guess(&mut world, "alice", 15);
        // From another address, and with a device of the account from the very same.
        world.try_login(alice, "alice", PASSWORD).unwrap();
        world.address = [198, 51, 100, 1].into();
        login(&mut world, 2).unwrap();
    }

    #[test]
    fn a_far_higher_bound_holds_for_the_name_alone_but_not_where_it_has_logged_in_before() {
        let limits = Limits { login_failures_per_name_per_day: 50, ..Limits::default() };
        let mut world = World::limited(limits);
        world.register("alice", 1);
        login(&mut world, 2).unwrap();
        for last in 1..=20 {
            world.address = [198, 51, 100, last].into();
            guess(&mut world, "alice", 4);
        }
        world.address = [198, 51, 100, 99].into();
        assert_eq!(login(&mut world, 2).unwrap_err().code, ErrorCode::Locked);
        world.address = [192, 0, 2, 7].into();
        login(&mut world, 2).unwrap();
    }

    #[test]
    fn a_source_has_so_many_logins_across_a_restart_whatever_the_names() {
        let mut world = World::new();
        let conn = world.connect(9);
        let mut codes = Vec::new();
        for number in 0..61 {
            codes.push(world.login(conn, &format!("user{number}"), "wrong").unwrap_err());
        }
        assert_eq!(codes[..60], [ErrorCode::WrongPassword; 60]);
        assert_eq!(codes[60], ErrorCode::TooFast);
        let mut world = world.restart(|params| params);
        let conn = world.connect(9);
        assert_eq!(world.login(conn, "another", "wrong"), Err(ErrorCode::TooFast));
        world.wait(Duration::from_secs(10));
        assert_eq!(world.login(conn, "another", "wrong"), Err(ErrorCode::WrongPassword));
        assert_eq!(world.login(conn, "another", "wrong"), Err(ErrorCode::TooFast));
        world.address = [198, 51, 100, 1].into();
        let conn = world.connect(9);
        assert_eq!(world.login(conn, "another", "wrong"), Err(ErrorCode::WrongPassword));
    }

    #[test]
    fn all_sources_together_have_so_many_logins_and_known_devices_are_not_among_them() {
        let limits = Limits { logins_per_minute_in_all: 3, ..Limits::default() };
        let mut world = World::limited(limits);
        let alice = world.register("alice", 1);
        for last in 1..=4 {
            world.address = [198, 51, 100, last].into();
            let conn = world.connect(9);
            let expected = if last < 4 { ErrorCode::WrongPassword } else { ErrorCode::TooFast };
            assert_eq!(world.login(conn, "ghost", "wrong"), Err(expected));
        }
        world.try_login(alice, "alice", PASSWORD).unwrap();
    }

    #[test]
    fn a_source_has_so_many_registrations_across_a_restart() {
        let mut world = World::new();
        let register = |world: &mut World, number: u8| {
            let (name, conn) = (format!("user{number}"), world.connect(number));
            let list = first_list(&name, number);
            world.try_register(conn, &name, list).map_err(|error| error.code)
        };
        for number in 1..=30 {
            register(&mut world, number).unwrap();
        }
        assert_eq!(register(&mut world, 31), Err(ErrorCode::TooFast));
        let mut world = world.restart(|params| params);
        assert_eq!(register(&mut world, 31), Err(ErrorCode::TooFast));
        world.wait(Duration::from_secs(60));
        register(&mut world, 31).unwrap();
        let in_all = Limits { registrations_per_minute_in_all: 1, ..Limits::default() };
        let mut world = world.restart(|params| ServerParams { limits: in_all, ..params });
        world.wait(Duration::from_secs(120));
        register(&mut world, 32).unwrap();
        world.address = [198, 51, 100, 1].into();
        assert_eq!(register(&mut world, 33), Err(ErrorCode::TooFast));
    }

    #[test]
    fn buckets_of_a_source_are_as_large_and_as_fast_as_it_is_configured() {
        let limits = Limits {
            registrations_at_once: 1,
            registrations_per_minute: 6,
            logins_at_once: 2,
            logins_per_minute: 12,
            ..Limits::default()
        };
        let mut world = World::limited(limits);
        world.register("alice", 1);
        let register = |world: &mut World| {
            let conn = world.connect(2);
            world.try_register(conn, "bob", first_list("bob", 2)).map_err(|error| error.until)
        };
        assert_eq!(register(&mut world), Err(Some(world.now + Duration::from_secs(10))));
        for _ in 0..2 {
            assert_eq!(login(&mut world, 3).map(|_| ()), Ok(()));
        }
        let refused = login(&mut world, 3).unwrap_err();
        assert_eq!(refused.until, Some(world.now + Duration::from_secs(5)));
        world.wait(Duration::from_secs(10));
        assert_eq!(register(&mut world).map(|_| ()), Ok(()));
    }

    #[test]
    fn refusals_of_one_source_do_not_fill_the_trail() {
        let limits = Limits {
            audited_refusals_at_once: 20,
            audited_refusals_per_minute: 10,
            ..Limits::default()
        };
        let mut world = World::limited(limits);
        guess(&mut world, "ghost", 500);
        assert_eq!(world.audited("login_failed"), 20);
        world.wait(Duration::from_secs(60));
        guess(&mut world, "ghost", 500);
        assert_eq!(world.audited("login_failed"), 30);
    }

    #[test]
    fn what_is_remembered_of_tries_is_bounded_and_those_who_are_locked_stay() {
        let limits = Limits { login_tries_kept: 50, logins_at_once: 10_000, ..Limits::default() };
        let mut world = World::limited(limits);
        guess(&mut world, "ghost", 15);
        let conn = world.connect(9);
        for number in 0..300 {
            let _ = world.login(conn, &format!("user{number}"), "wrong");
        }
        assert!(world.rows("tries") <= 60, "{}", world.rows("tries"));
        assert!(world.rows("buckets") <= 60);
        assert_eq!(world.login(conn, "ghost", "wrong"), Err(ErrorCode::Locked));
    }

    #[test]
    fn a_shut_account_is_a_wrong_password_and_its_devices_are_strangers() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        world.change_user("alice", UserChange::Disable);
        let conn = world.connect(2);
        assert_eq!(world.login(conn, "alice", PASSWORD), Err(ErrorCode::WrongPassword));
        let _ = alice;
        let known = world.connect(1);
        let look_up = parlor_common::wire::rendezvous::Request::UserGet { name: name("alice") };
        assert_eq!(world.refused(known, &look_up), ErrorCode::UnknownDevice);
        world.change_user("alice", UserChange::Enable);
        assert!(world.login(conn, "alice", PASSWORD).is_ok());
        let known = world.connect(1);
        world.call::<parlor_common::wire::rendezvous::User>(known, &look_up);
    }
}
