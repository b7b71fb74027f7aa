//! How two devices come to share keys, and to share them again: bundles, agreements, turns of the
//! ratchet, repairs.

use std::fmt::Display;

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, SessionId, Username};
use parlor_common::prekey::{PrekeyBundle, PrekeyUse, VerifiedBundle};
use parlor_common::wire::peer::PeerFrame;
use parlor_common::wire::rendezvous::{Bundles, Request};
use rand::CryptoRng;

use super::content::{Content, IdRange, MAX_RANGES};
use super::input::{LinkId, Now};
use super::output::{Event, Transmit};
use super::paths::Link;
use super::patience::Trouble;
use super::record::Change;
use super::server::Purpose;
use super::work::Work;
use super::{Awaiting, Me, Node};
use crate::crypto::agreement::{Accepted, AgreementError, Party};
use crate::crypto::session::{OpenError, Session, Step, Turn, Turned};

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

    /// Bundles of a contact's devices, from the rendezvous: the one that receives is used.
    pub(super) fn handle_bundles(&mut self, contact: &Username, bundles: Bundles, now: Now) {
        let Some(recipient) = self.contacts.recipient(contact) else { return };
        let (device, key) = (recipient.id, recipient.key);
        let found = bundles.bundles.into_iter().find(|bundle| bundle.device == key);
        let Some(bundle) = found else { return };
        if !self.sessions.can_seal(device) && self.agreements.initiate_fetched(device) {
            self.initiate(contact, device, bundle, now);
        }
    }

    /// Starts a session from a bundle, if it holds.
    fn initiate(&mut self, contact: &Username, device: DeviceId, bundle: PrekeyBundle, now: Now) {
        let Some((them, bundle)) = self.verified_bundle(contact, device, bundle, now) else {
            self.agreements.initiated(device);
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

    fn keep_session(&mut self, device: DeviceId, session: Session, now: Now) {
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

/// Envelopes, up to what is in them.
impl Node {
    pub(super) fn handle_envelope(
        &mut self,
        link: LinkId,
        envelope: Envelope,
        turned: Option<Turned>,
        now: Now,
    ) {
        let Some(Link { device, .. }) = self.paths.get(link) else { return };
        let Some((_, entry)) = self.contacts.owner(device) else { return };
        let device = entry.id;
        if self.agreements.holds_back(link) {
            return self.hold_back(link, envelope);
        }
        match self.sessions.open(device, &envelope, turned, now) {
            Some(Ok(plaintext)) => {
                self.repairs.opened(device);
                self.handle_content(link, &plaintext, &envelope, now);
            }
            Some(Err(OpenError::Duplicate)) => self.handle_duplicate(link, &envelope),
            Some(Err(OpenError::NeedsTurn(turn))) => self.turn(link, envelope, turn, now),
            Some(Err(error)) => self.handle_failure(link, &error, now),
            None if envelope.header().first.is_some() => self.accept(link, envelope, now),
            None => self.handle_stray(link, &"there is no such session", now),
        }
    }

    /// A key was tried on an envelope, and did not open it.
    fn handle_failure(&mut self, link: LinkId, reason: &dyn Display, now: Now) {
        self.want_repair(link, reason);
        self.is_trouble(link, Trouble::Failure, now);
    }

    /// There is no key to try on an envelope.
    pub(super) fn handle_stray(&mut self, link: LinkId, reason: &dyn Display, now: Now) {
        self.want_repair(link, reason);
        self.is_trouble(link, Trouble::Stray, now);
    }

    /// An envelope could not be opened: nobody but its device is told, by a new session.
    fn want_repair(&mut self, link: LinkId, reason: &dyn Display) {
        let Some(Link { device, contact, .. }) = self.paths.get(link) else { return };
        let Some((_, entry)) = self.contacts.owner(device) else { return };
        tracing::debug!(%device, %reason, "an envelope was refused");
        self.repairs.want(entry.id);
        self.ready.insert(contact.clone());
    }

    /// What was opened is nothing that this version understands: no session would mend that.
    pub(super) fn handle_nonsense(&mut self, link: LinkId, reason: &dyn Display, now: Now) {
        tracing::warn!(link = link.0, %reason, "what was opened cannot be understood");
        self.is_trouble(link, Trouble::Failure, now);
    }

    /// Whether a link's device causes too much trouble: then its link is closed.
    fn is_trouble(&mut self, link: LinkId, trouble: Trouble, now: Now) -> bool {
        let Some(Link { device, .. }) = self.paths.get(link) else { return true };
        let lost = self.patience.tries(*device, trouble, now.timer);
        if lost {
            tracing::warn!(%device, ?trouble, "too much of it; the link is closed");
            self.agreements.drop_waiting(link);
            self.transmits.push_back(Transmit::CloseLink { link });
        }
        lost
    }

    fn hold_back(&mut self, link: LinkId, envelope: Envelope) {
        if !self.agreements.wait(link, envelope) {
            tracing::debug!(link = link.0, "too much waits for agreements; the link is closed");
            self.transmits.push_back(Transmit::CloseLink { link });
        }
    }

    /// A new ratchet key: the exponentiation is computed off the loop.
    fn turn(&mut self, link: LinkId, envelope: Envelope, turn: Turn, now: Now) {
        if !self.is_trouble(link, Trouble::NewKey, now) {
            self.agreements.turn(link);
            self.work.push_back(Work::Turn { link, envelope: Box::new(envelope), turn });
        }
    }

    pub(super) fn handle_turned(
        &mut self,
        link: LinkId,
        envelope: Envelope,
        turned: Turned,
        now: Now,
    ) {
        let waited = self.agreements.turned(link);
        self.handle_envelope(link, envelope, Some(turned), now);
        for envelope in waited {
            self.handle_envelope(link, envelope, None, now);
        }
    }

    pub(super) fn handle_strode(&mut self, device: DeviceId, session: SessionId, step: Step) {
        self.sessions.prepare((device, session), step);
        for (link, ids) in self.stepping.remove(&device).unwrap_or_default() {
            self.receipts.entry(link).or_default().extend(ids);
        }
    }

    /// A first message: the agreement is computed off the loop, one at a time.
    fn accept(&mut self, link: LinkId, envelope: Envelope, now: Now) {
        let Some(first) = &envelope.header().first else { return };
        if self.replays.knows(&first.ephemeral) {
            return self.handle_stray(link, &"it was accepted before", now);
        }
        let signed = self.prekeys.get(first.signed_prekey, PrekeyUse::Signed);
        let one_time = first.one_time_prekey.map(|id| self.prekeys.get(id, PrekeyUse::OneTime));
        let (Some(signed), None | Some(Some(_))) = (signed, &one_time) else {
            return self.handle_stray(link, &"its prekeys are gone", now);
        };
        if !self.agreements.accept(link) {
            return self.hold_back(link, envelope);
        }
        if self.is_trouble(link, Trouble::FirstMessage, now) {
            return self.resume(now);
        }
        self.work.push_back(Work::Accept {
            us: self.me.party.clone(),
            link,
            envelope: Box::new(envelope),
            signed,
            one_time: one_time.flatten(),
        });
    }

    pub(super) fn handle_accepted(
        &mut self,
        link: LinkId,
        envelope: &Envelope,
        accepted: Result<Box<Accepted>, AgreementError>,
        now: Now,
    ) {
        match accepted {
            Ok(accepted) => self.take_session(link, envelope, *accepted, now),
            Err(error) => self.handle_failure(link, &error, now),
        }
        self.resume(now);
    }

    /// Keeps a session that somebody else started, if it is the link's device that did and the
    /// session opens the message that it came with.
    fn take_session(&mut self, link: LinkId, envelope: &Envelope, accepted: Accepted, now: Now) {
        let Some(Link { device, .. }) = self.paths.get(link) else { return };
        let Some((known, entry)) = self.contacts.owner(device) else { return };
        let Accepted { sender, mut session } = accepted;
        let expected = sender.name == known.record.name
            && Some(sender.account_key) == known.record.account_key
            && sender.device == *entry;
        let device = entry.id;
        let opened = session.open(envelope, None, now.date).ok().filter(|_| expected);
        let (Some(plaintext), Some(first)) = (opened, &envelope.header().first) else {
            return self.handle_failure(link, &"it is not from the link's device", now);
        };
        if let Some(id) = first.one_time_prekey {
            self.prekeys.used(id, &mut self.changes);
        }
        self.replays.accepted(&first.ephemeral, now.date, &mut self.changes);
        self.repairs.opened(device);
        self.keep_session(device, session, now);
        self.handle_content(link, &plaintext, envelope, now);
    }

    /// Looks again at what waited while a first message was accepted.
    fn resume(&mut self, now: Now) {
        for (link, envelopes) in self.agreements.accepted() {
            for envelope in envelopes {
                self.handle_envelope(link, envelope, None, now);
            }
        }
    }

    /// Has the steps made ready that will be due.
    pub(super) fn order_strides(&mut self) {
        for ((device, session), stride) in self.sessions.take_strides() {
            self.work.push_back(Work::Stride { device, session, stride });
        }
    }
}

/// Repairs: a new session in place of one that does not open.
impl Node {
    /// Starts the new sessions that are wanted and due, with devices that have a link.
    pub(super) fn repair(&mut self, now: Now) {
        for device in self.repairs.due(now.timer) {
            if let Some(link) = self.link_of(device)
                && self.agreements.ask(link, device, now.timer)
            {
                self.repairs.start(device, now.timer);
                self.transmit(link, PeerFrame::BundleRequest);
            }
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
            let Some(link) = self.link_of(device) else {
                // It is said on the next link.
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
                self.transmit(link, PeerFrame::Envelope(sealed.envelope));
            }
        }
    }

    /// Gives up every key that another copy of this profile may have used since.
    pub(super) fn renounce_keys(&mut self) {
        self.prekeys.renounce(&mut self.changes);
        for device in self.sessions.devices() {
            for session in self.sessions.remove_device(device) {
                self.session_gone(device, session);
            }
        }
        let names: Vec<Username> = self.contacts.names().cloned().collect();
        for name in names {
            if let Some(device) = self.contacts.recipient(&name) {
                self.repairs.want(device.id);
            }
        }
    }
}
