//! What the node asks of the rendezvous, and what it makes of its events and replies.

use std::collections::BTreeSet;

use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::AccountKey;
use parlor_common::wire::rendezvous::{
    AccountChange, Contacts, Done, Event as ServerEvent, HeldItems, KnownContact, Presence,
    Present, Reply, Request, User,
};
use rand::CryptoRng;
use serde::de::DeserializeOwned;

use super::input::{Now, RequestId, ServerDown, Source, Token};
use super::output::{Event, IntentError, Transmit};
use super::record::{Contact, ContactState};
use super::rendezvous::Phase;
use super::{Change, Node};

/// What a reply is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody is blocked.
    Block(Token, Username),
    /// The own list is signed by this device: then it is kept in this form.
    Confirm(Token, Box<VerifiedDeviceList>),
    /// Requests and answers that were held.
    Held,
    /// Bundles of somebody's devices.
    Bundles(Username),
    /// What waits in this device's mailbox.
    Envelopes,
    /// What was left in a contact's mailbox.
    Posted(Username),
    /// Receipts that were left in a contact's mailbox, for what came in these ways.
    Receipts(Vec<Source>),
    /// Nobody waits for it.
    Nothing,
    /// What the rendezvous holds of our prekeys.
    PrekeysHeld,
    /// How many of our prekeys it holds after some were put.
    PrekeysKept,
    /// Who is online.
    Presence,
    /// The account's contacts, for a new device.
    Restore,
    /// How often this profile was started, as the rendezvous has it.
    Started,
    /// A block is taken back.
    Unblock(Token, Username),
    /// How far it is with somebody whose block was taken back.
    Unblocked(Token, Username),
    /// Somebody's account key and devices.
    User(Username, Lookup),
    /// Somebody is asked; if they are new and cannot be, they are no contact.
    Contact { token: Token, name: Username, is_new: bool },
    /// A contact is accepted: then it is kept in this form. No token if nobody asked for it now.
    Accept(Option<Token>, Box<Contact>),
    /// A contact is declined or removed.
    Forget(Token, Username),
}

/// Why somebody was looked up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lookup {
    /// To be asked to become a contact, perhaps with the key that a link named.
    Add(Token, Option<AccountKey>),
    /// A contact, or this account, of whose list somebody has seen this version.
    Claimed(u64),
    /// A contact whose device list may be newer.
    Refresh,
    /// A contact that an earlier device of this account had, in this state.
    Restore(ContactState),
    /// This very account.
    Oneself,
}

/// What signing in takes, besides the contacts of an earlier device.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    /// What was held is fetched and saved.
    Held,
    /// What waits in the mailbox is fetched and saved.
    Mailbox,
    /// The own devices are looked at.
    Oneself,
    /// The rendezvous has a signed prekey, so that others can write while this device is away.
    Prekeys,
    /// Who is online is known.
    Presence,
    /// A contact's devices, which have changed meanwhile, are looked at.
    Devices(Username),
}

/// What of signing in is still to come before the node counts as online.
#[derive(Debug)]
pub(super) struct SignIn {
    pending: BTreeSet<Step>,
    /// Contacts of an earlier device, while they are looked up.
    restoring: Option<Restoring>,
    /// Whether the absence since the last time was told.
    told_offline: bool,
}

impl Default for SignIn {
    fn default() -> Self {
        let pending =
            [Step::Held, Step::Mailbox, Step::Oneself, Step::Prekeys, Step::Presence].into();
        Self { pending, restoring: None, told_offline: false }
    }
}

/// Contacts of an earlier device: how many are still looked up, and those that were found.
#[derive(Debug, Default)]
struct Restoring {
    awaited: usize,
    found: Vec<Contact>,
}

