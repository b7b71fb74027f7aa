//! The database's key behind a passphrase: what then stands in the key file.
//!
//! A line of JSON: how the passphrase is hardened (Argon2id, RFC 9106) with its salt, and the key
//! under `AEAD_AES_128_CBC_HMAC_SHA_256` with what comes of that. Everything that the file says is
//! authenticated.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use parlor_common::Blob;
use parlor_common::envelope::IV_LEN;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::account::Password;
use crate::crypto::aead::{self, AeadKey};
use crate::store::StoreKey;

const LABEL: &[u8] = b"parlor/v1/store-key";

/// The length of a salt, in bytes.
const SALT_LEN: usize = 16;

/// What a guess costs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// Four times the memory of RFC 9106's second recommendation: half a second and 256 MiB, once
    /// for a command. Whoever has the disk has all the time there is.
    pub(super) const STANDARD: Self = Self { memory_kib: 256 * 1024, passes: 3, lanes: 4 };

    /// A file that asks for more than 1 GiB, 16 passes or 16 lanes is refused.
    const MOST: Self = Self { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

    /// For tests.
    #[cfg(test)]
    const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    fn is_acceptable(self) -> bool {
        let Self { memory_kib, passes, lanes } = Self::MOST;
        self.memory_kib <= memory_kib && self.passes <= passes && self.lanes <= lanes
    }

    fn as_bytes(self) -> [u8; 12] {
        let numbers = [self.memory_kib, self.passes, self.lanes].map(u32::to_be_bytes);
        let mut bytes = [0; 12];
        bytes.iter_mut().zip(numbers.as_flattened()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Hardening {
    Argon2id,
}

/// A database's key that opens with a passphrase.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct SealedKey {
    kdf: Hardening,
    #[serde(flatten)]
    cost: Cost,
    salt: Blob,
    /// IV, ciphertext and tag.
    sealed: Blob,
}

/// Why a key did not open.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum UnsealError {
    /// The passphrase is another one, or the file was changed: nobody can tell which.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The file asks for what no program of ours writes.
    #[error("the key file is malformed")]
    Malformed,
}

impl SealedKey {
    /// The longest form, in bytes.
    pub(super) const MAX_LEN: usize = 512;

    /// Seals a key under a passphrase.
    pub(super) fn seal(
        key: &StoreKey,
        passphrase: &Password,
        cost: Cost,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, UnsealError> {
        let (mut salt, mut iv) = ([0; SALT_LEN], [0; IV_LEN]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut iv);
        let hardened = harden(passphrase, &salt, cost)?;
        let ad = [LABEL, &cost.as_bytes(), &salt];
        let ciphertext = aead::seal(&hardened, &iv, &ad, key.expose_bytes());
        let sealed = Blob([iv.as_slice(), &ciphertext].concat());
        Ok(Self { kdf: Hardening::Argon2id, cost, salt: Blob(salt.to_vec()), sealed })
    }

    /// Opens the key. Takes as long as a guess shall cost.
    pub(super) fn open(&self, passphrase: &Password) -> Result<StoreKey, UnsealError> {
        let Self { kdf: Hardening::Argon2id, cost, salt, sealed } = self;
        if !cost.is_acceptable() || salt.0.len() != SALT_LEN {
            return Err(UnsealError::Malformed);
        }
        let (iv, ciphertext) = sealed.0.split_first_chunk().ok_or(UnsealError::Malformed)?;
        let hardened = harden(passphrase, &salt.0, *cost)?;
        let ad = [LABEL, &cost.as_bytes(), &salt.0];
        let opened = aead::open(&hardened, iv, &ad, ciphertext);
        let opened = opened.map_err(|_| UnsealError::WrongPassphrase)?;
        let key: [u8; StoreKey::LEN] =
            (*opened).try_into().map_err(|_| UnsealError::WrongPassphrase)?;
        Ok(StoreKey::new(Zeroizing::new(key)))
    }

    /// The line that stands in the file.
    pub(super) fn to_line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Reads the line of a file.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

fn harden(passphrase: &Password, salt: &[u8], cost: Cost) -> Result<AeadKey, UnsealError> {
    let Cost { memory_kib, passes, lanes } = cost;
    let params = Params::new(memory_kib, passes, lanes, Some(AeadKey::LEN));
    let params = params.map_err(|_| UnsealError::Malformed)?;
    let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = Zeroizing::new([0; AeadKey::LEN]);
    argon2
        .hash_password_into_with_memory(
            passphrase.expose_bytes(),
            salt,
            key.as_mut_slice(),
            memory.as_mut_slice(),
        )
        .map_err(|_| UnsealError::Malformed)?;
    Ok(AeadKey::new(key))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn passphrase(text: &str) -> Password {
        Password::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    fn key() -> StoreKey {
        StoreKey::new(Zeroizing::new([7; 32]))
    }

    fn sealed() -> SealedKey {
        let rng = &mut StdRng::seed_from_u64(1);
        SealedKey::seal(&key(), &passphrase("open sesame"), Cost::LEAST, rng).unwrap()
    }

    #[test]
    fn a_key_opens_with_its_passphrase_only() {
        let sealed = sealed();
        let opened = sealed.open(&passphrase("open sesame")).unwrap();
        assert_eq!(opened.expose_bytes(), key().expose_bytes());
        let refused = sealed.open(&passphrase("open Sesame"));
        assert_eq!(refused.unwrap_err(), UnsealError::WrongPassphrase);
    }

    #[test]
    fn its_line_reads_back_and_holds_nothing_of_the_key() {
        let line = sealed().to_line().unwrap();
        assert!(line.len() < SealedKey::MAX_LEN, "{line}");
        assert!(line.contains("\"kdf\":\"argon2id\",\"memory_kib\":8,\"passes\":1,\"lanes\":1"));
        assert_eq!(SealedKey::parse(line.as_bytes()), Some(sealed()));
        let in_clear = serde_json::to_string(&Blob(vec![7; 15])).unwrap();
        assert!(!line.contains(in_clear.trim_matches('"')));
        for text in ["", "{}", "null", line.trim_end_matches('}'), &line.replace("argon2id", "md5")]
        {
            assert_eq!(SealedKey::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_was_changed_does_not_open_and_costs_no_more_than_it_may() {
        let open = |sealed: &SealedKey| sealed.open(&passphrase("open sesame")).unwrap_err();
        for at in 0..sealed().sealed.0.len() {
            let mut changed = sealed();
            changed.sealed.0[at] ^= 1;
            assert_eq!(open(&changed), UnsealError::WrongPassphrase);
        }
        let with = |cost: Cost| SealedKey { cost, ..sealed() };
        assert_eq!(open(&with(Cost { passes: 2, ..Cost::LEAST })), UnsealError::WrongPassphrase);
        for cost in [
            Cost { memory_kib: u32::MAX, ..Cost::LEAST },
            Cost { passes: 17, ..Cost::LEAST },
            Cost { lanes: 17, ..Cost::LEAST },
            Cost { passes: 0, ..Cost::LEAST },
            Cost { memory_kib: 0, ..Cost::LEAST },
        ] {
            assert_eq!(open(&with(cost)), UnsealError::Malformed, "{cost:?}");
        }
        for len in [0, 5, 17] {
            let short = |bytes: &Blob| Blob(bytes.0[..len.min(bytes.0.len())].to_vec());
            open(&SealedKey { sealed: short(&sealed().sealed), ..sealed() });
        }
        let salt = Blob(vec![1; 15]);
        assert_eq!(open(&SealedKey { salt, ..sealed() }), UnsealError::Malformed);
    }
}
