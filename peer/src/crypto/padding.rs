//! Hides a message's length: padded to powers of two from 256 bytes to 4 KiB, then to multiples of
//! 4 KiB.
//!
//! The padding is one byte 0x80 and then zeros (ISO/IEC 7816-4), inside the plaintext, removed
//! after its tag held.

use super::aead::Plaintext;

const MARK: u8 = 0x80;
const SMALLEST: usize = 256;
const STEP: usize = 4096;

/// The length of a plaintext of `len` bytes when it is padded.
pub fn padded_len(len: usize) -> usize {
    let marked = len + 1;
    if marked <= STEP {
        marked.next_power_of_two().max(SMALLEST)
    } else {
        marked.next_multiple_of(STEP)
    }
}

/// Appends a padded copy.
pub fn pad(plaintext: &[u8], to: &mut Vec<u8>) {
    let end = to.len() + padded_len(plaintext.len());
    to.extend_from_slice(plaintext);
    to.push(MARK);
    to.resize(end, 0);
}

/// Removes the padding; `None` where there is none.
pub fn unpad(mut padded: Plaintext) -> Option<Plaintext> {
    let last = padded.iter().rposition(|byte| *byte != 0)?;
    if padded.get(last) != Some(&MARK) {
        return None;
    }
    padded.truncate(last);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;
    use crate::crypto::aead::{self, AeadKey};

    fn opened(padded: &[u8]) -> Plaintext {
        let key = AeadKey::new(Zeroizing::new([1; 32]));
        aead::open(&key, &[0; 16], &[], &aead::seal(&key, &[0; 16], &[], padded)).unwrap()
    }

    #[test]
    fn lengths_are_powers_of_two_and_then_multiples_of_4_kib() {
        let lengths = [0, 255, 256, 511, 512, 4095, 4096, 8191, 8192, 65_536];
        let padded = [256, 256, 512, 512, 1024, 4096, 8192, 8192, 12_288, 69_632];
        assert_eq!(lengths.map(padded_len), padded);
    }

    #[test]
    fn what_has_no_padding_is_refused() {
        for padded in [&[][..], &[0; 256], &[1; 256]] {
            assert!(unpad(opened(padded)).is_none());
        }
    }

    proptest! {
        #[test]
        fn padding_is_removed_again(plaintext in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let mut padded = vec![7];
            pad(&plaintext, &mut padded);
            prop_assert_eq!(padded.len(), 1 + padded_len(plaintext.len()));
            prop_assert_eq!(&*unpad(opened(&padded[1..])).unwrap(), plaintext.as_slice());
        }
    }
}
