//! A session seals and opens envelopes between two devices. It knows of no socket, and of the
//! ratchet only that it has a key for each message.
//!
//! A session comes from [`super::agreement`], and from its stored form.

mod storage;

use std::fmt;

use parlor_common::envelope::{Envelope, FirstHeader, Header, IV_LEN, MAX_ENVELOPE};
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use thiserror::Error;

pub use super::aead::Plaintext;
use super::kdf::{self, Key};
pub use super::ratchet::{ChainId, Step, Stride, Turn, Turned};
use super::ratchet::{NoKey, Ratchet, RatchetHeader};
pub use super::stored::DecodeError;
use super::{aead, padding};

/// The longest plaintext, in bytes: with padding, header and tag it makes no envelope that is
/// longer than [`MAX_ENVELOPE`].
pub const MAX_PLAINTEXT: usize = MAX_ENVELOPE - 2 * 4096 - 1;

/// Which side of the agreement a device was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It had the other's bundle and sent the first message.
    Initiator,
    /// Its prekeys were used.
    Responder,
}

/// Why a message was not sealed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SealError {
    /// The chain has sealed 2³² − 1 messages: start another session.
    #[error("the chain's message numbers are used up")]
    Exhausted,
    /// The plaintext is longer than [`MAX_PLAINTEXT`].
    #[error("the message is too long")]
    TooLong,
}

/// Why an envelope was not opened. The session is as it was before.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A message of this chain and number was opened before. The envelope may still be another
    /// one: nobody can tell here, because the key is gone.
    #[error("the message was opened before")]
    Duplicate,
    /// It has a new ratchet key: this is to be computed first, and brought with the envelope.
    #[error("the envelope has a new ratchet key")]
    NeedsTurn(Turn),
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
            NoKey::Forgotten | NoKey::UnknownKey => Self::Refused,
            NoKey::NeedsTurn(turn) => Self::NeedsTurn(turn),
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
        ratchet: Ratchet,
    ) -> Self {
        let ratchet = Box::new(ratchet);
        Self { id: kdf::session_id(agreed), transcript, role, peer, greeting, ratchet }
    }

    /// The id, the same on both sides, and derived: nobody chooses it.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The transcript hash, the same on both sides.
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

    /// Whether what is sealed now is a first message: nothing of the other side was opened yet.
    pub fn greets(&self) -> bool {
        self.greeting.is_some()
    }

    /// The ratchet step that is to be made ready, if one will be due and is not.
    pub fn stride(&self) -> Option<Stride> {
        self.ratchet.stride()
    }

    /// Keeps a step that was made ready: the next message that may takes it.
    pub fn prepare(&mut self, step: Step) {
        self.ratchet.prepare(step);
    }

    /// Whether a step is made ready.
    pub fn is_prepared(&self) -> bool {
        self.ratchet.is_prepared()
    }

    /// Whether a message that is sealed at `timer` would take a step if it were ready, and has to
    /// do without.
    pub fn misses_step(&self, timer: Timestamp) -> bool {
        self.ratchet.is_step_due(timer) && !self.is_prepared()
    }

    /// Gives up keys of overtaken messages that were kept for more than 30 days at `date`. Returns
    /// whether there were any.
    pub fn expire(&mut self, date: Timestamp) -> bool {
        self.ratchet.expire(date)
    }

    /// Seals a message. `timer` is the time by a clock that starts with the process and never goes
    /// back: it spaces the steps of the ratchet. `rng` must be the operating system's generator or
    /// one seeded by it: the IV, 16 bytes, comes from it.
    pub fn seal(
        &mut self,
        plaintext: &[u8],
        timer: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<Envelope, SealError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(SealError::TooLong);
        }
        let next = self.ratchet.next_to_send(timer, rng).ok_or(SealError::Exhausted)?;
        let (ratchet, previous, number, key) = next;
        let first = self.greeting.clone();
        let header = Header { session: self.id, first, ratchet, previous, number };
        let header_bytes = header.encode();
        let mut iv = [0; IV_LEN];
        rng.fill_bytes(&mut iv);
        // In one buffer from here on: the plaintext is copied once, and encrypted where it lies.
        let start = header_bytes.len() + IV_LEN;
        let sealed_len = aead::sealed_len(padding::padded_len(plaintext.len()));
        let mut bytes = Vec::with_capacity(start + sealed_len);
        bytes.extend_from_slice(&header_bytes);
        bytes.extend_from_slice(&iv);
        padding::pad(plaintext, &mut bytes);
        let ad = [&header_bytes, self.transcript.as_slice()];
        aead::seal_in_place(&key.aead_key(), &iv, &ad, &mut bytes, start);
        Ok(Envelope::from_parts(header, header_bytes.len(), bytes))
    }

    /// Opens an envelope of the other side. The key is erased when it succeeds, and nothing
    /// changes when it fails. `turned` is what an earlier try asked for, if it did. `date` is when
    /// it arrived, by the machine's clock: the keys of overtaken messages are kept for 30 days.
    pub fn open(
        &mut self,
        envelope: &Envelope,
        turned: Option<Turned>,
        date: Timestamp,
    ) -> Result<Plaintext, OpenError> {
        let header = envelope.header();
        if header.session != self.id {
            return Err(OpenError::Refused);
        }
        let iv = envelope.iv().try_into().map_err(|_| OpenError::Refused)?;
        let ad = [envelope.header_bytes(), self.transcript.as_slice()];
        let Header { ratchet: key, previous, number, .. } = header;
        let of_ratchet = RatchetHeader { key, previous: *previous, number: *number };
        let opened = self.ratchet.attempt(of_ratchet, turned, date, |key| {
            let padded = aead::open(&key.aead_key(), iv, &ad, envelope.sealed());
            padded.ok().and_then(padding::unpad).ok_or(OpenError::Refused)
        })?;
        self.greeting = None;
        Ok(opened)
    }

    /// Opens an envelope, and computes on the spot what that needs.
    pub fn open_at_once(
        &mut self,
        envelope: &Envelope,
        date: Timestamp,
    ) -> Result<Plaintext, OpenError> {
        match self.open(envelope, None, date) {
            Err(OpenError::NeedsTurn(turn)) => self.open(envelope, Some(turn.run()), date),
            opened => opened,
        }
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
mod tests;
