//! Envelopes, up to what is in them: who sent one, which session opens it, and what is to be done
//! first.

use std::fmt::Display;

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, SessionId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::prekey::PrekeyUse;

use super::Node;
use super::input::{Now, Source};
use super::output::Transmit;
use super::patience::Trouble;
use super::work::Work;
use crate::crypto::agreement::{Accepted, AgreementError, Party};
use crate::crypto::session::{OpenError, Step, Turn, Turned};

/// The device that sealed an envelope, and how that came.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) contact: Username,
    pub(super) device: DeviceId,
    pub(super) key: DeviceKey,
    pub(super) source: Source,
}

impl Node {
    pub(super) fn handle_envelope(
        &mut self,
        source: Source,
        envelope: Envelope,
        turned: Option<Turned>,
        now: Now,
    ) {
        let sender = self.sender(source, envelope.header().session);
        if sender.is_none() && matches!(source, Source::Link(_)) {
            return;
        }
        if self.agreements.holds_back(source.into()) {
            return self.hold_back(source, envelope);
        }
        let Some(sender) = sender else { return self.accept(source, envelope, now) };
        match self.sessions.open(sender.device, &envelope, turned, now) {
            Some(Ok(plaintext)) => {
                self.repairs.opened(sender.device);
                self.handle_content(&sender, &plaintext, &envelope, now);
            }
            Some(Err(OpenError::Duplicate)) => self.handle_duplicate(sender, &envelope),
            Some(Err(OpenError::NeedsTurn(turn))) => self.turn(&sender, envelope, turn, now),
            Some(Err(error)) => self.handle_failure(&sender, &error, now),
            None => self.accept(source, envelope, now),
        }
    }

    /// Whose envelope it is: the link's device's, or, of one that waited at the rendezvous, that of
    /// the device that has the session. None of somebody who may not speak.
    fn sender(&self, source: Source, session: SessionId) -> Option<Sender> {
        let key = match source {
            Source::Link(link) => self.paths.get(link)?.device,
            Source::Mailbox(_) => self.contacts.key_of(self.sessions.device_of(session)?)?,
        };
        self.speaker(source, key)
    }

    /// The device at the other end of the link that an envelope came on, if it came on one.
    fn on_link(&self, source: Source) -> Option<Sender> {
        let Source::Link(link) = source else { return None };
        self.speaker(source, self.paths.get(link)?.device)
    }

    fn speaker(&self, source: Source, key: DeviceKey) -> Option<Sender> {
        let (known, entry) = self.contacts.owner(&key)?;
        Some(Sender { contact: known.record.name.clone(), device: entry.id, key, source })
    }

    /// What came is done with, whatever became of it.
    pub(super) fn settle(&mut self, source: Source) {
        if let Source::Mailbox(id) = source {
            self.fetching.settle(id);
        }
    }

    /// A key was tried on an envelope, and did not open it.
    fn handle_failure(&mut self, sender: &Sender, reason: &dyn Display, now: Now) {
        self.want_repair(sender, reason);
        self.is_trouble(sender, Trouble::Failure, now);
    }

    /// There is no key to try on an envelope.
    pub(super) fn handle_stray(&mut self, sender: &Sender, reason: &dyn Display, now: Now) {
        self.want_repair(sender, reason);
        self.is_trouble(sender, Trouble::Stray, now);
    }

    /// An envelope could not be opened: nobody but its device is told, by a new session.
    fn want_repair(&mut self, sender: &Sender, reason: &dyn Display) {
        tracing::debug!(device = %sender.device, %reason, "an envelope was refused");
        self.settle(sender.source);
        self.repairs.want(sender.device);
        self.ready.insert(sender.contact.clone());
    }

    /// There is no key to try, and what waited at the rendezvous does not say whose it is. It may be
    /// any contact's, if this profile was put back to an earlier state and does not know it: then
    /// all are told, once a day at most. The rendezvous, too, can bring that about.
    fn handle_unknown(&mut self, source: Source, reason: &dyn Display, now: Now) {
        if let Some(sender) = self.on_link(source) {
            return self.handle_stray(&sender, reason, now);
        }
        tracing::debug!(%reason, "an envelope of the mailbox was refused");
        self.settle(source);
        if self.repairs.may_want_all(now.timer) {
            tracing::info!("something came on a session that is gone: new ones are started");
            self.mend_all();
        }
    }

    /// What was opened is nothing that this version understands: no session would mend that.
    pub(super) fn handle_nonsense(&mut self, sender: &Sender, reason: &dyn Display, now: Now) {
        tracing::warn!(device = %sender.device, %reason, "what was opened cannot be understood");
        self.settle(sender.source);
        self.is_trouble(sender, Trouble::Failure, now);
    }

    /// Whether a device causes too much trouble: then its link is closed, if it came by one.
    fn is_trouble(&mut self, sender: &Sender, trouble: Trouble, now: Now) -> bool {
        let device = sender.key;
        let lost = self.patience.tries(device, trouble, now.timer);
        if lost && let Source::Link(link) = sender.source {
            tracing::warn!(%device, ?trouble, "too much of it; the link is closed");
            self.agreements.drop_waiting(link);
            self.transmits.push_back(Transmit::CloseLink { link });
        }
        lost
    }

    fn hold_back(&mut self, source: Source, envelope: Envelope) {
        if self.agreements.wait(source, envelope) {
            return;
        }
        match source {
            Source::Link(link) => {
                tracing::debug!(link = link.0, "too much waits for agreements; the link is closed");
                self.transmits.push_back(Transmit::CloseLink { link });
            }
            Source::Mailbox(id) => self.fetching.put_off(id),
        }
    }

