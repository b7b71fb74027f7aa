//! What is in an envelope: messages are saved and acknowledged, receipts take messages off the
//! outbox.

use std::collections::BTreeSet;

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, MessageId, Username};
use rand::CryptoRng;

use super::agreements::Lane;
use super::content::{Content, IdRange, MAX_RANGES};
use super::input::{Now, Source};
use super::opening::Sender;
use super::output::{Event, Incoming};
use super::posting::Way;
use super::record::{Carrier, ChainId, Change, EnvelopeRef, MessageState, Opened, ReceivedMessage};
use super::server::Purpose;
use super::{Awaiting, Node};

/// So much of a ciphertext is shown to the curious, in bytes.
const SHOWN_CIPHERTEXT: usize = 32;

impl Node {
    pub(super) fn handle_content(
        &mut self,
        sender: &Sender,
        plaintext: &[u8],
        envelope: &Envelope,
        now: Now,
    ) {
        let content = match Content::parse(plaintext) {
            Ok(content) => content,
            Err(error) => return self.handle_nonsense(sender, &error, now),
        };
        let owes_receipt = matches!(content, Content::Text { .. });
        match content {
            Content::Text { id, sent_at, text, after, disappears, timer, lists } => {
                self.handle_lists(&sender.contact, lists, now);
                self.handle_timer(&sender.contact, timer);
                let message = Incoming {
                    row: 0,
                    id,
                    from: sender.contact.clone(),
                    text,
                    sent_at,
                    carrier: sender.source.carrier(),
                    ciphertext: envelope
                        .ciphertext()
                        .iter()
                        .take(SHOWN_CIPHERTEXT)
                        .copied()
                        .collect(),
                };
                self.receive(sender, message, (after, disappears), envelope_ref(envelope), now);
            }
            Content::Receipt { delivered, carrier, read, lists } => {
                self.handle_lists(&sender.contact, lists, now);
                self.delivered(&sender.contact, &delivered, carrier.unwrap_or(Carrier::Direct));
                self.seen(&sender.contact, read);
            }
            Content::Resend { received, lists } => {
                self.handle_lists(&sender.contact, lists, now);
                self.resend(sender, &received, envelope);
            }
            Content::Typing {} => {
                self.events.push_back(Event::Typing { contact: sender.contact.clone() });
            }
            Content::Unknown => tracing::debug!("a message of an unknown type is ignored"),
        }
        if owes_receipt {
            return;
        }
        // What waits at the rendezvous may come again, and its key is gone then.
        if sender.source.carrier() == Carrier::Mailbox {
            self.changes.push(Change::RememberOpened(envelope_ref(envelope)));
        }
        self.settle(sender.source);
    }

    /// The other side has not heard that this envelope was saved: find out what it held.
    pub(super) fn handle_duplicate(&mut self, sender: Sender, envelope: &Envelope) {
        self.changes.push(Change::FindOpened(envelope_ref(envelope)));
        self.awaiting.push_back(Awaiting::Opened(sender));
    }

    /// What an envelope held whose key was used. If it was another one, its sender was put back to
    /// an earlier state and uses keys again.
    pub(super) fn found_opened(&mut self, sender: &Sender, opened: Opened, now: Now) {
        match opened {
            Opened::Message(id) => self.acknowledge_later(sender, id),
            Opened::Other => self.settle(sender.source),
            Opened::Unknown => self.handle_stray(sender, &"its key was used for another", now),
        }
    }

    /// A receipt is owed. What waited at the rendezvous is done with when it has left.
    fn acknowledge_later(&mut self, sender: &Sender, id: MessageId) {
        let owed = self.receipts.entry((sender.device, sender.source.into())).or_default();
        owed.messages.insert(id);
        owed.sources.push(sender.source);
    }

    /// Saves a message; it is acknowledged, and told if it is new, once it is saved.
    fn receive(
        &mut self,
        sender: &Sender,
        message: Incoming,
        (after, disappears): (Option<MessageId>, Option<u32>),
        envelope: EnvelopeRef,
        now: Now,
    ) {
        let known = self.contacts.get(&sender.contact);
        let Some(account_key) = known.and_then(|known| known.record.account_key) else { return };
        self.acknowledge_later(sender, message.id);
        self.changes.push(Change::Receive(Box::new(ReceivedMessage {
            id: message.id,
            from: message.from.clone(),
            account_key,
            text: message.text.clone(),
            sent_at: message.sent_at,
            received_at: now.date,
            carrier: message.carrier,
            after,
            disappears,
            envelope,
        })));
        self.expires_in(disappears, now);
        self.awaiting.push_back(Awaiting::Received(Box::new(message)));
    }

