//! Envelopes: sealed messages, as bytes.
//!
//! ```text
//! offset  size  field
//!      0     1  version, 1
//!      1     1  type: 1 first, 2 following
//!      2    16  session id
//!   type 1 only:
//!     18   384  ephemeral key of the agreement
//!    402     4  id of the signed pair of prekeys that was used
//!    406     4  id of the one-time pair that was used, 0 for none
//!    410  1088  KEM ciphertext
//!   1498     2  length S of the sealed sender
//!   1500     S  sealed sender: IV, ciphertext, tag
//!   both:
//!      +   384  ratchet key
//!      +     4  length of the sender's previous chain
//!      +     4  number of the message in its chain, from 0
//!      +    16  IV
//!      +   16n  ciphertext, n ≥ 1
//!      +    16  tag
//! ```
//! Numbers are big-endian. Everything before the IV is the header: its exact bytes are
//! authenticated with the ciphertext.

use std::ops::Range;

use thiserror::Error;

use crate::id::SessionId;
use crate::prekey::{DhPublicBytes, KemCiphertext};

/// No envelope is longer, in bytes. A text of 64 KiB made of characters that JSON writes as six
/// bytes fits, with its padding.
pub const MAX_ENVELOPE: usize = 448 * 1024;

/// The length of an initialisation vector, in bytes.
pub const IV_LEN: usize = 16;
/// The length of a tag, in bytes.
pub const TAG_LEN: usize = 16;

const VERSION: u8 = 1;
const TYPE_FIRST: u8 = 1;
const TYPE_FOLLOWING: u8 = 2;
/// The sealed sender of a first message is no longer than this, in bytes.
pub const MAX_SEALED_SENDER: usize = 2048;

/// What an agreement needs of a first message, besides the recipient's own keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FirstHeader {
    /// The initiator's ephemeral key.
    pub ephemeral: DhPublicBytes,
    /// The recipient's signed pair that was used.
    pub signed_prekey: u32,
    /// The recipient's one-time pair that was used.
    pub one_time_prekey: Option<u32>,
    /// What was encapsulated for the one-time pair's KEM half, or for the signed one's where there
    /// is none.
    pub kem: KemCiphertext,
    /// Who wrote, under a key that only the recipient can make: IV, ciphertext and tag.
    pub sealed_sender: Vec<u8>,
}

/// The part of an envelope that is authenticated and not encrypted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The session that sealed it.
    pub session: SessionId,
    /// Present until the initiator has heard from the other side.
    pub first: Option<FirstHeader>,
    /// The sender's ratchet key.
    pub ratchet: DhPublicBytes,
    /// How many messages the sender's chain before this one had.
    pub previous: u32,
    /// The message's number in its chain, from 0.
    pub number: u32,
}

impl Header {
    /// The header's exact bytes, which are authenticated.
    pub fn encode(&self) -> Vec<u8> {
        let kind = if self.first.is_some() { TYPE_FIRST } else { TYPE_FOLLOWING };
        let mut bytes = vec![VERSION, kind];
        bytes.extend_from_slice(&self.session.0);
        if let Some(first) = &self.first {
            bytes.extend_from_slice(first.ephemeral.as_ref());
            bytes.extend_from_slice(&first.signed_prekey.to_be_bytes());
            bytes.extend_from_slice(&first.one_time_prekey.unwrap_or(0).to_be_bytes());
            bytes.extend_from_slice(first.kem.as_ref());
            let len = u16::try_from(first.sealed_sender.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&first.sealed_sender);
        }
        bytes.extend_from_slice(self.ratchet.as_ref());
        bytes.extend_from_slice(&self.previous.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes
    }
}

/// A parsed envelope that keeps its exact bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    bytes: Vec<u8>,
    header: Header,
    header_len: usize,
}

/// Why bytes are no envelope.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseEnvelopeError {
    /// Too short or too long, a wrong length inside, or no whole blocks.
    #[error("the envelope is malformed")]
    Malformed,
    /// Written by a newer version.
    #[error("the envelope is of version {0}, which is not known here")]
    UnknownVersion(u8),
}

impl Envelope {
    /// Puts an envelope together. `header_bytes` must be `header.encode()`, which the caller has
    /// at hand because it was authenticated.
    pub fn new(header: Header, header_bytes: &[u8], iv: &[u8; IV_LEN], sealed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(header_bytes.len() + IV_LEN + sealed.len());
        bytes.extend_from_slice(header_bytes);
        bytes.extend_from_slice(iv);
        bytes.extend_from_slice(sealed);
        Self::from_parts(header, header_bytes.len(), bytes)
    }

    /// Takes over an envelope's bytes: the header's, so many, and then IV, ciphertext and tag.
    pub fn from_parts(header: Header, header_len: usize, bytes: Vec<u8>) -> Self {
        Self { bytes, header, header_len }
    }

    /// Parses an envelope.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ParseEnvelopeError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(ParseEnvelopeError::Malformed);
        }
        let mut reader = Reader { bytes: &bytes };
        let header = parse_header(&mut reader)?;
        let header_len = bytes.len() - reader.bytes.len();
        let sealed = reader.bytes.len().checked_sub(IV_LEN + TAG_LEN);
        match sealed {
            Some(len) if len >= 16 && len % 16 == 0 => Ok(Self { bytes, header, header_len }),
            _ => Err(ParseEnvelopeError::Malformed),
        }
    }

    /// The whole envelope.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole envelope, by value.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The parsed header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The header's exact bytes.
    pub fn header_bytes(&self) -> &[u8] {
        self.part(0..self.header_len)
    }

    /// The initialisation vector, [`IV_LEN`] bytes.
    pub fn iv(&self) -> &[u8] {
        self.part(self.header_len..self.header_len + IV_LEN)
    }

    /// Ciphertext and tag.
    pub fn sealed(&self) -> &[u8] {
        self.part(self.header_len + IV_LEN..self.bytes.len())
    }

    /// The ciphertext without IV and tag: what a curious person may be shown.
    pub fn ciphertext(&self) -> &[u8] {
        self.part(self.header_len + IV_LEN..self.bytes.len().saturating_sub(TAG_LEN))
    }

    /// The tag, [`TAG_LEN`] bytes.
    pub fn tag(&self) -> &[u8] {
        self.part(self.bytes.len().saturating_sub(TAG_LEN)..self.bytes.len())
    }

    fn part(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}

