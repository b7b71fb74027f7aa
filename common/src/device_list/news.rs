//! What a device list says to somebody who knows an earlier one: whether an earlier device vouches
//! for what changed, or the account key alone, which whoever has the password can use.
//!
//! A device is *unsigned* while no device that was there before it has signed a list with it. The
//! word of an unsigned device counts for nothing: else a ghost could vouch for the next one.

use std::collections::BTreeSet;

use super::{DeviceEntry, DeviceListError, VerifiedDeviceList};
use crate::id::DeviceId;

/// What a list says to somebody who knows an earlier one, or the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListNews {
    /// The known list, which an earlier device has signed since.
    Confirmed,
    /// A later list, signed by a device that was known before.
    Cosigned,
    /// A later list that no earlier device has signed: it was made by password alone.
    PasswordAlone,
    /// Nothing new.
    Same,
}

impl VerifiedDeviceList {
    /// What this list says to somebody who knows `known`, of whose devices those of `unsigned` have
    /// been signed by no earlier one.
    ///
    /// The cosignature counts if it is by a device of `known` that is not unsigned, however many
    /// versions lie between the two: the ones between have been seen by nobody who could judge.
    pub fn news(
        &self,
        known: &Self,
        unsigned: &BTreeSet<DeviceId>,
    ) -> Result<ListNews, DeviceListError> {
        self.check_follows(known)?;
        let signer = self.cosigner().and_then(|key| known.device(&key));
        let vouched = signer.is_some_and(|device| !unsigned.contains(&device.id));
        let same = self.mark() == known.mark();
        Ok(match (same, vouched) {
            (true, true) if !unsigned.is_empty() => ListNews::Confirmed,
            (true, _) => ListNews::Same,
            (false, true) => ListNews::Cosigned,
            (false, false) => ListNews::PasswordAlone,
        })
    }

    /// The unsigned devices of this list, if it follows `known` by password alone: those that are
    /// new or have new keys, and those that were unsigned before.
    pub fn unsigned_after(
        &self,
        known: &Self,
        unsigned: &BTreeSet<DeviceId>,
    ) -> BTreeSet<DeviceId> {
        let vouched = |device: &&DeviceEntry| {
            known.list().devices.contains(device) && !unsigned.contains(&device.id)
        };
        let devices = self.list().devices.iter();
        devices.filter(|device| !vouched(device)).map(|device| device.id).collect()
    }

    /// The devices of this list that `next` no longer has, or has with other keys.
    pub fn gone_in(&self, next: &Self) -> Vec<DeviceId> {
        let devices = self.list().devices.iter();
        let gone = devices.filter(|device| !next.list().devices.contains(device));
        gone.map(|device| device.id).collect()
    }

