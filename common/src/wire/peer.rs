//! Frames between two peers, on one unidirectional stream each way.
//!
//! A payload is one byte of type and a body. A link counts as up when the other side's hello has
//! arrived: a TLS 1.3 client finishes its handshake before the server has judged its key.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::envelope::{Envelope, MAX_ENVELOPE, ParseEnvelopeError};
use crate::prekey::PrekeyBundle;

/// A payload has at most this many bytes.
pub const MAX_PEER_FRAME: usize = MAX_ENVELOPE + 1;

/// The first frame on a stream.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// The highest version of this protocol that the sender speaks: 1.
    pub version: u32,
}

/// What one peer tells another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerFrame {
    /// Type 0, JSON: the link is up.
    Hello(Hello),
    /// Type 1, empty: please give a prekey bundle.
    BundleRequest,
    /// Type 2, JSON: a prekey bundle of the sender's device.
    Bundle(Box<PrekeyBundle>),
    /// Type 3: an envelope.
    Envelope(Envelope),
    /// A type that this version does not know; it is ignored.
    Unknown(u8),
}

/// Why a payload is no frame.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParsePeerFrameError {
    /// No bytes at all, or a body that is not as its type says.
    #[error("the frame is malformed")]
    Malformed,
    /// An envelope that is none.
    #[error(transparent)]
    Envelope(#[from] ParseEnvelopeError),
}

impl PeerFrame {
    /// The frame's payload.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => json(0, hello),
            Self::BundleRequest => vec![1],
            Self::Bundle(bundle) => json(2, bundle),
            Self::Envelope(envelope) => typed(3, envelope.as_bytes()),
            Self::Unknown(kind) => vec![*kind],
        }
    }

    /// Parses a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, ParsePeerFrameError> {
        let (kind, body) = payload.split_first().ok_or(ParsePeerFrameError::Malformed)?;
        match kind {
            0 => parse_json(body).map(Self::Hello),
            1 => Ok(Self::BundleRequest),
            2 => parse_json(body).map(Box::new).map(Self::Bundle),
            3 => Ok(Self::Envelope(Envelope::parse(body.to_vec())?)),
            unknown => Ok(Self::Unknown(*unknown)),
        }
    }
}

fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + body.len());
    payload.push(kind);
    payload.extend_from_slice(body);
    payload
}

fn json(kind: u8, body: &impl Serialize) -> Vec<u8> {
    // Our own types serialize: they have no maps with odd keys and no failing serializers.
    typed(kind, &serde_json::to_vec(body).unwrap_or_default())
}

fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ParsePeerFrameError> {
    serde_json::from_slice(body).map_err(|_| ParsePeerFrameError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_round_trip() {
        let hello = PeerFrame::Hello(Hello { version: 1 });
        for frame in [hello, PeerFrame::BundleRequest, PeerFrame::Unknown(200)] {
            assert_eq!(PeerFrame::parse(&frame.encode()), Ok(frame));
        }
        assert_eq!(PeerFrame::parse(&[]), Err(ParsePeerFrameError::Malformed));
        assert_eq!(PeerFrame::parse(&[2, b'{']), Err(ParsePeerFrameError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PeerFrame::parse(&bytes);
        }
    }
}