impl SignIn {
    fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.restoring.is_none()
    }

    /// Whether it is known who is online.
    pub(super) fn knows_presence(&self) -> bool {
        !self.pending.contains(&Step::Presence)
    }

    /// Who is online is to be known anew.
    pub(super) fn await_presence(&mut self) {
        self.pending.insert(Step::Presence);
    }

    /// One look-up is over. Returns all contacts with the last one.
    pub(super) fn restored(&mut self, contact: Option<Contact>) -> Option<Vec<Contact>> {
        let restoring = self.restoring.as_mut()?;
        restoring.found.extend(contact);
        restoring.awaited = restoring.awaited.saturating_sub(1);
        let restoring = self.restoring.take_if(|restoring| restoring.awaited == 0)?;
        Some(restoring.found)
    }
}

impl Node {
    pub(super) fn ask(&mut self, request: Request, purpose: Purpose) {
        let id = self.rendezvous.ask(purpose);
        self.transmits.push_back(Transmit::Request { id, request: Box::new(request) });
    }

    /// Asks, or tells the front end that this cannot be asked now.
    pub(super) fn ask_for(&mut self, token: Token, request: Request, purpose: Purpose) {
        if self.rendezvous.is_signed_in() {
            self.ask(request, purpose);
        } else {
            self.done(token, Err(IntentError::Unreachable));
        }
    }

    pub(super) fn handle_server_event(
        &mut self,
        event: ServerEvent,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        match event {
            ServerEvent::Welcome { name, observed, .. } => {
                self.observed = Some(observed);
                if name.as_ref() == Some(&self.me.name) {
                    self.sign_in();
                } else {
                    self.not_known();
                }
            }
            ServerEvent::Presence(presence) => self.presence(presence),
            ServerEvent::Held {} => self.ask(Request::HeldGet {}, Purpose::Held),
            ServerEvent::Offer { from, offer } => self.handle_offer(&from, *offer, now, rng),
            ServerEvent::NewDevice {} => self.look_up_oneself(),
            ServerEvent::Replaced {} => self.events.push_back(Event::Replaced),
            ServerEvent::Stopping {} => self.rendezvous.will_stop(),
            ServerEvent::AccountChanged { change } => self.account_changed(change),
            ServerEvent::Envelopes {} => self.fetch_envelopes(),
            ServerEvent::Unknown => {}
        }
    }

    /// Some changes leave this device without an account.
    fn account_changed(&mut self, change: AccountChange) {
        match change {
            AccountChange::Password | AccountChange::Recovered => {
                self.events.push_back(Event::AccountChanged(change));
            }
            AccountChange::Deleted
            | AccountChange::DeviceRemoved
            | AccountChange::Disabled
            | AccountChange::Rekeyed => {
                self.events.push_back(Event::AccountChanged(change));
                self.not_known();
            }
            AccountChange::Unknown => {}
        }
    }

    fn sign_in(&mut self) {
        if self.rendezvous.phase() != Phase::Connected {
            return;
        }
        self.rendezvous.signed_in();
        self.ask(Request::HeldGet {}, Purpose::Held);
        self.ask(Request::PresenceWatch {}, Purpose::Presence);
        self.look_up_oneself();
        self.tell_start();
        if self.contacts.is_empty() {
            self.sign_in.restoring = Some(Restoring { awaited: 1, found: Vec::new() });
            self.ask(Request::ContactList {}, Purpose::Restore);
        }
    }

    fn look_up_oneself(&mut self) {
        let name = self.me.name.clone();
        self.look_up(name, Lookup::Oneself);
    }

    pub(super) fn look_up(&mut self, name: Username, why: Lookup) {
        self.ask(Request::UserGet { name: name.clone() }, Purpose::User(name, why));
    }

    /// One step of signing in is done.
    fn signed_in(&mut self, step: &Step) {
        if !self.sign_in.is_complete() {
            self.sign_in.pending.remove(step);
            self.tell_online();
        }
    }

    /// The rendezvous has what others need to write to this device, or does not take it.
    pub(super) fn prekeys_are_there(&mut self) {
        self.signed_in(&Step::Prekeys);
    }

