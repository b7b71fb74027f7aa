//! Invitation codes: what is passed on to who may register, and what is kept of it.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use parlor_common::Fields;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::code::Code;

/// What a code's hash starts with.
const LABEL: &[u8] = b"parlor/v1/invitation";

/// Characters of a code: 80 bits, which nobody finds by trying.
const LEN: usize = 16;

/// An invitation's code: `ABCD-EFGH-JKLM-NPQR`. Whoever has it may register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvitationCode(Code<LEN>);

/// A text is no invitation code.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("an invitation code has 16 letters and digits, as in ABCD-EFGH-JKLM-NPQR")]
pub struct ParseInvitationError;

impl InvitationCode {
    /// Draws a code.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Code::generate(rng))
    }

    /// The code as it is passed on.
    pub fn expose(&self) -> String {
        self.0.expose()
    }

    /// What is kept of the code. It has so many bits that its hash needs no salt and no work.
    pub fn hash(&self) -> InvitationHash {
        let fields = Fields::new().field(LABEL).field(self.0.characters());
        InvitationHash(Sha256::digest(fields.as_bytes()).into())
    }
}

/// Case and hyphens do not matter.
impl FromStr for InvitationCode {
    type Err = ParseInvitationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseInvitationError)
    }
}

/// SHA-256 over the code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvitationHash(pub [u8; 32]);

impl InvitationHash {
    /// The invitation's public name.
    pub fn id(&self) -> InvitationId {
        let [a, b, c, d, ..] = self.0;
        InvitationId(HEXLOWER.encode(&[a, b, c, d]))
    }
}

/// An invitation's public name: the first 8 hexadecimal digits of its code's hash.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct InvitationId(String);

impl InvitationId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes the id itself, or the code that it belongs to.
impl FromStr for InvitationId {
    type Err = ParseInvitationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 8 && text.chars().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        text.parse::<InvitationCode>().map(|code| code.hash().id())
    }
}

impl TryFrom<String> for InvitationId {
    type Error = ParseInvitationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InvitationId> for String {
    fn from(id: InvitationId) -> Self {
        id.0
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code = InvitationCode::generate(&mut StdRng::from_seed([1; 32]));
        let text = code.expose();
        assert_eq!(text.len(), 19);
        for variant in [text.clone(), text.to_lowercase(), text.replace('-', "")] {
            assert_eq!(variant.parse::<InvitationCode>().unwrap(), code);
            assert_eq!(variant.parse::<InvitationId>().unwrap(), code.hash().id());
        }
        let other = InvitationCode::generate(&mut StdRng::from_seed([2; 32]));
        assert_ne!(code.hash(), other.hash());
        assert!(!format!("{code:?}").contains(code.0.characters()));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let long = "A".repeat(1000);
        for text in ["", "ABCD", "ABCD-EFGH-JKLM-NPQ0", "ABCD-EFGH-JKLM-NPQRS", "äöüß", &long] {
            assert_eq!(text.parse::<InvitationCode>(), Err(ParseInvitationError), "{text}");
        }
        assert!("0123456g".parse::<InvitationId>().is_err());
        assert!("0123ABCD".parse::<InvitationId>().is_err());
        assert_eq!("0123abcd".parse::<InvitationId>().unwrap().as_str(), "0123abcd");
    }
}
