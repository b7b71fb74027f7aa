//! The code that is mailed, and what is kept of it.

use std::fmt;
use std::str::FromStr;

use parlor_common::Fields;
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Address;
use crate::code::{Code, ParseCodeError};

/// What a code's hash starts with.
const LABEL: &[u8] = b"parlor/v1/email-code";

/// Characters of a code: 40 bits, of which a guesser gets a handful of tries.
const LEN: usize = 8;

/// A code that proves that its owner reads the mail of an address: `ABCD-EFGH`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EmailCode(Code<LEN>);

impl EmailCode {
    /// Draws a code.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Code::generate(rng))
    }

    /// The code as it is mailed.
    pub fn expose(&self) -> String {
        self.0.expose()
    }

    /// What is kept of the code: it is good for this address alone.
    pub fn hash(&self, address: &Address) -> EmailCodeHash {
        let address = address.to_string();
        let fields = Fields::new().field(LABEL).field(&address).field(self.0.characters());
        EmailCodeHash(Sha256::digest(fields.as_bytes()).into())
    }
}

/// Case and hyphens do not matter.
impl FromStr for EmailCode {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// SHA-256 over a code and its address.
#[derive(Clone, Copy)]
pub struct EmailCodeHash(pub [u8; 32]);

/// In constant time.
impl PartialEq for EmailCodeHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for EmailCodeHash {}

/// Whoever has the hash finds so short a code by trying.
impl fmt::Debug for EmailCodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailCodeHash").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = EmailCode::generate(&mut StdRng::from_seed([1; 32]));
        let text = code.expose();
        let (left, right) = text.split_once('-').unwrap();
        assert_eq!((left.len(), right.len()), (4, 4));
        for typed in [text.clone(), text.to_lowercase(), text.replace('-', "")] {
            assert_eq!(typed.parse::<EmailCode>().unwrap(), code);
        }
        for typed in ["", "ABCD", "ABCD-EFG0", "ABCD-EFGI", "ABCD-EFGHJ", "ABCD EFGH"] {
            assert!(typed.parse::<EmailCode>().is_err(), "{typed}");
        }
    }

    #[test]
    fn a_code_is_good_for_its_address_alone_and_shows_nowhere() {
        let code = EmailCode::generate(&mut StdRng::from_seed([1; 32]));
        let [here, there] = ["a@here.example", "a@there.example"].map(|a| a.parse().unwrap());
        assert_eq!(code.hash(&here), code.hash(&here));
        assert_ne!(code.hash(&here), code.hash(&there));
        let other = EmailCode::generate(&mut StdRng::from_seed([2; 32]));
        assert_ne!(code.hash(&here), other.hash(&here));
        let shown = format!("{code:?} {:?}", code.hash(&here));
        assert_eq!(shown, "EmailCode(Code { .. }) EmailCodeHash { .. }");
    }
}
