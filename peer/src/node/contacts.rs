//! The account's contacts, with their devices.

use std::collections::{BTreeMap, BTreeSet};

use parlor_common::device_list::{
    DeviceEntry, DeviceListError, ListHash, ListMark, ListNews, SignedDeviceList,
    VerifiedDeviceList,
};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::{AccountKey, DeviceKey};

use super::output::{DeviceTrust, ListFault};
use super::record::{Change, Contact, ContactState, Policy, Timers};

/// Contacts by name, and by the keys of their devices.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    by_name: BTreeMap<Username, Known>,
    by_device: BTreeMap<DeviceKey, Username>,
}

/// A contact, with what is not stored of it.
#[derive(Debug)]
pub(super) struct Known {
    /// As it is stored.
    pub(super) record: Contact,
    /// Its devices, checked under its account key.
    pub(super) devices: Option<VerifiedDeviceList>,
    /// Whether the rendezvous shows it online.
    pub(super) online: bool,
}

/// What a device list that was served for a contact means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ListVerdict {
    /// An earlier device has signed for those that were added by password alone.
    Confirmed,
    /// Nothing new, or nothing that was not told before.
    Known,
    /// The contact's devices changed; those that are gone must not speak any more.
    Newer { trust: DeviceTrust, gone: Vec<DeviceId> },
    /// Another account key than the known one: the contact is held.
    OtherKey,
    /// Refused, for the first time.
    Refused(ListFault),
}

impl From<DeviceListError> for ListFault {
    fn from(error: DeviceListError) -> Self {
        match error {
            DeviceListError::Forked => Self::Forked,
            DeviceListError::RolledBack => Self::RolledBack,
            DeviceListError::BadSignature
            | DeviceListError::Malformed
            | DeviceListError::WrongAccount => Self::Unsound,
        }
    }
}

impl Known {
    /// What a list says after the known one. The first under an account key is trusted as the key.
    fn news(&self, served: &VerifiedDeviceList) -> Result<ListNews, DeviceListError> {
        match &self.devices {
            Some(known) => served.news(known, &self.record.unsigned),
            None if served.unconfirmed().is_some() => Ok(ListNews::PasswordAlone),
            None => Ok(ListNews::Cosigned),
        }
    }

    /// The contact with this list in place of the known one.
    fn with_list(&self, served: &VerifiedDeviceList, unsigned: BTreeSet<DeviceId>) -> Contact {
        let devices = Some(served.signed().clone());
        Contact { devices, unsigned, ..self.record.clone() }
    }
}

impl Contacts {
    /// Takes over what was stored.
    pub(super) fn new(records: Vec<Contact>) -> Self {
        let mut contacts = Self::default();
        for record in records {
            let devices = verified(&record);
            contacts.insert(record, devices);
        }
        contacts
    }

    /// Keeps a contact, whose list was verified under its account key.
    pub(super) fn put(&mut self, record: Contact, devices: Option<VerifiedDeviceList>) -> Change {
        let change = Change::PutContact(Box::new(record.clone()));
        self.insert(record, devices);
        change
    }

    fn insert(&mut self, record: Contact, devices: Option<VerifiedDeviceList>) {
        let name = record.name.clone();
        self.by_device.retain(|_, owner| *owner != name);
        for device in devices.iter().flat_map(|devices| &devices.list().devices) {
            self.by_device.insert(device.key, name.clone());
        }
        let online = self.by_name.get(&name).is_some_and(|known| known.online);
        self.by_name.insert(name, Known { record, devices, online });
    }

    /// Forgets a contact.
    pub(super) fn remove(&mut self, name: &Username) -> Option<Known> {
        self.by_device.retain(|_, owner| owner != name);
        self.by_name.remove(name)
    }

    /// The contact of this name.
    pub(super) fn get(&self, name: &Username) -> Option<&Known> {
        self.by_name.get(name)
    }

