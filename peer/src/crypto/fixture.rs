//! What the tests of agreements and sessions share.

use std::sync::LazyLock;

use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::Envelope;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::prekey::{PrekeyBundle, PrekeyUse, VerifiedBundle};
use parlor_common::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::agreement::{LocalParty, Party, accept, initiate};
use super::group::{KeyPair, Secret};
use super::prekey::LocalPrekeys;
use super::session::Session;

pub(super) fn rng() -> StdRng {
    StdRng::seed_from_u64(1000)
}

/// The date of everything that is opened where the date does not matter.
pub(super) const DATE: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// A time of sealing, by a clock that starts with the process.
pub(super) const TIMER: Timestamp = Timestamp::from_millis(5000);

/// Somebody with one device, its prekeys included; the same for the same name and seed.
pub(super) struct Person {
    pub(super) local: LocalParty,
    pub(super) signed: LocalPrekeys,
    pub(super) one_time: LocalPrekeys,
    pub(super) bundle: PrekeyBundle,
}

impl Person {
    pub(super) fn new(name: &str, seed: u8) -> Self {
        let mut rng = StdRng::seed_from_u64(u64::from(seed));
        let dh = KeyPair::generate(&mut rng);
        let secret = DeviceSecret::from_seed(&[seed; 32]);
        let made_at = Timestamp::from_millis(1000);
        let device = DeviceEntry::new(secret.public(), dh.public().to_bytes(), made_at);
        let account_key = AccountSecret::from_seed(&[seed; 32]).public();
        let party = Party { name: name.parse().unwrap(), account_key, device };
        let signed = LocalPrekeys::generate(7, PrekeyUse::Signed, made_at, &mut rng);
        let one_time = LocalPrekeys::generate(8, PrekeyUse::OneTime, made_at, &mut rng);
        let bundle = PrekeyBundle {
            device: secret.public(),
            signed: signed.sign(&secret),
            one_time: Some(one_time.sign(&secret)),
        };
        Self { local: LocalParty { party, dh }, signed, one_time, bundle }
    }

    pub(super) fn party(&self) -> &Party {
        &self.local.party
    }

    pub(super) fn bundle(&self, one_time: bool) -> VerifiedBundle {
        let mut bundle = self.bundle.clone();
        bundle.one_time = bundle.one_time.filter(|_| one_time);
        bundle.verify(&self.party().device, None, Timestamp::from_millis(2000)).unwrap()
    }

    /// The same person under another name or with another secret.
    pub(super) fn local_with(&self, name: &str, dh: &KeyPair) -> LocalParty {
        let dh = KeyPair::of(Secret::from_bytes(dh.secret().expose_bytes()).unwrap());
        LocalParty { party: Party { name: name.parse().unwrap(), ..self.party().clone() }, dh }
    }
}

pub(super) static ALICE: LazyLock<Person> = LazyLock::new(|| Person::new("alice", 1));
pub(super) static BOB: LazyLock<Person> = LazyLock::new(|| Person::new("bob", 2));
pub(super) static CAROL: LazyLock<Person> = LazyLock::new(|| Person::new("carol", 3));

/// Alice's first envelope to Bob, and both sides of the session in their stored forms: hers after
/// it, his before.
pub(super) struct First {
    pub(super) envelope: Envelope,
    pub(super) alice: Vec<u8>,
    pub(super) bob: Vec<u8>,
}

pub(super) static FIRST: LazyLock<First> = LazyLock::new(|| {
    let bundle = BOB.bundle(true);
    let mut alice = initiate(&ALICE.local, BOB.party(), &bundle, &mut rng()).unwrap();
    let envelope = alice.seal(b"first", TIMER, &mut rng()).unwrap();
    let header = envelope.header();
    let accepted = accept(&BOB.local, &BOB.signed, Some(&BOB.one_time), header).unwrap();
    let (alice, bob) = (alice.encode().to_vec(), accepted.session.encode().to_vec());
    First { envelope, alice, bob }
});

/// Alice's and Bob's sides of a session: she has sealed the first envelope, which he can open.
pub(super) fn sessions() -> (Session, Session) {
    (Session::decode(&FIRST.alice).unwrap(), Session::decode(&FIRST.bob).unwrap())
}

/// Alice's and Bob's sides of one of several sessions: she has sealed its first message, which he
/// has opened.
pub(crate) fn greeted(number: u64) -> (Session, Session) {
    let rng = &mut StdRng::seed_from_u64(number);
    let mut alice = initiate(&ALICE.local, BOB.party(), &BOB.bundle(false), rng).unwrap();
    let envelope = alice.seal(b"first", TIMER, rng).unwrap();
    let mut bob = accept(&BOB.local, &BOB.signed, None, envelope.header()).unwrap().session;
    bob.open(&envelope, None, DATE).unwrap();
    (alice, bob)
}

/// Alice's and Bob's sides, after a message each way.
pub(crate) fn acquainted() -> (Session, Session) {
    let (mut alice, mut bob) = sessions();
    bob.open(&FIRST.envelope, None, DATE).unwrap();
    let answer = bob.seal(b"answer", TIMER, &mut rng()).unwrap();
    alice.open_at_once(&answer, DATE).unwrap();
    (alice, bob)
}

/// The envelope with one bit flipped, where it still parses.
pub(super) fn flipped(envelope: &Envelope, bit: usize) -> Option<Envelope> {
    let mut bytes = envelope.as_bytes().to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Envelope::parse(bytes).ok()
}
