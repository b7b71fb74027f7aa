//! Ed25519 keys (RFC 8032), typed by role, and signatures under labels.
//!
//! Everything that is signed starts with its own [`Label`] and contains the signer's key, so that
//! a signature can never be shown as one of another kind. Verification is strict: small-order
//! keys and non-canonical encodings are refused.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::Signer;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::{Fields, decode_base64};

/// Marks keys of an account: they sign its device list and nothing else.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Account {}

/// Marks keys of a device: its TLS identity; they sign prekeys, cards and offers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Device {}

/// Marks keys of a rendezvous: its TLS identity.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Server {}

/// The public key of an account.
pub type AccountKey = PublicKey<Account>;
/// The secret key of an account. No device keeps it.
pub type AccountSecret = SecretKey<Account>;
/// The public key of a device.
pub type DeviceKey = PublicKey<Device>;
/// The secret key of a device.
pub type DeviceSecret = SecretKey<Device>;
/// The public key of a rendezvous.
pub type ServerKey = PublicKey<Server>;
/// The secret key of a rendezvous.
pub type ServerSecret = SecretKey<Server>;

/// An Ed25519 public key, 32 bytes, in the role `R`. Its text form is base64url without padding
/// (43 characters).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey<R> {
    bytes: [u8; 32],
    role: PhantomData<R>,
}

impl<R> PublicKey<R> {
    /// Takes 32 bytes as a key. Whether they are a point of the curve shows when a signature is
    /// verified: bytes that are none verify nothing.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes, role: PhantomData }
    }

    /// The key's 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Verifies a signature over `fields` under `label`.
    pub fn verify(
        &self,
        label: Label,
        fields: &Fields,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.bytes).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        let signed = signed_bytes(label, &self.bytes, fields);
        key.verify_strict(&signed, &signature).map_err(|_| BadSignature)
    }
}

impl<R> fmt::Display for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.bytes))
    }
}

impl<R> fmt::Debug for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a key: 43 characters of base64url without padding.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("a key is 43 characters of base64url")]
pub struct ParseKeyError;

impl<R> FromStr for PublicKey<R> {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_base64(text).map(Self::from_bytes).ok_or(ParseKeyError)
    }
}

impl<R> serde::Serialize for PublicKey<R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, R> serde::Deserialize<'de> for PublicKey<R> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An Ed25519 secret key in the role `R`. It does not print and is erased when dropped.
pub struct SecretKey<R> {
    key: ed25519_dalek::SigningKey,
    role: PhantomData<R>,
}

impl<R> SecretKey<R> {
    /// The key of a seed: 32 bytes from the operating system's generator.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: ed25519_dalek::SigningKey::from_bytes(seed), role: PhantomData }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey<R> {
        PublicKey::from_bytes(self.key.verifying_key().to_bytes())
    }

    /// Signs `fields` under `label`.
    pub fn sign(&self, label: Label, fields: &Fields) -> Signature {
        let signed = signed_bytes(label, self.public().as_bytes(), fields);
        Signature(self.key.sign(&signed).to_bytes())
    }

    /// The seed, to be stored or wrapped, and nothing else.
    pub fn expose_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }
}

impl<R> fmt::Debug for SecretKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").finish_non_exhaustive()
    }
}

/// What a signature is about. No two kinds of signed bytes start alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Label {
    /// A contact request's card, by a device.
    Card,
    /// An account's device list, by the account, and by a device of the list before.
    DeviceList,
    /// A prekey for the KEM, by a device.
    KemPrekey,
    /// Candidates for one device, by a device.
    Offer,
    /// A prekey for Diffie–Hellman, by a device.
    Prekey,
    /// A connection of somebody who forgot the password, by the account.
    Recovery,
}

impl Label {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Card => "parlor/v1/card",
            Self::DeviceList => "parlor/v1/device-list",
            Self::KemPrekey => "parlor/v1/kem-prekey",
            Self::Offer => "parlor/v1/offer",
            Self::Prekey => "parlor/v1/prekey",
            Self::Recovery => "parlor/v1/recovery",
        }
    }
}

fn signed_bytes(label: Label, signer: &[u8; 32], fields: &Fields) -> Vec<u8> {
    let mut bytes = Fields::new().field(label.as_str()).field(signer).as_bytes().to_vec();
    bytes.extend_from_slice(fields.as_bytes());
    bytes
}

/// An Ed25519 signature, 64 bytes; base64url in text.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").finish_non_exhaustive()
    }
}

impl FromStr for Signature {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_base64(text).map(Self).ok_or(ParseKeyError)
    }
}

crate::encoding::serde_as_text!(Signature);

/// A signature does not hold.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a signature does not hold")]
pub struct BadSignature;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_label_key_and_fields_only() {
        let secret = DeviceSecret::from_seed(&[1; 32]);
        let fields = Fields::new().field("hello");
        let signature = secret.sign(Label::Card, &fields);
        let key = secret.public();
        assert_eq!(key.verify(Label::Card, &fields, &signature), Ok(()));
        assert_eq!(key.verify(Label::Offer, &fields, &signature), Err(BadSignature));
        let other = Fields::new().field("hellO");
        assert_eq!(key.verify(Label::Card, &other, &signature), Err(BadSignature));
        let stranger = DeviceSecret::from_seed(&[2; 32]).public();
        assert_eq!(stranger.verify(Label::Card, &fields, &signature), Err(BadSignature));
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The neutral element as key and as R, S = 0: accepted by lax verification for any message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let key = DeviceKey::from_bytes(neutral);
        let verdict = key.verify(Label::Card, &Fields::new(), &Signature(signature));
        assert_eq!(verdict, Err(BadSignature));
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = DeviceSecret::from_seed(&[0xab; 32]);
        assert_eq!(format!("{secret:?}"), "SecretKey { .. }");
    }

    #[test]
    fn keys_parse_from_43_characters_only() {
        let key = DeviceSecret::from_seed(&[3; 32]).public();
        assert_eq!(key.to_string().len(), 43);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("abc".parse::<DeviceKey>(), Err(ParseKeyError));
    }
}
