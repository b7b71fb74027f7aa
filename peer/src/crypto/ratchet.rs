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

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Ratchet, Ratchet) {
        let agreed = Key::new([1; 32]);
        (Ratchet::new(&agreed, Role::Initiator), Ratchet::new(&agreed, Role::Responder))
    }

    /// The message keys that `sender` sends under, by number.
    fn send(sender: &mut Ratchet, count: u32) -> Vec<[u8; 32]> {
        (0..count).map(|_| *sender.next_to_send().unwrap().1.expose_bytes()).collect()
    }

    fn receive(receiver: &mut Ratchet, number: u32) -> Result<[u8; 32], NoKey> {
        receiver.attempt(number, |key| Ok(*key.expose_bytes()))
    }

    fn stored(ratchet: &Ratchet) -> Vec<u8> {
        let mut stored = Vec::new();
        ratchet.encode(&mut stored);
        assert_eq!(stored.len(), ratchet.encoded_len());
        stored
    }

    #[test]
    fn a_message_may_overtake_1000_others_and_not_1001() {
        let (mut alice, mut bob) = pair();
        let keys = send(&mut alice, 1002);
        let before = stored(&bob);
        assert_eq!(receive(&mut bob, 1001), Err(NoKey::TooFarAhead));
        assert_eq!(receive(&mut bob, u32::MAX), Err(NoKey::TooFarAhead));
        assert_eq!(stored(&bob), before);
        assert_eq!(receive(&mut bob, 1000), Ok(keys[1000]));
        assert_eq!(receive(&mut bob, 1001), Ok(keys[1001]));
        for number in (0..1000).rev() {
            assert_eq!(receive(&mut bob, number), Ok(keys[usize::try_from(number).unwrap()]));
        }
        for number in 0..=1001 {
            assert_eq!(receive(&mut bob, number), Err(NoKey::Used));
        }
    }

    #[test]
    fn of_overtaken_messages_the_latest_2000_can_be_opened() {
        let (mut alice, mut bob) = pair();
        let keys = send(&mut alice, 3003);
        for number in [1000, 2001, 3002] {
            assert!(receive(&mut bob, number).is_ok());
        }
        assert_eq!(bob.overtaken.len(), MAX_KEPT);
        assert_eq!(receive(&mut bob, 0), Err(NoKey::Forgotten));
        assert_eq!(receive(&mut bob, 999), Err(NoKey::Forgotten));
        assert_eq!(receive(&mut bob, 1000), Err(NoKey::Used));
        assert_eq!(receive(&mut bob, 1001), Ok(keys[1001]));
        assert_eq!(receive(&mut bob, 3001), Ok(keys[3001]));
        // What was given up stays known to be so.
        let mut read = Ratchet::decode(&mut Reader(&stored(&bob))).unwrap();
        assert_eq!(receive(&mut read, 0), Err(NoKey::Forgotten));
    }

    #[test]
    fn a_failed_attempt_leaves_no_trace() {
        let (mut alice, mut bob) = pair();
        let keys = send(&mut alice, 6);
        assert!(receive(&mut bob, 3).is_ok());
        let before = stored(&bob);
        for number in [0, 3, 5] {
            let failed: Result<(), _> = bob.attempt(number, |_| Err(NoKey::Used));
            assert_eq!(failed, Err(NoKey::Used));
            assert_eq!(stored(&bob), before);
        }
        assert_eq!(receive(&mut bob, 0), Ok(keys[0]));
        assert_eq!(receive(&mut bob, 5), Ok(keys[5]));
    }

    #[test]
    fn the_directions_have_different_keys() {
        let (mut alice, mut bob) = pair();
        assert_ne!(send(&mut alice, 1), send(&mut bob, 1));
    }

    #[test]
    fn the_end_of_a_chain_is_refused_and_not_overflowed() {
        let (_, mut bob) = pair();
        bob.receiving = RemoteChainKey::new(Key::new([2; 32]), u32::MAX - 1);
        assert_eq!(receive(&mut bob, u32::MAX), Err(NoKey::TooFarAhead));
        assert!(receive(&mut bob, u32::MAX - 1).is_ok());
        assert_eq!(receive(&mut bob, u32::MAX), Err(NoKey::TooFarAhead));
    }

    #[test]
    fn a_stored_form_with_too_many_or_unsorted_keys_is_refused() {
        let (mut alice, mut bob) = pair();
        send(&mut alice, 4);
        assert!(receive(&mut bob, 3).is_ok());
        let whole = stored(&bob);
        let decode = |bytes: &[u8]| Ratchet::decode(&mut Reader(bytes)).map(drop);
        assert_eq!(decode(&whole), Ok(()));
        let count = 72 + 4;
        let mut many = whole.clone();
        many[count..count + 4].copy_from_slice(&2001_u32.to_be_bytes());
        assert_eq!(decode(&many), Err(DecodeError::Malformed));
        let mut unsorted = whole.clone();
        unsorted[count + 4 + 3] = 9;
        assert_eq!(decode(&unsorted), Err(DecodeError::Malformed));
        assert_eq!(decode(&whole[..whole.len() - 1]), Err(DecodeError::Malformed));
    }
}
