//! `AEAD_AES_128_CBC_HMAC_SHA_256` (RFC 7518, §5.2.3): encrypt, then authenticate.
//!
//! The tag is the first half of HMAC-SHA-256 over associated data ‖ IV ‖ ciphertext ‖ bit length of
//! the associated data. It is compared in constant time before anything is decrypted, and nothing
//! outside this module can decrypt without it.

use std::fmt;
use std::ops::Deref;

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{Array, Block, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use parlor_common::envelope::{IV_LEN, TAG_LEN};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

const BLOCK_LEN: usize = 16;
const HALF: usize = 16;

/// A key of 32 bytes: 16 that authenticate and then 16 that encrypt.
pub struct AeadKey(Zeroizing<[u8; Self::LEN]>);

impl AeadKey {
    /// The length in bytes.
    pub const LEN: usize = 2 * HALF;

    /// Takes 32 bytes as a key.
    pub fn new(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }

    /// The key, to be compared with a known answer.
    pub(super) fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    fn halves(&self) -> (Zeroizing<[u8; HALF]>, Zeroizing<[u8; HALF]>) {
        let (mut mac, mut enc) = (Zeroizing::new([0; HALF]), Zeroizing::new([0; HALF]));
        mac.iter_mut().chain(enc.iter_mut()).zip(self.0.iter()).for_each(|(to, from)| *to = *from);
        (mac, enc)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").finish_non_exhaustive()
    }
}

/// What was opened; erased when dropped. It does not print.
#[derive(Clone, Eq, PartialEq)]
pub struct Plaintext(Vec<u8>);

impl Plaintext {
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        // What was cut off is erased too. The barrier keeps the writes, as `Zeroize` does by making
        // each of them volatile, which takes a third of the time that opening does.
        self.0.resize(self.0.capacity(), 0);
        self.0.fill(0);
        zeroize::optimization_barrier(self.0.as_slice());
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plaintext({} bytes)", self.0.len())
    }
}

/// Seals `plaintext`: ciphertext and tag. Every message under one key needs a fresh random `iv`.
pub fn seal(key: &AeadKey, iv: &[u8; IV_LEN], ad: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(sealed_len(plaintext.len()));
    buffer.extend_from_slice(plaintext);
    seal_in_place(key, iv, ad, &mut buffer, 0);
    buffer
}

/// The length of ciphertext and tag for a plaintext of `len` bytes.
pub(super) fn sealed_len(len: usize) -> usize {
    len - len % BLOCK_LEN + BLOCK_LEN + TAG_LEN
}

/// Like [`seal`], turning the plaintext at the buffer's end, from `start` on, into ciphertext and
/// tag. With room for [`sealed_len`] no copy of the plaintext is left behind.
pub(super) fn seal_in_place(
    key: &AeadKey,
    iv: &[u8; IV_LEN],
    ad: &[&[u8]],
    buffer: &mut Vec<u8>,
    start: usize,
) {
    let (mac, enc) = key.halves();
    // PKCS#7: as many bytes as are missing, at least one, each of that value.
    let missing = BLOCK_LEN - buffer.len().saturating_sub(start) % BLOCK_LEN;
    buffer.resize(buffer.len() + missing, u8::try_from(missing).unwrap_or_default());
    let text = buffer.get_mut(start..).unwrap_or_default();
    let (blocks, _none) = Array::slice_as_chunks_mut(text);
    let blocks: &mut [Block<Aes128>] = blocks;
    cbc::Encryptor::<Aes128>::new((&*enc).into(), iv.into()).encrypt_blocks(blocks);
    let tag = tag(&mac, iv, ad, text);
    buffer.extend_from_slice(&tag);
}

/// A ciphertext of anything with the tag that it would have: for vectors and tests of what is
/// refused though its tag holds.
pub(super) fn with_tag(
    key: &AeadKey,
    iv: &[u8; IV_LEN],
    ad: &[&[u8]],
    mut ciphertext: Vec<u8>,
) -> Vec<u8> {
    let (mac, _) = key.halves();
    let tag = tag(&mac, iv, ad, &ciphertext);
    ciphertext.extend_from_slice(&tag);
    ciphertext
}

/// A message is not authentic. Nothing more is said, on purpose.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the message is not authentic")]
pub struct NotAuthentic;

/// Opens what [`seal`] made.
pub fn open(
    key: &AeadKey,
    iv: &[u8; IV_LEN],
    ad: &[&[u8]],
    sealed: &[u8],
) -> Result<Plaintext, NotAuthentic> {
    let (ciphertext, expected) = sealed.split_last_chunk::<TAG_LEN>().ok_or(NotAuthentic)?;
    let (mac, enc) = key.halves();
    let tag = tag(&mac, iv, ad, ciphertext);
    if !bool::from(tag.ct_eq(expected)) {
        return Err(NotAuthentic);
    }
    let mut plaintext = Plaintext(ciphertext.to_vec());
    let len = cbc::Decryptor::<Aes128>::new((&*enc).into(), iv.into())
        .decrypt_padded::<Pkcs7>(&mut plaintext.0)
        .map_err(|_| NotAuthentic)?
        .len();
    plaintext.truncate(len);
    Ok(plaintext)
}

