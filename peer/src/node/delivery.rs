//! The way of a message: queued, sealed, sent, opened, saved, acknowledged.

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, MessageId, Username};
use parlor_common::prekey::{PrekeyBundle, PrekeyKind};
use parlor_common::time::Timestamp;
use parlor_common::wire::peer::PeerFrame;
use rand::CryptoRng;

use super::content::{Content, IdRange, MAX_RANGES};
use super::input::{LinkId, MAX_TEXT, Now, Token};
use super::output::{Event, Incoming, IntentError, Transmit};
use super::paths::Link;
use super::record::{
    Carrier, Change, ContactState, EnvelopeRef, MessageState, OutboxMessage, ReceivedMessage,
    Sealed,
};
use super::sessions::SealedBy;
use super::work::Work;
use super::{Awaiting, Node};
use crate::crypto::agreement::{Accepted, AgreementError, Party};
use crate::crypto::session::{OpenError, Session};

/// So much of a ciphertext is shown to the curious, in bytes.
const SHOWN_CIPHERTEXT: usize = 32;

impl Node {
    pub(super) fn send(&mut self, token: Token, to: Username, text: String, now: Now) {
        if let Err(error) = self.check_send(&to, &text) {
            return self.done(token, Err(error));
        }
        let id = MessageId::new(self.incarnation, self.next_number);
        self.next_number += 1;
        let account_key = self.contacts.get(&to).and_then(|known| known.record.account_key);
        let message = OutboxMessage {
            id,
            to: to.clone(),
            account_key,
            text,
            sent_at: now.date,
            sealed: None,
            state: MessageState::Queued,
        };
        self.fresh.insert(id, self.changes.len());
        self.changes.push(Change::QueueMessage(Box::new(message.clone())));
        self.outbox.push(message);
        self.events.push_back(Event::Queued { token, id });
        self.ready.insert(to);
    }

    fn check_send(&self, to: &Username, text: &str) -> Result<(), IntentError> {
        if text.is_empty() {
            return Err(IntentError::EmptyText);
        }
        if text.len() > MAX_TEXT {
            return Err(IntentError::TextTooLong(text.len()));
        }
        let Some(known) = self.contacts.get(to) else {
            return Err(IntentError::UnknownContact(to.clone()));
        };
        match known.record.state {
            ContactState::Asking => Err(IntentError::NotAccepted(to.clone())),
            ContactState::Blocked => Err(IntentError::Blocked(to.clone())),
            ContactState::Asked | ContactState::Mutual => {
                let stopped = known.record.verified && known.record.changed_key.is_some();
                if stopped { Err(IntentError::KeyChanged(to.clone())) } else { Ok(()) }
            }
        }
    }

    /// Sends what waits for `contact`, as far as there is a link, a session and a window; and lets
    /// the preferred link carry once nothing is on its way, so that a second one can go.
    pub(super) fn pump(&mut self, contact: &Username, now: Now, rng: &mut dyn CryptoRng) {
        let Some(device) = self.contacts.recipient(contact) else { return };
        let (device, key) = (device.id, device.key);
        let Some(mut link) = self.paths.active(&key) else {
            if self.outbox.is_waiting(contact) {
                self.seek(contact, now, rng);
            }
            return;
        };
        if self.outbox.in_flight(contact, link) == 0 {
            link = self.paths.settle(&key).unwrap_or(link);
        }
        while self.send_next(contact, device, link, rng) {}
    }

    /// Sends the next message for `contact`. Returns whether there may be another one.
    fn send_next(
        &mut self,
        contact: &Username,
        device: DeviceId,
        link: LinkId,
        rng: &mut dyn CryptoRng,
    ) -> bool {
        let key = self.contacts.get(contact).and_then(|known| known.record.account_key);
        let Some(message) = self.outbox.next(contact, link) else { return false };
        if message.account_key != key {
            // It was written for a key that the contact no longer has: it stays until the
            // person decides.
            return false;
        }
        let id = message.id;
        let live = |sealed: &&Sealed| {
            sealed.device == device && self.sessions.contains(device, sealed.session)
        };
        let envelope = match message.sealed.as_ref().filter(live) {
            Some(sealed) => Envelope::parse(sealed.envelope.clone()).ok(),
            None => None,
        };
        let envelope = match envelope {
            Some(envelope) => envelope,
            None => match self.seal_message(contact, device, link, rng) {
                Some(envelope) => envelope,
                None => return false,
            },
        };
        self.transmit(link, PeerFrame::Envelope(envelope));
        if self.outbox.taken(contact) {
            self.sent(id, contact);
        }
        true
    }