    /// Once everything that was held is saved and presence is known, this device is online.
    pub(super) fn tell_online(&mut self) {
        if self.sign_in.is_complete() {
            self.sign_in.told_offline = false;
            self.events.push_back(Event::Online);
        }
    }

    pub(super) fn server_lost(&mut self, reason: ServerDown, now: Now, rng: &mut dyn CryptoRng) {
        let eager = !self.outbox.contacts().is_empty();
        let unanswered = self.rendezvous.down(reason, eager, now.timer, rng);
        self.signed_out(reason, &unanswered);
    }

    /// The rendezvous does not know this device, or does not any more.
    fn not_known(&mut self) {
        let unanswered = self.rendezvous.not_known();
        self.signed_out(ServerDown::UnknownDevice, &unanswered);
    }

    fn signed_out(&mut self, reason: ServerDown, unanswered: &[Purpose]) {
        let told_offline = self.sign_in.told_offline;
        self.sign_in = SignIn { told_offline: true, ..SignIn::default() };
        for purpose in unanswered {
            self.unanswered(purpose);
        }
        self.observed = None;
        self.fetching.disconnected();
        self.posting.disconnected();
        let names: Vec<_> = self.contacts.names().cloned().collect();
        for name in names {
            self.set_online(&name, false);
        }
        if !told_offline {
            self.events.push_back(Event::Offline(reason));
        }
    }

    pub(super) fn handle_request_failed(&mut self, id: RequestId) {
        let Some(purpose) = self.rendezvous.answered(id) else { return };
        self.unanswered(&purpose);
        if let Purpose::User(name, why) = purpose {
            self.looked_up(&name, why);
        }
    }

    fn unanswered(&mut self, purpose: &Purpose) {
        match purpose {
            Purpose::User(_, Lookup::Add(token, _))
            | Purpose::Block(token, _)
            | Purpose::Unblock(token, _)
            | Purpose::Unblocked(token, _)
            | Purpose::Contact { token, .. }
            | Purpose::Accept(Some(token), _)
            | Purpose::Confirm(token, _)
            | Purpose::Forget(token, _) => self.done(*token, Err(IntentError::Unreachable)),
            Purpose::Restore | Purpose::User(_, Lookup::Restore(_)) => self.restored(None),
            Purpose::Bundles(name) => self.bundles_unanswered(name),
            Purpose::Posted(contact) => self.post_unanswered(contact),
            Purpose::Receipts(sources) => self.owed_still(sources),
            Purpose::Envelopes => self.fetching.failed(),
            Purpose::Held
            | Purpose::Nothing
            | Purpose::PrekeysHeld
            | Purpose::PrekeysKept
            | Purpose::Presence
            | Purpose::Started
            | Purpose::User(..)
            | Purpose::Accept(None, _) => {}
        }
    }

