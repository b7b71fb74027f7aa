//! ML-KEM-768 (FIPS 203): what keeps a recorded conversation closed to a quantum computer.
//!
//! A secret is kept as its seed, from which key generation derives the rest in some 60 µs.

use std::fmt;

use ml_kem::kem::{Decapsulate, Encapsulate, KeyExport};
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use parlor_common::prekey::{KemCiphertext, KemPublicBytes};
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// The secret half of a KEM prekey: the seed d ‖ z of FIPS 203, 64 bytes.
pub struct KemSecret(Box<Zeroizing<[u8; Self::LEN]>>);

impl KemSecret {
    /// The length in bytes.
    pub const LEN: usize = 64;

    /// A new secret. `rng` must be the operating system's generator or one seeded by it.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Box::new(Zeroizing::new([0; Self::LEN]));
        rng.fill_bytes(seed.as_mut_slice());
        Self(seed)
    }

    /// The secret that [`Self::expose_bytes`] stored.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self(Box::new(Zeroizing::new(*bytes)))
    }

    /// The secret, to be stored and nothing else.
    pub fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The public half.
    pub fn public(&self) -> KemPublicBytes {
        KemPublicBytes(Box::new(self.key().encapsulation_key().to_bytes().into()))
    }

    /// What was encapsulated. A ciphertext that is not for this secret gives bytes that nobody
    /// else has (implicit rejection, FIPS 203 §6.3): what is derived from them opens nothing.
    pub fn decapsulate(&self, ciphertext: &KemCiphertext) -> KemShared {
        let shared = Zeroizing::new(self.key().decapsulate((&*ciphertext.0).into()));
        KemShared::of(shared.as_ref())
    }

    fn key(&self) -> DecapsulationKey {
        let seed: Zeroizing<ml_kem::Seed> = Zeroizing::new((**self.0).into());
        DecapsulationKey::from_seed(*seed)
    }
}

impl fmt::Debug for KemSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KemSecret").finish_non_exhaustive()
    }
}

/// Bytes are no encapsulation key: a coefficient is not reduced (FIPS 203 §7.2).
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a KEM key is malformed")]
pub struct MalformedKemKey;

/// Draws 32 secret bytes and encapsulates them for the holder of `key`.
pub fn encapsulate(
    key: &KemPublicBytes,
    rng: &mut dyn CryptoRng,
) -> Result<(KemCiphertext, KemShared), MalformedKemKey> {
    let key = EncapsulationKey::new((&*key.0).into()).map_err(|_| MalformedKemKey)?;
    let (ciphertext, shared) = key.encapsulate_with_rng(rng);
    let shared = Zeroizing::new(shared);
    Ok((KemCiphertext(Box::new(ciphertext.into())), KemShared::of(shared.as_ref())))
}

/// What was encapsulated: 32 bytes, to be hashed and never to be used as a key.
pub struct KemShared(Box<Zeroizing<[u8; Self::LEN]>>);

impl KemShared {
    /// The length in bytes.
    pub const LEN: usize = 32;

    fn of(bytes: &[u8]) -> Self {
        let mut shared = Box::new(Zeroizing::new([0; Self::LEN]));
        shared.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(shared)
    }

    /// The bytes, to be hashed.
    pub fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for KemShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KemShared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::fixture::rng;

    #[test]
    fn who_holds_the_secret_arrives_at_the_same() {
        let secret = KemSecret::generate(&mut rng());
        let (ciphertext, shared) = encapsulate(&secret.public(), &mut rng()).unwrap();
        let read = KemSecret::from_bytes(secret.expose_bytes());
        assert_eq!(read.decapsulate(&ciphertext).expose_bytes(), shared.expose_bytes());
        assert_ne!(shared.expose_bytes(), &[0; 32]);
    }

    #[test]
    fn a_changed_ciphertext_gives_something_else() {
        let secret = KemSecret::generate(&mut rng());
        let (mut ciphertext, shared) = encapsulate(&secret.public(), &mut rng()).unwrap();
        ciphertext.0[7] ^= 1;
        assert_ne!(secret.decapsulate(&ciphertext).expose_bytes(), shared.expose_bytes());
    }

    #[test]
    fn a_key_with_an_unreduced_coefficient_is_refused() {
        let mut key = KemSecret::generate(&mut rng()).public();
        key.0[..2].fill(0xff);
        assert_eq!(encapsulate(&key, &mut rng()).map(drop), Err(MalformedKemKey));
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = KemSecret::generate(&mut rng());
        let (_, shared) = encapsulate(&secret.public(), &mut rng()).unwrap();
        assert_eq!(format!("{secret:?} {shared:?}"), "KemSecret { .. } KemShared { .. }");
    }
}
