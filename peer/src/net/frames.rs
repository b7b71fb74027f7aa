//! Frames from a QUIC stream.

use parlor_common::wire::{FrameDecoder, FrameTooLong};
use quinn::{ReadError, RecvStream};
use thiserror::Error;

/// Bytes that are taken from a stream at once.
const READ_SIZE: usize = 64 * 1024;

/// Why a stream gave no frame.
#[derive(Clone, Debug, Error)]
pub(super) enum ReadFrameError {
    /// The stream or its connection broke.
    #[error("the stream broke: {0}")]
    Read(#[from] ReadError),
    /// The other side announced too long a frame.
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
}

/// Reads frames of a bounded length from one stream.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: RecvStream,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Reads `stream`, whose payloads have at most `max` bytes.
    pub(super) fn new(stream: RecvStream, max: usize) -> Self {
        Self { stream, decoder: FrameDecoder::new(max), buffer: vec![0; READ_SIZE] }
    }

    /// Waits for the next payload; none at the stream's end. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, ReadFrameError> {
        loop {
            if let Some(payload) = self.decoder.next_frame()? {
                return Ok(Some(payload));
            }
            let Some(len) = self.stream.read(&mut self.buffer).await? else { return Ok(None) };
            self.decoder.push(self.buffer.get(..len).unwrap_or_default());
        }
    }

    /// The next payload that the last read brought, without waiting.
    pub(super) fn next_waiting(&mut self) -> Result<Option<Vec<u8>>, FrameTooLong> {
        self.decoder.next_frame()
    }
}
