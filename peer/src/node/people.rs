//! How two people become contacts, and stop being ones.

use std::collections::BTreeSet;

use parlor_common::card::Card;
use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::AccountKey;
use parlor_common::wire::rendezvous::{HeldKind, Request};

use super::Node;
use super::contacts::new_contact;
use super::input::{Now, Token};
use super::output::{DeviceTrust, Event, IntentError, Transmit};
use super::record::{Change, Contact, ContactState, FailReason, MessageState};
use super::server::{Lookup, Purpose};

impl Node {
    pub(super) fn add_contact(
        &mut self,
        token: Token,
        name: Username,
        key: Option<AccountKey>,
        now: Now,
    ) {
        if name == self.me.name {
            return self.done(token, Err(IntentError::Oneself(name)));
        }
        let Some(known) = self.contacts.get(&name).map(|known| known.record.clone()) else {
            let request = Request::UserGet { name: name.clone() };
            return self.ask_for(token, request, Purpose::User(name, Lookup::Add(token, key)));
        };
        if key.is_some() && key != known.account_key {
            return self.done(token, Err(IntentError::KeyMismatch(name)));
        }
        // A link is the person's word for the known key, whatever other one was served meanwhile.
        let changed_key = known.changed_key.filter(|_| key.is_none());
        let contact = Contact { verified: known.verified || key.is_some(), changed_key, ..known };
        match contact.state {
            ContactState::Blocked => self.done(token, Err(IntentError::Blocked(name))),
            ContactState::Asking => self.answer_yes(Some(token), contact, now),
            ContactState::Asked => {
                // Whether they were asked indeed is not known if the reply was lost: again.
                self.keep_contact(contact);
                self.ask_person(token, name, false, now);
            }
            ContactState::Mutual => {
                self.keep_contact(contact);
                self.devices_changed(&name);
                self.done(token, Ok(()));
            }
        }
    }

    /// The person whom we want as a contact has been looked up: ask.
    pub(super) fn found_to_add(
        &mut self,
        token: Token,
        name: &Username,
        expected: Option<AccountKey>,
        served: SignedDeviceList,
        now: Now,
    ) {
        let claimed = served.claimed_account_key();
        if expected.is_some_and(|expected| expected != claimed) {
            return self.done(token, Err(IntentError::KeyMismatch(name.clone())));
        }
        let devices = match served.verify(name, &claimed) {
            Ok(devices) => devices,
            Err(error) => {
                let error = IntentError::Unsound(name.clone(), error.to_string());
                return self.done(token, Err(error));
            }
        };
        if self.contacts.get(name).is_some() {
            // They have asked, or were asked, since: it goes on from there.
            return self.add_contact(token, name.clone(), expected, now);
        }
        // Kept before they are asked: their answer may be here before the reply.
        let contact = new_contact(ContactState::Asked, expected.is_some(), &devices);
        if contact.verified && !contact.unsigned.is_empty() {
            let (contact, trust) = (name.clone(), DeviceTrust::Held);
            self.events.push_back(Event::ContactDevices { contact, trust });
        }
        self.keep_contact(contact);
        self.ask_person(token, name.clone(), true, now);
    }

    fn ask_person(&mut self, token: Token, name: Username, is_new: bool, now: Now) {
        let request = Request::ContactRequest { name: name.clone(), card: self.card(&name, now) };
        self.ask_for(token, request, Purpose::Contact { token, name, is_new });
    }

    /// Whether the rendezvous takes a request. Who could not be asked is no contact.
    pub(super) fn asked(
        &mut self,
        token: Token,
        name: &Username,
        is_new: bool,
        result: Result<(), IntentError>,
    ) {
        let still = self.contacts.state(name) == Some(ContactState::Asked);
        if result.is_err() && is_new && still {
            self.forget_contact(name);
        }
        self.done(token, result);
    }

    /// A contact that an earlier device of this account had, to be taken over under the key that
    /// the rendezvous serves, as on first use.
    pub(super) fn found_to_restore(
        &mut self,
        name: &Username,
        state: ContactState,
        served: SignedDeviceList,
    ) {
        let claimed = served.claimed_account_key();
        match served.verify(name, &claimed) {
            Ok(devices) => self.restored(Some(new_contact(state, false, &devices))),
            Err(error) => {
                tracing::warn!(%error, "a contact could not be restored");
                self.restored(None);
            }
        }
    }

