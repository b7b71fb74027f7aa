//! The keys of messages that were overtaken: kept for a while, each until its message is opened.

use std::collections::VecDeque;
use std::time::Duration;

use parlor_common::time::Timestamp;

use super::chain::MessageKey;
use super::ratchet::{ChainId, NoKey};

/// So many keys are kept in all; the oldest go first.
pub(super) const MAX_SKIPPED: usize = 2000;

/// A key is kept for so long.
pub(super) const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// So many chains are remembered of which keys were given up.
const MAX_GIVEN_UP: usize = 32;

/// The key of an overtaken message. Boxed, so that moving it leaves no copy.
#[derive(Debug)]
pub(super) struct SkippedKey {
    /// The chain of the message.
    pub(super) chain: ChainId,
    /// Its number there.
    pub(super) number: u32,
    /// Since when it is kept, by the machine's date.
    pub(super) since: Timestamp,
    /// The key.
    pub(super) key: Box<MessageKey>,
}

/// All of them, in the order in which they were kept.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    keys: VecDeque<SkippedKey>,
    given_up: VecDeque<ChainId>,
}

impl Skipped {
    /// Takes over what was stored.
    pub(super) fn restore(keys: VecDeque<SkippedKey>, given_up: VecDeque<ChainId>) -> Self {
        Self { keys, given_up }
    }

    /// The keys, to be stored, in their order.
    pub(super) fn keys(&self) -> &VecDeque<SkippedKey> {
        &self.keys
    }

    /// The chains of which keys were given up, to be stored.
    pub(super) fn given_up(&self) -> &VecDeque<ChainId> {
        &self.given_up
    }

    /// How many keys are kept.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether any key of a chain is kept.
    pub(super) fn has_chain(&self, chain: ChainId) -> bool {
        self.keys.iter().any(|kept| kept.chain == chain)
    }

    /// The key of a message, and its place.
    pub(super) fn find(&self, chain: ChainId, number: u32) -> Result<(usize, &MessageKey), NoKey> {
        let mut kept = self.keys.iter().enumerate();
        let found = kept.find(|(_, kept)| kept.chain == chain && kept.number == number);
        match found {
            Some((place, kept)) => Ok((place, &kept.key)),
            None if self.given_up.contains(&chain) => Err(NoKey::Forgotten),
            None => Err(NoKey::Used),
        }
    }

    /// Erases the key at a place.
    pub(super) fn remove(&mut self, place: usize) {
        self.keys.remove(place);
    }

    /// Keeps more keys, and gives up what is too old or too much.
    pub(super) fn keep(&mut self, keys: Vec<SkippedKey>, date: Timestamp) {
        self.keys.extend(keys);
        while self.keys.len() > MAX_SKIPPED || self.keys.front().is_some_and(|key| key.is_old(date))
        {
            let Some(gone) = self.keys.pop_front() else { return };
            self.gave_up(gone.chain);
        }
        // A clock that went back must not keep a key for longer.
        self.keys.iter_mut().for_each(|kept| kept.since = kept.since.min(date));
    }

    fn gave_up(&mut self, chain: ChainId) {
        if !self.given_up.contains(&chain) {
            self.given_up.push_back(chain);
            self.given_up.drain(..self.given_up.len().saturating_sub(MAX_GIVEN_UP));
        }
    }

    /// Whether a restored state is within the bounds.
    pub(super) fn is_bounded(keys: usize, given_up: usize) -> bool {
        keys <= MAX_SKIPPED && given_up <= MAX_GIVEN_UP
    }
}

impl SkippedKey {
    fn is_old(&self, date: Timestamp) -> bool {
        date.since(self.since) > MAX_AGE
    }
}
