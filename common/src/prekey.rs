//! Prekey bundles: the public keys with which somebody can start a session with a device.
//!
//! Prekeys come in pairs, a Diffie–Hellman value and a KEM key that were made together. Each half
//! is signed on its own, under a label and for a use of its own, so that neither can be shown as
//! the other, nor a one-time one as one that is used often.
//!
//! Keys are bytes here. What they are as numbers only the peer's cryptography knows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device_list::DeviceEntry;
use crate::encoding::{Fields, decode_base64, serde_as_text};
use crate::id::DeviceId;
use crate::identity::{BadSignature, DeviceKey, DeviceSecret, Label, ParseKeyError, Signature};
use crate::time::Timestamp;

/// Defines a public key of a fixed length, unchecked; base64url in text.
macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub Box<[u8; Self::LEN]>);

        impl $name {
            /// The length in bytes.
            pub const LEN: usize = $len;
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.0.as_slice()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::BASE64URL_NOPAD.encode(self.0.as_slice()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let start = self.0.first_chunk::<4>().copied().unwrap_or_default();
                write!(f, concat!(stringify!($name), "({}…)"), data_encoding::HEXLOWER.encode(&start))
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode_base64(text).map(|bytes| Self(Box::new(bytes))).ok_or(ParseKeyError)
            }
        }

        serde_as_text!($name);
    };
}

public_bytes! {
    /// A public value of ffdhe3072 (RFC 7919) as 384 bytes, big-endian, unchecked.
    DhPublicBytes, 384
}

public_bytes! {
    /// An encapsulation key of ML-KEM-768 (FIPS 203), 1,184 bytes, unchecked.
    KemPublicBytes, 1184
}

public_bytes! {
    /// A ciphertext of ML-KEM-768 (FIPS 203), 1,088 bytes.
    KemCiphertext, 1088
}

/// What a pair of prekeys is for; part of what is signed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PrekeyUse {
    /// Used for every session until it is replaced, weekly. Its KEM half is the last resort where
    /// there is no one-time pair.
    Signed,
    /// Used for one session and then erased.
    OneTime,
}

impl PrekeyUse {
    const fn of_dh(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::OneTime => "one-time",
        }
    }

    const fn of_kem(self) -> &'static str {
        match self {
            Self::Signed => "last-resort",
            Self::OneTime => "one-time",
        }
    }
}

/// A pair of prekeys that a device made and signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PrekeyPair {
    /// The device's number for it, not 0.
    pub id: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The Diffie–Hellman half.
    pub dh: DhPublicBytes,
    /// The device's signature of it.
    pub dh_signature: Signature,
    /// The KEM half.
    pub kem: KemPublicBytes,
    /// The device's signature of it.
    pub kem_signature: Signature,
}

impl PrekeyPair {
    /// Signs both halves of a pair as `device`.
    pub fn sign(
        device: &DeviceSecret,
        used: PrekeyUse,
        id: u32,
        made_at: Timestamp,
        dh: DhPublicBytes,
        kem: KemPublicBytes,
    ) -> Self {
        let signer = device.public();
        let dh_fields = signed_fields(&signer, used.of_dh(), id, made_at, dh.as_ref());
        let dh_signature = device.sign(Label::Prekey, &dh_fields);
        let kem_fields = signed_fields(&signer, used.of_kem(), id, made_at, kem.as_ref());
        let kem_signature = device.sign(Label::KemPrekey, &kem_fields);
        Self { id, made_at, dh, dh_signature, kem, kem_signature }
    }

