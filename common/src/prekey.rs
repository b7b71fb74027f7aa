//! Prekey bundles: the public keys with which somebody can start a session with a device.
//!
//! Diffie–Hellman values are bytes here. What they are as numbers only the peer's cryptography
//! knows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device_list::DeviceEntry;
use crate::encoding::{Fields, decode_base64, serde_as_text};
use crate::identity::{BadSignature, DeviceKey, DeviceSecret, Label, ParseKeyError, Signature};
use crate::time::Timestamp;

/// A public value of ffdhe3072 (RFC 7919) as 384 bytes, big-endian, unchecked; base64url in text.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
pub struct DhPublicBytes(pub Box<[u8; Self::LEN]>);

impl DhPublicBytes {
    /// The length in bytes.
    pub const LEN: usize = 384;
}

impl AsRef<[u8]> for DhPublicBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Display for DhPublicBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::BASE64URL_NOPAD.encode(self.0.as_slice()))
    }
}

impl fmt::Debug for DhPublicBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.first_chunk::<4>().copied().unwrap_or_default();
        write!(f, "DhPublicBytes({}…)", data_encoding::HEXLOWER.encode(&start))
    }
}

impl FromStr for DhPublicBytes {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_base64(text).map(|bytes| Self(Box::new(bytes))).ok_or(ParseKeyError)
    }
}

serde_as_text!(DhPublicBytes);

/// What a Diffie–Hellman prekey is for; part of what is signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PrekeyKind {
    /// Used for every session until it is replaced, weekly.
    Signed,
    /// Used for one session and then erased.
    OneTime,
}

/// A prekey: a Diffie–Hellman value that a device made and signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Prekey {
    /// The device's number for it, not 0.
    pub id: u32,
    /// The public value.
    pub key: DhPublicBytes,
    /// When it was made.
    pub made_at: Timestamp,
    /// The device's signature.
    pub signature: Signature,
}

impl Prekey {
    /// Signs a prekey as `device`.
    pub fn sign(
        device: &DeviceSecret,
        kind: PrekeyKind,
        id: u32,
        key: DhPublicBytes,
        made_at: Timestamp,
    ) -> Self {
        let fields = signed_fields(&device.public(), kind, id, &key, made_at);
        let signature = device.sign(Label::Prekey, &fields);
        Self { id, key, made_at, signature }
    }

    fn verify(&self, device: &DeviceKey, kind: PrekeyKind) -> Result<(), BadSignature> {
        let fields = signed_fields(device, kind, self.id, &self.key, self.made_at);
        device.verify(Label::Prekey, &fields, &self.signature)
    }
}

fn signed_fields(
    device: &DeviceKey,
    kind: PrekeyKind,
    id: u32,
    key: &DhPublicBytes,
    made_at: Timestamp,
) -> Fields {
    let kind = match kind {
        PrekeyKind::Signed => "signed",
        PrekeyKind::OneTime => "one-time",
    };
    let device = crate::id::DeviceId::of(device);
    let id = u64::from(id);
    Fields::new().field(kind).field(device.0).number(id).number(made_at.as_millis()).field(key)
}

/// What a device gives to somebody who wants to start a session with it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PrekeyBundle {
    /// The device.
    pub device: DeviceKey,
    /// Its signed prekey.
    pub signed_prekey: Prekey,
    /// A one-time prekey, where there is one left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_prekey: Option<Prekey>,
}

/// A bundle that belongs to a device of a verified list, with signatures that hold. There is no
/// other way into an agreement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedBundle {
    device: DeviceEntry,
    signed_prekey: Prekey,
    one_time_prekey: Option<Prekey>,
}

/// Why a bundle was refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BundleError {
    /// A signature does not hold.
    #[error("a prekey's signature does not hold")]
    BadSignature,
    /// The signed prekey is older than [`MAX_PREKEY_AGE`].
    #[error("the signed prekey is too old")]
    TooOld,
    /// It is another device's bundle.
    #[error("the bundle is another device's")]
    WrongDevice,
}

impl From<BadSignature> for BundleError {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}

/// A signed prekey older than this is refused: three rotations were missed.
pub const MAX_PREKEY_AGE: Duration = Duration::from_secs(21 * 24 * 3600);

impl PrekeyBundle {
    /// Checks that the bundle is `device`'s, fresh at `now`, and that its signatures hold.
    pub fn verify(
        self,
        device: &DeviceEntry,
        now: Timestamp,
    ) -> Result<VerifiedBundle, BundleError> {
        if self.device != device.key {
            return Err(BundleError::WrongDevice);
        }
        if now.since(self.signed_prekey.made_at) > MAX_PREKEY_AGE {
            return Err(BundleError::TooOld);
        }
        self.signed_prekey.verify(&device.key, PrekeyKind::Signed)?;
        if let Some(prekey) = &self.one_time_prekey {
            prekey.verify(&device.key, PrekeyKind::OneTime)?;
        }
        Ok(VerifiedBundle {
            device: device.clone(),
            signed_prekey: self.signed_prekey,
            one_time_prekey: self.one_time_prekey,
        })
    }
}

impl VerifiedBundle {
    /// The device, from its account's list.
    pub fn device(&self) -> &DeviceEntry {
        &self.device
    }

    /// The signed prekey.
    pub fn signed_prekey(&self) -> &Prekey {
        &self.signed_prekey
    }

    /// The one-time prekey.
    pub fn one_time_prekey(&self) -> Option<&Prekey> {
        self.one_time_prekey.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(secret: &DeviceSecret) -> DeviceEntry {
        DeviceEntry::new(secret.public(), DhPublicBytes(Box::new([9; 384])), Timestamp::default())
    }

    fn bundle(secret: &DeviceSecret) -> PrekeyBundle {
        let key = DhPublicBytes(Box::new([5; 384]));
        let made_at = Timestamp::from_millis(1000);
        let sign = |kind, id| Prekey::sign(secret, kind, id, key.clone(), made_at);
        PrekeyBundle {
            device: secret.public(),
            signed_prekey: sign(PrekeyKind::Signed, 1),
            one_time_prekey: Some(sign(PrekeyKind::OneTime, 2)),
        }
    }

    #[test]
    fn a_bundle_is_verified_against_its_device() {
        let secret = DeviceSecret::from_seed(&[1; 32]);
        let now = Timestamp::from_millis(2000);
        assert!(bundle(&secret).verify(&entry(&secret), now).is_ok());
        let other = entry(&DeviceSecret::from_seed(&[2; 32]));
        assert_eq!(bundle(&secret).verify(&other, now), Err(BundleError::WrongDevice));
    }

    #[test]
    fn an_old_or_changed_prekey_is_refused() {
        let secret = DeviceSecret::from_seed(&[1; 32]);
        let device = entry(&secret);
        let made_at = Timestamp::from_millis(1000);
        let edge = made_at + MAX_PREKEY_AGE;
        assert!(bundle(&secret).verify(&device, edge).is_ok());
        let late = edge + Duration::from_millis(1);
        assert_eq!(bundle(&secret).verify(&device, late), Err(BundleError::TooOld));

        let mut renewed = bundle(&secret);
        renewed.signed_prekey.made_at = late;
        assert_eq!(renewed.verify(&device, late), Err(BundleError::BadSignature));

        // A one-time prekey does not pass for a signed one.
        let mut swapped = bundle(&secret);
        swapped.signed_prekey = swapped.one_time_prekey.take().unwrap();
        assert_eq!(swapped.verify(&device, made_at), Err(BundleError::BadSignature));
    }
}