fn parse_header(reader: &mut Reader<'_>) -> Result<Header, ParseEnvelopeError> {
    let [version] = reader.array()?;
    if version != VERSION {
        return Err(ParseEnvelopeError::UnknownVersion(version));
    }
    let [kind] = reader.array()?;
    let session = SessionId(reader.array()?);
    let first = match kind {
        TYPE_FIRST => Some(parse_first(reader)?),
        TYPE_FOLLOWING => None,
        _ => return Err(ParseEnvelopeError::Malformed),
    };
    let ratchet = DhPublicBytes(Box::new(reader.array()?));
    let previous = u32::from_be_bytes(reader.array()?);
    let number = u32::from_be_bytes(reader.array()?);
    Ok(Header { session, first, ratchet, previous, number })
}

fn parse_first(reader: &mut Reader<'_>) -> Result<FirstHeader, ParseEnvelopeError> {
    let ephemeral = DhPublicBytes(Box::new(reader.array()?));
    let signed_prekey = u32::from_be_bytes(reader.array()?);
    let one_time_prekey = Some(u32::from_be_bytes(reader.array()?)).filter(|id| *id != 0);
    let kem = KemCiphertext(Box::new(reader.array()?));
    let len = usize::from(u16::from_be_bytes(reader.array()?));
    if len > MAX_SEALED_SENDER {
        return Err(ParseEnvelopeError::Malformed);
    }
    let sealed_sender = reader.take(len)?.to_vec();
    Ok(FirstHeader { ephemeral, signed_prekey, one_time_prekey, kem, sealed_sender })
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ParseEnvelopeError> {
        let (taken, rest) =
            self.bytes.split_at_checked(len).ok_or(ParseEnvelopeError::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseEnvelopeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(ParseEnvelopeError::Malformed)?;
        self.bytes = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(first: bool) -> Header {
        let first = first.then(|| FirstHeader {
            ephemeral: DhPublicBytes(Box::new([3; 384])),
            signed_prekey: 7,
            one_time_prekey: Some(8),
            kem: KemCiphertext(Box::new([9; 1088])),
            sealed_sender: vec![4; 48],
        });
        let ratchet = DhPublicBytes(Box::new([2; 384]));
        Header { session: SessionId([1; 16]), first, ratchet, previous: 513, number: 258 }
    }

    fn envelope(first: bool) -> Envelope {
        let header = header(first);
        let bytes = header.encode();
        Envelope::new(header, &bytes, &[5; 16], &[6; 48])
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = envelope(true).into_bytes();
        assert_eq!(&bytes[..18], [&[1, 1][..], &[1; 16]].concat());
        assert_eq!(&bytes[402..410], [0, 0, 0, 7, 0, 0, 0, 8]);
        assert_eq!((&bytes[410..1498], &bytes[1498..1500]), (&[9; 1088][..], &[0, 48][..]));
        assert_eq!(&bytes[1500..1548], [4; 48]);
        assert_eq!(&bytes[1548..1932], [2; 384]);
        assert_eq!(&bytes[1932..1940], [0, 0, 2, 1, 0, 0, 1, 2]);
        assert_eq!(bytes.len(), 1940 + 16 + 48);
        assert_eq!(envelope(false).as_bytes().len(), 410 + 16 + 48);
    }

    #[test]
    fn what_was_written_is_read() {
        for first in [false, true] {
            let envelope = envelope(first);
            let read = Envelope::parse(envelope.as_bytes().to_vec()).unwrap();
            assert_eq!(read, envelope);
            assert_eq!(read.header_bytes(), header(first).encode());
            assert_eq!(read.iv(), [5; 16]);
            assert_eq!(read.sealed(), [6; 48]);
            assert_eq!(read.ciphertext(), [6; 32]);
        }
    }

    #[test]
    fn truncated_and_oversized_envelopes_are_refused() {
        for first in [false, true] {
            let bytes = envelope(first).into_bytes();
            for len in 0..bytes.len() {
                let read = Envelope::parse(bytes[..len].to_vec());
                let shorter_but_whole = read.as_ref().is_ok_and(|e| e.sealed().len() == 32);
                assert!(read.is_err() || shorter_but_whole, "{len} bytes");
            }
        }
        let refused = Envelope::parse(vec![1; MAX_ENVELOPE + 1]);
        assert_eq!(refused, Err(ParseEnvelopeError::Malformed));
        assert_eq!(Envelope::parse(vec![2; 100]), Err(ParseEnvelopeError::UnknownVersion(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..2200)) {
            if let [version, kind, ..] = bytes.as_mut_slice() {
                (*version, *kind) = (1, *kind % 2 + 1);
            }
            if let Ok(envelope) = Envelope::parse(bytes.clone()) {
                prop_assert_eq!(envelope.header().encode(), envelope.header_bytes());
                prop_assert_eq!(envelope.into_bytes(), bytes);
            }
        }
    }
}
