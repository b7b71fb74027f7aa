//! What changes an account: a new password, a new key, its end. Each needs a fresh login on the
//! connection that asks, and is told to the account's other devices.

use parlor_common::Blob;
use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    AccountChange, Argon2Params, ErrorReply, Event, RegisterStarted, Rekeying,
};
use rand::CryptoRng;

use super::bus::Notice;
use super::connections::Identity;
use super::devices::{bad_list, check_is_next};
use super::exchange::{Exchange, bad_opaque, no_exchange};
use super::output::Asker;
use super::query::{Answer, Deleted, Origin, PasswordChange, Query, Rekey};
use super::registration::check_box;
use super::reply::{Handled, done, ok, unavailable, unknown_device};
use super::{After, Server};
use crate::audit::AuditEvent;
use crate::opaque::{CredentialId, finish_registration};

impl Server {
    /// First flight of a new password: under a new credential identifier, so that nothing of the
    /// old record helps against the new.
    pub(super) fn password_start(
        &mut self,
        asker: Asker,
        message: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        let name = self.fresh_login(asker, now)?;
        let credential = CredentialId::draw(rng);
        let started = self.params.opaque.start_registration(message, &credential);
        let message = started.map_err(|_| bad_opaque())?.into();
        self.begin(asker, Exchange::Password { name, credential });
        ok(RegisterStarted { message, argon2: Argon2Params::DEFAULT })
    }

    /// Last flight of a new password.
    pub(super) fn password_finish(
        &mut self,
        asker: Asker,
        upload: &[u8],
        account_box: Blob,
        now: Timestamp,
    ) -> Handled {
        let Some(Exchange::Password { name, credential }) = self.take_exchange(asker) else {
            return Err(no_exchange("password.start"));
        };
        if self.fresh_login(asker, now)? != name {
            return Err(no_exchange("password.start"));
        }
        check_box(&account_box)?;
        let record = finish_registration(upload).map_err(|_| bad_opaque())?;
        let (argon2, origin) = (Argon2Params::DEFAULT, self.origin(asker, now)?);
        let change =
            PasswordChange { name: name.clone(), credential, record, argon2, account_box, origin };
        self.ask(asker, Query::ChangePassword(Box::new(change)), After::PasswordFinish { name })
    }

    pub(super) fn password_changed(
        &mut self,
        asker: Asker,
        name: Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::PasswordChanged(changed) = answer else { return Err(unavailable()) };
        if !changed {
            return Err(unknown_device());
        }
        let change = AccountChange::Password;
        self.tell_other_devices(asker, name, Event::AccountChanged { change });
        done()
    }

    /// The account that this connection speaks for and has just logged in to.
    pub(super) fn own_fresh_login(
        &self,
        asker: Asker,
        now: Timestamp,
    ) -> Result<Username, ErrorReply> {
        let name = self.fresh_login(asker, now)?;
        if self.identity(asker)?.name == name { Ok(name) } else { Err(unknown_device()) }
    }

    /// A new account key.
    pub(super) fn account_rekey(
        &mut self,
        asker: Asker,
        rekeying: Rekeying,
        now: Timestamp,
    ) -> Handled {
        let name = self.own_fresh_login(asker, now)?;
        check_box(&rekeying.account_box)?;
        check_box(&rekeying.recovery_box)?;
        let query = Query::Devices { name: name.clone() };
        let origin = self.origin(asker, now)?;
        self.ask(asker, query, After::RekeyCheck { name, origin, rekeying: Box::new(rekeying) })
    }

    pub(super) fn rekey_check(
        &mut self,
        asker: Asker,
        (name, origin): (Username, Origin),
        rekeying: Rekeying,
        answer: Answer,
    ) -> Handled {
        let known = Self::list_in_force(&name, answer)?;
        let Rekeying { devices, account_box, recovery_box } = rekeying;
        let devices = rekeyed_list(devices, &known, self.device(asker)?)?;
        let identity = Identity { name, account_key: devices.list().account_key };
        let after = known.mark().hash;
        let rekey = Rekey { after, devices, account_box, recovery_box, origin };
        self.ask(asker, Query::Rekey(Box::new(rekey)), After::RekeyDone(identity))
    }

    pub(super) fn rekeyed(&mut self, asker: Asker, identity: Identity, answer: Answer) -> Handled {
        let Answer::Replaced(replaced) = answer else { return Err(unavailable()) };
        let devices = replaced.ok_or_else(changed_meanwhile)?;
        self.publish(Notice::CutOff { devices, change: AccountChange::Rekeyed });
        let name = identity.name.clone();
        self.sign_in(asker.conn, identity);
        self.publish(Notice::DevicesChanged { name });
        done()
    }

