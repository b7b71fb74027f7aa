//! Agreements and sessions: headers and envelopes of an attacker who has seen genuine ones, and
//! stored forms.

use std::sync::LazyLock;

use parlor::crypto::agreement::{LocalParty, Party, accept, initiate};
use parlor::crypto::group::KeyPair;
use parlor::crypto::prekey::LocalPrekeys;
use parlor::crypto::session::Session;
use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::Envelope;
use parlor_common::identity::AccountSecret;
use parlor_common::prekey::{PrekeyBundle, PrekeyUse};
use parlor_common::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::edits::{edited, flip};
use super::people::{self, NOW};
use super::{Outcome, Seed, refused, taken};

/// Somebody with one device and its prekeys.
struct Person {
    local: LocalParty,
    signed: LocalPrekeys,
    one_time: LocalPrekeys,
}

impl Person {
    fn new(name: &str, seed: u8) -> Self {
        let mut rng = StdRng::seed_from_u64(u64::from(seed));
        let dh = KeyPair::generate(&mut rng);
        let key = people::device(seed).public();
        let device = DeviceEntry::new(key, dh.public().to_bytes(), NOW);
        let account_key = AccountSecret::from_seed(&[seed; 32]).public();
        let party = Party { name: name.parse().unwrap(), account_key, device };
        let mut prekeys = |id, used| LocalPrekeys::generate(id, used, NOW, &mut rng);
        let (signed, one_time) = (prekeys(7, PrekeyUse::Signed), prekeys(8, PrekeyUse::OneTime));
        Self { local: LocalParty { party, dh }, signed, one_time }
    }
}

/// A conversation up to a point where much is on its way to Bob.
struct Talk {
    bob: Person,
    /// Alice's first message.
    first: Envelope,
    /// Bob's side, stored, when he has opened messages 0 and 2 of Alice's second chain.
    stored: Vec<u8>,
    /// Of that chain the messages 0 to 3, and the first of her third chain.
    following: [Envelope; 5],
}

static TALK: LazyLock<Talk> = LazyLock::new(|| {
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let rng = &mut StdRng::seed_from_u64(3);
    let bundle = PrekeyBundle {
        device: people::device(2).public(),
        signed: bob.signed.sign(&people::device(2)),
        one_time: Some(bob.one_time.sign(&people::device(2))),
    };
    let verified = bundle.verify(&bob.local.party.device, None, NOW).unwrap();
    let mut ours = initiate(&alice.local, &bob.local.party, &verified, rng).unwrap();
    let first = seal(&mut ours, 0);
    let header = first.header();
    let mut theirs = accept(&bob.local, &bob.signed, Some(&bob.one_time), header).unwrap().session;
    theirs.open_at_once(&first, NOW).unwrap();
    ours.open_at_once(&seal(&mut theirs, 0), NOW).unwrap();
    let [zero, one, two, three] = [2000; 4].map(|timer| seal(&mut ours, timer));
    theirs.open_at_once(&zero, NOW).unwrap();
    theirs.open_at_once(&two, NOW).unwrap();
    ours.open_at_once(&seal(&mut theirs, 2000), NOW).unwrap();
    let next = seal(&mut ours, 4000);
    let stored = theirs.encode().to_vec();
    Talk { bob, first, stored, following: [zero, one, two, three, next] }
});

/// Seals, with a ratchet step if one is due at `timer`.
fn seal(session: &mut Session, timer: u64) -> Envelope {
    let rng = &mut StdRng::seed_from_u64(timer);
    if let Some(stride) = session.stride() {
        session.prepare(stride.run(rng));
    }
    session.seal(PLAINTEXT, Timestamp::from_millis(timer), rng).unwrap()
}

const PLAINTEXT: &[u8] = b"hello";

