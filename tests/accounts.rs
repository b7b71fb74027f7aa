//! Accounts: who gets one, who gets into one, and what guessing gives.

use std::collections::BTreeSet;

use harness::stage::password_of;
use harness::world::Refused;
use harness::{Stage, World};
use parlor::account::{AccountError, LoggingIn, Password};
use parlor::opaque::OpaqueError;
use parlor_common::Blob;
use parlor_common::device_list::{DeviceEntry, DeviceList, SignedDeviceList};
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::wire::rendezvous::{
    Done, ErrorCode, LoginStarted, RegisterStarted, Request, User,
};
use parlor_rendezvous::limits::Limits;

#[test]
fn a_wrong_password_and_an_unknown_name_are_refused_alike() {
    let mut world = World::new(20);
    world.register("alice");
    let wrong = Refused::Client(AccountError::Opaque(OpaqueError::WrongPassword));
    assert_eq!(world.try_login("alice", "sesame", "thief").unwrap_err(), wrong);
    assert_eq!(world.try_login("nobody", "sesame", "thief").unwrap_err(), wrong);
    let [known, unknown] = ["alice", "nobody"].map(|name| first_reply(&mut world, name));
    assert_eq!(known.message.0.len(), unknown.message.0.len());
    assert_eq!(known.argon2, unknown.argon2);
    world.login("alice", "phone");
}

#[test]
fn a_name_is_given_out_once() {
    let mut world = World::new(21);
    world.register("alice");
    let Err(Refused::Server(error)) = world.try_register("Alice", "another password") else {
        panic!("the name was given out again")
    };
    assert_eq!(error.code, ErrorCode::NameTaken);
    world.login("alice", "phone");
}

#[test]
fn a_thousand_registrations_of_a_taken_name_tell_a_guesser_nothing() {
    let mut world = World::new(22);
    // More than any guesser gets, to find what more guesses would find.
    world.limit(Limits { registrations_at_once: 2000, ..Limits::default() });
    world.register("alice");
    // A guesser who has the right password, and blinds it once: whatever is evaluated under the
    // owner's key gives the same element as the owner's login.
    let (name, server) = ("alice".parse().unwrap(), world.server());
    let device = world.new_device();
    let mut visitor = world.visit(device.key().public());
    let password = Password::new(password_of("alice").into_bytes().into()).unwrap();
    let (_, login) = LoggingIn::start(name, server, &password, world.rng()).unwrap();
    let Request::LoginStart { name, message } = &login else { panic!() };
    let blinded = Blob(message.0[..ELEMENT].to_vec());
    let of_owner = |world: &mut World, visitor: &mut _| -> LoginStarted {
        world.ask(visitor, &login).unwrap()
    };
    let owner = of_owner(&mut world, &mut visitor);
    let again = of_owner(&mut world, &mut visitor);
    assert_eq!(owner.message.0[..ELEMENT], again.message.0[..ELEMENT], "a login's is always same");

    let register = Request::RegisterStart { name: name.clone(), message: blinded, ticket: None };
    let mut evaluated = BTreeSet::from([owner.message.0[..ELEMENT].to_vec()]);
    for _ in 0..1000 {
        let started: RegisterStarted = world.ask(&mut visitor, &register).unwrap();
        assert!(evaluated.insert(started.message.0[..ELEMENT].to_vec()), "under a key of its own");
    }
    let login: LoginStarted = world.ask(&mut visitor, &login).unwrap();
    assert_eq!(login.message.0[..ELEMENT], owner.message.0[..ELEMENT], "the owner's is unchanged");
    world.login("alice", "phone");
}

/// An element of Ristretto255, in bytes: the first field of OPAQUE's messages on both sides.
const ELEMENT: usize = 32;