    fn delivered(&mut self, contact: &Username, ranges: &[IdRange], carrier: Carrier) {
        let acknowledged = self.outbox.acknowledge(contact, ranges);
        if !acknowledged.is_empty() {
            self.posting.forget(contact);
        }
        let (state, carrier) = (MessageState::Delivered, Some(carrier));
        for id in acknowledged {
            self.changes.push(Change::SetMessageState(id, state, carrier));
            let to = contact.clone();
            self.events.push_back(Event::Receipt { id, to, state, carrier, reason: None });
        }
        self.ready.insert(contact.clone());
    }

    /// A contact has seen messages: of those it had saved, that is their state.
    fn seen(&mut self, contact: &Username, read: Vec<IdRange>) {
        if !read.is_empty() {
            self.changes.push(Change::MarkRead(contact.clone(), read));
            self.awaiting.push_back(Awaiting::Read(contact.clone()));
        }
    }

    pub(super) fn found_read(&mut self, contact: &Username, ids: Vec<MessageId>) {
        for id in ids {
            let (to, state) = (contact.clone(), MessageState::Read);
            self.events.push_back(Event::Receipt { id, to, state, carrier: None, reason: None });
        }
    }

    /// The other side cannot open what was sealed for it: all that it has not received is sealed
    /// again, on the session on which it said so. Only a new session can say so, and what it has
    /// sealed itself is not sealed again: a contact cannot have the same work done twice.
    fn resend(&mut self, sender: &Sender, received: &[IdRange], envelope: &Envelope) {
        self.delivered(&sender.contact, received, sender.source.carrier());
        if envelope.header().first.is_some() {
            self.outbox.reseal(&sender.contact, sender.device, envelope.header().session);
        }
    }

    /// Seals receipts for what has arrived in this turn. They are saved with it and leave after. A
    /// receipt waits for the few milliseconds in which a step of the ratchet is made ready.
    pub(super) fn acknowledge(&mut self, now: Now, rng: &mut dyn CryptoRng) {
        for ((device, lane), owed) in std::mem::take(&mut self.receipts) {
            let contact = self.contacts.name_of(device);
            let (Some(contact), Some(way)) = (contact, self.way_to(device, Some(lane))) else {
                self.owed_still(&owed.sources);
                continue;
            };
            if self.sessions.is_stepping(device, now.timer) {
                self.stepping.entry(device).or_default().entry(lane).or_default().append(owed);
                continue;
            }
            let lists = Some(self.lists_for(&contact));
            let carrier = (lane == Lane::Mailbox).then_some(Carrier::Mailbox);
            let mut envelopes = Vec::new();
            for delivered in IdRange::cover(&owed.messages).chunks(MAX_RANGES) {
                let (delivered, read) = (delivered.to_vec(), Vec::new());
                let content = Content::Receipt { delivered, carrier, read, lists }.encode();
                let sealed = self.sessions.seal(device, &content, now.timer, rng);
                envelopes.extend(sealed.and_then(Result::ok).map(|sealed| sealed.envelope));
            }
            if envelopes.is_empty() {
                self.owed_still(&owed.sources);
                continue;
            }
            self.carry_receipts((device, contact), way, envelopes, owed.sources);
        }
    }

    fn carry_receipts(
        &mut self,
        (device, contact): (DeviceId, Username),
        way: Way,
        envelopes: Vec<Envelope>,
        sources: Vec<Source>,
    ) {
        match way {
            Way::Link(_) => {
                for envelope in envelopes {
                    self.carry(device, way, envelope);
                }
                self.receipts_left(sources);
            }
            Way::Mailbox => {
                let purpose = Purpose::Receipts(sources);
                self.post_at_once((device, contact), &envelopes, purpose);
            }
        }
    }

    /// Receipts have been taken by a link or a mailbox, or refused by it.
    pub(super) fn receipts_left(&mut self, sources: Vec<Source>) {
        for source in sources {
            self.settle(source);
        }
    }

    /// Receipts have not left: what they are for is left where it is, and comes again.
    pub(super) fn owed_still(&mut self, sources: &[Source]) {
        for source in sources {
            if let Source::Mailbox(id) = source {
                self.fetching.put_off(*id);
                self.fetching.look_again();
            }
        }
    }
}

/// A receipt that is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// For what.
    messages: BTreeSet<MessageId>,
    /// How that came.
    sources: Vec<Source>,
}

impl Owed {
    /// One receipt for both.
    pub(super) fn append(&mut self, mut other: Self) {
        self.messages.append(&mut other.messages);
        self.sources.append(&mut other.sources);
    }
}

fn envelope_ref(envelope: &Envelope) -> EnvelopeRef {
    let header = envelope.header();
    let tag = envelope.tag().first_chunk().copied().unwrap_or_default();
    let chain = ChainId::of(&header.ratchet);
    EnvelopeRef { session: header.session, chain, number: header.number, tag }
}
