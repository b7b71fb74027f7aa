//! Every derivation, with its label. No two labels are alike, so that no key serves two purposes.
//!
//! HKDF and HMAC are over SHA-256 (RFC 5869, RFC 2104).

use hkdf::Hkdf;
use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use parlor_common::id::SessionId;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::aead::AeadKey;
use super::group::{SharedSecret, VALUE_LEN};
use super::kem::KemShared;

/// 32 secret bytes.
pub(crate) type Key = Zeroizing<[u8; 32]>;

const AGREE: &[u8] = b"parlor/v1/agree";
const SENDER: &[u8] = b"parlor/v1/sender";
const SESSION_ID: &[u8] = b"parlor/v1/session-id";
const ROOT: &[u8] = b"parlor/v1/root";
const RATCHET: &[u8] = b"parlor/v1/ratchet";
const MESSAGE: &[u8] = b"parlor/v1/message";
const JOURNAL: &[u8] = b"parlor/v1/journal";

/// What an agreement arrives at: from its shared secrets, in order, and its transcript hash.
pub(super) fn agreed_secret<'a>(
    shared: impl Iterator<Item = &'a SharedSecret>,
    kem: &KemShared,
    transcript: &[u8; 32],
) -> Key {
    let mut ikm = Zeroizing::new(Vec::with_capacity(4 * VALUE_LEN + KemShared::LEN));
    shared.for_each(|secret| ikm.extend_from_slice(secret.expose_bytes()));
    ikm.extend_from_slice(kem.expose_bytes());
    expand(&Hkdf::new(Some(&[0; 32]), &ikm), &[AGREE, transcript])
}

/// The key that hides the sender of a first message; `context` is the hash of what is public.
pub(super) fn sender_key(dh2: &SharedSecret, kem: &KemShared, context: &[u8; 32]) -> AeadKey {
    let mut ikm = Zeroizing::new(Vec::with_capacity(VALUE_LEN + KemShared::LEN));
    ikm.extend_from_slice(dh2.expose_bytes());
    ikm.extend_from_slice(kem.expose_bytes());
    AeadKey::new(expand(&Hkdf::new(Some(&[0; 32]), &ikm), &[SENDER, context]))
}

/// The id of the session that was agreed on.
pub(super) fn session_id(agreed: &Key) -> SessionId {
    SessionId(*expand(&from_key(agreed), &[SESSION_ID]))
}

/// The first root key of the session that was agreed on.
pub(super) fn root_key(agreed: &Key) -> Key {
    expand(&from_key(agreed), &[ROOT])
}

/// A step of the ratchet (`KDF_RK` of the Double Ratchet specification, §5.2): the next root key,
/// and the first key of a chain.
pub(super) fn ratchet_keys(root: &Key, shared: &SharedSecret) -> (Key, Key) {
    let hkdf = Hkdf::new(Some(root.as_slice()), shared.expose_bytes());
    let both: Zeroizing<[u8; 64]> = expand(&hkdf, &[RATCHET]);
    let (mut next, mut chain) = (Key::default(), Key::default());
    next.iter_mut().chain(chain.iter_mut()).zip(both.iter()).for_each(|(to, from)| *to = *from);
    (next, chain)
}

/// What a message's keys come from, at this point of a chain.
pub(super) fn message_key(chain: &Key) -> Key {
    hmac(chain, &[1])
}

/// The key of the next point of a chain.
pub(super) fn next_chain_key(chain: &Key) -> Key {
    hmac(chain, &[2])
}

/// The keys under which a message is sealed.
pub(super) fn aead_key(message: &Key) -> AeadKey {
    AeadKey::new(expand(&from_key(message), &[MESSAGE]))
}

/// What a file of a profile's journal needs: 32 bytes that are its key, and 16 that show in its head
/// that this is the key. From the profile's key and the file's random id.
pub(crate) fn journal_keys(profile: &[u8; 32], id: &[u8; 32]) -> (Key, [u8; 16]) {
    let both: Zeroizing<[u8; 48]> = expand(&Hkdf::new(Some(id), profile), &[JOURNAL]);
    let (mut key, mut check) = (Key::default(), [0; 16]);
    key.iter_mut().chain(check.iter_mut()).zip(both.iter()).for_each(|(to, from)| *to = *from);
    (key, check)
}

fn hmac(key: &Key, message: &[u8]) -> Key {
    // HMAC fills a short key with zeros to the hash's block (RFC 2104, §2).
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key.iter()).for_each(|(to, from)| *to = *from);
    let mut derived = Key::default();
    let hmac = Hmac::<Sha256>::new((&*block).into()).chain_update(message);
    hmac.finalize_into((&mut *derived).into());
    derived
}

#[expect(clippy::expect_used, reason = "a key is as long as SHA-256's output")]
fn from_key(key: &Key) -> Hkdf<Sha256> {
    Hkdf::from_prk(key.as_slice()).expect("32 bytes are enough")
}

#[expect(clippy::expect_used, reason = "HKDF gives up to 255 × 32 bytes")]
fn expand<const N: usize>(hkdf: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32, "HKDF does not give more") };
    let mut okm = Zeroizing::new([0; N]);
    hkdf.expand_multi_info(info, okm.as_mut_slice()).expect("the length was checked");
    okm
}