    /// The end of an account.
    pub(super) fn account_delete(&mut self, asker: Asker, now: Timestamp) -> Handled {
        let name = self.own_fresh_login(asker, now)?;
        let entry = self.origin(asker, now)?.entry(AuditEvent::AccountDeleted).of(name.clone());
        let query = Query::DeleteAccount { name: name.clone(), entry: Box::new(entry) };
        self.ask(asker, query, After::Deleted(name))
    }

    pub(super) fn account_deleted(
        &mut self,
        asker: Asker,
        name: &Username,
        answer: Answer,
    ) -> Handled {
        let Answer::Deleted(deleted) = answer else { return Err(unavailable()) };
        let mut deleted = deleted.ok_or_else(unknown_device)?;
        // The asking device hears it by the reply.
        let device = self.device(asker)?;
        deleted.devices.retain(|key| *key != device);
        self.sign_out(asker.conn);
        self.tell_deleted(name, *deleted);
        done()
    }

    /// Cuts a deleted account's devices off, and shows it to its contacts as gone.
    pub(super) fn tell_deleted(&mut self, name: &Username, deleted: Deleted) {
        let Deleted { devices, mutual } = deleted;
        self.publish(Notice::CutOff { devices, change: AccountChange::Deleted });
        for contact in mutual.contacts {
            self.tell_gone(&contact.name, name, mutual.list_version);
        }
    }
}

pub(super) fn changed_meanwhile() -> ErrorReply {
    bad_list("the device list has changed meanwhile; fetch it and try again")
}

