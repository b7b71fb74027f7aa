//! How two devices come to share keys, and to share them again: bundles, agreements, repairs.

use parlor_common::id::{DeviceId, SessionId, Username};
use parlor_common::prekey::{PrekeyBundle, VerifiedBundle};
use parlor_common::time::Timestamp;
use parlor_common::wire::peer::PeerFrame;
use parlor_common::wire::rendezvous::{Bundles, Request};
use rand::CryptoRng;

use super::agreements::FETCH_INTERVAL;
use super::content::{Content, IdRange, MAX_RANGES};
use super::input::{LinkId, Now};
use super::output::Event;
use super::paths::Link;
use super::record::Change;
use super::server::Purpose;
use super::work::Work;
use super::{Awaiting, Me, Node};
use crate::crypto::agreement::{AgreementError, Party};
use crate::crypto::session::Session;

/// So many messages that were received last are named to who is to send again.
const LAST_RECEIVED: u32 = 512;

/// A new session that is to say why it was started.
#[derive(Debug)]
pub(super) struct Repaired {
    device: DeviceId,
    session: SessionId,
}

/// Bundles, and the agreements that start from them.
impl Node {
    pub(super) fn ask_for_bundle(&mut self, link: LinkId, device: DeviceId, now: Now) {
        if self.agreements.ask(link, device, now.timer) {
            self.transmit(link, PeerFrame::BundleRequest);
        }
    }

    /// Asks the rendezvous for a bundle while there is no link: the agreement is computed while the
    /// two find a way to each other.
    pub(super) fn fetch_bundle(&mut self, contact: &Username, device: DeviceId, now: Now) {
        let needed = !self.sessions.can_seal(device) && self.rendezvous.is_signed_in();
        if needed && self.agreements.fetch(device, now.timer) {
            let request = Request::PrekeysGet { name: contact.clone() };
            self.ask(request, Purpose::Bundles(contact.clone()));
        }
    }

    pub(super) fn give_bundle(&mut self, link: LinkId, now: Now, rng: &mut dyn CryptoRng) {
        let Some(Link { device, contact, .. }) = self.paths.get(link) else { return };
        if self.contacts.owner(device).is_some() && self.agreements.give(link, now.timer) {
            let Me { device, .. } = &self.me;
            let bundle = self.prekeys.bundle(device, contact, now.date, &mut self.changes, rng);
            self.transmit(link, PeerFrame::Bundle(Box::new(bundle)));
        }
    }

    /// A bundle from the device itself, over its link.
    pub(super) fn handle_bundle(&mut self, link: LinkId, bundle: PrekeyBundle, now: Now) {
        let Some(Link { device, .. }) = self.paths.get(link) else { return };
        let Some((known, entry)) = self.contacts.owner(device) else { return };
        let (name, device) = (known.record.name.clone(), entry.id);
        if self.agreements.initiate(link, device) {
            self.initiate(&name, device, bundle, now);
        }
    }

    /// Bundles of a contact's devices, from the rendezvous: those are used of the one that receives,
    /// and of those with which a session is mended.
    pub(super) fn handle_bundles(&mut self, contact: &Username, bundles: &Bundles, now: Now) {
        let recipient = self.contacts.recipient(contact).map(|device| device.id);
        for (device, key) in self.contacts.devices_of(contact) {
            let is_new = Some(device) == recipient && !self.sessions.can_seal(device);
            if !is_new && !self.repairs.is_under_way(device) {
                continue;
            }
            let found = bundles.bundles.iter().find(|bundle| bundle.device == key);
            let Some(bundle) = found.cloned() else {
                self.repairs.failed(device);
                continue;
            };
            if self.agreements.initiate_fetched(device) {
                self.initiate(contact, device, bundle, now);
            }
        }
    }

    /// The rendezvous gave no bundles of a contact.
    pub(super) fn no_bundles(&mut self, contact: &Username) {
        for (device, _) in self.contacts.devices_of(contact) {
            self.repairs.failed(device);
        }
    }

