//! Which key a message has: one chain in each direction, and the keys of messages that were
//! overtaken. It knows of no envelope and of no encryption.
//!
//! What a forged number can cause is bounded: a gap of [`MAX_SKIP`] in a chain, [`MAX_KEPT`] keys
//! kept in all.

use std::collections::VecDeque;

use super::chain::{ChainKey, MessageKey, RemoteChainKey};
use super::kdf::{self, Key};
use super::session::Role;
use super::stored::{DecodeError, Reader};

/// A message can overtake this many others. An honest sender never has so many on their way; a
/// forger makes us derive so many keys in vain, in less than a millisecond.
pub(super) const MAX_SKIP: u32 = 1000;

/// The keys of so many overtaken messages are kept; the oldest go first.
pub(super) const MAX_KEPT: usize = 2000;

/// Why there is no key for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoKey {
    /// So many have overtaken it that its key may have been given up.
    Forgotten,
    /// It would overtake more than [`MAX_SKIP`] others.
    TooFarAhead,
    /// It was used.
    Used,
}

/// The key of an overtaken message, by its number; boxed, so that moving it leaves no copy.
type Overtaken = (u32, Box<MessageKey>);

/// The message keys of a session.
#[derive(Debug)]
pub(super) struct Ratchet {
    sending: ChainKey,
    receiving: RemoteChainKey,
    /// In the order of their numbers.
    overtaken: VecDeque<Overtaken>,
    /// Keys of messages below this number may have been given up.
    forgotten: u32,
}

impl Ratchet {
    /// The ratchet of one side of an agreement.
    pub(super) fn new(agreed: &Key, role: Role) -> Self {
        Self {
            sending: ChainKey::new(kdf::first_chain_key(agreed, role), 0),
            receiving: RemoteChainKey::new(kdf::first_chain_key(agreed, role.other()), 0),
            overtaken: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// The number and key of the next message to send; `None` if the numbers are used up.
    pub(super) fn next_to_send(&mut self) -> Option<(u32, MessageKey)> {
        self.sending.step()
    }

    /// Whether a message of the other side was opened.
    pub(super) fn has_heard(&self) -> bool {
        self.receiving.next() > 0
    }

    /// Tries the key of the other side's message `number`. What was derived is kept, and the key
    /// erased, only if the attempt succeeds; a failed one leaves no trace.
    pub(super) fn attempt<T, E: From<NoKey>>(
        &mut self,
        number: u32,
        attempt: impl FnOnce(&MessageKey) -> Result<T, E>,
    ) -> Result<T, E> {
        if number < self.receiving.next() {
            let (index, key) = self.find_overtaken(number)?;
            let opened = attempt(key)?;
            self.overtaken.remove(index);
            return Ok(opened);
        }
        let (receiving, overtaken, key) = self.look_ahead(number)?;
        let opened = attempt(&key)?;
        self.receiving = receiving;
        self.keep(overtaken);
        Ok(opened)
    }

    fn find_overtaken(&self, number: u32) -> Result<(usize, &MessageKey), NoKey> {
        let found = self.overtaken.binary_search_by_key(&number, |(kept, _)| *kept);
        let entry = found.ok().and_then(|index| Some((index, self.overtaken.get(index)?)));
        match entry {
            Some((index, (_, key))) => Ok((index, key)),
            None if number < self.forgotten => Err(NoKey::Forgotten),
            None => Err(NoKey::Used),
        }
    }

    /// The chain after message `number`, the keys of the messages that it overtakes, and its own.
    fn look_ahead(
        &self,
        number: u32,
    ) -> Result<(RemoteChainKey, Vec<Overtaken>, MessageKey), NoKey> {
        let gap = number.saturating_sub(self.receiving.next());
        if gap > MAX_SKIP {
            return Err(NoKey::TooFarAhead);
        }
        let mut receiving = self.receiving.clone();
        let mut overtaken = Vec::new();
        loop {
            let (at, key) = receiving.step().ok_or(NoKey::TooFarAhead)?;
            if at == number {
                return Ok((receiving, overtaken, key));
            }
            overtaken.push((at, Box::new(key)));
        }
    }

    fn keep(&mut self, overtaken: Vec<Overtaken>) {
        self.overtaken.extend(overtaken);
        let excess = self.overtaken.len().saturating_sub(MAX_KEPT);
        if let Some((last, _)) = self.overtaken.drain(..excess).next_back() {
            self.forgotten = last.saturating_add(1);
        }
    }

    /// The length of what [`Self::encode`] appends, in bytes.
    pub(super) fn encoded_len(&self) -> usize {
        2 * (4 + 32) + 4 + 4 + self.overtaken.len() * (4 + 32)
    }

    /// Appends the stored form: both chains (number, key), the number below which keys may have
    /// been given up, and how many keys of overtaken messages follow (number, key).
    pub(super) fn encode(&self, stored: &mut Vec<u8>) {
        let Self { sending, receiving, overtaken, forgotten } = self;
        stored.extend_from_slice(&sending.next().to_be_bytes());
        stored.extend_from_slice(sending.expose_key());
        stored.extend_from_slice(&receiving.next().to_be_bytes());
        stored.extend_from_slice(receiving.expose_key());
        stored.extend_from_slice(&forgotten.to_be_bytes());
        let count = u32::try_from(overtaken.len()).unwrap_or_default();
        stored.extend_from_slice(&count.to_be_bytes());
        for (number, key) in overtaken {
            stored.extend_from_slice(&number.to_be_bytes());
            stored.extend_from_slice(key.expose_bytes());
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (next, key) = (reader.u32()?, reader.array()?);
        let sending = ChainKey::new(Key::new(*key), next);
        let (next, key) = (reader.u32()?, reader.array()?);
        let receiving = RemoteChainKey::new(Key::new(*key), next);
        let forgotten = reader.u32()?;
        let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        if count > MAX_KEPT {
            return Err(DecodeError::Malformed);
        }
        let overtaken = (0..count)
            .map(|_| Ok((reader.u32()?, Box::new(MessageKey::from_bytes(*reader.array()?)))))
            .collect::<Result<VecDeque<Overtaken>, _>>()?;
        let sorted = overtaken.iter().map(|(number, _)| number).is_sorted_by(|a, b| a < b);
        if !sorted {
            return Err(DecodeError::Malformed);
        }
        Ok(Self { sending, receiving, overtaken, forgotten })
    }
}