#[test]
fn nobody_gets_onto_somebody_elses_device_list() {
    let mut world = World::new(23);
    world.register("alice");
    let mut mallory = Mallory::register(&mut world);
    let alice = mallory.list_of(&mut world, "alice");
    let own = mallory.list_of(&mut world, "mallory");
    let alice_entry = alice.clone().verify(&world.name("alice"), &alice.claimed_account_key());
    let alice_entry = alice_entry.unwrap().newest().unwrap().clone();

    let add = Request::DeviceAdd { devices: own.clone() };
    assert_eq!(mallory.refused(&mut world, &add), ErrorCode::LoginNeeded);
    mallory.log_in(&mut world);
    let account = AccountSecret::from_seed(&mallory.account.expose_seed());
    let list = |list: DeviceList| list.sign(&account, None);
    let verified = own.clone().verify(&"mallory".parse().unwrap(), &account.public());
    let verified = verified.unwrap();
    let mut as_alice = verified.with_device(mallory.new_entry(&world), world.date());
    as_alice.name = world.name("alice");
    let now = world.date();
    let attempts = [
        // Alice's list, as it is, and with Mallory's device, under Mallory's key.
        alice.clone(),
        list(as_alice),
        // Mallory's list, with alice's device; without the device of this connection; the same
        // again; and one that leaves a version out.
        list(verified.with_device(alice_entry, now)),
        list(verified.with_device(mallory.other_entry(&world), now)),
        own.clone(),
        list(DeviceList { version: 3, ..verified.with_device(mallory.new_entry(&world), now) }),
    ];
    for devices in attempts {
        let request = Request::DeviceAdd { devices };
        assert_eq!(mallory.refused(&mut world, &request), ErrorCode::BadDeviceList);
    }
    assert_eq!(mallory.list_of(&mut world, "alice"), alice);
    assert_eq!(mallory.list_of(&mut world, "mallory"), own);

    let entry = mallory.new_entry(&world);
    let honest = list(verified.with_device(entry, now));
    let request = Request::DeviceAdd { devices: honest.clone() };
    assert_eq!(world.ask::<Done>(&mut mallory.visitor, &request), Ok(Done {}));
    assert_eq!(mallory.list_of(&mut world, "mallory"), honest);
}

#[test]
fn nobody_registers_with_somebody_elses_device() {
    let mut world = World::new(24);
    world.register("alice");
    let alice = DeviceSecret::from_seed(&world.device("alice").expose_seed());
    let error = by_hand::register(&mut world, "mallory", &alice, &alice).unwrap_err();
    assert_eq!(error.code, ErrorCode::BadDeviceList);
    let own = DeviceSecret::from_seed(&[66; 32]);
    let error = by_hand::register(&mut world, "mallory", &own, &alice).unwrap_err();
    assert_eq!(error.code, ErrorCode::BadDeviceList);
    by_hand::register(&mut world, "mallory", &own, &own).unwrap();
}

/// What a server says to somebody's first flight.
fn first_reply(world: &mut World, name: &str) -> LoginStarted {
    let (name, server, device) = (name.parse().unwrap(), world.server(), world.new_device());
    let mut visitor = world.visit(device.key().public());
    let password = Password::new(b"sesame".to_vec().into()).unwrap();
    let (_, request) = LoggingIn::start(name, server, &password, world.rng()).unwrap();
    world.ask(&mut visitor, &request).unwrap()
}

/// Somebody who has an account, and holds its account key, as nobody should.
struct Mallory {
    account: AccountSecret,
    new_device: DeviceSecret,
    visitor: harness::world::Visitor,
}

impl Mallory {
    /// Registers with one device, and connects as another.
    fn register(world: &mut World) -> Self {
        let device = DeviceSecret::from_seed(&[60; 32]);
        let account = by_hand::register(world, "mallory", &device, &device).unwrap();
        let new_device = DeviceSecret::from_seed(&[61; 32]);
        let visitor = world.visit(new_device.public());
        Self { account, new_device, visitor }
    }

    fn log_in(&mut self, world: &mut World) {
        by_hand::log_in(world, "mallory", &mut self.visitor);
    }

    fn new_entry(&self, world: &World) -> DeviceEntry {
        by_hand::entry(&self.new_device, world.date())
    }