    /// The rendezvous was lost before it gave any: it is asked again as soon as it is back.
    pub(super) fn bundles_unanswered(&mut self, contact: &Username) {
        for (device, _) in self.contacts.devices_of(contact) {
            self.agreements.fetch_unanswered(device);
        }
        self.no_bundles(contact);
    }

    /// When the rendezvous may be asked again for a bundle without which something waits.
    pub(super) fn bundles_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.outbox.contacts();
        let devices = waiting.iter().filter_map(|name| self.contacts.recipient(name));
        let lacking = devices.filter(|device| !self.sessions.can_seal(device.id));
        let due = lacking.filter_map(|device| self.agreements.fetch_again_at(device.id));
        due.filter(|at| *at > now).min()
    }

    /// Starts a session from a bundle, if it holds.
    fn initiate(&mut self, contact: &Username, device: DeviceId, bundle: PrekeyBundle, now: Now) {
        let Some((them, bundle)) = self.verified_bundle(contact, device, bundle, now) else {
            self.agreements.bundle_refused(device, now.timer);
            return self.repairs.failed(device);
        };
        let (us, them, bundle) = (self.me.party.clone(), Box::new(them), Box::new(bundle));
        self.work.push_back(Work::Initiate { us, them, bundle });
    }

    fn verified_bundle(
        &mut self,
        contact: &Username,
        device: DeviceId,
        bundle: PrekeyBundle,
        now: Now,
    ) -> Option<(Party, VerifiedBundle)> {
        let known = self.contacts.get(contact)?;
        let account_key = known.record.account_key?;
        let devices = &known.devices.as_ref()?.list().devices;
        let entry = devices.iter().find(|entry| entry.id == device)?.clone();
        match bundle.verify(&entry, self.agreements.seen(device, now.date), now.date) {
            Ok(bundle) => {
                let made_at = bundle.signed().made_at;
                if let Some(seen) = self.agreements.saw(device, made_at, now.date) {
                    self.changes.push(Change::SawPrekey(device, seen));
                }
                Some((Party { name: contact.clone(), account_key, device: entry }, bundle))
            }
            Err(error) => {
                tracing::warn!(%contact, %error, "a contact's bundle was refused");
                self.events.push_back(Event::BundleRefused { contact: contact.clone(), error });
                None
            }
        }
    }

    pub(super) fn handle_initiated(
        &mut self,
        device: DeviceId,
        session: Result<Box<Session>, AgreementError>,
        now: Now,
    ) {
        self.agreements.initiated(device);
        match session {
            Ok(session) if self.repairs.started(device) => {
                self.keep_repairing(device, *session, now);
            }
            // The other side was faster: its session serves.
            Ok(_) if self.sessions.can_seal(device) => {}
            Ok(session) => self.keep_session(device, *session, now),
            Err(error) => {
                tracing::warn!(%error, "no session could be started");
                self.repairs.failed(device);
            }
        }
        self.ready.extend(self.outbox.contacts());
    }

    pub(super) fn keep_session(&mut self, device: DeviceId, session: Session, now: Now) {
        // The device may have been taken off its account's list since.
        let Some(contact) = self.contacts.name_of(device) else { return };
        self.events.push_back(Event::Agreed { contact, session: session.id() });
        if let Some(gone) = self.sessions.insert(device, session, now.date) {
            self.session_gone(device, gone);
        }
    }

    /// Gives up keys that are too old.
    pub(super) fn expire_keys(&mut self, now: Now) {
        for (device, session) in self.sessions.expire(now.date) {
            self.session_gone(device, session);
        }
    }

    fn session_gone(&mut self, device: DeviceId, session: SessionId) {
        self.outbox.session_gone(session);
        self.changes.push(Change::RemoveSession(device, session));
    }
}

/// Steps of ratchets, and repairs: a new session in place of one that does not open.
impl Node {
    /// Has the steps made ready that will be due.
    pub(super) fn order_strides(&mut self) {
        for ((device, session), stride) in self.sessions.take_strides() {
            self.work.push_back(Work::Stride { device, session, stride });
        }
    }

