//! Registration, by OPAQUE: the server keeps what a password is checked against, and never sees it.
//! Who may register is decided before anything is spent on them.

use parlor_common::Blob;
use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    self as wire, Argon2Params, ErrorCode, ErrorReply, RegisterStarted, Ticket,
};
use rand::CryptoRng;

use super::connections::Identity;
use super::devices::bad_list;
use super::email::{bad_email_code, email_needed};
use super::exchange::{Exchange, bad_opaque, no_exchange};
use super::output::Asker;
use super::query::{Admission, Answer, Creation, NewAccount, Query, RegistrationStart};
use super::reply::{Handled, done, malformed, ok, refusal, too_fast, unavailable};
use super::{After, Server};
use crate::audit::{AuditEvent, Reason};
use crate::config::Registration;
use crate::email::Address;
use crate::invitation::InvitationCode;
use crate::opaque::{CredentialId, finish_registration};

/// A sealed account key has at most this many bytes: a key, a nonce, a tag and room for a version.
const MAX_BOX: usize = 1024;

/// Where a wish to register leads.
#[derive(Debug)]
pub(super) enum Entrance {
    /// To the rest of the registration; the store judges this once it is there.
    Admission(Admission),
    /// To a mail with a code, and no further.
    CodeByMail(Address),
}

impl Server {
    /// First flight of a registration. Whether the name is taken is not even looked up.
    pub(super) fn register_start(
        &mut self,
        asker: Asker,
        (name, ticket): (Username, Option<Ticket>),
        message: Vec<u8>,
        now: Timestamp,
    ) -> Handled {
        let entrance = match self.entrance(ticket) {
            Ok(entrance) => entrance,
            Err(error) => return Err(self.turned_away(asker, name, error, now)),
        };
        let (origin, limits) = (self.origin(asker, now)?, self.params.limits);
        let start = RegistrationStart { name: name.clone(), origin, limits };
        let after = After::RegisterStart { name, message, entrance };
        self.ask(asker, Query::StartRegistration(Box::new(start)), after)
    }

    pub(super) fn register_started(
        &mut self,
        asker: Asker,
        (name, entrance): (Username, Entrance),
        message: &[u8],
        answer: &Answer,
        (now, rng): (Timestamp, &mut dyn CryptoRng),
    ) -> Handled {
        let Answer::RegistrationStarted(until) = answer else { return Err(unavailable()) };
        if let Some(until) = *until {
            return Err(too_fast("too many registrations; try again later", until));
        }
        let admission = match entrance {
            Entrance::Admission(admission) => admission,
            Entrance::CodeByMail(address) => {
                return self.mail_code(asker, name, address, now, rng);
            }
        };
        let credential = CredentialId::draw(rng);
        let started = self.params.opaque.start_registration(message, &credential);
        let message = started.map_err(|_| bad_opaque())?.into();
        self.begin(asker, Exchange::Registration { name, credential, admission });
        ok(RegisterStarted { message, argon2: Argon2Params::DEFAULT })
    }

    /// What a newcomer shows, or what becomes of who has nothing to show yet.
    fn entrance(&self, ticket: Option<Ticket>) -> Result<Entrance, ErrorReply> {
        let admission = match (self.params.registration, ticket) {
            (Registration::Open, _) => Admission::Open,
            (Registration::Invite, Some(Ticket::Invite { code })) => {
                let code: InvitationCode = code.parse().map_err(|_| bad_invitation())?;
                Admission::Invitation(code.hash())
            }
            (Registration::Invite, _) => return Err(invitation_needed()),
            (Registration::Email, Some(Ticket::Email { address, code })) => {
                let address = self.mailable(&address)?;
                let Some(code) = code else { return Ok(Entrance::CodeByMail(address)) };
                Admission::Email(self.email_code(address, &code)?)
            }
            (Registration::Email, _) => return Err(email_needed()),
        };
        Ok(Entrance::Admission(admission))
    }

    /// Writes down that somebody was not let in.
    fn turned_away(
        &mut self,
        asker: Asker,
        name: Username,
        error: ErrorReply,
        now: Timestamp,
    ) -> ErrorReply {
        if let Ok(origin) = self.origin(asker, now) {
            let entry = origin.entry(AuditEvent::RegistrationRefused).of(name);
            self.record_refusal(entry.because(Reason::Refused(error.code)));
        }
        error
    }

