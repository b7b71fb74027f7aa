//! Both sides of a session, with the keys in it marked.

use std::ops::Range;

use parlor::crypto::agreement::{LocalParty, Party, accept, initiate};
use parlor::crypto::group::KeyPair;
use parlor::crypto::prekey::LocalPrekeys;
use parlor::crypto::session::Session;
use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::Envelope;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::prekey::{PrekeyBundle, PrekeyUse};
use parlor_common::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{MemState, counted, declassify, mark};

const NOW: Timestamp = Timestamp::from_millis(1000);
const PLAINTEXT: &[u8] = b"hello";

/// Where the root key is in a stored session, and the keys of the only chain: the initiator sends
/// on it, the responder receives. A wrong place shows: its marks reach no result.
const ROOT: Range<usize> = 66..98;
const SENDING: Range<usize> = 526..558;
const RECEIVING: Range<usize> = 488..520;

/// A first message under way, and both sides as they are stored at that moment.
struct First {
    envelope: Envelope,
    initiator: Vec<u8>,
    responder: Vec<u8>,
}

fn party(name: &str, seed: u8) -> (LocalParty, DeviceSecret) {
    let dh = KeyPair::generate(&mut StdRng::seed_from_u64(seed.into()));
    let secret = DeviceSecret::from_seed(&[seed; 32]);
    let device = DeviceEntry::new(secret.public(), dh.public().to_bytes(), NOW);
    let account_key = AccountSecret::from_seed(&[seed; 32]).public();
    let party = Party { name: name.parse().expect("is a name"), account_key, device };
    (LocalParty { party, dh }, secret)
}

fn first() -> First {
    let ((alice, _), (bob, device)) = (party("alice", 1), party("bob", 2));
    let rng = &mut StdRng::seed_from_u64(3);
    let prekeys = LocalPrekeys::generate(7, PrekeyUse::Signed, NOW, rng);
    let bundle =
        PrekeyBundle { device: device.public(), signed: prekeys.sign(&device), one_time: None };
    let bundle = bundle.verify(&bob.party.device, None, NOW).expect("is genuine");
    let mut session = initiate(&alice, &bob.party, &bundle, rng).expect("they are two");
    let envelope = session.seal(PLAINTEXT, NOW, rng).expect("is short");
    let accepted = accept(&bob, &prekeys, None, envelope.header()).expect("is genuine");
    let (initiator, responder) = (session.encode().to_vec(), accepted.session.encode().to_vec());
    First { envelope, initiator, responder }
}

fn marked(stored: &[u8], chain: Range<usize>) -> Session {
    let stored = stored.to_vec();
    mark(&stored[ROOT], MemState::Undefined);
    mark(&stored[chain], MemState::Undefined);
    Session::decode(&stored).expect("was just stored")
}

pub(super) fn seal() -> usize {
    let First { initiator, .. } = first();
    let sealed = |mut session: Session| {
        session.seal(PLAINTEXT, NOW, &mut StdRng::seed_from_u64(4)).expect("is short")
    };
    let expected = sealed(Session::decode(&initiator).expect("was just stored"));
    let session = marked(&initiator, SENDING);
    let (reports, envelope) = counted(|| sealed(session));
    declassify(envelope.sealed());
    assert_eq!(envelope.sealed(), expected.sealed());
    reports
}

pub(super) fn open_forged() -> usize {
    let First { envelope, responder, .. } = first();
    let mut bytes = envelope.into_bytes();
    *bytes.last_mut().expect("is not empty") ^= 1;
    let forged = Envelope::parse(bytes).expect("is well formed");
    let mut session = marked(&responder, RECEIVING);
    let (reports, opened) = counted(|| session.open(&forged, None, NOW).is_ok());
    assert!(!opened);
    reports
}