    /// Whether `device` made the pair for this use, and whether `now` it is not too old.
    pub fn verify(
        &self,
        device: &DeviceKey,
        used: PrekeyUse,
        now: Timestamp,
    ) -> Result<(), PrekeyError> {
        if self.id == 0 {
            return Err(PrekeyError::BadSignature);
        }
        if now.since(self.made_at) > MAX_PREKEY_AGE {
            return Err(PrekeyError::TooOld);
        }
        let Self { id, made_at, .. } = *self;
        let fields = signed_fields(device, used.of_dh(), id, made_at, self.dh.as_ref());
        device.verify(Label::Prekey, &fields, &self.dh_signature)?;
        let fields = signed_fields(device, used.of_kem(), id, made_at, self.kem.as_ref());
        Ok(device.verify(Label::KemPrekey, &fields, &self.kem_signature)?)
    }
}

fn signed_fields(
    device: &DeviceKey,
    used: &str,
    id: u32,
    made_at: Timestamp,
    key: &[u8],
) -> Fields {
    let device = DeviceId::of(device);
    let fields = Fields::new().field(used).field(device.0).number(u64::from(id));
    fields.number(made_at.as_millis()).field(key)
}

/// What a device gives to somebody who wants to start a session with it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PrekeyBundle {
    /// The device.
    pub device: DeviceKey,
    /// Its signed pair.
    pub signed: PrekeyPair,
    /// A one-time pair, where there is one left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time: Option<PrekeyPair>,
}

/// A bundle that belongs to a device of a verified list, with signatures that hold. There is no
/// other way into an agreement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedBundle {
    device: DeviceEntry,
    signed: PrekeyPair,
    one_time: Option<PrekeyPair>,
}

/// Why a pair or a bundle of prekeys was refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PrekeyError {
    /// A signature does not hold, or an id is 0.
    #[error("a prekey's signature does not hold")]
    BadSignature,
    /// The signed pair is older than one that was seen of the device before.
    #[error("an older signed prekey than one that was seen before")]
    RolledBack,
    /// It is older than [`MAX_PREKEY_AGE`].
    #[error("a prekey is too old")]
    TooOld,
    /// It is another device's bundle.
    #[error("the bundle is another device's")]
    WrongDevice,
}

impl From<BadSignature> for PrekeyError {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}

/// A pair older than this is refused: three rotations of a signed one were missed.
pub const MAX_PREKEY_AGE: Duration = Duration::from_secs(21 * 24 * 3600);

impl PrekeyBundle {
    /// Checks that the bundle is `device`'s, that no pair in it is too old at `now`, that the
    /// signed one is not older than one made at `seen`, and that all signatures hold.
    pub fn verify(
        self,
        device: &DeviceEntry,
        seen: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<VerifiedBundle, PrekeyError> {
        if self.device != device.key {
            return Err(PrekeyError::WrongDevice);
        }
        if seen.is_some_and(|seen| self.signed.made_at < seen) {
            return Err(PrekeyError::RolledBack);
        }
        self.signed.verify(&device.key, PrekeyUse::Signed, now)?;
        if let Some(pair) = &self.one_time {
            pair.verify(&device.key, PrekeyUse::OneTime, now)?;
        }
        Ok(VerifiedBundle { device: device.clone(), signed: self.signed, one_time: self.one_time })
    }
}

impl VerifiedBundle {
    /// The device, from its account's list.
    pub fn device(&self) -> &DeviceEntry {
        &self.device
    }

    /// The signed pair.
    pub fn signed(&self) -> &PrekeyPair {
        &self.signed
    }

    /// The one-time pair.
    pub fn one_time(&self) -> Option<&PrekeyPair> {
        self.one_time.as_ref()
    }