    pub(super) fn handle_server_reply(
        &mut self,
        id: RequestId,
        payload: &[u8],
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        let Some(purpose) = self.rendezvous.answered(id) else { return };
        match purpose {
            Purpose::Block(token, name) => {
                let result = done(payload).map(|()| self.blocked(&name));
                self.done(token, result);
            }
            Purpose::Unblock(token, name) => match done(payload) {
                Ok(()) => self.unblocked(token, name),
                Err(error) => self.done(token, Err(error)),
            },
            Purpose::Unblocked(token, name) => {
                let result = parse(payload).map(|contacts| self.block_taken_back(&name, &contacts));
                self.done(token, result);
            }
            Purpose::Confirm(token, signed) => {
                let result = done(payload).map(|()| self.confirmed(*signed));
                self.done(token, result);
            }
            Purpose::Held => self.held_reply(payload, now),
            Purpose::Bundles(name) => match served(payload) {
                Some(bundles) => self.handle_bundles(&name, &bundles, now),
                None => self.no_bundles(&name),
            },
            Purpose::Envelopes => self.envelopes_reply(payload, now),
            Purpose::Posted(contact) => self.handle_posted(&contact, payload, now),
            Purpose::Receipts(sources) => self.receipts_left(sources),
            Purpose::Nothing => {}
            Purpose::PrekeysHeld => match served(payload) {
                Some(held) => self.top_up(held, now, rng),
                None => self.prekeys_are_there(),
            },
            Purpose::PrekeysKept => match served(payload) {
                Some(kept) => self.kept_prekeys(kept, now, rng),
                None => self.prekeys_are_there(),
            },
            Purpose::Started => match served(payload) {
                Some(started) => self.handle_started(started),
                None => self.prekeys_are_there(),
            },
            Purpose::Presence => self.presence_reply(payload),
            Purpose::Restore => self.restore_reply(payload),
            Purpose::User(name, why) => self.user_reply(&name, why, payload, now, rng),
            Purpose::Contact { token, name, is_new } => {
                self.asked(token, &name, is_new, done(payload));
            }
            Purpose::Accept(token, contact) => {
                let result = done(payload).map(|()| self.answered_yes(*contact));
                if let Some(token) = token {
                    self.done(token, result);
                }
            }
            Purpose::Forget(token, name) => {
                let result = done(payload).map(|()| self.forget_contact(&name));
                self.done(token, result);
            }
        }
    }

    fn held_reply(&mut self, payload: &[u8], now: Now) {
        let items = match parse::<HeldItems>(payload) {
            Ok(HeldItems { items }) => items,
            Err(error) => {
                tracing::warn!(?error, "what was held could not be fetched");
                self.fetch_envelopes();
                return self.signed_in(&Step::Held);
            }
        };
        if items.is_empty() {
            self.fetch_envelopes();
            return self.signed_in(&Step::Held);
        }
        let ids = items.iter().map(|item| item.id).collect();
        for item in items {
            self.handle_held(&item.from, item.what, now);
        }
        // These leave after the turn's changes are saved, like every order.
        self.ask(Request::HeldAck { ids }, Purpose::Nothing);
        self.ask(Request::HeldGet {}, Purpose::Held);
    }

    fn envelopes_reply(&mut self, payload: &[u8], now: Now) {
        let Some(envelopes) = served(payload) else {
            self.fetching.failed();
            return self.signed_in(&Step::Mailbox);
        };
        if !self.handle_envelopes(envelopes, now) {
            self.signed_in(&Step::Mailbox);
        }
    }

    fn presence_reply(&mut self, payload: &[u8]) {
        match parse::<Present>(payload) {
            Ok(Present { contacts }) => contacts.into_iter().for_each(|each| self.presence(each)),
            Err(error) => tracing::warn!(?error, "presence could not be fetched"),
        }
        self.signed_in(&Step::Presence);
        // What waits for those who are not online can go to their mailboxes now.
        self.ready.extend(self.outbox.contacts());
        self.say_again();
    }

    fn presence(&mut self, Presence { name, online, list_version }: Presence) {
        if self.contacts.get(&name).is_none() || self.is_blocked(&name) {
            return;
        }
        // Nothing is known of the devices of somebody whose new account key was accepted just now.
        let known = self.contacts.list(&name).map(|known| known.version);
        if known != Some(list_version) || self.contacts.awaits_signature(&name) {
            if self.sign_in.pending.contains(&Step::Presence) {
                self.sign_in.pending.insert(Step::Devices(name.clone()));
            }
            self.look_up(name.clone(), Lookup::Refresh);
        }
        self.set_online(&name, online);
    }

    pub(super) fn set_online(&mut self, name: &Username, online: bool) {
        if !self.contacts.set_online(name, online) {
            return;
        }
        self.changes.push(Change::SetOnline(name.clone(), online));
        self.events.push_back(Event::Presence { contact: name.clone(), online });
        if online {
            self.offers.restart(name);
        }
        // Who is gone is written to by mailbox, and nothing else would say so.
        self.ready.insert(name.clone());
    }

