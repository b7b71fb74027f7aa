//! The signed list of an account's devices: who may speak for the account. What a list says to
//! somebody who knows an earlier one is in `news.rs`.

mod news;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::encoding::{Blob, Fields};
use crate::id::{DeviceId, Username};
use crate::identity::{
    AccountKey, AccountSecret, BadSignature, DeviceKey, DeviceSecret, Label, Signature,
};
use crate::prekey::DhPublicBytes;
use crate::time::Timestamp;

pub use self::news::ListNews;

/// An account has no more devices than this.
pub const MAX_DEVICES: usize = 16;

/// One device of a list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceEntry {
    /// The device's id, derived from its key.
    pub id: DeviceId,
    /// The device's signing key and TLS identity.
    pub key: DeviceKey,
    /// The device's identity key for Diffie–Hellman.
    pub dh: DhPublicBytes,
    /// When it was added.
    pub added_at: Timestamp,
}

impl DeviceEntry {
    /// The entry of the device that holds `key` and `dh`.
    pub fn new(key: DeviceKey, dh: DhPublicBytes, added_at: Timestamp) -> Self {
        Self { id: DeviceId::of(&key), key, dh, added_at }
    }

    /// The entry as one run of bytes, for signatures and transcripts.
    pub fn fields(&self) -> Fields {
        let added_at = self.added_at.as_millis();
        Fields::new().field(self.id.0).field(self.key.as_bytes()).field(&self.dh).number(added_at)
    }
}

/// SHA-256 of a list's signed fields, 32 bytes; base64url in JSON.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Blob", into = "Blob")]
pub struct ListHash(pub [u8; 32]);

impl From<ListHash> for Blob {
    fn from(hash: ListHash) -> Self {
        Self(hash.0.to_vec())
    }
}

impl TryFrom<Blob> for ListHash {
    type Error = DeviceListError;

    fn try_from(blob: Blob) -> Result<Self, Self::Error> {
        blob.0.try_into().map(Self).map_err(|_| DeviceListError::Malformed)
    }
}

/// Names one list of an account: peers tell each other which they have and which they have seen, so
/// that a list that is withheld from one of them is noticed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListMark {
    /// Its version.
    pub version: u64,
    /// Its hash.
    pub hash: ListHash,
}

/// An account's devices at one version.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceList {
    /// The account's name.
    pub name: Username,
    /// The account's key, which signs the list.
    pub account_key: AccountKey,
    /// 1 for the first list, and one more for each next.
    pub version: u64,
    /// The hash of the version before; absent in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ListHash>,
    /// When it was signed.
    pub at: Timestamp,
    /// The devices, oldest first.
    pub devices: Vec<DeviceEntry>,
}

impl DeviceList {
    /// The first list of an account, with its first device.
    pub fn first(
        name: Username,
        account_key: AccountKey,
        device: DeviceEntry,
        at: Timestamp,
    ) -> Self {
        Self { name, account_key, version: 1, previous: None, at, devices: vec![device] }
    }

    /// The hash of this version.
    pub fn hash(&self) -> ListHash {
        ListHash(Sha256::digest(self.fields().as_bytes()).into())
    }

    /// Signs the list by the account's key, and by a device of the version before where there is
    /// one at hand.
    pub fn sign(
        self,
        account: &AccountSecret,
        cosigner: Option<&DeviceSecret>,
    ) -> SignedDeviceList {
        let fields = self.fields();
        let signature = account.sign(Label::DeviceList, &fields);
        let cosignature = cosigner.map(|device| Cosignature::by(device, &fields));
        SignedDeviceList { list: self, signature, cosignature }
    }

    fn fields(&self) -> Fields {
        let fields = Fields::new()
            .field(self.name.as_str())
            .field(self.account_key.as_bytes())
            .number(self.version)
            .optional(self.previous.map(|hash| hash.0))
            .number(self.at.as_millis());
        let devices = self.devices.iter();
        devices.fold(fields, |fields, device| fields.field(device.fields().as_bytes()))
    }

    fn is_well_formed(&self) -> bool {
        let counted = (1..=MAX_DEVICES).contains(&self.devices.len());
        let derived = self.devices.iter().all(|device| device.id == DeviceId::of(&device.key));
        let mut ids: Vec<_> = self.devices.iter().map(|device| device.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let chained = self.version >= 1 && (self.version == 1) == self.previous.is_none();
        counted && derived && ids.len() == self.devices.len() && chained
    }
}

/// The signature of a device of the version before. The list's hash does not cover it, so that it
/// can be added later.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cosignature {
    /// The device that signed.
    pub device: DeviceKey,
    /// Its signature over the new list.
    pub signature: Signature,
}

