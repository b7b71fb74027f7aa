//! Two devices and their sessions, with no peers around them: for what looks at sessions alone.

use parlor::crypto::agreement::{self, LocalParty, Party};
use parlor::crypto::group::KeyPair;
use parlor::crypto::prekey::LocalPrekeys;
use parlor::crypto::session::Session;
use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::Envelope;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::prekey::{PrekeyBundle, PrekeyUse, VerifiedBundle};
use parlor_common::time::Timestamp;
use rand::CryptoRng;

/// When all of it is made, and the time of every clock.
pub const AT: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// Alice's device, and Bob's with its prekeys.
pub struct Pair {
    pub alice: LocalParty,
    pub bob: LocalParty,
    signed: LocalPrekeys,
    one_time: Option<LocalPrekeys>,
    bundle: VerifiedBundle,
}

/// A session whose first envelope is on its way.
pub struct Begun {
    pub alice: Session,
    /// It can open the first envelope, and has not.
    pub bob: Session,
    /// It says "hi".
    pub first: Envelope,
}

impl Pair {
    /// New keys; Bob has a one-time pair where wanted.
    pub fn new(with_one_time: bool, rng: &mut dyn CryptoRng) -> Self {
        let bobs = DeviceSecret::from_seed(&[2; 32]);
        let alice = party("alice", &DeviceSecret::from_seed(&[1; 32]), rng);
        let bob = party("bob", &bobs, rng);
        let signed = LocalPrekeys::generate(1, PrekeyUse::Signed, AT, rng);
        let one_time =
            with_one_time.then(|| LocalPrekeys::generate(2, PrekeyUse::OneTime, AT, rng));
        let bundle = PrekeyBundle {
            device: bobs.public(),
            signed: signed.sign(&bobs),
            one_time: one_time.as_ref().map(|pair| pair.sign(&bobs)),
        };
        let bundle = bundle.verify(&bob.party.device, None, AT).expect("it holds");
        Self { alice, bob, signed, one_time, bundle }
    }

    /// Alice starts a session, and Bob's side comes from her first message.
    pub fn begin(&self, rng: &mut dyn CryptoRng) -> Begun {
        let Self { alice, bob, signed, one_time, bundle } = self;
        let mut alice = agreement::initiate(alice, &bob.party, bundle, rng).expect("it is started");
        let first = alice.seal(b"hi", AT, rng).expect("it is sealed");
        let accepted = agreement::accept(bob, signed, one_time.as_ref(), first.header());
        Begun { alice, bob: accepted.expect("it is accepted").session, first }
    }

    /// A session on which both have heard the other.
    pub fn agree(&self, rng: &mut dyn CryptoRng) -> (Session, Session) {
        let Begun { mut alice, mut bob, first } = self.begin(rng);
        bob.open(&first, None, AT).expect("it is opened");
        let answer = bob.seal(b"hi", AT, rng).expect("it is sealed");
        alice.open_at_once(&answer, AT).expect("it is opened");
        (alice, bob)
    }
}

fn party(name: &str, device: &DeviceSecret, rng: &mut dyn CryptoRng) -> LocalParty {
    let dh = KeyPair::generate(rng);
    let party = Party {
        name: name.parse().expect("it is a name"),
        account_key: AccountSecret::from_seed(&[3; 32]).public(),
        device: DeviceEntry::new(device.public(), dh.public().to_bytes(), AT),
    };
    LocalParty { party, dh }
}
