//! The way of a message out: queued, sealed, sent.

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, MessageId, Username};
use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::peer::PeerFrame;
use rand::CryptoRng;

use super::Node;
use super::content::Content;
use super::input::{LinkId, MAX_TEXT, Now, Source, Token};
use super::output::{Event, IntentError, Transmit};
use super::record::{Carrier, Change, ContactState, MessageState, OutboxMessage, Sealed};
use super::sessions::{SealedBy, Sessions};

/// A message as it waits.
enum Form {
    /// Sealed already, on a session that still lives.
    Sealed(Envelope),
    /// To be sealed.
    Open(Draft),
}

/// What of a message is sealed.
struct Draft {
    id: MessageId,
    sent_at: Timestamp,
    text: String,
    after: Option<MessageId>,
    disappears: Option<u32>,
}

impl Form {
    fn of(message: &OutboxMessage, device: DeviceId, sessions: &Sessions) -> Self {
        let live = message
            .sealed
            .as_ref()
            .filter(|sealed| sealed.device == device && sessions.contains(device, sealed.session));
        match live.and_then(|sealed| Envelope::parse(sealed.envelope.clone()).ok()) {
            Some(envelope) => Self::Sealed(envelope),
            None => Self::Open(Draft::of(message)),
        }
    }
}

impl Draft {
    fn of(message: &OutboxMessage) -> Self {
        let OutboxMessage { id, sent_at, ref text, after, disappears, .. } = *message;
        Self { id, sent_at, text: text.clone(), after, disappears }
    }
}

impl Node {
    pub(super) fn send(&mut self, token: Token, to: Username, text: String, now: Now) {
        if let Err(error) = self.check_send(&to, &text) {
            return self.done(token, Err(error));
        }
        let id = MessageId::new(self.incarnation, self.next_number);
        self.next_number += 1;
        let before = self.last_sent.insert(to.clone(), id);
        let timers = self.contacts.get(&to).map(|known| known.record.timers);
        let message = OutboxMessage {
            id,
            to: to.clone(),
            account_key: self.key_of(&to),
            text,
            sent_at: now.date,
            after: before.filter(|before| before.incarnation() != self.incarnation),
            disappears: timers.and_then(|timers| timers.agreed()),
            sealed: None,
            posted: None,
            state: MessageState::Queued,
        };
        self.expires_in(message.disappears, now);
        self.fresh.insert(id, self.changes.len());
        self.changes.push(Change::QueueMessage(Box::new(message.clone())));
        self.outbox.push(message);
        self.events.push_back(Event::Queued { token, id });
        self.ready.insert(to);
    }

    /// Takes back a message that has not left.
    pub(super) fn take_back(&mut self, token: Token, id: MessageId) {
        let result = self.queued(id).map(|to| {
            self.outbox.take_back(&to, id);
            self.changes.push(Change::TakeBack(id));
        });
        self.done(token, result);
    }

    /// Changes the text of a message that has not left.
    pub(super) fn edit(&mut self, token: Token, id: MessageId, text: String) {
        let result = check_text(&text).and_then(|()| self.queued(id)).map(|_| {
            if let Some(message) = self.outbox.queued(id) {
                message.text.clone_from(&text);
                message.unseal();
            }
            self.changes.push(Change::Edit(id, text));
        });
        self.done(token, result);
    }

    /// The recipient of a message that has not left, and is not about to.
    fn queued(&mut self, id: MessageId) -> Result<Username, IntentError> {
        let to = self.outbox.queued(id).map(|message| message.to.clone());
        let waits = |to: &Username| !self.posting.has_under_way(to, id);
        to.filter(waits).ok_or(IntentError::NotQueued)
    }