    /// A new ratchet key: the exponentiation is computed off the loop.
    fn turn(&mut self, sender: &Sender, envelope: Envelope, turn: Turn, now: Now) {
        let source = sender.source;
        if self.is_trouble(sender, Trouble::NewKey, now) {
            return self.settle(source);
        }
        self.agreements.turn(source.into());
        self.work.push_back(Work::Turn { source, envelope: Box::new(envelope), turn });
    }

    pub(super) fn handle_turned(
        &mut self,
        source: Source,
        envelope: Envelope,
        turned: Turned,
        now: Now,
    ) {
        let waited = self.agreements.turned(source.into());
        self.handle_envelope(source, envelope, Some(turned), now);
        for (source, envelope) in waited {
            self.handle_envelope(source, envelope, None, now);
        }
    }

    pub(super) fn handle_strode(&mut self, device: DeviceId, session: SessionId, step: Step) {
        self.sessions.prepare((device, session), step);
        for (lane, owed) in self.stepping.remove(&device).unwrap_or_default() {
            self.receipts.entry((device, lane)).or_default().append(owed);
        }
    }

    /// An envelope of no known session may be a first message: the agreement is computed off the
    /// loop, one at a time.
    fn accept(&mut self, source: Source, envelope: Envelope, now: Now) {
        let Some(first) = &envelope.header().first else {
            return self.handle_unknown(source, &"there is no such session", now);
        };
        if self.replays.knows(&first.ephemeral) {
            return self.handle_unknown(source, &"it was accepted before", now);
        }
        let signed = self.prekeys.get(first.signed_prekey, PrekeyUse::Signed);
        let one_time = first.one_time_prekey.map(|id| self.prekeys.get(id, PrekeyUse::OneTime));
        let (Some(signed), None | Some(Some(_))) = (signed, &one_time) else {
            return self.handle_unknown(source, &"its prekeys are gone", now);
        };
        if !self.agreements.accept(source.into()) {
            return self.hold_back(source, envelope);
        }
        let sender = self.on_link(source);
        if sender.is_some_and(|sender| self.is_trouble(&sender, Trouble::FirstMessage, now)) {
            return self.resume(now);
        }
        self.work.push_back(Work::Accept {
            us: self.me.party.clone(),
            source,
            envelope: Box::new(envelope),
            signed,
            one_time: one_time.flatten(),
        });
    }

    pub(super) fn handle_accepted(
        &mut self,
        source: Source,
        envelope: &Envelope,
        accepted: Result<Box<Accepted>, AgreementError>,
        now: Now,
    ) {
        match accepted {
            Ok(accepted) => self.take_session(source, envelope, *accepted, now),
            Err(error) => self.handle_unopened(source, &error, now),
        }
        self.resume(now);
    }

    /// A first message came to nothing though keys were tried on it.
    fn handle_unopened(&mut self, source: Source, reason: &dyn Display, now: Now) {
        match self.on_link(source) {
            Some(sender) => self.handle_failure(&sender, reason, now),
            None => self.settle(source),
        }
    }

    /// Keeps a session that somebody else started, if it is the link's device that did, or a
    /// contact's, and the session opens the message that it came with.
    fn take_session(&mut self, source: Source, envelope: &Envelope, accepted: Accepted, now: Now) {
        let Accepted { sender: party, mut session } = accepted;
        let Some(sender) = self.sender_of_first(source, &party) else {
            return self.refuse_session(source, &party, now);
        };
        let opened = session.open(envelope, None, now.date).ok();
        let (Some(plaintext), Some(first)) = (opened, &envelope.header().first) else {
            return self.handle_failure(&sender, &"its session does not open it", now);
        };
        if let Some(id) = first.one_time_prekey {
            self.prekeys.used(id, &mut self.changes);
        }
        self.replays.accepted(&first.ephemeral, now.date, &mut self.changes);
        self.repairs.opened(sender.device);
        self.keep_session(sender.device, session, now);
        self.handle_content(&sender, &plaintext, envelope, now);
    }

    /// The contact's device that a first message names as its sender, if it is the link's.
    fn sender_of_first(&self, source: Source, party: &Party) -> Option<Sender> {
        let sender = match source {
            Source::Link(_) => self.on_link(source)?,
            Source::Mailbox(_) => self.speaker(source, party.device.key)?,
        };
        let (known, entry) = self.contacts.owner(&sender.key)?;
        let expected = party.name == known.record.name
            && Some(party.account_key) == known.record.account_key
            && party.device == *entry;
        expected.then_some(sender)
    }

    /// A first message is not from whom it should be. One that waited at the rendezvous may be of a
    /// device that is not known yet: then it is looked at again once it is.
    fn refuse_session(&mut self, source: Source, party: &Party, now: Now) {
        let Source::Mailbox(id) = source else {
            return self.handle_unopened(source, &"it is not from the link's device", now);
        };
        let known = self.contacts.get(&party.name);
        let is_newer = known.is_some_and(|known| {
            let lists = known.devices.as_ref();
            known.record.account_key == Some(party.account_key)
                && lists.is_none_or(|list| list.device(&party.device.key).is_none())
        });
        if is_newer {
            self.fetching.put_off(id);
            return self.look_up_newer(&party.name, now);
        }
        tracing::debug!(name = %party.name, "a first message of no contact's device is dropped");
        self.settle(source);
    }

    /// Looks again at what waited while a first message was accepted.
    fn resume(&mut self, now: Now) {
        for (source, envelope) in self.agreements.accepted().into_values().flatten() {
            self.handle_envelope(source, envelope, None, now);
        }
    }
}
