//! The account's contacts, with their devices.

use std::collections::BTreeMap;

use parlor_common::device_list::{
    DeviceEntry, DeviceListError, SignedDeviceList, VerifiedDeviceList,
};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::{AccountKey, DeviceKey};

use super::record::{Change, Contact, ContactState, Policy};

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ListVerdict {
    /// Nothing new.
    Known,
    /// The contact's devices changed, in order.
    Newer,
    /// Another account key than the known one: the contact is held.
    OtherKey,
    /// Refused: older, forked, or it does not hold.
    Refused(DeviceListError),
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

    /// The mutual contact that has a device with `key`, and the device.
    pub(super) fn owner(&self, key: &DeviceKey) -> Option<(&Known, &DeviceEntry)> {
        let known = self.get(self.by_device.get(key)?)?;
        let device = known.devices.as_ref()?.device(key)?;
        (known.record.state == ContactState::Mutual).then_some((known, device))
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

    /// The device of `name` that receives, if something may be sealed for it now.
    pub(super) fn recipient(&self, name: &Username) -> Option<&DeviceEntry> {
        let known = self.get(name)?;
        let open = known.record.state == ContactState::Mutual && known.record.changed_key.is_none();
        known.devices.as_ref().filter(|_| open)?.newest()
    }

    /// The rendezvous shows a contact online or not. Returns whether that is news.
    pub(super) fn set_online(&mut self, name: &Username, online: bool) -> bool {
        let known = self.by_name.get_mut(name);
        known.is_some_and(|known| std::mem::replace(&mut known.online, online) != online)
    }

    /// The version of the newest list of `name` that is known.
    pub(super) fn list_version(&self, name: &Username) -> Option<u64> {
        self.get(name)?.devices.as_ref().map(|devices| devices.list().version)
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
        let served = match served.verify(name, &key) {
            Ok(served) => served,
            Err(error) => return ListVerdict::Refused(error),
        };
        match &known.devices {
            Some(devices) if devices.list().hash() == served.list().hash() => ListVerdict::Known,
            Some(devices) if served.check_follows(devices).is_err() => {
                ListVerdict::Refused(DeviceListError::RolledBack)
            }
            _ => {
                let devices = Some(served.signed().clone());
                let record = Contact { devices, ..known.record.clone() };
                changes.push(self.put(record, Some(served)));
                ListVerdict::Newer
            }
        }
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
        policy: Policy::default(),
    }
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
        assert_eq!(serve(&mut contacts, &two), ListVerdict::Newer);
        assert_eq!(contacts.recipient(&bob()).unwrap().id, entry(2).id);
        assert!(contacts.owner(&entry(1).key).is_some(), "the earlier device may still speak");
    }

    #[test]
    fn an_older_or_forked_list_is_refused() {
        let one = list(1, 1);
        let two = next(&one, 1, 2);
        let mut contacts = contacts(&two);
        let refused = ListVerdict::Refused(DeviceListError::RolledBack);
        assert_eq!(serve(&mut contacts, &one), refused);
        assert_eq!(serve(&mut contacts, &next(&one, 1, 3)), refused);
        assert!(contacts.owner(&entry(3).key).is_none());
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