fn tag(mac: &[u8; HALF], iv: &[u8; IV_LEN], ad: &[&[u8]], ciphertext: &[u8]) -> [u8; TAG_LEN] {
    // HMAC fills a short key with zeros to the hash's block (RFC 2104, §2).
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(mac).for_each(|(to, from)| *to = *from);
    let mut hmac = Hmac::<Sha256>::new((&*block).into());
    let mut ad_bits: u64 = 0;
    for part in ad {
        hmac.update(part);
        ad_bits += 8 * u64::try_from(part.len()).unwrap_or_default();
    }
    hmac.update(iv);
    hmac.update(ciphertext);
    hmac.update(&ad_bits.to_be_bytes());
    let full: [u8; 32] = hmac.finalize().into_bytes().into();
    let mut tag = [0; TAG_LEN];
    tag.iter_mut().zip(full).for_each(|(to, from)| *to = from);
    tag
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const IV: [u8; IV_LEN] = [9; IV_LEN];

    fn key() -> AeadKey {
        AeadKey::new(Zeroizing::new([7; AeadKey::LEN]))
    }

    /// RFC 7518, appendix B.1.
    #[test]
    fn the_rfc_s_example_is_sealed_as_there() {
        let plaintext = b"A cipher system must not be required to be secret, and it must be able \
            to fall into the hands of the enemy without inconvenience";
        let key = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let iv = HEXLOWER.decode(b"1af38c2dc2b96ffdd86694092341bc04").unwrap();
        let sealed = seal(
            &AeadKey::new(Zeroizing::new(key)),
            &iv.try_into().unwrap(),
            &[b"The second principle of ", b"Auguste Kerckhoffs"],
            plaintext,
        );
        let expected = "c80edfa32ddf39d5ef00c0b468834279a2e46a1b8049f792f76bfe54b903a9c9\
            a94ac9b47ad2655c5f10f9aef71427e2fc6f9b3f399a221489f16362c7032336\
            09d45ac69864e3321cf82935ac4096c86e133314c54019e8ca7980dfa4b9cf1b\
            384c486f3a54c51078158ee5d79de59fbd34d848b3d69550a67646344427ade5\
            4b8851ffb598f7f80074b9473c82e2db652c3fa36b0a7c5b3219fab3a30bc1c4";
        assert_eq!(HEXLOWER.encode(&sealed), expected);
    }

    #[test]
    fn every_length_is_opened_again() {
        for len in 0..50_u8 {
            let plaintext = vec![len; usize::from(len)];
            let sealed = seal(&key(), &IV, &[b"ad"], &plaintext);
            assert_eq!(sealed.len(), sealed_len(plaintext.len()));
            assert_eq!(*open(&key(), &IV, &[b"ad"], &sealed).unwrap(), *plaintext);
        }
    }

    #[test]
    fn a_change_of_any_bit_is_refused() {
        let sealed = seal(&key(), &IV, &[b"ad"], b"hello");
        for bit in 0..8 * sealed.len() {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key(), &IV, &[b"ad"], &changed), Err(NotAuthentic));
        }
        assert_eq!(open(&key(), &[8; IV_LEN], &[b"ad"], &sealed), Err(NotAuthentic));
        assert_eq!(open(&key(), &IV, &[b"aD"], &sealed), Err(NotAuthentic));
        let mut other = [7; AeadKey::LEN];
        other[0] = 6;
        let other = AeadKey::new(Zeroizing::new(other));
        assert_eq!(open(&other, &IV, &[b"ad"], &sealed), Err(NotAuthentic));
    }

    #[test]
    fn whatever_is_too_short_or_no_whole_blocks_is_refused() {
        let sealed = seal(&key(), &IV, &[], &[1; 32]);
        for len in 0..sealed.len() {
            assert_eq!(open(&key(), &IV, &[], &sealed[..len]), Err(NotAuthentic));
        }
        // Even with a tag that holds.
        for len in [0, 15, 17] {
            let forged = with_tag(&key(), &IV, &[], vec![5; len]);
            assert_eq!(open(&key(), &IV, &[], &forged), Err(NotAuthentic));
        }
    }

    /// Blocks that are encrypted as they are, with a tag that holds.
    fn of_blocks(mut blocks: Vec<u8>) -> Vec<u8> {
        let (_, enc) = key().halves();
        let (whole, _none): (&mut [Block<Aes128>], _) = Array::slice_as_chunks_mut(&mut blocks);
        cbc::Encryptor::<Aes128>::new((&*enc).into(), (&IV).into()).encrypt_blocks(whole);
        with_tag(&key(), &IV, &[b"ad"], blocks)
    }

    #[test]
    fn padding_that_is_wrong_under_a_tag_that_holds_looks_like_a_tag_that_does_not() {
        let ends = [[4, 4, 4, 0], [4, 4, 4, 17], [4, 4, 4, 0xff], [3, 4, 4, 4], [3, 3, 2, 3]];
        let wrong = ends.map(|end| of_blocks([[5; 28].as_slice(), &end].concat()));
        let sealed = seal(&key(), &IV, &[b"ad"], &[5; 40]);
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        let cut = [sealed[..30].to_vec(), sealed[..7].to_vec(), Vec::new()];
        for refused in wrong.into_iter().chain(cut).chain([changed]) {
            let refusal = open(&key(), &IV, &[b"ad"], &refused).unwrap_err();
            assert_eq!(refusal, NotAuthentic);
            assert_eq!(refusal.to_string(), "the message is not authentic");
        }
        // Where the padding is right such a one opens: the others were refused for theirs.
        let right = of_blocks([[5; 28].as_slice(), &[4; 4]].concat());
        assert_eq!(*open(&key(), &IV, &[b"ad"], &right).unwrap(), [5; 28]);
    }

    #[test]
    fn keys_and_plaintexts_do_not_print() {
        assert_eq!(format!("{:?}", key()), "AeadKey { .. }");
        assert_eq!(format!("{:?}", Plaintext(b"secret".to_vec())), "Plaintext(6 bytes)");
    }
}