    fn restore_reply(&mut self, payload: &[u8]) {
        let contacts = match parse::<Contacts>(payload) {
            Ok(Contacts { contacts }) => contacts,
            Err(error) => {
                tracing::warn!(?error, "contacts could not be restored");
                Vec::new()
            }
        };
        let wanted: Vec<_> = contacts.into_iter().filter_map(worth_restoring).collect();
        if let Some(restoring) = &mut self.sign_in.restoring {
            restoring.awaited += wanted.len();
        }
        for (name, state) in wanted {
            self.look_up(name, Lookup::Restore(state));
        }
        self.restored(None);
    }

    fn user_reply(
        &mut self,
        name: &Username,
        why: Lookup,
        payload: &[u8],
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        match (parse::<User>(payload), why) {
            (Ok(User { devices }), Lookup::Add(token, key)) => {
                self.found_to_add(token, name, key, devices, now);
            }
            (Ok(User { devices }), Lookup::Restore(state)) => {
                self.found_to_restore(name, state, devices);
            }
            (Ok(User { devices }), _) => self.found(name, why, devices, now, rng),
            (Err(error), Lookup::Add(token, _)) => self.done(token, Err(error)),
            (Err(error), _) => {
                tracing::warn!(?error, "somebody could not be looked up");
                if matches!(why, Lookup::Restore(_)) {
                    self.restored(None);
                }
            }
        }
        self.looked_up(name, why);
    }

    /// A look-up is over: signing in may have waited for it.
    fn looked_up(&mut self, name: &Username, why: Lookup) {
        match why {
            Lookup::Oneself => self.signed_in(&Step::Oneself),
            Lookup::Refresh => self.signed_in(&Step::Devices(name.clone())),
            Lookup::Add(..) | Lookup::Claimed(_) | Lookup::Restore(_) => {}
        }
    }

    /// The devices of a contact, or of this account, as they are served now.
    fn found(
        &mut self,
        name: &Username,
        why: Lookup,
        devices: SignedDeviceList,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        if *name == self.me.name {
            self.found_oneself(devices);
        } else {
            self.list_served(name, devices);
        }
        if let Lookup::Claimed(version) = why {
            self.check_claim(name, version);
        }
        // An offer of a device that is not on the list now either comes to nothing.
        if let Some(offer) = self.offers.take_deferred(name)
            && self.contacts.owner(&offer.claimed_signer()).is_some()
        {
            self.handle_offer(name, offer, now, rng);
        }
    }
}

/// Who is a contact of an earlier device, or was blocked there.
fn worth_restoring(contact: KnownContact) -> Option<(Username, ContactState)> {
    let KnownContact { name, mutual, blocked } = contact;
    match (blocked, mutual) {
        (true, _) => Some((name, ContactState::Blocked)),
        (false, true) => Some((name, ContactState::Mutual)),
        (false, false) => None,
    }
}

fn done(payload: &[u8]) -> Result<(), IntentError> {
    parse::<Done>(payload).map(|Done {}| ())
}

/// What nobody waits for, if it was served: an older rendezvous may not know the request.
fn served<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let reply = parse(payload);
    reply.inspect_err(|error| tracing::warn!(?error, "the rendezvous did not do as asked")).ok()
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, IntentError> {
    match serde_json::from_slice::<Reply<T>>(payload) {
        Ok(Reply::Ok(reply)) => Ok(reply),
        Ok(Reply::Error(refused)) => {
            let (code, message) = (refused.code.to_string(), refused.to_string());
            Err(IntentError::Refused { code, message })
        }
        Err(_) => Err(IntentError::Refused {
            code: "malformed".to_owned(),
            message: "its reply cannot be understood; is it a newer version?".to_owned(),
        }),
    }
}
