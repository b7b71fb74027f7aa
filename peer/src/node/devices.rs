//! What device lists mean: a contact's, and the own account's.
//!
//! Whoever has an account's password can put a device on its list. So the word of a device that was
//! there before counts: without it a change is told, and a verified contact's new device is held.

use std::collections::BTreeSet;

use parlor_common::device_list::{ListHash, ListNews, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::{DeviceId, Username};
use parlor_common::wire::rendezvous::Request;

use super::Node;
use super::contacts::ListVerdict;
use super::input::Token;
use super::output::{DeviceTrust, Event, IntentError, ListFault, Transmit};
use super::record::{Change, Contact};
use super::server::Purpose;

impl Node {
    /// A contact's list was served, or stood in a card.
    pub(super) fn list_served(&mut self, name: &Username, served: SignedDeviceList) {
        let contact = name.clone();
        match self.contacts.list_served(name, served, &mut self.changes) {
            ListVerdict::Known => {}
            ListVerdict::Newer { trust, gone } => {
                for device in gone {
                    self.forget_sessions(device);
                }
                if trust != DeviceTrust::Signed {
                    self.events.push_back(Event::ContactDevices { contact, trust });
                }
                self.devices_changed(name);
            }
            ListVerdict::Confirmed => {
                let trust = DeviceTrust::Signed;
                self.events.push_back(Event::ContactDevices { contact, trust });
                self.devices_changed(name);
            }
            ListVerdict::OtherKey => self.events.push_back(Event::IdentityChanged { contact }),
            ListVerdict::Refused(fault) => {
                self.events.push_back(Event::ListFault { of: contact, fault, by: None });
            }
        }
    }

    /// Another device of the contact may receive now, and some may speak no more.
    pub(super) fn devices_changed(&mut self, name: &Username) {
        for link in self.paths.of_contact(name) {
            let device = self.paths.get(link).map(|link| link.device);
            if device.is_some_and(|device| self.contacts.owner(&device).is_none()) {
                self.transmits.push_back(Transmit::CloseLink { link });
            }
        }
        self.offers.restart(name);
        self.fetch_left();
        self.ready.insert(name.clone());
    }

    pub(super) fn forget_sessions(&mut self, device: DeviceId) {
        self.repairs.forget(device);
        for session in self.sessions.remove_device(device) {
            self.outbox.session_gone(session);
            self.changes.push(Change::RemoveSession(device, session));
        }
    }

    /// The person accepts a contact's devices though no earlier one has signed them.
    pub(super) fn accept_devices(&mut self, known: Contact) {
        let name = known.name.clone();
        self.keep_contact(Contact { unsigned: BTreeSet::new(), ..known });
        self.devices_changed(&name);
    }

    /// The person has compared safety numbers: the known account key is the contact's.
    pub(super) fn verify_contact(&mut self, token: Token, name: &Username) {
        let Some(known) = self.contacts.get(name).map(|known| known.record.clone()) else {
            return self.done(token, Err(IntentError::UnknownContact(name.clone())));
        };
        if known.account_key.is_none() {
            return self.done(token, Err(IntentError::NoKey(name.clone())));
        }
        if known.changed_key.is_some() {
            return self.done(token, Err(IntentError::KeyChanged(name.clone())));
        }
        self.keep_contact(Contact { verified: true, ..known });
        self.devices_changed(name);
        self.done(token, Ok(()));
    }

    /// Our own account's devices, as the rendezvous serves them.
    pub(super) fn found_oneself(&mut self, served: SignedDeviceList) {
        let known = &self.me.devices;
        let list = served.claimed_mark().hash;
        let unsigned = known.unconfirmed().map(|device| device.id).into_iter().collect();
        let judged = served.verify(&self.me.name, &known.list().account_key);
        let judged = judged.and_then(|served| {
            let news = served.news(known, &unsigned)?;
            Ok((served, news))
        });
        match judged {
            Ok((_, ListNews::Same)) => {}
            Ok((served, news)) => self.take_own_list(served, news != ListNews::PasswordAlone),
            Err(error) => {
                tracing::warn!(%error, "our own device list was refused");
                self.own_list_refused(list, error.into());
            }
        }
    }

    fn take_own_list(&mut self, devices: VerifiedDeviceList, signed: bool) {
        self.changes.push(Change::PutOwnDevices(Box::new(devices.signed().clone())));
        // Where a device was taken off, the newest may be an old one.
        let known = &self.me.devices;
        if let Some(newest) = devices.newest()
            && newest.id != self.me.device_id
            && (known.mark() == devices.mark() || known.device(&newest.key).is_none())
        {
            self.events.push_back(Event::NewDevice { device: newest.id, signed });
        }
        self.me.devices = devices;
    }

    fn own_list_refused(&mut self, list: ListHash, fault: ListFault) {
        if self.lists.refused_own.replace(list) != Some(list) {
            let of = self.me.name.clone();
            self.events.push_back(Event::ListFault { of, fault, by: None });
        }
    }

    /// The person has looked at the own list and lets this device sign it.
    pub(super) fn confirm_devices(&mut self, token: Token, shown: ListHash) {
        match self.check_confirm(shown) {
            Ok(()) => {
                let signed = self.me.devices.cosigned(&self.me.device);
                let request = Request::DeviceCosign { devices: signed.signed().clone() };
                self.ask_for(token, request, Purpose::Confirm(token, Box::new(signed)));
            }
            Err(error) => self.done(token, Err(error)),
        }
    }

    fn check_confirm(&self, shown: ListHash) -> Result<(), IntentError> {
        let devices = &self.me.devices;
        if devices.mark().hash != shown {
            return Err(IntentError::DevicesChanged);
        }
        let newest = devices.unconfirmed().ok_or(IntentError::NothingToConfirm)?;
        if newest.id == self.me.device_id {
            return Err(IntentError::ConfirmElsewhere);
        }
        Ok(())
    }

    /// The rendezvous has this device's signature.
    pub(super) fn confirmed(&mut self, signed: VerifiedDeviceList) {
        if signed.mark() == self.me.devices.mark() {
            self.changes.push(Change::PutOwnDevices(Box::new(signed.signed().clone())));
            self.me.devices = signed;
        }
    }
}
