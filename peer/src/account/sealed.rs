//! The account key at the rendezvous: sealed under what only its owner has.
//!
//! ```text
//! offset  size  field
//!      0    16  IV
//!     16    48  ciphertext of the key's seed
//!     64    16  tag
//! ```
//! `AEAD_AES_128_CBC_HMAC_SHA_256` under HKDF-SHA-256 (no salt) of the owner's secret, with the
//! box's label as info; label and name are authenticated.

use hkdf::Hkdf;
use parlor_common::Blob;
use parlor_common::envelope::IV_LEN;
use parlor_common::id::Username;
use parlor_common::identity::AccountSecret;
use rand::CryptoRng;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::recovery::RecoveryCode;
use crate::crypto::aead::{self, AeadKey};
use crate::opaque::ExportKey;

/// What opens a box.
#[derive(Clone, Copy, Debug)]
pub enum Opener<'a> {
    /// The password, by OPAQUE's export key.
    Password(&'a ExportKey),
    /// The recovery code.
    Recovery(&'a RecoveryCode),
}

impl Opener<'_> {
    const fn label(self) -> &'static str {
        match self {
            Self::Password(_) => "parlor/v1/account-box",
            Self::Recovery(_) => "parlor/v1/recovery-box",
        }
    }

    fn secret(&self) -> &[u8] {
        match self {
            Self::Password(key) => key.expose_bytes(),
            Self::Recovery(code) => code.expose_bytes(),
        }
    }

    #[expect(clippy::expect_used, reason = "HKDF gives up to 255 × 32 bytes, and this is 32")]
    fn key(self) -> AeadKey {
        let mut key = Zeroizing::new([0; AeadKey::LEN]);
        let secret = Hkdf::<Sha256>::new(None, self.secret());
        secret.expand(self.label().as_bytes(), key.as_mut_slice()).expect("the length is 32");
        AeadKey::new(key)
    }
}

/// A box does not open, or holds no key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the account key that the rendezvous keeps does not open")]
pub struct BadBox;

/// Seals the account key of `name`.
pub fn seal(
    account: &AccountSecret,
    name: &Username,
    opener: Opener<'_>,
    rng: &mut dyn CryptoRng,
) -> Blob {
    let mut sealed = [0; IV_LEN];
    rng.fill_bytes(&mut sealed);
    let ad = [opener.label().as_bytes(), name.as_str().as_bytes()];
    let ciphertext = aead::seal(&opener.key(), &sealed, &ad, account.expose_seed().as_slice());
    Blob([sealed.as_slice(), &ciphertext].concat())
}

/// Opens the account key of `name`.
pub fn open(sealed: &Blob, name: &Username, opener: Opener<'_>) -> Result<AccountSecret, BadBox> {
    let (iv, ciphertext) = sealed.0.split_first_chunk().ok_or(BadBox)?;
    let ad = [opener.label().as_bytes(), name.as_str().as_bytes()];
    let seed = aead::open(&opener.key(), iv, &ad, ciphertext).map_err(|_| BadBox)?;
    let seed: &[u8; 32] = (*seed).try_into().map_err(|_| BadBox)?;
    Ok(AccountSecret::from_seed(seed))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_box_opens_for_its_name_and_its_secret_only() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (code, other) = (RecoveryCode::generate(rng), RecoveryCode::generate(rng));
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let account = AccountSecret::from_seed(&[3; 32]);
        let sealed = seal(&account, &alice, Opener::Recovery(&code), rng);
        assert_eq!(sealed.0.len(), 80);
        let opened = open(&sealed, &alice, Opener::Recovery(&code)).unwrap();
        assert_eq!(opened.public(), account.public());

        assert_eq!(open(&sealed, &bob, Opener::Recovery(&code)).unwrap_err(), BadBox);
        assert_eq!(open(&sealed, &alice, Opener::Recovery(&other)).unwrap_err(), BadBox);
        for len in 0..sealed.0.len() {
            let cut = Blob(sealed.0[..len].to_vec());
            assert_eq!(open(&cut, &alice, Opener::Recovery(&code)).unwrap_err(), BadBox);
        }
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert_eq!(open(&changed, &alice, Opener::Recovery(&code)).unwrap_err(), BadBox);
        }
    }
}