/// A first message; edits of a genuine one. It is accepted and opened unchanged, or not at all.
pub(super) fn first_message(edits: &[u8]) -> Outcome {
    let Talk { bob, first, .. } = &*TALK;
    let Ok(envelope) = Envelope::parse(edited(first.as_bytes(), edits)) else {
        return Outcome::Refused;
    };
    let accepted = accept(&bob.local, &bob.signed, Some(&bob.one_time), envelope.header());
    let Ok(mut accepted) = accepted else {
        // The ratchet key, the chain's length and the number are authenticated by the message.
        assert_ne!(envelope.header_bytes(), first.header_bytes());
        return Outcome::Refused;
    };
    assert_eq!(accepted.sender, Person::new("alice", 1).local.party);
    let before = accepted.session.encode();
    let opened = accepted.session.open_at_once(&envelope, NOW).ok();
    assert_eq!(opened.as_deref(), (envelope == *first).then_some(PLAINTEXT));
    assert!(opened.is_some() || accepted.session.encode() == before);
    Outcome::of(opened)
}

pub(super) fn first_message_seeds() -> Vec<Seed> {
    vec![
        taken("unchanged", []),
        refused("type", flip(1, 3)),
        refused("session", flip(2, 1)),
        refused("ephemeral", flip(401, 1)),
        refused("signed-prekey", flip(405, 1)),
        refused("no-one-time-prekey", flip(409, 8)),
        refused("kem-ciphertext", flip(410, 1)),
        refused("sender-length", flip(1499, 1)),
        refused("sender", flip(1516, 1)),
        refused("cut", flip(2000, 0)),
    ]
}

/// Any other message: the first byte chooses one on its way, the rest are edits of it.
pub(super) fn following_message(bytes: &[u8]) -> Outcome {
    let Some((choice, edits)) = bytes.split_first() else { return Outcome::Refused };
    let Talk { stored, following, .. } = &*TALK;
    let choice = usize::from(*choice) % following.len();
    let genuine = &following[choice];
    let Ok(envelope) = Envelope::parse(edited(genuine.as_bytes(), edits)) else {
        return Outcome::Refused;
    };
    let mut session = Session::decode(stored).unwrap();
    let opened = session.open_at_once(&envelope, NOW).ok();
    let fresh = matches!(choice, 1 | 3 | 4);
    assert_eq!(opened.as_deref(), (fresh && envelope == *genuine).then_some(PLAINTEXT));
    // A failed attempt leaves no trace; a message opens once.
    assert!(opened.is_some() || *session.encode() == *stored);
    assert!(session.open_at_once(&envelope, NOW).is_err());
    Outcome::of(opened)
}

pub(super) fn following_message_seeds() -> Vec<Seed> {
    let of = |choice: u8, edits: Vec<u8>| [vec![choice], edits].concat();
    vec![
        refused("opened-before", [0]),
        taken("overtaken", [1]),
        refused("opened-out-of-order", [2]),
        taken("next", [3]),
        taken("next-chain", [4]),
        refused("far-ahead", of(3, flip(406, 0xff))),
        refused("chain-before-longer", of(4, flip(405, 0x40))),
        refused("ratchet-key", of(4, flip(401, 1))),
        refused("ciphertext", of(1, flip(430, 1))),
        refused("cut", of(3, flip(458, 0))),
    ]
}

/// A session that was stored.
pub(super) fn stored_session(bytes: &[u8]) -> Outcome {
    let session = Session::decode(bytes).ok();
    Outcome::of(session.inspect(|session| assert_eq!(*session.encode(), *bytes)))
}

pub(super) fn stored_session_seeds() -> Vec<Seed> {
    let stored = TALK.stored.clone();
    let mut newer = stored.clone();
    newer[0] = 0xff;
    vec![
        refused("cut", &stored[..stored.len() - 1]),
        refused("newer-version", newer),
        taken("with-skipped-key", stored),
    ]
}

/// Prekeys that were stored.
pub(super) fn stored_prekeys(bytes: &[u8]) -> Outcome {
    let prekeys = LocalPrekeys::decode(bytes).ok();
    Outcome::of(prekeys.inspect(|prekeys| assert_eq!(*prekeys.encode(), *bytes)))
}

pub(super) fn stored_prekeys_seeds() -> Vec<Seed> {
    let stored = TALK.bob.one_time.encode().to_vec();
    let mut no_secret = stored.clone();
    no_secret[14..49].fill(0);
    vec![
        refused("cut", &stored[..100]),
        refused("zero-as-secret", no_secret),
        taken("one-time", stored),
    ]
}
