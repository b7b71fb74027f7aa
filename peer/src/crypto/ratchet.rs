//! Which key a message has: Signal's Double Ratchet over ffdhe3072. It knows of no envelope and of
//! no encryption.
//!
//! A *turn* takes up a new ratchet key of the other side: a new receiving chain. A *step* draws a
//! new ratchet key of our own: a new sending chain. The specification (§3.5) does both at once;
//! here the step is taken later, with a message that is sent, and at most once in
//! [`RATCHET_INTERVAL`]. That is the sender's choice alone: a receiver by the book follows it.
//!
//! The exponentiation of a turn ([`Turn`]) and of a step ([`Stride`]) can be computed elsewhere
//! and brought back, so that it holds nothing else up.
//!
//! What a forged header can cause is bounded: one exponentiation, a gap of [`MAX_SKIP`] in each of
//! two chains, [`MAX_SKIPPED`](super::skipped::MAX_SKIPPED) keys kept in all.

mod storage;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parlor_common::prekey::DhPublicBytes;
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::{ChainKey, MessageKey, RemoteChainKey};
use super::group::{KeyPair, PublicValue, SharedSecret};
use super::kdf::{self, Key};
use super::skipped::{Skipped, SkippedKey};

/// A message can overtake this many others of its chain, and leave as many of the chain before
/// behind. An honest sender never has so many on their way; a forger makes us derive so many keys
/// in vain, in about a millisecond.
pub(super) const MAX_SKIP: u32 = 1000;

/// A sender takes a step at most this often.
pub(super) const RATCHET_INTERVAL: Duration = Duration::from_secs(1);

/// So many chains of the other side are remembered after their end, so that what was opened before
/// is known for that.
const MAX_PAST: usize = 32;

/// Why there is no key for a message.
#[derive(Debug)]
pub(super) enum NoKey {
    /// Its chain had keys that were given up: it may be one of those.
    Forgotten,
    /// It would overtake more than [`MAX_SKIP`] others.
    TooFarAhead,
    /// Its ratchet key is new: this must be computed first.
    NeedsTurn(Turn),
    /// Its ratchet key cannot be one of the other side's.
    UnknownKey,
    /// It was used.
    Used,
}

/// The part of a header that the ratchet reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct RatchetHeader<'a> {
    /// The sender's ratchet key.
    pub(super) key: &'a DhPublicBytes,
    /// How long the sender's chain before was (PN).
    pub(super) previous: u32,
    /// The message's number in its chain (N).
    pub(super) number: u32,
}

/// Names a chain of the other side: the start of the hash of its ratchet key. Which key a message
/// has is a look-up only: that the key is right is shown by the tag.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChainId(pub [u8; Self::LEN]);

impl ChainId {
    /// The length in bytes.
    pub const LEN: usize = 8;

