//! OPAQUE's messages (RFC 9807), of clients at the rendezvous and of a rendezvous at clients.

use std::sync::LazyLock;

use parlor::opaque::{self, OpaqueError, Parties};
use parlor_common::identity::ServerSecret;
use parlor_common::wire::rendezvous::Argon2Params;
use parlor_rendezvous::opaque::{Binding, CredentialId, Known, OpaqueSetup, finish_registration};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::people::alice;
use super::{Outcome, Seed, refused, taken};

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

static SERVER: LazyLock<OpaqueSetup> = LazyLock::new(|| OpaqueSetup::generate(&mut rng()));
const CREDENTIAL: CredentialId = CredentialId([5; 32]);

/// A client's message; the first byte says which.
pub(super) fn of_client(bytes: &[u8]) -> Outcome {
    let Some((kind, message)) = bytes.split_first() else { return Outcome::Refused };
    let (name, server) = (alice(), ServerSecret::from_seed(&[4; 32]).public());
    let binding = Binding { name: &name, server: &server, exporter: &[6; 32] };
    let start = |message: &[u8]| SERVER.start_login(Known::Nobody, message, &binding, &mut rng());
    match kind {
        b'a' => Outcome::of(SERVER.start_registration(message, &CREDENTIAL).ok()),
        b'b' => Outcome::of(finish_registration(message).ok()),
        b'c' => Outcome::of(start(message).ok()),
        b'd' => {
            let (_, pending) = start(&login_start()).expect("it was just made");
            // There is no account: nothing proves its password.
            assert!(pending.finish(message, &binding).is_err());
            Outcome::Refused
        }
        _ => Outcome::Refused,
    }
}

fn registration_start() -> Vec<u8> {
    opaque::Registration::start(b"password", &mut rng()).unwrap().1
}

fn login_start() -> Vec<u8> {
    opaque::Login::start(b"password", &mut rng()).unwrap().1
}

pub(super) fn of_client_seeds() -> Vec<Seed> {
    let of = |kind: u8, message: &[u8]| [&[kind], message].concat();
    vec![
        taken("registration-start", of(b'a', &registration_start())),
        refused("registration-start-no-point", of(b'a', &[0xff; 32])),
        refused("registration-start-neutral", of(b'a', &[0; 32])),
        refused("registration-finish-no-point", of(b'b', &[0xff; 192])),
        taken("login-start", of(b'c', &login_start())),
        refused("login-start-cut", of(b'c', &login_start()[..95])),
        refused("login-finish", of(b'd', &[7; 64])),
    ]
}

/// A server's message; the first byte says which. With parameters for Argon2id that no client
/// takes: a message that parses gets as far as them.
pub(super) fn of_server(bytes: &[u8]) -> Outcome {
    let Some((kind, message)) = bytes.split_first() else { return Outcome::Refused };
    let (name, server) = (alice(), ServerSecret::from_seed(&[4; 32]).public());
    let parties = Parties { name: &name, server: &server };
    let weak = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };
    let refusal = if *kind == b'a' {
        let (started, _) = opaque::Registration::start(b"password", &mut rng()).unwrap();
        started.finish(message, parties, weak, &mut rng()).map(drop)
    } else {
        let (started, _) = opaque::Login::start(b"password", &mut rng()).unwrap();
        started.finish(message, parties, &[6; 32], weak, &mut rng()).map(drop)
    };
    match refusal {
        Err(OpaqueError::UnacceptableArgon2) => Outcome::Taken,
        Err(OpaqueError::Malformed) => Outcome::Refused,
        other => panic!("{other:?}"),
    }
}

pub(super) fn of_server_seeds() -> Vec<Seed> {
    let (name, server) = (alice(), ServerSecret::from_seed(&[4; 32]).public());
    let binding = Binding { name: &name, server: &server, exporter: &[6; 32] };
    let registration = SERVER.start_registration(&registration_start(), &CREDENTIAL).unwrap();
    let (login, _) =
        SERVER.start_login(Known::Nobody, &login_start(), &binding, &mut rng()).unwrap();
    vec![
        taken("registration", [b"a".as_slice(), &registration].concat()),
        refused("registration-no-point", [b"a".as_slice(), &[0xff; 64]].concat()),
        taken("login", [b"b".as_slice(), &login].concat()),
        refused("login-cut", [b"b".as_slice(), &login[..319]].concat()),
    ]
}
