//! The recovery code: what opens the account when the password is forgotten.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// 128 random bits, shown once, at registration: 26 characters of `A–Z 2–7` in groups of four
/// with hyphens. It does not print but by [`RecoveryCode::expose_text`].
pub struct RecoveryCode(Zeroizing<[u8; Self::LEN]>);

impl RecoveryCode {
    /// The length in bytes.
    pub const LEN: usize = 16;

    /// Draws a code.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// The code as its owner writes it down.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let characters = Zeroizing::new(BASE32_NOPAD.encode(self.0.as_slice()));
        let mut text = Zeroizing::new(String::with_capacity(32));
        for (index, character) in characters.chars().enumerate() {
            if index > 0 && index % 4 == 0 {
                text.push('-');
            }
            text.push(character);
        }
        text
    }

    pub(super) fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryCode").finish_non_exhaustive()
    }
}

/// A text is no recovery code.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a recovery code is 26 letters and digits from A-Z and 2-7")]
pub struct ParseRecoveryCodeError;

/// A code with its hyphens, spaces and digits, which people type otherwise than they were shown,
/// is no longer than this, in bytes.
const MAX_TEXT: usize = 100;

impl FromStr for RecoveryCode {
    type Err = ParseRecoveryCodeError;

    /// Case, hyphens and spaces do not matter.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT {
            return Err(ParseRecoveryCodeError);
        }
        let mut characters = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        let counted = text.bytes().filter(|byte| *byte != b'-' && !byte.is_ascii_whitespace());
        characters.extend(counted.map(|byte| byte.to_ascii_uppercase()));
        let decoded = BASE32_NOPAD.decode(&characters).map(Zeroizing::new);
        let bytes = decoded.map_err(|_| ParseRecoveryCodeError)?;
        let bytes = <[u8; Self::LEN]>::try_from(bytes.as_slice());
        bytes.map(|bytes| Self(Zeroizing::new(bytes))).map_err(|_| ParseRecoveryCodeError)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        let code = RecoveryCode::generate(&mut StdRng::seed_from_u64(1));
        let text = code.expose_text();
        assert_eq!((text.len(), text.split('-').count()), (32, 7));
        for typed in
            [text.to_string(), text.to_lowercase(), text.replace('-', " "), text.replace('-', "")]
        {
            let read: RecoveryCode = typed.parse().unwrap();
            assert_eq!(read.expose_bytes(), code.expose_bytes());
        }
        assert_eq!(format!("{code:?}"), "RecoveryCode { .. }");
    }

    #[test]
    fn anything_else_is_refused() {
        let (short, long, far) = ("A".repeat(25), "A".repeat(27), "A".repeat(10_000));
        let (foreign, spilled) = ("1".repeat(26), "Z".repeat(26));
        for text in ["", "ABCD", &short, &long, &far, &foreign, &spilled, "é"] {
            assert!(text.parse::<RecoveryCode>().is_err(), "{text}");
        }
    }
}
