//! A session seals and opens envelopes between two devices. It knows of no socket, and of the
//! ratchet only that it has a key for each message.
//!
//! A session comes from [`super::agreement`], and from its stored form.

mod storage;

use std::fmt;

use parlor_common::envelope::{Envelope, FirstHeader, Header, IV_LEN, MAX_ENVELOPE};
use parlor_common::id::{DeviceId, SessionId};
use rand::CryptoRng;
use thiserror::Error;

pub use super::aead::Plaintext;
use super::kdf::{self, Key};
use super::ratchet::{NoKey, Ratchet};
pub use super::stored::DecodeError;
use super::{aead, padding};

/// The longest plaintext, in bytes: with padding, header and tag it makes no envelope that is
/// longer than [`MAX_ENVELOPE`].
pub const MAX_PLAINTEXT: usize = MAX_ENVELOPE - 4096 - 1;

/// Which side of the agreement a device was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It had the other's bundle and sent the first message.
    Initiator,
    /// Its prekeys were used.
    Responder,
}

impl Role {
    /// The role of the other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Why a message was not sealed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SealError {
    /// The session has sealed 2³² − 1 messages: start another.
    #[error("the session's message numbers are used up")]
    Exhausted,
    /// The plaintext is longer than [`MAX_PLAINTEXT`].
    #[error("the message is too long")]
    TooLong,
}

/// Why an envelope was not opened. The session is as it was before.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OpenError {
    /// A message with this number was opened before. The envelope may still be a forgery: nobody
    /// can tell, because the key is gone.
    #[error("the message was opened before")]
    Duplicate,
    /// It is not authentic, not of this session, or so old that its key was given up.
    #[error("the envelope was refused")]
    Refused,
    /// It would overtake more than 1,000 messages. Whether it is authentic was not looked at.
    #[error("the message is too far ahead")]
    TooFarAhead,
}

impl From<NoKey> for OpenError {
    fn from(reason: NoKey) -> Self {
        match reason {
            NoKey::Forgotten => Self::Refused,
            NoKey::TooFarAhead => Self::TooFarAhead,
            NoKey::Used => Self::Duplicate,
        }
    }
}

/// One side of a session between two devices.
pub struct Session {
    id: SessionId,
    transcript: [u8; 32],
    role: Role,
    peer: DeviceId,
    /// What the other side needs for its half of the agreement: with every message of the
    /// initiator, until one of the responder's was opened.
    greeting: Option<FirstHeader>,
    /// Boxed, so that a session that is moved leaves no keys behind.
    ratchet: Box<Ratchet>,
}

impl Session {
    /// The session of an agreement's outcome.
    pub(super) fn new(
        agreed: &Key,
        transcript: [u8; 32],
        role: Role,
        peer: DeviceId,
        greeting: Option<FirstHeader>,
    ) -> Self {
        let ratchet = Box::new(Ratchet::new(agreed, role));
        Self { id: kdf::session_id(agreed), transcript, role, peer, greeting, ratchet }
    }