    /// Last flight of a registration.
    pub(super) fn register_finish(
        &mut self,
        asker: Asker,
        registration: wire::Registration,
        now: Timestamp,
    ) -> Handled {
        let exchange = self.take_exchange(asker);
        let Some(Exchange::Registration { name, credential, admission }) = exchange else {
            return Err(no_exchange("register.start"));
        };
        let wire::Registration { upload, devices, account_box, recovery_box } = registration;
        check_box(&account_box)?;
        check_box(&recovery_box)?;
        let record = finish_registration(&upload.0).map_err(|_| bad_opaque())?;
        let devices = first_list(devices, &name, self.device(asker)?)?;
        let identity = Identity { name, account_key: devices.list().account_key };
        let (argon2, origin) = (Argon2Params::DEFAULT, self.origin(asker, now)?);
        let account = NewAccount {
            devices,
            credential,
            record,
            argon2,
            account_box,
            recovery_box,
            admission,
            origin,
        };
        let query = Query::CreateAccount(Box::new(account));
        self.ask(asker, query, After::RegisterFinish(identity))
    }

    pub(super) fn registered(
        &mut self,
        asker: Asker,
        identity: Identity,
        answer: &Answer,
    ) -> Handled {
        let Answer::Created(creation) = answer else { return Err(unavailable()) };
        match creation {
            Creation::Created => {
                self.sign_in(asker.conn, identity);
                done()
            }
            Creation::NameTaken => Err(name_taken()),
            Creation::DeviceTaken => Err(bad_list(
                "this device belongs to another account; register with a new device key",
            )),
            Creation::BadInvitation => Err(bad_invitation()),
            Creation::BadEmailCode => Err(bad_email_code()),
        }
    }

    /// The key that a request's connection proved.
    pub(super) fn device(&self, asker: Asker) -> Result<DeviceKey, ErrorReply> {
        let connection = self.connections.get(asker.conn);
        connection.map(|connection| connection.device).ok_or_else(unavailable)
    }
}

/// Checks the first list of an account: signed by the key that it names, and with this device
/// alone, so that nobody claims another's.
fn first_list(
    devices: SignedDeviceList,
    name: &Username,
    device: DeviceKey,
) -> Result<VerifiedDeviceList, ErrorReply> {
    let key = devices.claimed_account_key();
    let devices = devices.verify(name, &key).map_err(|error| bad_list(&error.to_string()))?;
    let own = devices.device(&device).is_some();
    if devices.list().version != 1 || devices.list().devices.len() != 1 || !own {
        return Err(bad_list("the first device list is version 1 with this connection's device"));
    }
    Ok(devices)
}

/// Bounds a sealed account key before it is kept.
pub(super) fn check_box(sealed: &Blob) -> Result<(), ErrorReply> {
    if sealed.0.len() > MAX_BOX {
        return Err(malformed("a sealed account key is too long"));
    }
    Ok(())
}

pub(super) fn name_taken() -> ErrorReply {
    refusal(ErrorCode::NameTaken, "that name is taken; choose another")
}

fn bad_invitation() -> ErrorReply {
    let message = "the invitation is none, or is used up, expired or revoked; ask for another";
    refusal(ErrorCode::BadInvitation, message)
}

