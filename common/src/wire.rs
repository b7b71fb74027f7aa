//! What crosses connections: frames, and what is in them for the [`rendezvous`] and for [`peer`]s.
//!
//! A frame is its length in bytes (u32, big-endian) and then that many bytes. The length is
//! checked against a limit before anything is allocated.

pub mod peer;
pub mod rendezvous;

use thiserror::Error;

/// The other side announced a frame that is longer than this stream allows.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a frame of {len} bytes where at most {max} are allowed")]
pub struct FrameTooLong {
    /// The announced length, in bytes.
    pub len: usize,
    /// The limit, in bytes.
    pub max: usize,
}

/// Puts a length before a payload. Payloads are built here and bounded by construction.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(4 + payload.len());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Takes a stream of bytes apart into frames: push what arrived, then ask for frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    consumed: usize,
    max: usize,
}

impl FrameDecoder {
    /// A decoder of frames whose payloads have at most `max` bytes.
    pub const fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), consumed: 0, max }
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame's payload, if it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameTooLong> {
        let waiting = self.buffer.get(self.consumed..).unwrap_or_default();
        let Some((len, rest)) = waiting.split_first_chunk::<4>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(FrameTooLong { len, max: self.max });
        }
        let Some(payload) = rest.get(..len) else { return Ok(None) };
        let payload = payload.to_vec();
        self.consumed += 4 + len;
        Ok(Some(payload))
    }

    /// Whether bytes of an unfinished frame are waiting.
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.consumed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&[0, 0, 0, 10]);
        assert_eq!(decoder.next_frame(), Ok(None));
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&[0, 0, 0, 11]);
        assert_eq!(decoder.next_frame(), Err(FrameTooLong { len: 11, max: 10 }));
    }

    proptest! {
        #[test]
        fn frames_survive_any_chopping(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
            chunk in 1_usize..17,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            let mut decoder = FrameDecoder::new(50);
            let mut read = Vec::new();
            for piece in bytes.chunks(chunk) {
                decoder.push(piece);
                while let Some(payload) = decoder.next_frame().unwrap() {
                    read.push(payload);
                }
            }
            prop_assert_eq!(read, payloads);
            prop_assert!(decoder.is_empty());
        }
    }
}
