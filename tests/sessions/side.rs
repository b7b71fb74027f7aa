//! One side of a conversation: its session, its clocks, and what it must be able to open.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::pair::AT;
use parlor::crypto::session::Session;
use parlor_common::envelope::{Envelope, MAX_SEALED_SENDER};
use parlor_common::prekey::DhPublicBytes;
use parlor_common::time::Timestamp;
use rand::rngs::StdRng;

/// A message may overtake so many others.
pub const MAX_SKIP: u32 = 1000;
/// So many keys of overtaken messages are kept,
pub const MAX_KEPT: usize = 2000;
/// for so long.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A sender takes a step at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest stored form without kept keys, in bytes: what a session is, two chains, the names of
/// 32 past chains and of 32 that keys were given up of, and the greeting.
const LONGEST: usize = (1 + 1 + 16 + 32 + 16)
    + (32 + 1 + (384 + 35 + 4 + 4 + 32) + 1 + (384 + 4 + 32) + 2 * (1 + 32 * 8) + 2)
    + (1 + 384 + 4 + 4 + 1088 + 2 + MAX_SEALED_SENDER);
/// A kept key's, in bytes.
const KEPT: usize = 8 + 4 + 8 + 32;

/// See the [module](self).
pub struct Side {
    pub session: Session,
    /// How many messages it has sealed.
    pub sent: u32,
    /// What it has opened and can open.
    pub heard: Heard,
    /// The time since its process started.
    timer: Timestamp,
    /// The machine's date.
    pub date: Timestamp,
    /// Its last ratchet key, and when it was new in this process.
    ratchet: Option<(DhPublicBytes, Option<Timestamp>)>,
}

impl Side {
    /// A side that has sealed and opened so many messages.
    pub fn new(stored: &[u8], sent: u32, heard: u32) -> Self {
        Self {
            session: Session::decode(stored).expect("it was stored"),
            sent,
            heard: Heard { next: heard, ..Heard::default() },
            timer: Timestamp::default(),
            date: AT,
            ratchet: None,
        }
    }

    /// Time passes, by both clocks.
    pub fn wait(&mut self, pause: Duration) {
        self.timer = self.timer + pause;
        self.date = self.date + pause;
    }

    /// Makes the next step ready, if there will be one. Returns whether.
    pub fn prepare(&mut self, rng: &mut StdRng) -> bool {
        let stride = self.session.stride();
        let is_due = stride.is_some();
        if let Some(stride) = stride {
            self.session.prepare(stride.run(rng));
            assert!(self.session.is_prepared(), "a step that is asked for is taken");
        }
        is_due
    }

    /// Seals a text. Returns the envelope, and whether a step was taken with it.
    pub fn seal(&mut self, text: &[u8], rng: &mut StdRng) -> (Envelope, bool) {
        let envelope = self.session.seal(text, self.timer, rng).expect("it is sealed");
        self.sent += 1;
        let key = &envelope.header().ratchet;
        let known = self.ratchet.take_if(|(known, _)| known == key);
        if let Some(known) = known {
            self.ratchet = Some(known);
            return (envelope, false);
        }
        let before = self.ratchet.take();
        if let Some((_, Some(at))) = before {
            assert!(self.timer.since(at) >= INTERVAL, "a step a second at most");
        }
        let stepped = before.is_some();
        self.ratchet = Some((key.clone(), stepped.then_some(self.timer)));
        (envelope, stepped)
    }

    /// It is stopped and started again; the clock that starts with the process does.
    pub fn restart(&mut self) {
        let stored = self.session.encode();
        self.session = Session::decode(&stored).expect("what was stored is read");
        assert_eq!(self.session.encode(), stored);
        self.timer = Timestamp::default();
        if let Some((_, stepped_at)) = &mut self.ratchet {
            *stepped_at = None;
        }
    }

    /// The stored form's length, in bytes, which is within its bounds.
    pub fn stored_len(&self) -> usize {
        let (len, kept) = (self.session.encode().len(), self.heard.kept.len());
        assert!(kept <= MAX_KEPT && len <= LONGEST + KEPT * kept, "{len} bytes for {kept} keys");
        len
    }
}

/// Which messages of the other side can be opened, counted as they were sealed: by the rules that
/// the protocol gives, not by keys.
#[derive(Default)]
pub struct Heard {
    /// What is sealed next after the latest that was opened.
    pub next: u32,
    /// Those that were overtaken, and since when.
    pub kept: BTreeMap<u32, Timestamp>,
    /// How many were given up.
    pub given_up: u64,
}

impl Heard {
    /// Whether a message can be opened.
    pub fn expects(&self, message: u32) -> bool {
        message >= self.next || self.kept.contains_key(&message)
    }

    /// A message was opened.
    pub fn opened(&mut self, message: u32, date: Timestamp) {
        if self.kept.remove(&message).is_some() {
            return;
        }
        self.kept.extend((self.next..message).map(|overtaken| (overtaken, date)));
        self.next = message + 1;
        while let Some(oldest) = self.kept.first_entry()
            && (date.since(*oldest.get()) > MAX_AGE || self.kept.len() > MAX_KEPT)
        {
            self.kept.pop_first();
            self.given_up += 1;
        }
        self.kept.values_mut().for_each(|since| *since = date.min(*since));
    }
}