    /// The newest device, if the list itself shows that no other device has signed it. The first
    /// device of an account has none before it.
    pub fn unconfirmed(&self) -> Option<&DeviceEntry> {
        let newest = self.newest().filter(|_| self.list().version > 1)?;
        let confirmed = self.cosigner().is_some_and(|key| key != newest.key);
        (!confirmed).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeviceList;
    use super::*;
    use crate::id::Username;
    use crate::identity::{AccountSecret, DeviceSecret};
    use crate::prekey::DhPublicBytes;
    use crate::time::Timestamp;

    fn alice() -> Username {
        "alice".parse().unwrap()
    }

    fn account() -> AccountSecret {
        AccountSecret::from_seed(&[7; 32])
    }

    fn secret(device: u8) -> DeviceSecret {
        DeviceSecret::from_seed(&[device; 32])
    }

    fn entry(device: u8) -> DeviceEntry {
        let dh = DhPublicBytes(Box::new([device; 384]));
        DeviceEntry::new(secret(device).public(), dh, Timestamp::default())
    }

    fn signed(list: DeviceList, cosigner: Option<u8>) -> VerifiedDeviceList {
        let cosigner = cosigner.map(secret);
        let signed = list.sign(&account(), cosigner.as_ref());
        signed.verify(&alice(), &account().public()).unwrap()
    }

    fn first() -> VerifiedDeviceList {
        let at = Timestamp::from_millis(5);
        signed(DeviceList::first(alice(), account().public(), entry(1), at), None)
    }

    fn with(known: &VerifiedDeviceList, device: u8, cosigner: Option<u8>) -> VerifiedDeviceList {
        signed(known.with_device(entry(device), Timestamp::from_millis(9)), cosigner)
    }

    fn ids(devices: &[u8]) -> BTreeSet<DeviceId> {
        devices.iter().map(|device| entry(*device).id).collect()
    }

    #[test]
    fn only_a_device_that_was_known_before_can_vouch() {
        let one = first();
        let nobody = BTreeSet::new();
        let news = |list: &VerifiedDeviceList| list.news(&one, &nobody);
        assert_eq!(news(&one), Ok(ListNews::Same));
        assert_eq!(news(&with(&one, 2, Some(1))), Ok(ListNews::Cosigned));
        assert_eq!(news(&with(&one, 2, None)), Ok(ListNews::PasswordAlone));
        assert_eq!(news(&with(&one, 2, Some(2))), Ok(ListNews::PasswordAlone), "by itself");
        assert_eq!(news(&with(&one, 2, Some(3))), Ok(ListNews::PasswordAlone), "by a stranger");
    }

    #[test]
    fn over_a_gap_of_versions_the_known_one_counts() {
        let one = first();
        let two = with(&one, 2, Some(1));
        let nobody = BTreeSet::new();
        assert_eq!(with(&two, 3, Some(1)).news(&one, &nobody), Ok(ListNews::Cosigned));
        assert_eq!(with(&two, 3, Some(2)).news(&one, &nobody), Ok(ListNews::PasswordAlone));
        assert_eq!(with(&two, 3, Some(2)).news(&two, &nobody), Ok(ListNews::Cosigned));
    }

    #[test]
    fn a_ghost_vouches_for_nobody_and_an_old_device_for_all() {
        let one = first();
        let two = with(&one, 2, None);
        let unsigned = two.unsigned_after(&one, &BTreeSet::new());
        assert_eq!(unsigned, ids(&[2]));
        let three = with(&two, 3, Some(2));
        assert_eq!(three.news(&two, &unsigned), Ok(ListNews::PasswordAlone));
        assert_eq!(three.unsigned_after(&two, &unsigned), ids(&[2, 3]));
        assert_eq!(with(&two, 3, Some(1)).news(&two, &unsigned), Ok(ListNews::Cosigned));
    }

    #[test]
    fn a_signature_that_comes_later_is_news_for_the_same_list() {
        let one = first();
        let two = with(&one, 2, None);
        let unsigned = ids(&[2]);
        assert_eq!(two.unconfirmed(), Some(&entry(2)));
        let confirmed = two.cosigned(&secret(1));
        assert_eq!(confirmed.mark(), two.mark(), "the hash does not cover it");
        assert_eq!(confirmed.news(&two, &unsigned), Ok(ListNews::Confirmed));
        assert_eq!(confirmed.news(&two, &BTreeSet::new()), Ok(ListNews::Same));
        assert_eq!(confirmed.unconfirmed(), None);
        let signed = confirmed.signed().clone();
        assert!(signed.verify(&alice(), &account().public()).is_ok());

        let by_itself = two.cosigned(&secret(2));
        assert_eq!(by_itself.news(&two, &unsigned), Ok(ListNews::Same));
        assert_eq!(by_itself.unconfirmed(), Some(&entry(2)));
        assert_eq!(one.unconfirmed(), None, "nobody was there before the first device");
    }

    #[test]
    fn a_device_with_new_keys_is_a_new_one() {
        let one = first();
        let mut swapped = entry(1);
        swapped.dh = DhPublicBytes(Box::new([9; 384]));
        let two = signed(one.with_device(swapped, Timestamp::from_millis(9)), None);
        assert_eq!(two.unsigned_after(&one, &BTreeSet::new()), ids(&[1]));
        assert_eq!(one.gone_in(&two), vec![entry(1).id]);
        assert_eq!(one.gone_in(&with(&one, 2, None)), vec![]);
    }

    #[test]
    fn an_older_or_forked_list_is_no_news() {
        let one = first();
        let two = with(&one, 2, Some(1));
        let nobody = BTreeSet::new();
        assert_eq!(one.news(&two, &nobody), Err(DeviceListError::RolledBack));
        assert_eq!(with(&one, 3, Some(1)).news(&two, &nobody), Err(DeviceListError::Forked));
    }
}