    /// The pair whose KEM half is to be used: the one-time pair, where there is one.
    pub fn of_kem(&self) -> &PrekeyPair {
        self.one_time.as_ref().unwrap_or(&self.signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_AT: Timestamp = Timestamp::from_millis(1000);

    fn entry(secret: &DeviceSecret) -> DeviceEntry {
        DeviceEntry::new(secret.public(), DhPublicBytes(Box::new([9; 384])), Timestamp::default())
    }

    fn pair(secret: &DeviceSecret, used: PrekeyUse, id: u32) -> PrekeyPair {
        let (dh, kem) = (DhPublicBytes(Box::new([5; 384])), KemPublicBytes(Box::new([6; 1184])));
        PrekeyPair::sign(secret, used, id, MADE_AT, dh, kem)
    }

    fn bundle(secret: &DeviceSecret) -> PrekeyBundle {
        PrekeyBundle {
            device: secret.public(),
            signed: pair(secret, PrekeyUse::Signed, 1),
            one_time: Some(pair(secret, PrekeyUse::OneTime, 2)),
        }
    }

    fn secret() -> DeviceSecret {
        DeviceSecret::from_seed(&[1; 32])
    }

    fn verdict(bundle: PrekeyBundle) -> Result<(), PrekeyError> {
        bundle.verify(&entry(&secret()), None, MADE_AT).map(drop)
    }

    #[test]
    fn a_bundle_is_verified_against_its_device() {
        assert_eq!(verdict(bundle(&secret())), Ok(()));
        let other = DeviceSecret::from_seed(&[2; 32]);
        assert_eq!(verdict(bundle(&other)), Err(PrekeyError::WrongDevice));
        let mut without = bundle(&secret());
        without.one_time = None;
        let verified = without.verify(&entry(&secret()), None, MADE_AT).unwrap();
        assert_eq!(verified.of_kem(), verified.signed());
    }

    #[test]
    fn an_old_pair_is_refused() {
        let device = entry(&secret());
        let edge = MADE_AT + MAX_PREKEY_AGE;
        assert!(bundle(&secret()).verify(&device, None, edge).is_ok());
        let late = edge + Duration::from_millis(1);
        assert_eq!(bundle(&secret()).verify(&device, None, late), Err(PrekeyError::TooOld));
        let seen = Some(MADE_AT + Duration::from_millis(1));
        let refused = bundle(&secret()).verify(&device, seen, MADE_AT);
        assert_eq!(refused, Err(PrekeyError::RolledBack));
        assert!(bundle(&secret()).verify(&device, Some(MADE_AT), MADE_AT).is_ok());
    }

    #[test]
    fn a_change_of_anything_signed_is_refused() {
        let changes: [fn(&mut PrekeyPair); 6] = [
            |pair| pair.id += 7,
            |pair| pair.id = 0,
            |pair| pair.made_at = Timestamp::from_millis(1001),
            |pair| pair.dh.0[0] ^= 1,
            |pair| pair.kem.0[0] ^= 1,
            |pair| std::mem::swap(&mut pair.dh_signature, &mut pair.kem_signature),
        ];
        for change in changes {
            let mut altered = bundle(&secret());
            change(&mut altered.signed);
            assert_eq!(verdict(altered), Err(PrekeyError::BadSignature));
            let mut altered = bundle(&secret());
            change(altered.one_time.as_mut().unwrap());
            assert_eq!(verdict(altered), Err(PrekeyError::BadSignature));
        }
    }

    #[test]
    fn a_pair_passes_for_its_use_only() {
        let mut swapped = bundle(&secret());
        swapped.signed = swapped.one_time.take().unwrap();
        assert_eq!(verdict(swapped), Err(PrekeyError::BadSignature));
        let mut swapped = bundle(&secret());
        swapped.one_time = Some(swapped.signed.clone());
        assert_eq!(verdict(swapped), Err(PrekeyError::BadSignature));
    }

    #[test]
    fn a_pair_stands_in_json_as_documented() {
        let json = serde_json::to_value(pair(&secret(), PrekeyUse::Signed, 7)).unwrap();
        assert_eq!((&json["id"], &json["made_at"]), (&7.into(), &1000.into()));
        assert_eq!(json["dh"].as_str().map(str::len), Some(512));
        assert_eq!(json["kem"].as_str().map(str::len), Some(1579));
        for signature in ["dh_signature", "kem_signature"] {
            assert_eq!(json[signature].as_str().map(str::len), Some(86));
        }
    }
}