impl Cosignature {
    fn by(device: &DeviceSecret, fields: &Fields) -> Self {
        let signature = device.sign(Label::DeviceList, fields);
        Self { device: device.public(), signature }
    }
}

/// A list as it travels: unchecked until [`SignedDeviceList::verify`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignedDeviceList {
    list: DeviceList,
    signature: Signature,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cosignature: Option<Cosignature>,
}

/// Why a device list was refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DeviceListError {
    /// A signature does not hold.
    #[error("the device list's signature does not hold")]
    BadSignature,
    /// It is another list than the known one of the same version.
    #[error("the device list is another than the known one of the same version")]
    Forked,
    /// No or too many devices, a wrong device id, or a broken version.
    #[error("the device list is malformed")]
    Malformed,
    /// It is lower than the version that is known.
    #[error("the device list is older than the one that is known")]
    RolledBack,
    /// It is another account's, by name or by key.
    #[error("the device list is another account's")]
    WrongAccount,
}

impl From<BadSignature> for DeviceListError {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}

impl SignedDeviceList {
    /// The account key that the list claims. Nobody has checked it yet: compare it with what is
    /// known, or trust it on first use.
    pub fn claimed_account_key(&self) -> AccountKey {
        self.list.account_key
    }

    /// Which list it claims to be.
    pub fn claimed_mark(&self) -> ListMark {
        ListMark { version: self.list.version, hash: self.list.hash() }
    }

    /// Checks that it is a well-formed list of account `name`, signed by `account_key`.
    pub fn verify(
        self,
        name: &Username,
        account_key: &AccountKey,
    ) -> Result<VerifiedDeviceList, DeviceListError> {
        if self.list.name != *name || self.list.account_key != *account_key {
            return Err(DeviceListError::WrongAccount);
        }
        if !self.list.is_well_formed() {
            return Err(DeviceListError::Malformed);
        }
        let fields = self.list.fields();
        account_key.verify(Label::DeviceList, &fields, &self.signature)?;
        if let Some(cosignature) = &self.cosignature {
            cosignature.device.verify(Label::DeviceList, &fields, &cosignature.signature)?;
        }
        let hash = self.list.hash();
        Ok(VerifiedDeviceList { signed: self, hash })
    }
}

/// A list whose signatures hold for the account that it was expected of.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct VerifiedDeviceList {
    signed: SignedDeviceList,
    #[serde(skip)]
    hash: ListHash,
}

impl VerifiedDeviceList {
    /// The list.
    pub fn list(&self) -> &DeviceList {
        &self.signed.list
    }

    /// The list as it travels.
    pub fn signed(&self) -> &SignedDeviceList {
        &self.signed
    }

    /// Its version and its hash.
    pub fn mark(&self) -> ListMark {
        ListMark { version: self.list().version, hash: self.hash }
    }

    /// The device whose signature stands beside the account key's.
    pub fn cosigner(&self) -> Option<DeviceKey> {
        self.signed.cosignature.as_ref().map(|cosignature| cosignature.device)
    }

    /// The same list, signed by `device` too.
    #[must_use]
    pub fn cosigned(&self, device: &DeviceSecret) -> Self {
        let mut cosigned = self.clone();
        cosigned.signed.cosignature = Some(Cosignature::by(device, &self.list().fields()));
        cosigned
    }

    /// The device that holds `key`.
    pub fn device(&self, key: &DeviceKey) -> Option<&DeviceEntry> {
        self.list().devices.iter().find(|device| device.key == *key)
    }

    /// The device that was added last: the one that receives.
    pub fn newest(&self) -> Option<&DeviceEntry> {
        self.list().devices.last()
    }

    /// The list that follows this one, without some of its devices.
    #[must_use]
    pub fn without(&self, devices: &[DeviceId], at: Timestamp) -> DeviceList {
        let mut next = self.next(at);
        next.devices.retain(|device| !devices.contains(&device.id));
        next
    }