    /// The chain of a ratchet key.
    pub fn of(key: &DhPublicBytes) -> Self {
        let digest: [u8; 32] = Sha256::digest(key).into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

/// An exponentiation that an envelope with a new ratchet key needs before it can be opened.
#[derive(Debug)]
pub struct Turn {
    ours: Arc<KeyPair>,
    theirs: Box<PublicValue>,
}

impl Turn {
    /// Computes it, in a millisecond or two.
    pub fn run(self) -> Turned {
        let shared = self.ours.agree(&self.theirs);
        Turned { ours: self.ours, theirs: self.theirs, shared }
    }
}

/// What came of a [`Turn`].
#[derive(Debug)]
pub struct Turned {
    ours: Arc<KeyPair>,
    theirs: Box<PublicValue>,
    shared: SharedSecret,
}

/// A step to be made ready, because it will be due: a key pair and an exponentiation.
#[derive(Debug)]
pub struct Stride {
    theirs: Box<PublicValue>,
}

impl Stride {
    /// Computes it, in a millisecond or two. `rng` must be the operating system's generator or one
    /// seeded by it.
    pub fn run(self, rng: &mut dyn CryptoRng) -> Step {
        let pair = KeyPair::generate(rng);
        let shared = pair.agree(&self.theirs);
        Step { pair, shared, theirs: self.theirs }
    }
}

/// A step that is ready to be taken. It is never stored: it would be in a thief's copy.
#[derive(Debug)]
pub struct Step {
    pair: KeyPair,
    shared: SharedSecret,
    theirs: Box<PublicValue>,
}

/// The chain that we send on.
struct Sending {
    public: PublicValue,
    /// The pair of `public`, until the other side's next key has taken its place.
    pair: Option<Arc<KeyPair>>,
    /// How long the chain before was.
    previous: u32,
    chain: ChainKey,
}

/// The chain that the other side sends on.
#[derive(Clone)]
struct Receiving {
    public: PublicValue,
    id: ChainId,
    chain: RemoteChainKey,
}

/// The message keys of a session.
pub(super) struct Ratchet {
    root: Key,
    sending: Option<Sending>,
    receiving: Option<Receiving>,
    /// Chains of the other side that have ended, the latest last.
    past: VecDeque<ChainId>,
    skipped: Skipped,
    /// The next step, where it was made ready. Not stored.
    prepared: Option<Step>,
    /// When the last step was taken, by a clock that starts with the process. Not stored.
    stepped_at: Option<Timestamp>,
}

impl Ratchet {
    /// The initiator's: it sends at once, on a chain between `pair` and the responder's prekey.
    pub(super) fn initiator(root: &Key, pair: KeyPair, prekey: &PublicValue) -> Self {
        let (root, chain) = kdf::ratchet_keys(root, &pair.agree(prekey));
        let sending = Sending {
            public: pair.public().clone(),
            pair: Some(Arc::new(pair)),
            previous: 0,
            chain: ChainKey::new(chain, 0),
        };
        Self::new(root, Some(sending), None)
    }

    /// The responder's: it has the initiator's first ratchet key and its own prekey, and sends
    /// nothing before it has taken a step.
    pub(super) fn responder(root: &Key, prekey: &KeyPair, theirs: PublicValue) -> Self {
        let (root, chain) = kdf::ratchet_keys(root, &prekey.agree(&theirs));
        Self::new(root, None, Some(Receiving::new(theirs, chain)))
    }

    fn new(root: Key, sending: Option<Sending>, receiving: Option<Receiving>) -> Self {
        Self {
            root,
            sending,
            receiving,
            past: VecDeque::new(),
            skipped: Skipped::default(),
            prepared: None,
            stepped_at: None,
        }
    }

    /// Whether a message of the other side was opened.
    pub(super) fn has_heard(&self) -> bool {
        self.receiving.as_ref().is_some_and(|receiving| receiving.chain.next() > 0)
    }

    /// The step that is to be made ready, if one will be due and is not.
    pub(super) fn stride(&self) -> Option<Stride> {
        let theirs = self.unanswered().filter(|_| self.prepared.is_none())?;
        Some(Stride { theirs: Box::new(theirs.clone()) })
    }

    /// Keeps a step that was made ready, unless it is of another time.
    pub(super) fn prepare(&mut self, step: Step) {
        if self.unanswered() == Some(&*step.theirs) {
            self.prepared = Some(step);
        }
    }

    /// Whether a step is made ready.
    pub(super) fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Whether a message that is sent now takes a step, or would if the step were ready.
    pub(super) fn is_step_due(&self, timer: Timestamp) -> bool {
        let rested = |at: Timestamp| timer.since(at) >= RATCHET_INTERVAL;
        self.unanswered().is_some() && self.stepped_at.is_none_or(rested)
    }

    /// Gives up keys of overtaken messages that are too old. Returns whether there were any.
    pub(super) fn expire(&mut self, date: Timestamp) -> bool {
        let before = self.skipped.len();
        self.skipped.keep(Vec::new(), date);
        self.skipped.len() < before
    }

    /// The other side's ratchet key, if ours is older than it.
    fn unanswered(&self) -> Option<&PublicValue> {
        let answered = self.sending.as_ref().is_some_and(|sending| sending.pair.is_some());
        self.receiving.as_ref().filter(|_| !answered).map(|receiving| &receiving.public)
    }

    /// The key of the next message to send, with what its header says; `None` if the numbers are
    /// used up. A step that is due is taken if it is ready, or if nothing can be sent without it.
    pub(super) fn next_to_send(
        &mut self,
        timer: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<(DhPublicBytes, u32, u32, MessageKey)> {
        if self.sending.is_none() && self.prepared.is_none() {
            self.prepared = self.stride().map(|stride| stride.run(rng));
        }
        if (self.is_step_due(timer) || self.sending.is_none())
            && let Some(step) = self.prepared.take()
        {
            self.step(step);
            self.stepped_at = Some(timer);
        }
        let sending = self.sending.as_mut()?;
        let (number, key) = sending.chain.step()?;
        Some((sending.public.to_bytes(), sending.previous, number, key))
    }

    fn step(&mut self, step: Step) {
        let (root, chain) = kdf::ratchet_keys(&self.root, &step.shared);
        self.root = root;
        self.sending = Some(Sending {
            public: step.pair.public().clone(),
            pair: Some(Arc::new(step.pair)),
            previous: self.sending.as_ref().map_or(0, |sending| sending.chain.next()),
            chain: ChainKey::new(chain, 0),
        });
    }

    /// Tries the key of a message of the other side. What was derived is kept, and the key erased,
    /// only if the attempt succeeds; a failed one leaves no trace. A new ratchet key needs `turned`.
    /// `date` is when keys of overtaken messages were kept, and how they grow old.
    pub(super) fn attempt<T, E: From<NoKey>>(
        &mut self,
        header: RatchetHeader<'_>,
        turned: Option<Turned>,
        date: Timestamp,
        attempt: impl FnOnce(&MessageKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let id = ChainId::of(header.key);
        let current = self.receiving.as_ref().filter(|receiving| receiving.id == id);
        if let Some(receiving) = current.filter(|current| header.number >= current.chain.next()) {
            let ahead = receiving.look_ahead(header.number, date)?;
            let opened = attempt(&ahead.key)?;
            self.advance(ahead, date);
            return Ok(opened);
        }
        if current.is_some() || self.past.contains(&id) || self.skipped.has_chain(id) {
            let (place, key) = self.skipped.find(id, header.number)?;
            let opened = attempt(key)?;
            self.skipped.remove(place);
            return Ok(opened);
        }
        let turning = self.turn(header, turned, date)?;
        let opened = attempt(&turning.ahead.key)?;
        self.commit_turn(turning, date);
        Ok(opened)
    }

    /// The state after a turn, as far as it can be told before the attempt.
    fn turn(
        &self,
        header: RatchetHeader<'_>,
        turned: Option<Turned>,
        date: Timestamp,
    ) -> Result<Turning, NoKey> {
        let sending = self.sending.as_ref().and_then(|sending| sending.pair.as_ref());
        let ours = sending.ok_or(NoKey::UnknownKey)?;
        let theirs = PublicValue::try_from(header.key).map_err(|_| NoKey::UnknownKey)?;
        let left = self.receiving.as_ref().map(|now| now.finish(header.previous, date));
        let left = left.transpose()?.unwrap_or_default();
        if header.number > MAX_SKIP {
            return Err(NoKey::TooFarAhead);
        }
        let turned = turned.filter(|turned| Arc::ptr_eq(&turned.ours, ours));
        let Some(turned) = turned.filter(|turned| *turned.theirs == theirs) else {
            let theirs = Box::new(theirs);
            return Err(NoKey::NeedsTurn(Turn { ours: Arc::clone(ours), theirs }));
        };
        let (root, chain) = kdf::ratchet_keys(&self.root, &turned.shared);
        let ahead = Receiving::new(theirs, chain).look_ahead(header.number, date)?;
        Ok(Turning { root, left, ahead })
    }

    fn commit_turn(&mut self, turning: Turning, date: Timestamp) {
        let Turning { root, left, ahead } = turning;
        self.root = root;
        if let Some(sending) = &mut self.sending {
            sending.pair = None;
        }
        if let Some(ended) = self.receiving.take() {
            self.past.push_back(ended.id);
            self.past.drain(..self.past.len().saturating_sub(MAX_PAST));
        }
        self.skipped.keep(left, date);
        self.advance(ahead, date);
    }

    fn advance(&mut self, ahead: Ahead, date: Timestamp) {
        self.receiving = Some(ahead.receiving);
        self.skipped.keep(ahead.overtaken, date);
    }
}

impl fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root: _, sending, receiving, past: _, skipped, prepared, stepped_at: _ } = self;
        f.debug_struct("Ratchet")
            .field("sent", &sending.as_ref().map(|sending| sending.chain.next()))
            .field("received", &receiving.as_ref().map(|receiving| receiving.chain.next()))
            .field("skipped", &skipped.len())
            .field("prepared", &prepared.is_some())
            .finish_non_exhaustive()
    }
}

/// A turn that was computed and not tried yet.
struct Turning {
    root: Key,
    /// What is left behind of the chain before.
    left: Vec<SkippedKey>,
    ahead: Ahead,
}

/// A chain after a message, the keys of those that the message overtakes, and its own.
struct Ahead {
    receiving: Receiving,
    overtaken: Vec<SkippedKey>,
    key: MessageKey,
}

impl Receiving {
    fn new(public: PublicValue, chain: Key) -> Self {
        let id = ChainId::of(&public.to_bytes());
        Self { public, id, chain: RemoteChainKey::new(chain, 0) }
    }

    fn look_ahead(&self, number: u32, date: Timestamp) -> Result<Ahead, NoKey> {
        let mut receiving = self.clone();
        let overtaken = receiving.skip_to(number, date)?;
        let (_, key) = receiving.chain.step().ok_or(NoKey::TooFarAhead)?;
        Ok(Ahead { receiving, overtaken, key })
    }

    /// The keys that are left where the chain ends before `end`.
    fn finish(&self, end: u32, date: Timestamp) -> Result<Vec<SkippedKey>, NoKey> {
        self.clone().skip_to(end, date)
    }

    fn skip_to(&mut self, number: u32, date: Timestamp) -> Result<Vec<SkippedKey>, NoKey> {
        if number.saturating_sub(self.chain.next()) > MAX_SKIP {
            return Err(NoKey::TooFarAhead);
        }
        let mut overtaken = Vec::new();
        while self.chain.next() < number {
            let (number, key) = self.chain.step().ok_or(NoKey::TooFarAhead)?;
            overtaken.push(SkippedKey { chain: self.id, number, since: date, key: Box::new(key) });
        }
        Ok(overtaken)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod textbook;