    fn check_send(&self, to: &Username, text: &str) -> Result<(), IntentError> {
        check_text(text)?;
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

    /// Sends what waits for `contact`, as far as there is a way, a session and a window; and lets
    /// the preferred link carry once nothing is on its way, so that a second one can go.
    pub(super) fn pump(&mut self, contact: &Username, now: Now, rng: &mut dyn CryptoRng) {
        let Some(device) = self.contacts.recipient(contact) else { return };
        let (device, key) = (device.id, device.key);
        let Some(mut link) = self.paths.active(&key) else {
            if self.outbox.is_waiting(contact) {
                self.fetch_bundle(contact, device, now);
                self.seek(contact, now, rng);
                if self.may_post(contact, now) {
                    self.post(contact, device, now, rng);
                }
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
        let key = self.key_of(contact);
        let Some(message) = self.outbox.next(contact, link) else { return false };
        // One that was written for a key that the contact no longer has stays until the person
        // decides.
        if message.account_key != key {
            return false;
        }
        let id = message.id;
        let envelope = match Form::of(message, device, &self.sessions) {
            Form::Sealed(envelope) => envelope,
            Form::Open(draft) => {
                let Some((sealed, envelope)) = self.seal(contact, device, draft, now, rng) else {
                    self.ask_for_bundle(link, device, now);
                    return false;
                };
                if let Some(message) = self.outbox.next(contact, link) {
                    message.sealed = Some(sealed);
                }
                envelope
            }
        };
        self.transmit(link, PeerFrame::Envelope(envelope));
        if self.outbox.taken(contact) {
            self.sent(id, contact);
        }
        true
    }

    /// The envelope of the first message for `contact`, from `place` on, that its mailbox has not
    /// taken; and the message's place and id. None without a session.
    pub(super) fn next_to_post(
        &mut self,
        contact: &Username,
        device: DeviceId,
        place: usize,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) -> Option<(usize, MessageId, Envelope)> {
        let key = self.key_of(contact);
        let (place, message) = self.outbox.unposted(contact, place, now.date)?;
        if message.account_key != key {
            return None;
        }
        let id = message.id;
        match Form::of(message, device, &self.sessions) {
            Form::Sealed(envelope) => Some((place, id, envelope)),
            Form::Open(draft) => {
                let (sealed, envelope) = self.seal(contact, device, draft, now, rng)?;
                self.outbox.unposted(contact, place, now.date)?.1.sealed = Some(sealed);
                Some((place, id, envelope))
            }
        }
    }

    fn key_of(&self, contact: &Username) -> Option<AccountKey> {
        self.contacts.get(contact).and_then(|known| known.record.account_key)
    }

    /// Seals a message. None without a session.
    fn seal(
        &mut self,
        contact: &Username,
        device: DeviceId,
        draft: Draft,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) -> Option<(Sealed, Envelope)> {
        let Draft { id, sent_at, text, after, disappears } = draft;
        let lists = self.sessions.greets(device).then(|| self.lists_for(contact));
        let timer = self.contacts.get(contact).and_then(|known| known.record.timers.ours);
        let content = Content::Text { id, sent_at, text, after, disappears, timer, lists };
        let sealed = self.sessions.seal(device, &content.encode(), now.timer, rng)?;
        let SealedBy { session, envelope } = sealed
            .inspect_err(|error| tracing::error!(%error, "a message could not be sealed"))
            .ok()?;
        let sealed = Sealed { device, session, envelope: envelope.as_bytes().to_vec() };
        match message_of(&mut self.changes, self.fresh.get(&id)) {
            Some(queued) => queued.sealed = Some(sealed.clone()),
            None => self.changes.push(Change::SealMessage(id, sealed.clone())),
        }
        Some((sealed, envelope))
    }

    /// A link has taken a message for the first time.
    fn sent(&mut self, id: MessageId, to: &Username) {
        let (state, carrier) = (MessageState::Sent, Some(Carrier::Direct));
        self.changes.push(Change::SetMessageState(id, state, carrier));
        let to = to.clone();
        self.events.push_back(Event::Receipt { id, to, state, carrier, reason: None });
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
            PeerFrame::Envelope(envelope) => {
                self.handle_envelope(Source::Link(link), envelope, None, now);
            }
            PeerFrame::Hello(_) | PeerFrame::Unknown(_) => {}
        }
    }
}

fn check_text(text: &str) -> Result<(), IntentError> {
    match text.len() {
        0 => Err(IntentError::EmptyText),
        len if len > MAX_TEXT => Err(IntentError::TextTooLong(len)),
        _ => Ok(()),
    }
}

/// The message that was queued at this place of the turn's changes.
fn message_of<'a>(
    changes: &'a mut [Change],
    place: Option<&usize>,
) -> Option<&'a mut OutboxMessage> {
    let Change::QueueMessage(message) = changes.get_mut(*place?)? else { return None };
    Some(message)
}