    /// One contact of an earlier device was looked up. All are kept together with the last, so that
    /// an interruption leaves none, and they are asked for again.
    pub(super) fn restored(&mut self, contact: Option<Contact>) {
        let Some(contacts) = self.sign_in.restored(contact) else { return };
        if !contacts.is_empty() {
            self.sign_in.await_presence();
            self.ask(Request::PresenceWatch {}, Purpose::Presence);
        }
        for contact in contacts {
            match contact.state {
                _ if self.contacts.get(&contact.name).is_some() => {}
                ContactState::Blocked => self.keep_contact(contact),
                ContactState::Asked | ContactState::Asking | ContactState::Mutual => {
                    self.keep_mutual(contact);
                }
            }
        }
        self.tell_online();
    }

    pub(super) fn accept_contact(&mut self, token: Token, name: &Username, now: Now) {
        let Some(known) = self.contacts.get(name).map(|known| known.record.clone()) else {
            return self.done(token, Err(IntentError::NoRequest(name.clone())));
        };
        if known.state == ContactState::Blocked {
            return self.done(token, Err(IntentError::Blocked(name.clone())));
        }
        if let Some(key) = known.changed_key {
            self.accept_key(known, key);
            return self.done(token, Ok(()));
        }
        match known.state {
            ContactState::Asking => self.answer_yes(Some(token), known, now),
            _ if !known.unsigned.is_empty() => {
                self.accept_devices(known);
                self.done(token, Ok(()));
            }
            ContactState::Asked | ContactState::Mutual | ContactState::Blocked => {
                self.done(token, Err(IntentError::NoRequest(name.clone())));
            }
        }
    }

    /// The person accepts a changed account key: the devices under it are looked up. What was
    /// written for the old key is sealed for no other: it is told as failed.
    fn accept_key(&mut self, known: Contact, key: AccountKey) {
        let name = known.name.clone();
        let contact = Contact {
            account_key: Some(key),
            changed_key: None,
            devices: None,
            unsigned: BTreeSet::new(),
            verified: false,
            ..known
        };
        self.close_links(&name);
        let devices = self.contacts.get(&name).and_then(|known| known.devices.clone());
        for device in devices.iter().flat_map(|devices| &devices.list().devices) {
            self.forget_sessions(device.id);
        }
        self.give_up(&name, FailReason::KeyChanged);
        self.changes.push(self.contacts.put(contact, None));
        if self.rendezvous.is_signed_in() {
            self.look_up(name, Lookup::Refresh);
        }
    }

    fn answer_yes(&mut self, token: Option<Token>, contact: Contact, now: Now) {
        let name = contact.name.clone();
        let request = Request::ContactAnswer { card: Some(self.card(&name, now)), name };
        let contact = Contact { state: ContactState::Mutual, ..contact };
        let purpose = Purpose::Accept(token, Box::new(contact));
        match token {
            Some(token) => self.ask_for(token, request, purpose),
            None => self.ask(request, purpose),
        }
    }

    pub(super) fn decline_contact(&mut self, token: Token, name: Username) {
        if self.contacts.state(&name) != Some(ContactState::Asking) {
            return self.done(token, Err(IntentError::NoRequest(name)));
        }
        let request = Request::ContactAnswer { name: name.clone(), card: None };
        self.ask_for(token, request, Purpose::Forget(token, name));
    }

    pub(super) fn remove_contact(&mut self, token: Token, name: Username) {
        if self.contacts.get(&name).is_none() {
            return self.done(token, Err(IntentError::UnknownContact(name)));
        }
        if self.is_blocked(&name) {
            return self.done(token, Err(IntentError::Blocked(name)));
        }
        let request = Request::ContactRemove { name: name.clone() };
        self.ask_for(token, request, Purpose::Forget(token, name));
    }

    /// Somebody asked us or answered us while we were away, or just now.
    pub(super) fn handle_held(&mut self, from: &Username, what: HeldKind, now: Now) {
        if self.is_blocked(from) {
            return;
        }
        match what {
            HeldKind::Request { card } => self.asked_by(from, *card, now),
            HeldKind::Accepted { card } => self.accepted_by(from, *card),
            HeldKind::Declined {} => self.declined_by(from),
            HeldKind::Unknown => {}
        }
    }

