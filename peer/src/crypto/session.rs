//! A session seals and opens envelopes between two devices. It knows of no socket, and of the
//! ratchet only that it has a key for each message.
//!
//! A session comes from [`super::agreement`], and from its stored form.

use std::fmt;

use parlor_common::envelope::{
    Envelope, FirstHeader, Header, IV_LEN, MAX_ENVELOPE, MAX_SEALED_SENDER,
};
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::prekey::DhPublicBytes;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

pub use super::aead::Plaintext;
use super::kdf::{self, Key};
use super::ratchet::{NoKey, Ratchet};
pub use super::stored::DecodeError;
use super::stored::Reader;
use super::{aead, padding};

/// The longest plaintext, in bytes: with padding, header and tag it makes no envelope that is
/// longer than [`MAX_ENVELOPE`].
pub const MAX_PLAINTEXT: usize = MAX_ENVELOPE - 4096 - 1;

const VERSION: u8 = 1;

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

    /// The stored form: version, role, id, transcript, peer, ratchet, and the greeting if it is
    /// still sent. Some 150 bytes, 1.5 KiB with the greeting.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let greeting =
            self.greeting.as_ref().map_or(0, |first| 384 + 10 + first.sealed_sender.len());
        let len = 1 + 1 + 16 + 32 + 16 + self.ratchet.encoded_len() + 1 + greeting;
        let mut stored = Zeroizing::new(Vec::with_capacity(len));
        let role = match self.role {
            Role::Initiator => 1,
            Role::Responder => 2,
        };
        stored.extend_from_slice(&[VERSION, role]);
        stored.extend_from_slice(&self.id.0);
        stored.extend_from_slice(&self.transcript);
        stored.extend_from_slice(&self.peer.0);
        self.ratchet.encode(&mut stored);
        stored.push(u8::from(self.greeting.is_some()));
        if let Some(first) = &self.greeting {
            encode_greeting(first, &mut stored);
        }
        stored
    }

    /// Reads the stored form.
    pub fn decode(stored: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(stored, VERSION)?;
        let role = match reader.byte()? {
            1 => Role::Initiator,
            2 => Role::Responder,
            _ => return Err(DecodeError::Malformed),
        };
        let id = SessionId(*reader.array()?);
        let transcript = *reader.array()?;
        let peer = DeviceId(*reader.array()?);
        let ratchet = Box::new(Ratchet::decode(&mut reader)?);
        let greeting = match reader.byte()? {
            0 => None,
            1 => Some(decode_greeting(&mut reader)?),
            _ => return Err(DecodeError::Malformed),
        };
        reader.end()?;
        Ok(Self { id, transcript, role, peer, greeting, ratchet })
    }
}

fn encode_greeting(first: &FirstHeader, stored: &mut Vec<u8>) {
    stored.extend_from_slice(first.ephemeral.as_ref());
    stored.extend_from_slice(&first.signed_prekey.to_be_bytes());
    stored.extend_from_slice(&first.one_time_prekey.unwrap_or_default().to_be_bytes());
    let len = u16::try_from(first.sealed_sender.len()).unwrap_or_default();
    stored.extend_from_slice(&len.to_be_bytes());
    stored.extend_from_slice(&first.sealed_sender);
}

fn decode_greeting(reader: &mut Reader<'_>) -> Result<FirstHeader, DecodeError> {
    let ephemeral = DhPublicBytes(Box::new(*reader.array()?));
    let signed_prekey = reader.u32()?;
    let one_time_prekey = Some(reader.u32()?).filter(|id| *id != 0);
    let len = usize::from(reader.u16()?);
    if len > MAX_SEALED_SENDER {
        return Err(DecodeError::Malformed);
    }
    let sealed_sender = reader.slice(len)?.to_vec();
    Ok(FirstHeader { ephemeral, signed_prekey, one_time_prekey, sealed_sender })
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, transcript: _, role, peer, greeting: _, ratchet: _ } = self;
        let mut debug = f.debug_struct("Session");
        debug.field("id", id).field("role", role).field("peer", peer).finish_non_exhaustive()
    }
}