/// Checks the first list under a new key: it follows the one in force, is signed by another key
/// than that, and has this connection's device alone.
fn rekeyed_list(
    devices: SignedDeviceList,
    known: &VerifiedDeviceList,
    device: DeviceKey,
) -> Result<VerifiedDeviceList, ErrorReply> {
    let key = devices.claimed_account_key();
    if key == known.list().account_key {
        return Err(bad_list("a new account key is another than the one before"));
    }
    let devices =
        devices.verify(&known.list().name, &key).map_err(|error| bad_list(&error.to_string()))?;
    check_is_next(&devices, known)?;
    let alone = devices.list().devices.iter().all(|entry| entry.key == device);
    if known.device(&device).is_none() || !alone {
        return Err(bad_list("the first list under a new key has this connection's device alone"));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlor_common::recovery;
    use parlor_common::wire::rendezvous::{
        Contacts, Done, ErrorCode, LoggedIn, Present, RecoveryStarted, Request, User,
    };

    use super::super::testing::{
        PASSWORD, World, account, entry, exporter, first_list, name, presence, secret, verified,
    };
    use super::super::{CloseReason, ConnId};
    use super::*;
    use crate::opaque::client;

    const NEW_PASSWORD: &str = "tulip tractor marble nine";

    fn changed(change: AccountChange) -> Event {
        Event::AccountChanged { change }
    }

    /// Alice on device 1, and on device 3 too.
    fn two_devices(world: &mut World) -> ConnId {
        let new = world.connect(3);
        world.login(new, "alice", PASSWORD).unwrap();
        let first = verified("alice", first_list("alice", 1));
        let devices =
            first.with_device(entry(3), world.now).sign(&account("alice"), Some(&secret(1)));
        world.call::<Done>(new, &Request::DeviceAdd { devices });
        new
    }

    fn list(world: &mut World, conn: ConnId) -> VerifiedDeviceList {
        let user: User = world.call(conn, &Request::UserGet { name: name("alice") });
        let key = user.devices.claimed_account_key();
        user.devices.verify(&name("alice"), &key).unwrap()
    }

    fn change_password(world: &mut World, conn: ConnId) -> Result<Done, ErrorReply> {
        let (message, state) = client::start_registration(NEW_PASSWORD, &mut rand_rng());
        let start = Request::PasswordStart { message: message.into() };
        let RegisterStarted { message, .. } = world.try_call(conn, &start)?;
        let (upload, _) = state.finish(
            NEW_PASSWORD,
            &message.0,
            &name("alice"),
            &super::super::testing::SERVER,
            &mut rand_rng(),
        );
        let account_box = vec![9; 60].into();
        world.try_call(conn, &Request::PasswordFinish { upload: upload.into(), account_box })
    }

    fn rand_rng() -> rand::rngs::StdRng {
        rand::SeedableRng::from_seed([6; 32])
    }

    fn recover(world: &mut World, conn: ConnId, as_name: &str) -> Result<LoggedIn, ErrorReply> {
        let start = Request::RecoveryStart { name: name(as_name) };
        let started: RecoveryStarted = world.try_call(conn, &start)?;
        assert!(!started.recovery_box.0.is_empty());
        let proof = recovery::prove(&account(as_name), &name(as_name), &exporter(conn));
        world.try_call(conn, &Request::RecoveryFinish { proof })
    }

    fn rekeying(known: &VerifiedDeviceList, device: u8, key: &str, world: &World) -> Request {
        let key = account(key);
        let devices = known.rekeyed(key.public(), entry(device), world.now).sign(&key, None);
        let (account_box, recovery_box) = (vec![1; 60].into(), vec![2; 60].into());
        Request::AccountRekey(Box::new(Rekeying { devices, account_box, recovery_box }))
    }

    #[test]
    fn a_new_password_takes_the_place_of_the_old_one_and_the_other_devices_hear_of_it() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        let other = two_devices(&mut world);
        world.events(alice);
        world.events(other);
        assert_eq!(change_password(&mut world, alice).unwrap_err().code, ErrorCode::LoginNeeded);
        world.login(alice, "alice", PASSWORD).unwrap();
        change_password(&mut world, alice).unwrap();
        assert_eq!(world.events(other), [changed(AccountChange::Password)]);
        assert_eq!(world.events(alice), []);
        let login = world.login(other, "alice", PASSWORD);
        assert_eq!(login.unwrap_err(), ErrorCode::WrongPassword);
        let login = world.login(other, "alice", NEW_PASSWORD).unwrap();
        assert_eq!(login.account_box.0, vec![9; 60]);
        assert_eq!(world.audited("password_changed"), 1);
    }

    #[test]
    fn a_password_is_changed_within_five_minutes_or_not_at_all() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        world.login(alice, "alice", PASSWORD).unwrap();
        let (message, _) = client::start_registration(NEW_PASSWORD, &mut rand_rng());
        let start = Request::PasswordStart { message: message.into() };
        world.call::<RegisterStarted>(alice, &start);
        world.wait(Duration::from_secs(301));
        let finish =
            Request::PasswordFinish { upload: vec![0; 192].into(), account_box: vec![].into() };
        assert_eq!(world.refused(alice, &finish), ErrorCode::LoginNeeded);
        assert!(world.login(alice, "alice", PASSWORD).is_ok());
        // The exchange was used up.
        assert_eq!(world.refused(alice, &finish), ErrorCode::NoExchange);
    }

    #[test]
    fn who_holds_the_account_key_comes_in_without_the_password() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        let new = world.connect(2);
        let logged_in = recover(&mut world, new, "alice").unwrap();
        assert_eq!(logged_in.devices, first_list("alice", 1));
        assert_eq!(world.events(alice), [changed(AccountChange::Recovered)]);
        change_password(&mut world, new).unwrap();
        let first = verified("alice", logged_in.devices);
        let devices = first.with_device(entry(2), world.now).sign(&account("alice"), None);
        world.call::<Done>(new, &Request::DeviceAdd { devices });
        let login = world.login(new, "alice", NEW_PASSWORD);
        assert!(login.is_ok());
        assert_eq!(world.audited("recovered"), 1);
    }

    #[test]
    fn a_proof_is_good_once_for_its_name_on_its_connection() {
        let mut world = World::new();
        world.register("alice", 1);
        let conn = world.connect(2);
        let proof = recovery::prove(&account("alice"), &name("alice"), &exporter(ConnId(99)));
        for proof in [proof, recovery::prove(&account("x"), &name("alice"), &exporter(conn))] {
            let start = Request::RecoveryStart { name: name("alice") };
            world.call::<RecoveryStarted>(conn, &start);
            let finish = Request::RecoveryFinish { proof };
            assert_eq!(world.refused(conn, &finish), ErrorCode::WrongPassword);
            assert_eq!(world.refused(conn, &finish), ErrorCode::NoExchange);
        }
        assert_eq!(world.audited("login_failed"), 2);
    }

    #[test]
    fn a_name_that_nobody_has_gets_a_recovery_box_too() {
        let mut world = World::new();
        let conn = world.connect(2);
        let mut ask = |name: &str| {
            let start = Request::RecoveryStart { name: name.parse().unwrap() };
            world.call::<RecoveryStarted>(conn, &start).recovery_box.0
        };
        let (ghost, again, other) = (ask("ghost"), ask("ghost"), ask("wraith"));
        assert_eq!(ghost.len(), 80);
        assert_eq!(ghost, again);
        assert_ne!(ghost, other);
        assert_eq!(recover(&mut world, conn, "ghost").unwrap_err().code, ErrorCode::WrongPassword);
    }

    #[test]
    fn a_new_key_leaves_one_device_and_is_told_to_contacts_and_to_the_others() {
        let (mut world, alice, bob) = World::friends();
        let other = two_devices(&mut world);
        world.call::<Present>(bob, &Request::PresenceWatch {});
        for conn in [alice, bob, other] {
            world.events(conn);
        }
        let known = list(&mut world, bob);
        let rekey = rekeying(&known, 1, "alice again", &world);
        assert_eq!(world.refused(alice, &rekey), ErrorCode::LoginNeeded);
        world.login(alice, "alice", PASSWORD).unwrap();
        world.call::<Done>(alice, &rekey);
        assert_eq!(world.events(other), [changed(AccountChange::Rekeyed)]);
        assert_eq!(world.closed(other), Some(CloseReason::CutOff));
        let told = world.events(bob);
        assert!(matches!(&told[..], [Event::Presence(it)] if it.list_version == 3), "{told:?}");
        let now = list(&mut world, bob);
        assert_eq!(now.list().account_key, account("alice again").public());
        assert_eq!(now.list().devices.len(), 1);
        // The other device is a stranger, and this one goes on.
        let other = world.connect(3);
        assert_eq!(world.refused(other, &Request::ContactList {}), ErrorCode::UnknownDevice);
        world.call::<Contacts>(alice, &Request::ContactList {});
        assert_eq!(world.login(other, "alice", PASSWORD).unwrap().account_box.0, vec![1; 60]);
        assert_eq!(world.audited("account_rekeyed"), 1);
    }

    #[test]
    fn a_list_under_a_new_key_follows_the_one_in_force_with_this_device_alone() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        world.login(alice, "alice", PASSWORD).unwrap();
        let known = list(&mut world, alice);
        let later = known.with_device(entry(3), world.now).sign(&account("alice"), None);
        let later = verified("alice", later);
        for refused in [
            rekeying(&known, 1, "alice", &world),
            rekeying(&known, 3, "alice again", &world),
            rekeying(&later, 1, "alice again", &world),
        ] {
            assert_eq!(world.refused(alice, &refused), ErrorCode::BadDeviceList);
        }
        // Of somebody else's account.
        let bob = world.register("bob", 2);
        world.login(bob, "alice", PASSWORD).unwrap();
        let rekey = rekeying(&known, 2, "alice again", &world);
        assert_eq!(world.refused(bob, &rekey), ErrorCode::UnknownDevice);
    }

    #[test]
    fn a_deleted_account_is_gone_for_its_contacts_and_its_name_for_ever() {
        let (mut world, alice, bob) = World::friends();
        let other = two_devices(&mut world);
        world.call::<Present>(bob, &Request::PresenceWatch {});
        for conn in [alice, bob, other] {
            world.events(conn);
        }
        let delete = Request::AccountDelete {};
        assert_eq!(world.refused(alice, &delete), ErrorCode::LoginNeeded);
        world.login(alice, "alice", PASSWORD).unwrap();
        world.call::<Done>(alice, &delete);
        assert_eq!(world.events(other), [changed(AccountChange::Deleted)]);
        assert_eq!(world.closed(other), Some(CloseReason::CutOff));
        let gone = Event::Presence(parlor_common::wire::rendezvous::Presence {
            name: name("alice"),
            online: false,
            list_version: 2,
        });
        assert_eq!(world.events(bob), [gone]);
        assert_ne!(world.events(bob), [presence("alice", true)]);
        let contacts: Contacts = world.call(bob, &Request::ContactList {});
        assert_eq!(contacts.contacts, []);
        assert_eq!(world.refused(alice, &Request::ContactList {}), ErrorCode::UnknownDevice);
        assert_eq!(world.login(alice, "alice", PASSWORD).unwrap_err(), ErrorCode::WrongPassword);
        let again = world.connect(5);
        let refused = world.try_register(again, "alice", first_list("alice", 5)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NameTaken);
        assert_eq!(world.audited("account_deleted"), 1);
        assert_eq!(world.audited("registration_refused"), 1);
    }

    #[test]
    fn a_login_that_is_given_up_is_a_failure() {
        let mut world = World::new();
        world.register("alice", 1);
        let conn = world.connect(2);
        for _ in 0..2 {
            let message = client::start_login("wrong", &mut rand_rng()).0.into();
            let start = Request::LoginStart { name: name("alice"), message };
            world.call::<parlor_common::wire::rendezvous::LoginStarted>(conn, &start);
        }
        assert_eq!(world.audited("login_failed"), 1);
        world.disconnect(conn);
        assert_eq!(world.audited("login_failed"), 2);
        // So is one that is under way when the server stops.
        let conn = world.connect(2);
        let message = client::start_login("wrong", &mut rand_rng()).0.into();
        let start = Request::LoginStart { name: name("alice"), message };
        world.call::<parlor_common::wire::rendezvous::LoginStarted>(conn, &start);
        world.server.handle_stopping(world.now);
        world.settle();
        assert_eq!(world.audited("login_failed"), 3);
    }
}
