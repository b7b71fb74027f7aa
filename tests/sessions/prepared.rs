//! The sessions that cases start from. An agreement takes a dozen exponentiations: it is computed
//! once for many cases, which read its stored form.

use harness::pair::{Begun, Pair};
use parlor_common::envelope::Envelope;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// How many agreements are made with a one-time pair, and how many without.
const EACH: u64 = 3;

/// Both sides of a session, stored.
pub struct Prepared {
    /// The initiator's side.
    pub alice: Vec<u8>,
    /// The responder's.
    pub bob: Vec<u8>,
    /// Alice's first envelope, which says "hi", where it has not been opened; else both have heard
    /// each other once.
    pub first: Option<Envelope>,
}

impl Prepared {
    /// Sessions with and without a one-time pair, each at its first envelope and after both sides
    /// have heard each other; always the same.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for number in 0..2 * EACH {
            let rng = &mut StdRng::seed_from_u64(number);
            let pair = Pair::new(number < EACH, rng);
            let Begun { alice, bob, first } = pair.begin(rng);
            let store = |session: &parlor::crypto::session::Session| session.encode().to_vec();
            all.push(Self { alice: store(&alice), bob: store(&bob), first: Some(first) });
            let (alice, bob) = pair.agree(rng);
            all.push(Self { alice: store(&alice), bob: store(&bob), first: None });
        }
        all
    }
}