    /// The id, the same on both sides, and derived: nobody chooses it.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The hash of everything public that was agreed on, 32 bytes, the same on both sides.
    pub fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }

    /// Which side we were.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The other side's device.
    pub fn peer(&self) -> DeviceId {
        self.peer
    }

    /// Whether a message of the other side was opened on this session.
    pub fn has_heard(&self) -> bool {
        self.ratchet.has_heard()
    }

    /// Seals a message. `rng` must be the operating system's generator or one seeded by it: the
    /// IV, 16 bytes, comes from it.
    pub fn seal(
        &mut self,
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Envelope, SealError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(SealError::TooLong);
        }
        let (number, key) = self.ratchet.next_to_send().ok_or(SealError::Exhausted)?;
        let header = Header { session: self.id, first: self.greeting.clone(), number };
        let header_bytes = header.encode();
        let mut iv = [0; IV_LEN];
        rng.fill_bytes(&mut iv);
        let ad = [&header_bytes, self.transcript.as_slice()];
        let sealed = aead::seal_in_place(&key.aead_key(), &iv, &ad, padding::pad(plaintext));
        Ok(Envelope::new(header, &header_bytes, &iv, &sealed))
    }

    /// Opens an envelope of the other side. The key is erased when it succeeds, and nothing
    /// changes when it fails.
    pub fn open(&mut self, envelope: &Envelope) -> Result<Plaintext, OpenError> {
        let header = envelope.header();
        if header.session != self.id {
            return Err(OpenError::Refused);
        }
        let iv = envelope.iv().try_into().map_err(|_| OpenError::Refused)?;
        let ad = [envelope.header_bytes(), self.transcript.as_slice()];
        let opened = self.ratchet.attempt(header.number, |key| {
            let padded = aead::open(&key.aead_key(), iv, &ad, envelope.sealed());
            padded.ok().and_then(padding::unpad).ok_or(OpenError::Refused)
        })?;
        self.greeting = None;
        Ok(opened)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, transcript: _, role, peer, greeting: _, ratchet: _ } = self;
        let mut debug = f.debug_struct("Session");
        debug.field("id", id).field("role", role).field("peer", peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::fixture::{FIRST, acquainted, flipped, rng, sessions};

    fn assert_refused(session: &mut Session, envelope: &Envelope) {
        let before = session.encode();
        assert!(session.open(envelope).is_err());
        assert_eq!(session.encode(), before);
    }

    #[test]
    fn the_initiator_greets_until_it_has_heard() {
        let (mut alice, mut bob) = sessions();
        assert!(!alice.has_heard() && !bob.has_heard());
        let second = alice.seal(b"second", &mut rng()).unwrap();
        assert_eq!(second.header().first, FIRST.envelope.header().first);
        assert_eq!(&*bob.open(&second).unwrap(), b"second");
        let answer = bob.seal(b"answer", &mut rng()).unwrap();
        assert_eq!(answer.header().first, None);
        assert_eq!(&*alice.open(&answer).unwrap(), b"answer");
        assert!(alice.has_heard() && bob.has_heard());
        assert_eq!(alice.seal(b"third", &mut rng()).unwrap().header().first, None);
        assert_eq!(&*bob.open(&FIRST.envelope).unwrap(), b"first");
    }

    #[test]
    fn a_change_of_any_byte_of_a_first_envelope_is_refused() {
        let (_, mut bob) = sessions();
        for byte in 0..FIRST.envelope.as_bytes().len() {
            if let Some(changed) = flipped(&FIRST.envelope, 8 * byte + byte % 8) {
                assert_refused(&mut bob, &changed);
            }
        }
        assert!(bob.open(&FIRST.envelope).is_ok());
    }

    #[test]
    fn a_change_of_any_bit_of_a_following_envelope_is_refused() {
        let (mut alice, mut bob) = acquainted();
        let envelope = alice.seal(b"hello", &mut rng()).unwrap();
        for bit in 0..8 * envelope.as_bytes().len() {
            if let Some(changed) = flipped(&envelope, bit) {
                assert_refused(&mut bob, &changed);
            }
        }
        assert_eq!(&*bob.open(&envelope).unwrap(), b"hello");
    }

    #[test]
    fn a_message_opens_once() {
        let (_, mut bob) = sessions();
        assert_eq!(&*bob.open(&FIRST.envelope).unwrap(), b"first");
        let before = bob.encode();
        assert_eq!(bob.open(&FIRST.envelope), Err(OpenError::Duplicate));
        assert_eq!(bob.encode(), before);
    }

    #[test]
    fn what_is_reflected_or_of_another_session_is_refused() {
        let (mut alice, mut bob) = acquainted();
        let from_alice = alice.seal(b"hello", &mut rng()).unwrap();
        assert_refused(&mut alice, &from_alice);
        assert_refused(&mut alice, &FIRST.envelope);
        bob.id = SessionId([0; 16]);
        assert_refused(&mut bob, &from_alice);
    }

    #[test]
    fn messages_under_another_transcript_are_refused() {
        let (mut alice, mut bob) = acquainted();
        alice.transcript[0] ^= 1;
        assert_refused(&mut bob, &alice.seal(b"hello", &mut rng()).unwrap());
    }

    #[test]
    fn a_gap_of_1001_is_refused_at_once() {
        let (mut alice, mut bob) = acquainted();
        let envelopes: Vec<_> =
            (0..1002).map(|_| alice.seal(b"hello", &mut rng()).unwrap()).collect();
        assert_eq!(bob.open(&envelopes[1001]), Err(OpenError::TooFarAhead));
        assert!(bob.open(&envelopes[1000]).is_ok());
        assert!(bob.open(&envelopes[1001]).is_ok());
        assert!(bob.open(&envelopes[0]).is_ok());
    }

    #[test]
    fn the_longest_plaintext_fits_an_envelope_and_a_longer_one_changes_nothing() {
        let (mut alice, mut bob) = sessions();
        let before = alice.encode();
        let too_long = alice.seal(&vec![1; MAX_PLAINTEXT + 1], &mut rng());
        assert_eq!(too_long.unwrap_err(), SealError::TooLong);
        assert_eq!(alice.encode(), before);
        let longest = vec![1; MAX_PLAINTEXT];
        let sealed = alice.seal(&longest, &mut rng()).unwrap();
        assert!(sealed.header().first.is_some());
        let envelope = Envelope::parse(sealed.into_bytes()).unwrap();
        assert_eq!(*bob.open(&envelope).unwrap(), *longest);
    }

    #[test]
    fn a_session_ends_before_its_numbers_repeat() {
        let mut stored = FIRST.alice.clone();
        stored[66..70].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut alice = Session::decode(&stored).unwrap();
        assert_eq!(alice.seal(b"hello", &mut rng()).unwrap_err(), SealError::Exhausted);
    }

    #[test]
    fn the_same_text_is_never_sealed_the_same_way() {
        let (mut alice, _) = acquainted();
        let rng = &mut rng();
        let one = alice.seal(b"hello", rng).unwrap();
        let two = alice.seal(b"hello", rng).unwrap();
        assert_ne!(one.iv(), two.iv());
        assert_ne!(one.ciphertext(), two.ciphertext());
    }

    /// What can happen on the way. Indices are taken modulo what is there.
    #[derive(Clone, Debug)]
    enum Happening {
        Seal { by_alice: bool },
        Deliver { index: usize, and_keep: bool },
        Lose { index: usize },
        Restart,
    }

    fn happenings() -> impl Strategy<Value = Vec<Happening>> {
        let happening = prop_oneof![
            4 => any::<bool>().prop_map(|by_alice| Happening::Seal { by_alice }),
            6 => (any::<usize>(), any::<bool>())
                .prop_map(|(index, and_keep)| Happening::Deliver { index, and_keep }),
            1 => any::<usize>().prop_map(|index| Happening::Lose { index }),
            1 => Just(Happening::Restart),
        ];
        proptest::collection::vec(happening, 0..120)
    }

    struct OnItsWay {
        envelope: Envelope,
        plaintext: Vec<u8>,
        to_alice: bool,
        opened: bool,
    }

    proptest! {
        #[test]
        fn whatever_is_delivered_opens_exactly_once(happenings in happenings()) {
            let (mut alice, mut bob) = sessions();
            let mut rng = rng();
            let mut on_its_way: Vec<OnItsWay> = Vec::new();
            for (at, happening) in happenings.into_iter().enumerate() {
                match happening {
                    Happening::Seal { by_alice } => {
                        let plaintext = format!("message {at}").into_bytes();
                        let by = if by_alice { &mut alice } else { &mut bob };
                        let envelope = by.seal(&plaintext, &mut rng).unwrap();
                        let to_alice = !by_alice;
                        on_its_way.push(OnItsWay { envelope, plaintext, to_alice, opened: false });
                    }
                    Happening::Deliver { index, and_keep } if !on_its_way.is_empty() => {
                        let index = index % on_its_way.len();
                        let item = &mut on_its_way[index];
                        let to = if item.to_alice { &mut alice } else { &mut bob };
                        let envelope = Envelope::parse(item.envelope.as_bytes().to_vec()).unwrap();
                        match to.open(&envelope) {
                            Ok(opened) => {
                                prop_assert!(!item.opened);
                                prop_assert_eq!(&*opened, item.plaintext.as_slice());
                            }
                            Err(error) => {
                                prop_assert!(item.opened);
                                prop_assert_eq!(error, OpenError::Duplicate);
                            }
                        }
                        item.opened = true;
                        if !and_keep {
                            on_its_way.swap_remove(index);
                        }
                    }
                    Happening::Lose { index } if !on_its_way.is_empty() => {
                        on_its_way.swap_remove(index % on_its_way.len());
                    }
                    Happening::Restart => {
                        alice = Session::decode(&alice.encode()).unwrap();
                        bob = Session::decode(&bob.encode()).unwrap();
                    }
                    Happening::Deliver { .. } | Happening::Lose { .. } => {}
                }
            }
        }
    }
}