    /// The list that follows this one under another account key, with one device alone.
    #[must_use]
    pub fn rekeyed(
        &self,
        account_key: AccountKey,
        device: DeviceEntry,
        at: Timestamp,
    ) -> DeviceList {
        DeviceList { account_key, devices: vec![device], ..self.next(at) }
    }

    /// The list that follows this one and has `device` as its newest.
    pub fn with_device(&self, device: DeviceEntry, at: Timestamp) -> DeviceList {
        let mut next = self.next(at);
        next.devices.retain(|known| known.id != device.id);
        next.devices.push(device);
        next
    }

    fn next(&self, at: Timestamp) -> DeviceList {
        let list = self.list();
        DeviceList { previous: Some(self.hash), version: list.version + 1, at, ..list.clone() }
    }

    /// Whether this list may take the place of `known`: the same version only if it is the same
    /// list, never a lower one.
    pub fn check_follows(&self, known: &Self) -> Result<(), DeviceListError> {
        let (own, known) = (self.mark(), known.mark());
        match own.version.cmp(&known.version) {
            Ordering::Less => Err(DeviceListError::RolledBack),
            Ordering::Equal if own.hash != known.hash => Err(DeviceListError::Forked),
            Ordering::Equal | Ordering::Greater => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountSecret {
        AccountSecret::from_seed(&[7; 32])
    }

    fn entry(seed: u8) -> DeviceEntry {
        let key = DeviceSecret::from_seed(&[seed; 32]).public();
        DeviceEntry::new(key, DhPublicBytes(Box::new([seed; 384])), Timestamp::default())
    }

    fn alice() -> Username {
        "alice".parse().unwrap()
    }

    fn first() -> DeviceList {
        DeviceList::first(alice(), account().public(), entry(1), Timestamp::from_millis(5))
    }

    fn verified(list: DeviceList) -> Result<VerifiedDeviceList, DeviceListError> {
        list.sign(&account(), None).verify(&alice(), &account().public())
    }

    #[test]
    fn a_signed_list_is_verified_for_its_account() {
        let signed = first().sign(&account(), None);
        let json = serde_json::to_string(&signed).unwrap();
        let back: SignedDeviceList = serde_json::from_str(&json).unwrap();
        assert_eq!(back, signed);
        assert!(back.verify(&alice(), &account().public()).is_ok());

        let bob = "bob".parse().unwrap();
        let refused = signed.clone().verify(&bob, &account().public());
        assert_eq!(refused, Err(DeviceListError::WrongAccount));
        let other = AccountSecret::from_seed(&[8; 32]).public();
        assert_eq!(signed.verify(&alice(), &other), Err(DeviceListError::WrongAccount));
    }

    #[test]
    fn a_changed_list_is_refused() {
        let mut signed = first().sign(&account(), None);
        signed.list.devices.push(entry(2));
        let refused = signed.verify(&alice(), &account().public());
        assert_eq!(refused, Err(DeviceListError::BadSignature));
    }

    #[test]
    fn malformed_lists_are_refused_though_signed() {
        let mut empty = first();
        empty.devices.clear();
        assert_eq!(verified(empty), Err(DeviceListError::Malformed));

        let mut many = first();
        many.devices = (0..=16).map(entry).collect();
        assert_eq!(verified(many), Err(DeviceListError::Malformed));

        let mut twice = first();
        twice.devices.push(entry(1));
        assert_eq!(verified(twice), Err(DeviceListError::Malformed));

        let mut foreign_id = first();
        foreign_id.devices[0].id = entry(2).id;
        assert_eq!(verified(foreign_id), Err(DeviceListError::Malformed));

        let mut unchained = first();
        unchained.version = 2;
        assert_eq!(verified(unchained), Err(DeviceListError::Malformed));
    }

    #[test]
    fn versions_only_go_forward() {
        let one = verified(first()).unwrap();
        let two = verified(one.with_device(entry(2), Timestamp::from_millis(9))).unwrap();
        assert_eq!(two.list().version, 2);
        assert_eq!(two.newest().unwrap().id, entry(2).id);
        assert_eq!(two.check_follows(&one), Ok(()));
        assert_eq!(two.check_follows(&two), Ok(()));
        assert_eq!(one.check_follows(&two), Err(DeviceListError::RolledBack));
        let fork = verified(one.with_device(entry(3), Timestamp::from_millis(9))).unwrap();
        assert_eq!(fork.check_follows(&two), Err(DeviceListError::Forked));
    }
}