fn invitation_needed() -> ErrorReply {
    let message = "registration here needs an invitation: ask who runs the server for a link";
    refusal(ErrorCode::InvitationNeeded, message)
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, Registration, Request, User};

    use super::super::testing::{PASSWORD, World, entry, first_list, name, secret, verified};
    use super::*;
    use crate::limits::Limits;
    use crate::store::Store;

    #[test]
    fn who_registers_can_log_in_with_that_password_only() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        assert!(world.try_call::<User>(alice, &Request::UserGet { name: name("alice") }).is_ok());

        let other = world.connect(2);
        let logged_in = world.login(other, "alice", PASSWORD).unwrap();
        assert_eq!(logged_in.account_box.0, vec![7; 60]);
        assert_eq!(logged_in.devices, first_list("alice", 1));
        assert_eq!(world.login(other, "alice", "wrong").unwrap_err(), ErrorCode::WrongPassword);
        assert_eq!(world.login(other, "ghost", "wrong").unwrap_err(), ErrorCode::WrongPassword);
        // A login alone makes the device nobody's.
        let refused = world.refused(other, &Request::UserGet { name: name("alice") });
        assert_eq!(refused, ErrorCode::UnknownDevice);
    }

    #[test]
    fn accounts_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let open = || World::over(Store::open(&path).unwrap(), Limits::default());
        let mut world = open();
        world.register("alice", 1);
        world.store.close().unwrap();

        let mut world = open();
        let known = world.connect(1);
        assert!(world.try_call::<User>(known, &Request::UserGet { name: name("alice") }).is_ok());
        let other = world.connect(2);
        assert!(world.login(other, "alice", PASSWORD).is_ok());
    }

    #[test]
    fn a_taken_name_is_told_at_the_end_only_and_evaluates_nothing_of_its_owners() {
        let mut world = World::new();
        world.register("alice", 1);
        let mallory = world.connect(2);
        // The same blinded element, evaluated under one account's OPRF key, is always the same:
        // two starts differ, so that neither is the owner's.
        let message = || Request::RegisterStart {
            name: name("alice"),
            message: blinded().into(),
            ticket: None,
        };
        let first: RegisterStarted = world.call(mallory, &message());
        let second: RegisterStarted = world.call(mallory, &message());
        assert_ne!(first.message.0[..32], second.message.0[..32]);

        let devices = first_list("alice", 2);
        let refused = world.try_register(mallory, "alice", devices).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NameTaken);
        // The owner is untouched.
        let other = world.connect(3);
        assert!(world.login(other, "alice", PASSWORD).is_ok());
    }

    /// A canonical Ristretto255 element that is not the identity: the base point (RFC 9496 §4).
    fn blinded() -> Vec<u8> {
        vec![
            0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00,
            0x51, 0x5f, 0x58, 0xe3, 0x0b, 0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45,
            0xe0, 0x8d, 0x2d, 0x76,
        ]
    }

    #[test]
    fn an_exchange_is_used_once() {
        let mut world = World::new();
        let conn = world.connect(1);
        let finish = Request::LoginFinish { message: vec![0; 64].into() };
        assert_eq!(world.refused(conn, &finish), ErrorCode::NoExchange);
        assert_eq!(world.login(conn, "alice", "any"), Err(ErrorCode::WrongPassword));
        assert_eq!(world.refused(conn, &finish), ErrorCode::NoExchange);

        let upload = world.start_registration(conn, "alice");
        let finish = |devices| {
            let registration = Registration {
                upload: upload.clone().into(),
                devices,
                account_box: vec![].into(),
                recovery_box: vec![].into(),
            };
            Request::RegisterFinish(Box::new(registration))
        };
        // A login's last flight does not finish a registration, and uses it up.
        let login = Request::LoginFinish { message: vec![0; 64].into() };
        assert_eq!(world.refused(conn, &login), ErrorCode::NoExchange);
        let refused = world.refused(conn, &finish(first_list("alice", 1)));
        assert_eq!(refused, ErrorCode::NoExchange);
    }

    #[test]
    fn a_first_list_is_the_names_own_with_this_device_alone() {
        let mut world = World::new();
        let conn = world.connect(1);
        let another = verified("alice", first_list("alice", 1));
        let mut both = another.list().clone();
        both.devices.push(entry(2));
        let second = another.with_device(entry(1), world.now);
        let account = super::super::testing::account("alice");
        for list in [
            first_list("bob", 1),
            first_list("alice", 2),
            both.sign(&account, None),
            second.sign(&account, None),
        ] {
            let refused = world.try_register(conn, "alice", list).unwrap_err();
            assert_eq!(refused.code, ErrorCode::BadDeviceList);
        }
        world.try_register(conn, "alice", first_list("alice", 1)).unwrap();
        // A device is one account's.
        let refused = world.try_register(conn, "carol", first_list("carol", 1)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadDeviceList);
    }

    #[test]
    fn a_sealed_account_key_has_a_bound() {
        let mut world = World::new();
        let conn = world.connect(1);
        let upload = world.start_registration(conn, "alice").into();
        let registration = Registration {
            upload,
            devices: first_list("alice", 1),
            account_box: vec![0; MAX_BOX + 1].into(),
            recovery_box: vec![].into(),
        };
        let request = Request::RegisterFinish(Box::new(registration));
        assert_eq!(world.refused(conn, &request), ErrorCode::Malformed);
    }

    #[test]
    fn adding_a_device_needs_a_login_of_the_last_five_minutes() {
        let (mut world, alice) = {
            let mut world = World::new();
            let alice = world.register("alice", 1);
            (world, alice)
        };
        let first = verified("alice", first_list("alice", 1));
        let account = super::super::testing::account("alice");
        let next = first.with_device(entry(2), world.now).sign(&account, Some(&secret(1)));
        let add = Request::DeviceAdd { devices: next };

        let new = world.connect(2);
        assert_eq!(world.refused(new, &add), ErrorCode::LoginNeeded);
        world.login(new, "alice", PASSWORD).unwrap();
        world.wait(std::time::Duration::from_secs(301));
        assert_eq!(world.refused(new, &add), ErrorCode::LoginNeeded);
        world.login(new, "alice", PASSWORD).unwrap();
        world.wait(std::time::Duration::from_secs(299));
        world.call::<Done>(new, &add);
        assert_eq!(world.events(alice), [parlor_common::wire::rendezvous::Event::NewDevice {}]);
        let user: User = world.call(new, &Request::UserGet { name: name("alice") });
        assert_eq!(Request::DeviceAdd { devices: user.devices }, add);
    }
}
