//! The two encodings everything else stands on: length-prefixed fields for what is signed or
//! hashed, and base64url for bytes inside JSON.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Length-prefixed fields: each is its length in bytes (u32, big-endian) and then its bytes.
///
/// Two different lists of fields never make the same bytes, which is what a signature or a
/// transcript hash needs. An absent field is marked by [`Fields::absent`], which differs from
/// an empty one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields(Vec<u8>);

/// The length that marks an absent field; no field is ever that long.
const ABSENT: u32 = u32::MAX;

impl Fields {
    /// Starts an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a field. Fields over 4 GiB cannot occur: every input is bounded long before.
    #[must_use]
    pub fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let len = u32::try_from(bytes.len()).unwrap_or(ABSENT - 1);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a number as a field of 8 bytes, big-endian.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.field(number.to_be_bytes())
    }

    /// Appends a field, or the mark of its absence.
    #[must_use]
    pub fn optional(self, bytes: Option<impl AsRef<[u8]>>) -> Self {
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self.absent(),
        }
    }

    /// Appends the mark of an absent field.
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.0.extend_from_slice(&ABSENT.to_be_bytes());
        self
    }

    /// The bytes to sign or to hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that stand in JSON as base64url without padding.
#[derive(Clone, Eq, PartialEq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64URL_NOPAD.decode(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

/// Decodes base64url without padding into exactly `N` bytes.
pub(crate) fn decode_base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Implements `Serialize` and `Deserialize` by a type's `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_fields_never_make_the_same_bytes() {
        let joined = Fields::new().field(b"ab").field(b"c");
        let split = Fields::new().field(b"a").field(b"bc");
        assert_ne!(joined, split);
        assert_ne!(Fields::new().absent(), Fields::new().field(b""));
        assert_eq!(joined.as_bytes(), b"\0\0\0\x02ab\0\0\0\x01c");
    }

    #[test]
    fn a_blob_is_base64url_in_json() {
        let blob = Blob(vec![0xff, 0xfe, 0x00]);
        let json = serde_json::to_string(&blob).unwrap();
        assert_eq!(json, "\"__4A\"");
        assert_eq!(serde_json::from_str::<Blob>(&json).unwrap(), blob);
        assert!(serde_json::from_str::<Blob>("\"__4B=\"").is_err());
    }
}