    /// Seals the next message for `contact`, or sees to it that there will be a session.
    fn seal_message(
        &mut self,
        contact: &Username,
        device: DeviceId,
        link: LinkId,
        rng: &mut dyn CryptoRng,
    ) -> Option<Envelope> {
        let message = self.outbox.next(contact, link)?;
        let id = message.id;
        let (sent_at, text) = (message.sent_at, message.text.clone());
        let lists = self.sessions.begins(device).then(|| self.lists_for(contact));
        let plaintext = Content::Text { id, sent_at, text, lists }.encode();
        let Some(sealed) = self.sessions.seal(device, &plaintext, rng) else {
            self.ask_for_bundle(link, device);
            return None;
        };
        let SealedBy { session, envelope } = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::error!(%error, "a message could not be sealed");
                return None;
            }
        };
        let sealed = Sealed { device, session, envelope: envelope.as_bytes().to_vec() };
        match message_of(&mut self.changes, self.fresh.get(&id)) {
            Some(queued) => queued.sealed = Some(sealed.clone()),
            None => self.changes.push(Change::SealMessage(id, sealed.clone())),
        }
        self.outbox.next(contact, link)?.sealed = Some(sealed);
        Some(envelope)
    }

    /// A link has taken a message for the first time.
    fn sent(&mut self, id: MessageId, to: &Username) {
        let (state, carrier) = (MessageState::Sent, Some(Carrier::Direct));
        self.changes.push(Change::SetMessageState(id, state, carrier));
        self.events.push_back(Event::Receipt { id, to: to.clone(), state, carrier });
    }

    fn ask_for_bundle(&mut self, link: LinkId, device: DeviceId) {
        if self.agreements.ask(link, device) {
            self.transmit(link, PeerFrame::BundleRequest);
        }
    }

    fn transmit(&mut self, link: LinkId, frame: PeerFrame) {
        self.transmits.push_back(Transmit::Frame { link, frame });
    }

    pub(super) fn handle_frame(
        &mut self,
        link: LinkId,
        frame: PeerFrame,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        if self.paths.get(link).is_none() {
            return;
        }
        match frame {
            PeerFrame::BundleRequest => self.give_bundle(link, now.date, rng),
            PeerFrame::Bundle(bundle) => self.handle_bundle(link, *bundle, now),
            PeerFrame::Envelope(envelope) => self.handle_envelope(link, envelope, now),
            PeerFrame::Hello(_) | PeerFrame::Unknown(_) => {}
        }
    }

    fn give_bundle(&mut self, link: LinkId, date: Timestamp, rng: &mut dyn CryptoRng) {
        if self.agreements.give(link) {
            let bundle = self.prekeys.bundle(&self.me.device, date, &mut self.changes, rng);
            self.transmit(link, PeerFrame::Bundle(Box::new(bundle)));
        }
    }

    fn handle_bundle(&mut self, link: LinkId, bundle: PrekeyBundle, now: Now) {
        let Some(Link { device, .. }) = self.paths.get(link) else { return };
        let Some((known, entry)) = self.contacts.owner(device) else { return };
        let Some(account_key) = known.record.account_key else { return };
        if !self.agreements.initiate(link, entry.id) {
            return;
        }
        match bundle.verify(entry, now.date) {
            Ok(bundle) => {
                let name = known.record.name.clone();
                let them = Party { name, account_key, device: entry.clone() };
                let us = self.me.party.clone();
                let (them, bundle) = (Box::new(them), Box::new(bundle));
                self.work.push_back(Work::Initiate { us, them, bundle });
            }
            Err(error) => {
                tracing::warn!(%error, "a contact's bundle was refused");
                self.agreements.initiated(entry.id);
            }
        }
    }

    pub(super) fn handle_initiated(
        &mut self,
        device: DeviceId,
        session: Result<Box<Session>, AgreementError>,
    ) {
        self.agreements.initiated(device);
        match session {
            // The other side was faster: its session serves.
            Ok(_) if self.sessions.can_seal(device) => {}
            Ok(session) => self.keep_session(device, *session),
            Err(error) => tracing::warn!(%error, "no session could be started"),
        }
        self.ready.extend(self.outbox.contacts());
    }

    fn keep_session(&mut self, device: DeviceId, session: Session) {
        // The device may have been taken off its account's list since.
        let Some(contact) = self.contacts.name_of(device) else { return };
        self.events.push_back(Event::Agreed { contact, session: session.id() });
        if let Some(gone) = self.sessions.insert(device, session) {
            self.outbox.session_gone(gone);
            self.changes.push(Change::RemoveSession(device, gone));
        }
    }

    fn handle_envelope(&mut self, link: LinkId, envelope: Envelope, now: Now) {
        let Some(Link { device, .. }) = self.paths.get(link) else { return };
        let Some((_, entry)) = self.contacts.owner(device) else { return };
        if self.agreements.holds_back(link) {
            return self.hold_back(link, envelope);
        }
        match self.sessions.open(entry.id, &envelope) {
            Some(Ok(plaintext)) => self.handle_content(link, &plaintext, &envelope, now),
            Some(Err(OpenError::Duplicate)) => self.handle_duplicate(link, &envelope),
            Some(Err(error)) => self.handle_failure(link, &error, now),
            None if envelope.header().first.is_some() => self.accept(link, envelope, now),
            None => self.handle_failure(link, &"there is no such session", now),
        }
    }

    /// The other side has not heard that this envelope was saved: find out which message it held.
    fn handle_duplicate(&mut self, link: LinkId, envelope: &Envelope) {
        self.changes.push(Change::FindOpened(envelope_ref(envelope)));
        self.awaiting.push_back(Awaiting::Opened(link));
    }

    fn handle_failure(&mut self, link: LinkId, reason: &dyn std::fmt::Display, now: Now) {
        let Some(Link { device, .. }) = self.paths.get(link) else { return };
        tracing::debug!(%device, %reason, "an envelope was refused");
        if self.patience.failed(*device, now.timer) {
            tracing::warn!(%device, "too many envelopes were refused; the link is closed");
            self.transmits.push_back(Transmit::CloseLink { link });
        }
    }

    fn hold_back(&mut self, link: LinkId, envelope: Envelope) {
        if !self.agreements.wait(link, envelope) {
            tracing::debug!(link = link.0, "too much waits for agreements; the link is closed");
            self.transmits.push_back(Transmit::CloseLink { link });
        }
    }

    /// A first message: the agreement is computed off the loop, one at a time.
    fn accept(&mut self, link: LinkId, envelope: Envelope, now: Now) {
        if !self.agreements.accept(link) {
            return self.hold_back(link, envelope);
        }
        let Some(first) = &envelope.header().first else { return };
        let signed = self.prekeys.get(first.signed_prekey, PrekeyKind::Signed);
        let one_time = first.one_time_prekey.map(|id| self.prekeys.get(id, PrekeyKind::OneTime));
        let (Some(signed), None | Some(Some(_))) = (signed, &one_time) else {
            self.handle_failure(link, &"its prekeys are gone", now);
            return self.resume(now);
        };
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
        let opened = session.open(envelope).ok().filter(|_| expected);
        let Some(plaintext) = opened else {
            return self.handle_failure(link, &"it is not from the link's device", now);
        };
        if let Some(id) = envelope.header().first.as_ref().and_then(|first| first.one_time_prekey) {
            self.prekeys.used(id, &mut self.changes);
        }
        self.keep_session(device, session);
        self.handle_content(link, &plaintext, envelope, now);
    }

    /// Looks again at what waited while a first message was accepted.
    fn resume(&mut self, now: Now) {
        for (link, envelopes) in self.agreements.accepted() {
            for envelope in envelopes {
                self.handle_envelope(link, envelope, now);
            }
        }
    }

    fn handle_content(&mut self, link: LinkId, plaintext: &[u8], envelope: &Envelope, now: Now) {
        match Content::parse(plaintext) {
            Ok(Content::Text { id, sent_at, text, lists }) => {
                self.handle_lists(link, lists, now);
                self.receive(
                    link,
                    Incoming {
                        row: 0,
                        id,
                        from: self.me.name.clone(),
                        text,
                        sent_at,
                        carrier: Carrier::Direct,
                        ciphertext: envelope
                            .ciphertext()
                            .iter()
                            .take(SHOWN_CIPHERTEXT)
                            .copied()
                            .collect(),
                    },
                    envelope_ref(envelope),
                    now,
                );
            }
            Ok(Content::Receipt { delivered, lists }) => {
                self.handle_lists(link, lists, now);
                self.delivered(link, &delivered);
            }
            Ok(Content::Unknown) => tracing::debug!("a message of an unknown type is ignored"),
            Err(error) => self.handle_failure(link, &error, now),
        }
    }

    /// Saves a message; it is acknowledged, and told if it is new, once it is saved.
    fn receive(&mut self, link: LinkId, message: Incoming, envelope: EnvelopeRef, now: Now) {
        let Some(Link { device, contact, .. }) = self.paths.get(link) else { return };
        let Some((known, _)) = self.contacts.owner(device) else { return };
        let Some(account_key) = known.record.account_key else { return };
        let message = Incoming { from: contact.clone(), ..message };
        self.receipts.entry(link).or_default().insert(message.id);
        self.changes.push(Change::Receive(Box::new(ReceivedMessage {
            id: message.id,
            from: message.from.clone(),
            account_key,
            text: message.text.clone(),
            sent_at: message.sent_at,
            received_at: now.date,
            carrier: message.carrier,
            envelope,
        })));
        self.awaiting.push_back(Awaiting::Received(Box::new(message)));
    }

    fn delivered(&mut self, link: LinkId, ranges: &[IdRange]) {
        let Some(Link { contact, .. }) = self.paths.get(link) else { return };
        let contact = contact.clone();
        for id in self.outbox.acknowledge(&contact, ranges) {
            let (state, carrier) = (MessageState::Delivered, Some(Carrier::Direct));
            self.changes.push(Change::SetMessageState(id, state, carrier));
            self.events.push_back(Event::Receipt { id, to: contact.clone(), state, carrier });
        }
        self.ready.insert(contact);
    }

    /// Seals receipts for what has arrived in this turn. They are saved with it and leave after.
    pub(super) fn acknowledge(&mut self, rng: &mut dyn CryptoRng) {
        for (link, ids) in std::mem::take(&mut self.receipts) {
            let Some(Link { device, contact, .. }) = self.paths.get(link) else { continue };
            let Some((_, entry)) = self.contacts.owner(device) else { continue };
            let device = entry.id;
            let lists = Some(self.lists_for(contact));
            for delivered in IdRange::cover(&ids).chunks(MAX_RANGES) {
                let content = Content::Receipt { delivered: delivered.to_vec(), lists }.encode();
                if let Some(Ok(sealed)) = self.sessions.seal(device, &content, rng) {
                    self.transmit(link, PeerFrame::Envelope(sealed.envelope));
                }
            }
        }
    }
}

fn envelope_ref(envelope: &Envelope) -> EnvelopeRef {
    EnvelopeRef { session: envelope.header().session, number: envelope.header().number }
}

/// The message that was queued at this place of the turn's changes.
fn message_of<'a>(
    changes: &'a mut [Change],
    place: Option<&usize>,
) -> Option<&'a mut OutboxMessage> {
    let Change::QueueMessage(message) = changes.get_mut(*place?)? else { return None };
    Some(message)
}