    /// How far it is with `name`.
    pub(super) fn state(&self, name: &Username) -> Option<ContactState> {
        self.get(name).map(|known| known.record.state)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The mutual contact that has a device with `key`, and the device, unless that is held.
    pub(super) fn owner(&self, key: &DeviceKey) -> Option<(&Known, &DeviceEntry)> {
        let known = self.get(self.by_device.get(key)?)?;
        let device = known.devices.as_ref()?.device(key)?;
        let speaks = known.record.state == ContactState::Mutual && !known.record.holds(device.id);
        speaks.then_some((known, device))
    }

    /// The contact that has the device with this id.
    pub(super) fn name_of(&self, device: DeviceId) -> Option<Username> {
        self.by_id(device).map(|(_, name)| name.clone())
    }

    /// The key of the contact's device with this id.
    pub(super) fn key_of(&self, device: DeviceId) -> Option<DeviceKey> {
        self.by_id(device).map(|(key, _)| *key)
    }

    fn by_id(&self, device: DeviceId) -> Option<(&DeviceKey, &Username)> {
        self.by_device.iter().find(|(key, _)| DeviceId::of(key) == device)
    }

    /// The device of `name` that receives, if something may be sealed for it now: the newest that
    /// is not held.
    pub(super) fn recipient(&self, name: &Username) -> Option<&DeviceEntry> {
        let known = self.get(name)?;
        let open = known.record.state == ContactState::Mutual && known.record.changed_key.is_none();
        let devices = &known.devices.as_ref().filter(|_| open)?.list().devices;
        devices.iter().rev().find(|device| !known.record.holds(device.id))
    }

    /// All devices of `name`, and their keys.
    pub(super) fn devices_of(&self, name: &Username) -> Vec<(DeviceId, DeviceKey)> {
        let devices = self.get(name).and_then(|known| known.devices.as_ref());
        let all = devices.into_iter().flat_map(|devices| &devices.list().devices);
        all.map(|device| (device.id, device.key)).collect()
    }

    /// The rendezvous shows a contact online or not. Returns whether that is news.
    pub(super) fn set_online(&mut self, name: &Username, online: bool) -> bool {
        let known = self.by_name.get_mut(name);
        known.is_some_and(|known| std::mem::replace(&mut known.online, online) != online)
    }

    /// The newest list of `name` that is known.
    pub(super) fn list(&self, name: &Username) -> Option<ListMark> {
        self.get(name)?.devices.as_ref().map(VerifiedDeviceList::mark)
    }

    /// Whether the list of `name` has devices that nobody vouches for: an earlier device may sign
    /// them at any time, and the version stays the same.
    pub(super) fn awaits_signature(&self, name: &Username) -> bool {
        self.get(name).is_some_and(|known| !known.record.unsigned.is_empty())
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &Username> {
        self.by_name.keys()
    }

    /// Judges a list that was served for the contact `name`, and keeps what it says.
    pub(super) fn list_served(
        &mut self,
        name: &Username,
        served: SignedDeviceList,
        changes: &mut Vec<Change>,
    ) -> ListVerdict {
        let Some(known) = self.get(name) else { return ListVerdict::Known };
        let Some(key) = known.record.account_key else { return ListVerdict::Known };
        let claimed = served.claimed_account_key();
        if claimed != key {
            return self.other_key(name, claimed, changes);
        }
        let list = served.claimed_mark().hash;
        let judged = served.verify(name, &key).and_then(|served| {
            let news = known.news(&served)?;
            Ok((served, news))
        });
        match judged {
            Ok((served, news)) => self.take_list(name, served, news, changes),
            Err(error) => {
                tracing::warn!(%error, "a contact's device list was refused");
                self.refuse(name, list, error.into(), changes)
            }
        }
    }

    fn take_list(
        &mut self,
        name: &Username,
        served: VerifiedDeviceList,
        news: ListNews,
        changes: &mut Vec<Change>,
    ) -> ListVerdict {
        let Some(known) = self.get(name) else { return ListVerdict::Known };
        let before = known.devices.as_ref();
        let gone = before.map_or_else(Vec::new, |before| before.gone_in(&served));
        let (unsigned, verdict) = match news {
            // A cosignature by nobody who counts is kept all the same.
            ListNews::Same if gains_cosignature(before, &served) => {
                (known.record.unsigned.clone(), ListVerdict::Known)
            }
            ListNews::Same => return ListVerdict::Known,
            ListNews::Confirmed => (BTreeSet::new(), ListVerdict::Confirmed),
            ListNews::Cosigned => {
                (BTreeSet::new(), ListVerdict::Newer { trust: DeviceTrust::Signed, gone })
            }
            ListNews::PasswordAlone => {
                let unsigned = &known.record.unsigned;
                let unsigned = before.map(|before| served.unsigned_after(before, unsigned));
                let unsigned = unsigned.unwrap_or_else(|| unsigned_at_first(&served));
                let held = known.record.verified && !unsigned.is_empty();
                let trust = if held { DeviceTrust::Held } else { DeviceTrust::Unsigned };
                (unsigned, ListVerdict::Newer { trust, gone })
            }
        };
        let record = known.with_list(&served, unsigned);
        changes.push(self.put(record, Some(served)));
        verdict
    }

    /// Refuses a list of `name`; the same one is told once.
    fn refuse(
        &mut self,
        name: &Username,
        list: ListHash,
        fault: ListFault,
        changes: &mut Vec<Change>,
    ) -> ListVerdict {
        let Some(known) = self.by_name.get_mut(name) else { return ListVerdict::Known };
        if known.record.refused == Some(list) {
            return ListVerdict::Known;
        }
        known.record.refused = Some(list);
        changes.push(Change::PutContact(Box::new(known.record.clone())));
        ListVerdict::Refused(fault)
    }

    fn other_key(
        &mut self,
        name: &Username,
        claimed: AccountKey,
        changes: &mut Vec<Change>,
    ) -> ListVerdict {
        let Some(known) = self.by_name.get_mut(name) else { return ListVerdict::Known };
        if known.record.changed_key == Some(claimed) {
            return ListVerdict::Known;
        }
        known.record.changed_key = Some(claimed);
        changes.push(Change::PutContact(Box::new(known.record.clone())));
        ListVerdict::OtherKey
    }
}

/// A new contact in this state, with the list that was verified for it.
pub(super) fn new_contact(
    state: ContactState,
    verified_by_link: bool,
    devices: &VerifiedDeviceList,
) -> Contact {
    Contact {
        name: devices.list().name.clone(),
        state,
        verified: verified_by_link,
        account_key: Some(devices.list().account_key),
        changed_key: None,
        devices: Some(devices.signed().clone()),
        unsigned: unsigned_at_first(devices),
        refused: None,
        policy: Policy::default(),
        timers: Timers::default(),
    }
}

/// Somebody of whom nothing but the name is known: blocked before anything else.
pub(super) fn stranger(name: Username) -> Contact {
    Contact {
        name,
        state: ContactState::Blocked,
        verified: false,
        account_key: None,
        changed_key: None,
        devices: None,
        unsigned: BTreeSet::new(),
        refused: None,
        policy: Policy::default(),
        timers: Timers::default(),
    }
}

/// The unsigned devices of a list to somebody who knows none before it: a ghost may be there
/// already.
fn unsigned_at_first(devices: &VerifiedDeviceList) -> BTreeSet<DeviceId> {
    devices.unconfirmed().map(|device| device.id).into_iter().collect()
}

fn gains_cosignature(known: Option<&VerifiedDeviceList>, served: &VerifiedDeviceList) -> bool {
    served.cosigner().is_some() && known.is_some_and(|known| known.cosigner().is_none())
}

fn verified(record: &Contact) -> Option<VerifiedDeviceList> {
    let devices = record.devices.clone()?;
    devices.verify(&record.name, &record.account_key?).ok()
}

#[cfg(test)]
mod tests {
    use parlor_common::device_list::DeviceList;
    use parlor_common::identity::{AccountSecret, DeviceSecret};
    use parlor_common::prekey::DhPublicBytes;
    use parlor_common::time::Timestamp;

    use super::*;

    fn bob() -> Username {
        "bob".parse().unwrap()
    }

    fn entry(seed: u8) -> DeviceEntry {
        let key = DeviceSecret::from_seed(&[seed; 32]).public();
        DeviceEntry::new(key, DhPublicBytes(Box::new([seed; 384])), Timestamp::default())
    }

    fn list(account: u8, device: u8) -> VerifiedDeviceList {
        let account = AccountSecret::from_seed(&[account; 32]);
        let list = DeviceList::first(bob(), account.public(), entry(device), Timestamp::default());
        list.sign(&account, None).verify(&bob(), &account.public()).unwrap()
    }

    fn next(list: &VerifiedDeviceList, account: u8, device: u8) -> VerifiedDeviceList {
        let account = AccountSecret::from_seed(&[account; 32]);
        let next = list.with_device(entry(device), Timestamp::default());
        next.sign(&account, None).verify(&bob(), &account.public()).unwrap()
    }

    fn contacts(devices: &VerifiedDeviceList) -> Contacts {
        let mut contacts = Contacts::default();
        let record = new_contact(ContactState::Mutual, false, devices);
        contacts.put(record, Some(devices.clone()));
        contacts
    }

    fn serve(contacts: &mut Contacts, list: &VerifiedDeviceList) -> ListVerdict {
        contacts.list_served(&bob(), list.signed().clone(), &mut Vec::new())
    }

    #[test]
    fn a_newer_list_changes_who_receives() {
        let one = list(1, 1);
        let two = next(&one, 1, 2);
        let mut contacts = contacts(&one);
        assert_eq!(contacts.recipient(&bob()).unwrap().id, entry(1).id);
        assert_eq!(serve(&mut contacts, &one), ListVerdict::Known);
        let newer = ListVerdict::Newer { trust: DeviceTrust::Unsigned, gone: Vec::new() };
        assert_eq!(serve(&mut contacts, &two), newer);
        assert_eq!(contacts.recipient(&bob()).unwrap().id, entry(2).id);
        assert!(contacts.owner(&entry(1).key).is_some(), "the earlier device may still speak");
    }

    #[test]
    fn an_older_or_forked_list_is_refused() {
        let one = list(1, 1);
        let two = next(&one, 1, 2);
        let mut contacts = contacts(&two);
        let refused = |fault| ListVerdict::Refused(fault);
        assert_eq!(serve(&mut contacts, &one), refused(ListFault::RolledBack));
        assert_eq!(serve(&mut contacts, &one), ListVerdict::Known, "it is told once");
        assert_eq!(serve(&mut contacts, &next(&one, 1, 3)), refused(ListFault::Forked));
        let ghost = one.with_device(entry(4), Timestamp::default());
        let signer = AccountSecret::from_seed(&[66; 32]);
        let ghost = ghost.sign(&signer, None);
        let verdict = contacts.list_served(&bob(), ghost, &mut Vec::new());
        assert_eq!(verdict, refused(ListFault::Unsound), "another account key's signature");
        assert!(contacts.owner(&entry(3).key).is_none());
    }

    #[test]
    fn nothing_is_for_a_verified_contacts_device_that_no_earlier_one_signed() {
        let one = list(1, 1);
        let two = next(&one, 1, 2);
        let mut contacts = contacts(&one);
        let record = Contact { verified: true, ..contacts.get(&bob()).unwrap().record.clone() };
        contacts.put(record, Some(one));
        let held = ListVerdict::Newer { trust: DeviceTrust::Held, gone: Vec::new() };
        assert_eq!(serve(&mut contacts, &two), held);
        assert_eq!(contacts.recipient(&bob()).unwrap().id, entry(1).id);
        assert!(contacts.owner(&entry(2).key).is_none());
        assert!(contacts.awaits_signature(&bob()));

        let signer = |seed: u8| DeviceSecret::from_seed(&[seed; 32]);
        assert_eq!(serve(&mut contacts, &two.cosigned(&signer(2))), ListVerdict::Known);
        assert_eq!(contacts.recipient(&bob()).unwrap().id, entry(1).id, "a ghost's own word");
        assert_eq!(serve(&mut contacts, &two.cosigned(&signer(1))), ListVerdict::Confirmed);
        assert_eq!(contacts.recipient(&bob()).unwrap().id, entry(2).id);
        assert!(contacts.owner(&entry(2).key).is_some());
        assert!(!contacts.awaits_signature(&bob()));
    }

    #[test]
    fn a_device_that_is_off_the_list_is_gone() {
        let one = list(1, 1);
        let two = next(&one, 1, 2);
        let mut contacts = contacts(&two);
        let account = AccountSecret::from_seed(&[1; 32]);
        let mut three = two.with_device(entry(2), Timestamp::default());
        three.devices.retain(|device| device.id == entry(2).id);
        let signer = DeviceSecret::from_seed(&[1; 32]);
        let three = three.sign(&account, Some(&signer));
        let verdict = contacts.list_served(&bob(), three, &mut Vec::new());
        let gone = vec![entry(1).id];
        assert_eq!(verdict, ListVerdict::Newer { trust: DeviceTrust::Signed, gone });
        assert!(contacts.owner(&entry(1).key).is_none());
    }

    #[test]
    fn another_account_key_holds_the_contact() {
        let mut contacts = contacts(&list(1, 1));
        assert_eq!(serve(&mut contacts, &list(9, 3)), ListVerdict::OtherKey);
        assert_eq!(serve(&mut contacts, &list(9, 3)), ListVerdict::Known, "it is told once");
        assert!(contacts.recipient(&bob()).is_none());
        assert!(contacts.owner(&entry(3).key).is_none());
        assert_eq!(
            contacts.get(&bob()).unwrap().record.account_key,
            Some(list(1, 1).list().account_key)
        );
    }

    #[test]
    fn only_mutual_contacts_own_devices_and_receive() {
        let devices = list(1, 1);
        for state in [ContactState::Asked, ContactState::Asking, ContactState::Blocked] {
            let mut contacts = Contacts::default();
            contacts.put(new_contact(state, false, &devices), Some(devices.clone()));
            assert!(contacts.owner(&entry(1).key).is_none());
            assert!(contacts.recipient(&bob()).is_none());
        }
    }
}
