//! Hides a message's length: padded to powers of two from 256 bytes to 4 KiB, then to multiples of
//! 4 KiB.
//!
//! The padding is one byte 0x80 and then zeros (ISO/IEC 7816-4), inside the plaintext, removed
//! after its tag held.

use super::aead::{Plaintext, sealed_len};

const MARK: u8 = 0x80;
const SMALLEST: usize = 256;
const STEP: usize = 4096;

/// The length of a plaintext of `len` bytes when it is padded.
pub(super) fn padded_len(len: usize) -> usize {
    let marked = len + 1;
    if marked <= STEP {
        marked.next_power_of_two().max(SMALLEST)
    } else {
        marked.next_multiple_of(STEP)
    }
}

/// A padded copy, with room for what sealing adds.
pub(super) fn pad(plaintext: &[u8]) -> Vec<u8> {
    let len = padded_len(plaintext.len());
    let mut padded = Vec::with_capacity(sealed_len(len));
    padded.extend_from_slice(plaintext);
    padded.push(MARK);
    padded.resize(len, 0);
    padded
}

/// Removes the padding; `None` where there is none.
pub(super) fn unpad(mut padded: Plaintext) -> Option<Plaintext> {
    let last = padded.iter().rposition(|byte| *byte != 0)?;
    if padded.get(last) != Some(&MARK) {
        return None;
    }
    padded.truncate(last);
    Some(padded)
}