    fn other_entry(&self, world: &World) -> DeviceEntry {
        by_hand::entry(&DeviceSecret::from_seed(&[62; 32]), world.date())
    }

    fn refused(&mut self, world: &mut World, request: &Request) -> ErrorCode {
        world.ask::<Done>(&mut self.visitor, request).unwrap_err().code
    }

    /// Somebody's list, as anybody with an account gets it.
    fn list_of(&self, world: &mut World, name: &str) -> SignedDeviceList {
        let mut visitor = world.visit(DeviceSecret::from_seed(&[60; 32]).public());
        let request = Request::UserGet { name: name.parse().unwrap() };
        let user: User = world.ask(&mut visitor, &request).unwrap();
        user.devices
    }
}

/// Registration and login without the client that people run.
mod by_hand {
    use harness::World;
    use harness::stage::password_of;
    use harness::world::Visitor;
    use parlor::opaque::{Login, Parties, Registration};
    use parlor_common::Blob;
    use parlor_common::device_list::{DeviceEntry, DeviceList};
    use parlor_common::identity::{AccountSecret, DeviceSecret};
    use parlor_common::prekey::DhPublicBytes;
    use parlor_common::time::Timestamp;
    use parlor_common::wire::rendezvous::{
        self, Done, ErrorReply, LoggedIn, LoginStarted, RegisterStarted, Request,
    };

    pub(super) fn entry(device: &DeviceSecret, now: Timestamp) -> DeviceEntry {
        DeviceEntry::new(device.public(), DhPublicBytes(Box::new([2; 384])), now)
    }

    /// Registers on a connection of one device an account with another.
    pub(super) fn register(
        world: &mut World,
        name: &str,
        connected: &DeviceSecret,
        listed: &DeviceSecret,
    ) -> Result<AccountSecret, ErrorReply> {
        let mut visitor = world.visit(connected.public());
        let (server, now) = (world.server().key.unwrap(), world.date());
        let (name, password) = (name.parse().unwrap(), password_of(name));
        let (opaque, message) = Registration::start(password.as_bytes(), world.rng()).unwrap();
        let request = Request::RegisterStart { name, message: Blob(message), ticket: None };
        let started: RegisterStarted = world.ask(&mut visitor, &request)?;
        let Request::RegisterStart { name, .. } = request else { panic!() };
        let parties = Parties { name: &name, server: &server };
        let (message, argon2) = (&started.message.0, started.argon2);
        let (upload, _) = opaque.finish(message, parties, argon2, world.rng()).unwrap();
        let account = AccountSecret::from_seed(&[77; 32]);
        let list = DeviceList::first(name.clone(), account.public(), entry(listed, now), now);
        let request = Request::RegisterFinish(Box::new(rendezvous::Registration {
            upload: Blob(upload),
            devices: list.sign(&account, None),
            account_box: Blob(vec![1; 80]),
            recovery_box: Blob(vec![1; 80]),
        }));
        let Done {} = world.ask(&mut visitor, &request)?;
        world.leave(visitor);
        Ok(account)
    }

    /// Finishes a login on a connection.
    pub(super) fn log_in(world: &mut World, name: &str, visitor: &mut Visitor) {
        let (server, exporter) = (world.server().key.unwrap(), *visitor.exporter());
        let password = password_of(name);
        let (opaque, message) = Login::start(password.as_bytes(), world.rng()).unwrap();
        let name = name.parse().unwrap();
        let request = Request::LoginStart { name, message: Blob(message) };
        let started: LoginStarted = world.ask(visitor, &request).unwrap();
        let Request::LoginStart { name, .. } = request else { panic!() };
        let parties = Parties { name: &name, server: &server };
        let (message, argon2) = (&started.message.0, started.argon2);
        let (last, _) = opaque.finish(message, parties, &exporter, argon2, world.rng()).unwrap();
        let request = Request::LoginFinish { message: Blob(last) };
        let LoggedIn { .. } = world.ask(visitor, &request).unwrap();
    }
}
