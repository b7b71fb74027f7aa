//! Hashes of rows, and heads: a row's number with its hash.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The hash of a row: SHA-256. All zeros stand before the first row.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct RowHash([u8; 32]);

impl RowHash {
    pub(super) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 hexadecimal digits in lower case.
impl fmt::Display for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl fmt::Debug for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number and the hash of the newest row, or of an earlier one that was the newest once.
/// `SEQ:HASH` in text; number 0 and zeros before the first row.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// The row's number.
    pub seq: u64,
    /// Its hash.
    pub hash: RowHash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// What somebody says was the head once: `SEQ:HASH` as it is logged, or the hash alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The row's number, if it was told.
    pub seq: Option<u64>,
    /// Its hash.
    pub hash: RowHash,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => Head { seq, hash: self.hash }.fmt(f),
            None => self.hash.fmt(f),
        }
    }
}

/// A text is neither a head nor a hash.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("a head is SEQ:HASH or HASH as the log says it: a number and 64 hexadecimal digits")]
pub struct ParseHeadError;

impl FromStr for RowHash {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| ParseHeadError)?;
        bytes.try_into().map(Self).map_err(|_| ParseHeadError)
    }
}

impl FromStr for Claim {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((seq, hash)) = text.split_once(':') else {
            return Ok(Self { seq: None, hash: text.parse()? });
        };
        Ok(Self { seq: Some(seq.parse().map_err(|_| ParseHeadError)?), hash: hash.parse()? })
    }
}

impl FromStr for Head {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Claim { seq, hash } = text.parse()?;
        Ok(Self { seq: seq.ok_or(ParseHeadError)?, hash })
    }
}

impl Serialize for Head {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let head = Head { seq: 12, hash: RowHash([0xab; 32]) };
        let text = head.to_string();
        assert_eq!(text, format!("12:{}", "ab".repeat(32)));
        assert_eq!(text.parse(), Ok(head));
        assert_eq!(text.to_uppercase().parse(), Ok(head));
        assert_eq!(text.parse(), Ok(Claim { seq: Some(12), hash: head.hash }));
        assert_eq!(head.hash.to_string().parse(), Ok(Claim { seq: None, hash: head.hash }));
        for wrong in ["", "12", "12:", ":ab", "-1:ab", &format!("{text}0"), &format!("{text}00")] {
            assert_eq!(wrong.parse::<Head>(), Err(ParseHeadError), "{wrong}");
            assert_eq!(wrong.parse::<Claim>(), Err(ParseHeadError), "{wrong}");
        }
        assert!(head.hash.to_string().parse::<Head>().is_err());
    }
}