    /// Starts the new sessions that are wanted and due.
    pub(super) fn repair(&mut self, now: Now, rng: &mut dyn CryptoRng) {
        for device in self.repairs.due(now.timer) {
            match self.link_of(device) {
                Some(link) if self.agreements.ask(link, device, now.timer) => {
                    self.repairs.start(device, now.timer);
                    self.transmit(link, PeerFrame::BundleRequest);
                }
                Some(_) => {}
                None => self.repair_unlinked(device, now, rng),
            }
        }
    }

    /// Starts a new session with a device that has no link, from a bundle of the rendezvous.
    fn repair_unlinked(&mut self, device: DeviceId, now: Now, rng: &mut dyn CryptoRng) {
        let Some(contact) = self.contacts.name_of(device) else { return };
        self.seek(&contact, now, rng);
        if !self.may_post(&contact, now) {
            return;
        }
        if self.agreements.fetch(device, now.timer) {
            self.repairs.start(device, now.timer);
            self.ask(Request::PrekeysGet { name: contact.clone() }, Purpose::Bundles(contact));
        } else if let Some(again) = self.agreements.fetch_again_at(device) {
            // Not for longer, though the rendezvous may rest longer: a link may come.
            self.repairs.put_off(device, again.min(now.timer + FETCH_INTERVAL));
        }
    }

    fn link_of(&self, device: DeviceId) -> Option<LinkId> {
        self.paths.active(&self.contacts.key_of(device)?)
    }

    /// Keeps a session that was started as a repair; it says so once it is known what was received
    /// last.
    fn keep_repairing(&mut self, device: DeviceId, session: Session, now: Now) {
        let Some(contact) = self.contacts.name_of(device) else { return };
        let repaired = Repaired { device, session: session.id() };
        self.keep_session(device, session, now);
        // What could not be opened may have been a receipt.
        self.outbox.start_again(&contact);
        self.ready.insert(contact.clone());
        self.changes.push(Change::FindLastReceived(contact, LAST_RECEIVED));
        self.awaiting.push_back(Awaiting::LastReceived(repaired));
    }

    /// Says on a new session why it is there, and what need not be sent again.
    pub(super) fn say_resend(&mut self, now: Now, rng: &mut dyn CryptoRng) {
        for (repaired, received) in std::mem::take(&mut self.repaired) {
            let Repaired { device, session } = repaired;
            let Some(way) = self.way_to(device, None) else {
                // It is said on the next way there is.
                self.unsaid.push((repaired, received));
                continue;
            };
            let lists = self.contacts.name_of(device).map(|name| self.lists_for(&name));
            let mut received = IdRange::cover(&received.into_iter().collect());
            received.truncate(MAX_RANGES);
            let content = Content::Resend { received, lists }.encode();
            let place = (device, session);
            let sealed = self.sessions.seal_on(place, &content, now.timer, rng);
            if let Some(Ok(sealed)) = sealed {
                self.carry(device, way, sealed.envelope);
            }
        }
    }

    /// There is a new way to somebody: what could not be said may be said now.
    pub(super) fn say_again(&mut self) {
        self.repaired.append(&mut self.unsaid);
        self.read.append(&mut self.unsaid_read);
    }

    /// Gives up every key that another copy of this profile may have used since.
    pub(super) fn renounce_keys(&mut self) {
        self.prekeys.renounce(&mut self.changes);
        for device in self.sessions.devices() {
            for session in self.sessions.remove_device(device) {
                self.session_gone(device, session);
            }
        }
        self.mend_all();
    }

    /// Has a new session started with every contact's devices: somebody seals on one that is not
    /// there.
    pub(super) fn mend_all(&mut self) {
        let names: Vec<Username> = self.contacts.names().cloned().collect();
        for (device, _) in names.iter().flat_map(|name| self.contacts.devices_of(name)) {
            self.repairs.want(device);
        }
    }
}
