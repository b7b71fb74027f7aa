//! Names and numbers, checked when they are made.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::encoding::serde_as_text;
use crate::identity::DeviceKey;

/// The name of an account, unique on one rendezvous: 3–32 characters of `a-z 0-9 . _ -`,
/// starting with a letter. Upper case is folded when a name is parsed.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Username(String);

impl Username {
    /// The shortest name, in bytes.
    pub const MIN_LEN: usize = 3;
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 32;

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no username.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ParseUsernameError {
    /// A character that names do not have.
    #[error("a name has only letters a-z, digits, '.', '_' and '-', not {0:?}")]
    BadCharacter(char),
    /// The first character is no letter.
    #[error("a name starts with a letter")]
    BadStart,
    /// Too few or too many characters.
    #[error("a name has 3 to 32 characters, not {0}")]
    Length(usize),
}

impl FromStr for Username {
    type Err = ParseUsernameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = text.chars().count();
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&length) {
            return Err(ParseUsernameError::Length(length));
        }
        let name = text.to_ascii_lowercase();
        let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if let Some(found) = name.chars().find(|c| !allowed(c)) {
            return Err(ParseUsernameError::BadCharacter(found));
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(ParseUsernameError::BadStart);
        }
        Ok(Self(name))
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Username);

/// A text is not the hexadecimal form of an id.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("an id is {0} hexadecimal digits in lower case")]
pub struct ParseIdError(usize);

/// Defines an id of 16 bytes that is written as 32 hexadecimal digits.
macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseIdError(32))?;
                bytes.try_into().map(Self).map_err(|_| ParseIdError(32))
            }
        }

        serde_as_text!($name);
    };
}

id16! {
    /// A device: the first 16 bytes of SHA-256 over `parlor/v1/device-id` and the device key.
    /// Derived, so that one key never has two ids.
    DeviceId
}

id16! {
    /// A session between two devices, derived from the secret that they agreed on.
    SessionId
}

id16! {
    /// A message: its [`Incarnation`] (8 bytes) and its number within it (u64, big-endian).
    ///
    /// An engine draws a new incarnation at each start, so that a profile which was restored or
    /// copied never uses an id twice, while ids still grow at their end.
    MessageId
}

impl DeviceId {
    /// The id of the device that holds `key`.
    pub fn of(key: &DeviceKey) -> Self {
        let digest = Sha256::new().chain_update("parlor/v1/device-id").chain_update(key.as_bytes());
        let digest: [u8; 32] = digest.finalize().into();
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

/// 8 random bytes, drawn at each start of an engine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation(pub [u8; 8]);

impl MessageId {
    /// The id of message `number` of `incarnation`.
    pub fn new(incarnation: Incarnation, number: u64) -> Self {
        let mut id = [0; 16];
        let bytes = incarnation.0.into_iter().chain(number.to_be_bytes());
        id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self(id)
    }

    /// The incarnation that the message was written in.
    pub fn incarnation(self) -> Incarnation {
        Incarnation(self.0.first_chunk().copied().unwrap_or_default())
    }

    /// The number within its incarnation; the first message has 1.
    pub fn number(self) -> u64 {
        self.0.last_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_fold_case_and_refuse_the_rest() {
        assert_eq!("Alice".parse::<Username>().unwrap().as_str(), "alice");
        assert_eq!("a.b_c-9".parse::<Username>().unwrap().as_str(), "a.b_c-9");
        assert_eq!("al".parse::<Username>(), Err(ParseUsernameError::Length(2)));
        assert_eq!("a".repeat(33).parse::<Username>(), Err(ParseUsernameError::Length(33)));
        assert_eq!("".parse::<Username>(), Err(ParseUsernameError::Length(0)));
        assert_eq!("../../x".parse::<Username>(), Err(ParseUsernameError::BadCharacter('/')));
        assert_eq!("9lives".parse::<Username>(), Err(ParseUsernameError::BadStart));
        // A look-alike: Cyrillic а.
        assert_eq!("аlice".parse::<Username>(), Err(ParseUsernameError::BadCharacter('а')));
    }

    #[test]
    fn a_message_id_holds_its_incarnation_and_number() {
        let id = MessageId::new(Incarnation([7; 8]), 258);
        assert_eq!(id.incarnation(), Incarnation([7; 8]));
        assert_eq!(id.number(), 258);
        assert_eq!(id.to_string(), "07070707070707070000000000000102");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("07".parse::<MessageId>().is_err());
        // Ids of one incarnation grow with their numbers.
        assert!(id < MessageId::new(Incarnation([7; 8]), 259));
    }
}
