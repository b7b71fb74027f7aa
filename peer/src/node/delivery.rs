//! The way of a message: queued, sealed, sent, opened, saved, acknowledged.

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, MessageId, Username};
use parlor_common::wire::peer::PeerFrame;
use rand::CryptoRng;

use super::content::{Content, IdRange, MAX_RANGES};
use super::input::{LinkId, MAX_TEXT, Now, Token};
use super::output::{Event, Incoming, IntentError, Transmit};
use super::paths::Link;
use super::record::{
    Carrier, ChainId, Change, ContactState, EnvelopeRef, MessageState, OutboxMessage,
    ReceivedMessage, Sealed,
};
use super::sessions::SealedBy;
use super::{Awaiting, Node};

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
                self.fetch_bundle(contact, device, now);
                self.seek(contact, now, rng);
            }
            return;
        };
        if self.outbox.in_flight(contact, link) == 0 {
            link = self.paths.settle(&key).unwrap_or(link);
        }
        while self.send_next(contact, device, link, now, rng) {}
    }

    /// Sends the next message for `contact`. Returns whether there may be another one.
    fn send_next(
        &mut self,
        contact: &Username,
        device: DeviceId,
        link: LinkId,
        now: Now,
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
            None => match self.seal_message(contact, device, link, now, rng) {
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
        now: Now,
        rng: &mut dyn CryptoRng,
    ) -> Option<Envelope> {
        let message = self.outbox.next(contact, link)?;
        let id = message.id;
        let (sent_at, text) = (message.sent_at, message.text.clone());
        let lists = self.sessions.greets(device).then(|| self.lists_for(contact));
        let plaintext = Content::Text { id, sent_at, text, lists }.encode();
        let Some(sealed) = self.sessions.seal(device, &plaintext, now.timer, rng) else {
            self.ask_for_bundle(link, device, now);
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

    pub(super) fn transmit(&mut self, link: LinkId, frame: PeerFrame) {
        self.transmits.push_back(Transmit::Frame { link, frame });
    }

    pub(super) fn handle_frame(
        &mut self,
        link: LinkId,
        frame: PeerFrame,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        // A link whose device may not speak any more is about to be closed.
        let device = self.paths.get(link).map(|link| link.device);
        if device.is_none_or(|device| self.contacts.owner(&device).is_none()) {
            return;
        }
        match frame {
            PeerFrame::BundleRequest => self.give_bundle(link, now, rng),
            PeerFrame::Bundle(bundle) => self.handle_bundle(link, *bundle, now),
            PeerFrame::Envelope(envelope) => self.handle_envelope(link, envelope, None, now),
            PeerFrame::Hello(_) | PeerFrame::Unknown(_) => {}
        }
    }

    /// The other side has not heard that this envelope was saved: find out which message it held.
    pub(super) fn handle_duplicate(&mut self, link: LinkId, envelope: &Envelope) {
        self.changes.push(Change::FindOpened(envelope_ref(envelope)));
        self.awaiting.push_back(Awaiting::Opened(link));
    }

    /// Whether an envelope whose key was used held a message that was saved. If not, its sender was
    /// put back to an earlier state and uses keys again.
    pub(super) fn found_opened(&mut self, link: LinkId, id: Option<MessageId>, now: Now) {
        match id {
            Some(id) => {
                self.receipts.entry(link).or_default().insert(id);
            }
            None => self.handle_stray(link, &"its key was used for another", now),
        }
    }

    pub(super) fn handle_content(
        &mut self,
        link: LinkId,
        plaintext: &[u8],
        envelope: &Envelope,
        now: Now,
    ) {
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
            Ok(Content::Resend { received, lists }) => {
                self.handle_lists(link, lists, now);
                self.resend(link, &received, envelope);
            }
            Ok(Content::Unknown) => tracing::debug!("a message of an unknown type is ignored"),
            Err(error) => self.handle_nonsense(link, &error, now),
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

    /// The other side cannot open what was sealed for it: all that it has not received is sealed
    /// again, on the session on which it said so. Only a new session can say so, and what it has
    /// sealed itself is not sealed again: a contact cannot have the same work done twice.
    fn resend(&mut self, link: LinkId, received: &[IdRange], envelope: &Envelope) {
        self.delivered(link, received);
        let Some(Link { device, contact, .. }) = self.paths.get(link) else { return };
        let Some((_, entry)) = self.contacts.owner(device) else { return };
        if envelope.header().first.is_some() {
            self.outbox.reseal(contact, entry.id, envelope.header().session);
        }
    }

    /// Seals receipts for what has arrived in this turn. They are saved with it and leave after. A
    /// receipt waits for the few milliseconds in which a step of the ratchet is made ready.
    pub(super) fn acknowledge(&mut self, now: Now, rng: &mut dyn CryptoRng) {
        for (link, ids) in std::mem::take(&mut self.receipts) {
            let Some(Link { device, contact, .. }) = self.paths.get(link) else { continue };
            let Some((_, entry)) = self.contacts.owner(device) else { continue };
            let device = entry.id;
            if self.sessions.is_stepping(device, now.timer) {
                self.stepping.entry(device).or_default().entry(link).or_default().extend(ids);
                continue;
            }
            let lists = Some(self.lists_for(contact));
            for delivered in IdRange::cover(&ids).chunks(MAX_RANGES) {
                let content = Content::Receipt { delivered: delivered.to_vec(), lists }.encode();
                if let Some(Ok(sealed)) = self.sessions.seal(device, &content, now.timer, rng) {
                    self.transmit(link, PeerFrame::Envelope(sealed.envelope));
                }
            }
        }
    }
}

pub(super) fn envelope_ref(envelope: &Envelope) -> EnvelopeRef {
    let header = envelope.header();
    let tag = envelope.tag().first_chunk().copied().unwrap_or_default();
    let chain = ChainId::of(&header.ratchet);
    EnvelopeRef { session: header.session, chain, number: header.number, tag }
}

/// The message that was queued at this place of the turn's changes.
fn message_of<'a>(
    changes: &'a mut [Change],
    place: Option<&usize>,
) -> Option<&'a mut OutboxMessage> {
    let Change::QueueMessage(message) = changes.get_mut(*place?)? else { return None };
    Some(message)
}
