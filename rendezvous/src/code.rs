//! Codes that people read off one screen and type into another: what invitations and e-mail codes
//! have in common.

use std::fmt;
use std::str::FromStr;

use rand::{CryptoRng, RngExt};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Letters and digits that are not taken for each other: 32, so 5 bits each.
const ALPHABET: [char; 32] = [
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'U',
    'V', 'W', 'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7', '8', '9',
];

/// Characters between hyphens.
const GROUP: usize = 4;

/// A code of `LEN` characters, 5 bits each.
#[derive(Clone, Eq, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Code<const LEN: usize>(String);

/// A text is no code of its length.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a code has letters and digits in groups of four, as in ABCD-EFGH")]
pub struct ParseCodeError;

impl<const LEN: usize> Code<LEN> {
    /// Draws a code.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut draw = || ALPHABET.get(rng.random_range(0..ALPHABET.len())).copied();
        Self((0..LEN).filter_map(|_| draw()).collect())
    }

    /// The code as it is passed on: in groups of four, with hyphens.
    pub fn expose(&self) -> String {
        let mut text = String::with_capacity(LEN + LEN / GROUP);
        for (index, c) in self.0.chars().enumerate() {
            if index > 0 && index % GROUP == 0 {
                text.push('-');
            }
            text.push(c);
        }
        text
    }

    /// Its characters alone.
    pub fn characters(&self) -> &str {
        &self.0
    }
}

/// Case and hyphens do not matter.
impl<const LEN: usize> FromStr for Code<LEN> {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 2 * LEN {
            return Err(ParseCodeError);
        }
        let code: String =
            text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
        let code = Self(code);
        let sound = code.0.len() == LEN && code.0.chars().all(|c| ALPHABET.contains(&c));
        if sound { Ok(code) } else { Err(ParseCodeError) }
    }
}

impl<const LEN: usize> fmt::Debug for Code<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").finish_non_exhaustive()
    }
}