    fn asked_by(&mut self, from: &Username, card: Card, now: Now) {
        let Some(devices) = self.check_card(from, card) else { return };
        match self.contacts.get(from).map(|known| known.record.clone()) {
            None => {
                let contact = new_contact(ContactState::Asking, false, &devices);
                self.changes.push(self.contacts.put(contact, Some(devices)));
                self.events.push_back(Event::ContactRequest { from: from.clone() });
            }
            // They lost or dropped us and ask again, and the person has agreed to them before.
            Some(known) if known.state == ContactState::Mutual => self.answer_yes(None, known, now),
            // Each asked the other: that is consent, and the rendezvous holds their answer, too.
            Some(known) if known.state == ContactState::Asked => self.complete_contact(known),
            Some(_) => {}
        }
    }

    fn accepted_by(&mut self, from: &Username, card: Card) {
        match self.contacts.state(from) {
            Some(ContactState::Asked) if self.check_card(from, card).is_some() => {
                // As it is now: the card may have brought newer devices.
                if let Some(known) = self.contacts.get(from).map(|known| known.record.clone()) {
                    self.complete_contact(known);
                }
            }
            Some(_) => {}
            None => tracing::warn!("somebody who was not asked has accepted"),
        }
    }

    fn declined_by(&mut self, from: &Username) {
        if self.contacts.state(from) == Some(ContactState::Asked) {
            self.forget_contact(from);
        }
    }

    /// Checks a card under the account key that is known, or trusts it on first use. A card under
    /// another key than the known one holds the contact.
    fn check_card(&mut self, from: &Username, card: Card) -> Option<VerifiedDeviceList> {
        let claimed = card.claimed_account_key();
        let known = self.contacts.get(from).and_then(|known| known.record.account_key);
        let devices = match card.verify(from, &self.me.name, &claimed) {
            Ok(devices) => devices,
            Err(error) => {
                tracing::warn!(%error, "a card was refused");
                return None;
            }
        };
        self.list_served(from, devices.signed().clone());
        known.is_none_or(|known| known == claimed).then_some(devices)
    }

    /// Keeps a contact in a new form.
    pub(super) fn keep_contact(&mut self, contact: Contact) {
        let key = contact.account_key;
        let devices = contact.devices.clone();
        let devices = key.and_then(|key| devices?.verify(&contact.name, &key).ok());
        self.changes.push(self.contacts.put(contact, devices));
    }

    /// The rendezvous has our yes. Devices of the contact may have come in meanwhile.
    pub(super) fn answered_yes(&mut self, contact: Contact) {
        let now = self.contacts.get(&contact.name).map(|known| known.record.clone());
        let contact = match now {
            Some(now) => Contact { verified: now.verified || contact.verified, ..now },
            None => contact,
        };
        self.complete_contact(contact);
    }

    /// Both sides agreed.
    pub(super) fn complete_contact(&mut self, contact: Contact) {
        self.keep_mutual(contact);
        // Presence of a new contact comes with the next answer to this.
        self.ask(Request::PresenceWatch {}, Purpose::Presence);
    }

    fn keep_mutual(&mut self, contact: Contact) {
        let name = contact.name.clone();
        self.keep_contact(Contact { state: ContactState::Mutual, ..contact });
        self.events.push_back(Event::ContactAccepted { name: name.clone() });
        self.fetch_left();
        self.ready.insert(name);
    }

    /// Forgets a contact, its sessions and what waited for it.
    pub(super) fn forget_contact(&mut self, name: &Username) {
        self.close_links(name);
        let known = self.contacts.remove(name);
        let devices = known.and_then(|known| known.devices);
        for device in devices.iter().flat_map(|devices| &devices.list().devices) {
            self.forget_sessions(device.id);
        }
        self.give_up(name, FailReason::ContactRemoved);
        self.offers.forget(name);
        self.posting.forget(name);
        self.lists.forget(name);
        self.changes.push(Change::RemoveContact(name.clone()));
    }

    /// What waits for a contact will not be delivered.
    pub(super) fn give_up(&mut self, name: &Username, reason: FailReason) {
        for id in self.outbox.abandon(name) {
            self.changes.push(Change::Fail(id, reason));
            let (to, state, reason) = (name.clone(), MessageState::Failed, Some(reason));
            self.events.push_back(Event::Receipt { id, to, state, carrier: None, reason });
        }
    }

    pub(super) fn close_links(&mut self, name: &Username) {
        for link in self.paths.of_contact(name) {
            self.transmits.push_back(Transmit::CloseLink { link });
        }
    }

    fn card(&self, to: &Username, now: Now) -> Box<Card> {
        Box::new(Card::sign(&self.me.devices, to.clone(), now.date, &self.me.device))
    }
}
