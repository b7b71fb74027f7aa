//! The core of a peer: decides everything, waits for nothing.
//!
//! A [`Node`] is driven in turns. A turn takes all input that waits ([`Node::handle`]), then asks
//! for the changes to save ([`Node::take_changes`]), saves them in one transaction, tells what
//! came of them ([`Node::handle_saved`]), and only then lets out what they allow:
//! [`Node::poll_transmit`] and [`Node::poll_event`]. Work that would block leaves by
//! [`Node::poll_work`] and comes back as input.
//!
//! The node has no socket, no disk, no clock and no generator: [`Now`] and randomness are
//! arguments. It knows nothing of front ends.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`input`], [`output`], [`record`], [`work`], [`content`] | the values that go in and out |
//! | `server` over `rendezvous` | what is asked of the rendezvous, and what it says |
//! | `people`, `blocking` over `contacts` | requests, answers, blocks, contacts and their devices |
//! | `devices`, `lists` | what device lists mean, and whether everybody is shown the same |
//! | `linking` over `paths`, `offers`, `dialing` | offers, dials, links |
//! | `delivery`, `posting` over `outbox` | messages on their way out: by links, and by contacts' mailboxes |
//! | `fetching` | this device's mailbox |
//! | `opening` over `sessions`, `agreements`, `replays`, `patience` | envelopes, up to what is in them |
//! | `receiving`, `reading`, `disappearing` | what is in them: messages, receipts, and how long texts are kept |
//! | `keying` over `sessions`, `agreements`, `repair` | shared keys: sessions are made and mended |
//! | `publishing` over `prekeys` | prekeys at the rendezvous |

mod agreements;
mod blocking;
mod bytes;
mod contacts;
pub mod content;
mod delivery;
mod devices;
mod dialing;
mod disappearing;
mod fetching;
pub mod input;
mod keying;
mod linking;
mod lists;
mod offers;
mod opening;
mod outbox;
pub mod output;
mod paths;
mod patience;
mod people;
mod posting;
mod prekeys;
mod publishing;
mod reading;
mod receiving;
pub mod record;
mod rendezvous;
mod repair;
mod replays;
mod server;
mod sessions;
pub mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parlor_common::device_list::{DeviceListError, VerifiedDeviceList};
use parlor_common::id::{DeviceId, Incarnation, MessageId, Username};
use parlor_common::identity::DeviceSecret;
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use thiserror::Error;

use self::agreements::{Agreements, Lane};
use self::contacts::Contacts;
use self::dialing::DialBudget;
use self::fetching::Fetching;
use self::input::{Input, Intent, LocalAddress, NetInput, Now, Token};
use self::keying::Repaired;
use self::lists::ListWatch;
use self::offers::Offers;
use self::opening::Sender;
use self::outbox::Outbox;
use self::output::{Event, Incoming, IntentError, Transmit};
use self::paths::Paths;
use self::patience::Patience;
use self::posting::Posting;
use self::prekeys::Prekeys;
use self::publishing::Publication;
use self::receiving::Owed;
use self::record::{Change, Identity, Saved, Start};
use self::rendezvous::Rendezvous;
use self::repair::Repairs;
use self::replays::Replays;
use self::server::Purpose;
use self::sessions::Sessions;
use self::work::{Work, WorkDone};
use crate::crypto::agreement::{LocalParty, Party};

/// A peer's core.
#[derive(Debug)]
pub struct Node {
    me: Me,
    incarnation: Incarnation,
    next_number: u64,

    rendezvous: Rendezvous<Purpose>,
    sign_in: server::SignIn,
    contacts: Contacts,
    lists: ListWatch,

    local: Vec<LocalAddress>,
    observed: Option<SocketAddr>,
    paths: Paths,
    offers: Offers,
    dials: DialBudget,

    outbox: Outbox,
    /// The last message that was sent to each contact.
    last_sent: BTreeMap<Username, MessageId>,
    /// When the next message is to be erased.
    next_expiry: Option<Timestamp>,
    posting: Posting,
    fetching: Fetching,
    sessions: Sessions,
    agreements: Agreements,
    prekeys: Prekeys,
    publication: Publication,
    replays: Replays,
    repairs: Repairs,
    patience: Patience,
    /// What has arrived of each device in this turn, and is acknowledged at its end.
    receipts: BTreeMap<(DeviceId, Lane), Owed>,
    /// Receipts that wait for a step of the ratchet with a device.
    stepping: BTreeMap<DeviceId, BTreeMap<Lane, Owed>>,
    /// What the person has seen of each contact in this turn, and is told at its end.
    read: BTreeMap<Username, BTreeSet<MessageId>>,
    /// The same, of those to whom there was no way.
    unsaid_read: BTreeMap<Username, BTreeSet<MessageId>>,
    /// New sessions that are to say why they are there, and which messages were received last.
    repaired: Vec<(Repaired, Vec<MessageId>)>,
    /// Those of them to whose device there was no way.
    unsaid: Vec<(Repaired, Vec<MessageId>)>,
    /// Contacts to whom something may be sent at the end of this turn.
    ready: BTreeSet<Username>,
    /// Messages that were queued in this turn, by their places in `changes`.
    fresh: BTreeMap<MessageId, usize>,

    changes: Vec<Change>,
    awaiting: VecDeque<Awaiting>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    work: VecDeque<Work>,
}

/// This device and whose it is.
#[derive(Debug)]
struct Me {
    name: Username,
    server: ServerAddress,
    device: Arc<DeviceSecret>,
    device_id: DeviceId,
    devices: VerifiedDeviceList,
    party: Arc<LocalParty>,
}

/// What an answer of the store is for.
#[derive(Debug)]
enum Awaiting {
    /// A message was saved: it is told if it was new. Its row is not known yet.
    Received(Box<Incoming>),
    /// The id of a message whose envelope arrived again is acknowledged again.
    Opened(Sender),
    /// Messages to a contact were seen there.
    Read(Username),
    /// Messages whose time was over are erased.
    NextExpiry,
    /// What was received last is said on a new session.
    LastReceived(Repaired),
}

/// A profile that no node can start from.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum StartError {
    /// Its own device list does not hold.
    #[error("the profile's device list does not hold: {0}")]
    DeviceList(#[from] DeviceListError),
    /// Its own device is not on its own list.
    #[error("the profile's device is not on its account's list")]
    NotListed,
}

impl Node {
    /// A node of a stored profile. `incarnation` must be fresh randomness at each start.
    pub fn new(start: Start, incarnation: Incarnation, now: Now) -> Result<Self, StartError> {
        let Start { identity, contacts, sessions, prekeys, outbox, .. } = start;
        let me = Me::new(identity)?;
        let mut outbox = Outbox::new(outbox, now.timer);
        for contact in &contacts {
            outbox.set_aside(&contact.name, contact.account_key);
        }
        let sessions = Sessions::new(sessions);
        outbox.unseal_unless(|device, session| sessions.contains(device, session));
        let mut node = Self {
            incarnation,
            next_number: 1,
            rendezvous: Rendezvous::new(now.timer),
            sign_in: server::SignIn::default(),
            contacts: Contacts::new(contacts),
            lists: ListWatch::default(),
            local: Vec::new(),
            observed: None,
            paths: Paths::new(me.device.public()),
            offers: Offers::default(),
            dials: DialBudget::default(),
            ready: outbox.contacts().into_iter().collect(),
            outbox,
            last_sent: start.last_sent.into_iter().collect(),
            next_expiry: start.next_expiry,
            posting: Posting::default(),
            fetching: Fetching::default(),
            sessions,
            agreements: Agreements::new(start.prekeys_seen),
            prekeys: Prekeys::new(&prekeys),
            publication: Publication::new(start.starts),
            replays: Replays::new(start.ephemerals),
            repairs: Repairs::default(),
            patience: Patience::default(),
            receipts: BTreeMap::new(),
            stepping: BTreeMap::new(),
            read: BTreeMap::new(),
            unsaid_read: BTreeMap::new(),
            repaired: Vec::new(),
            unsaid: Vec::new(),
            fresh: BTreeMap::new(),
            changes: Vec::new(),
            awaiting: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            work: VecDeque::new(),
            me,
        };
        node.expire_keys(now);
        Ok(node)
    }

    /// Takes one thing that happened.
    pub fn handle(&mut self, input: Input, now: Now, rng: &mut dyn CryptoRng) {
        match input {
            Input::Intent(token, intent) => self.handle_intent(token, intent, now, rng),
            Input::Net(input) => self.handle_net(input, now, rng),
            Input::Work(done) => self.handle_work(done, now),
        }
    }

    fn handle_work(&mut self, done: WorkDone, now: Now) {
        match done {
            WorkDone::Initiated { device, session } => {
                self.handle_initiated(device, session, now);
            }
            WorkDone::Accepted { source, envelope, accepted } => {
                self.handle_accepted(source, &envelope, accepted, now);
            }
            WorkDone::Turned { source, envelope, turned } => {
                self.handle_turned(source, *envelope, turned, now);
            }
            WorkDone::Strode { device, session, step } => {
                self.handle_strode(device, session, *step);
            }
            WorkDone::PrekeysSigned { signed, one_time } => self.put_prekeys(signed, one_time),
        }
    }

    fn handle_intent(&mut self, token: Token, intent: Intent, now: Now, rng: &mut dyn CryptoRng) {
        match intent {
            Intent::AddContact { name, account_key } => {
                self.add_contact(token, name, account_key, now);
            }
            Intent::AcceptContact { name } => self.accept_contact(token, &name, now),
            Intent::DeclineContact { name } => self.decline_contact(token, name),
            Intent::RemoveContact { name } => self.remove_contact(token, name),
            Intent::BlockContact { name } => self.block_contact(token, name),
            Intent::UnblockContact { name } => self.unblock_contact(token, name),
            Intent::VerifyContact { name } => self.verify_contact(token, &name),
            Intent::ConfirmDevices { list } => self.confirm_devices(token, list),
            Intent::Send { to, text } => self.send(token, to, text, now),
            Intent::TakeBack { id } => self.take_back(token, id),
            Intent::Edit { id, text } => self.edit(token, id, text),
            Intent::Read { contact, ids } => self.have_read(token, contact, ids),
            Intent::Typing { contact } => self.typing(token, &contact, now, rng),
            Intent::SetTimer { name, seconds } => self.set_timer(token, &name, seconds),
            Intent::Printed { rows } => {
                self.changes.push(Change::MarkPrinted(rows));
                self.done(token, Ok(()));
            }
        }
    }

    fn handle_net(&mut self, input: NetInput, now: Now, rng: &mut dyn CryptoRng) {
        match input {
            NetInput::ServerUp => self.rendezvous.connected(),
            NetInput::ServerEvent(event) => self.handle_server_event(*event, now, rng),
            NetInput::ServerReply { id, payload } => {
                self.handle_server_reply(id, &payload, now, rng);
            }
            NetInput::RequestFailed { id } => self.handle_request_failed(id),
            NetInput::ServerDown(reason) => self.server_lost(reason, now, rng),
            NetInput::LocalAddresses(addresses) => self.local = addresses,
            NetInput::LinkUp { link, device, address, dialed, rtt } => {
                let up = linking::Up { link, device, address, dialed, rtt };
                self.handle_link_up(up, now);
            }
            NetInput::LinkFrame { link, frame } => self.handle_frame(link, frame, now, rng),
            NetInput::LinkDown { link } => self.handle_link_down(link, now),
            NetInput::DialFailed { device, address } => {
                tracing::debug!(%device, %address, "a dial came to nothing");
            }
        }
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.rendezvous.start_try(now.timer) {
            self.transmits.push_back(Transmit::ConnectServer);
        }
        for link in self.paths.take_superfluous(now.timer) {
            self.transmits.push_back(Transmit::CloseLink { link });
        }
        self.look_after_prekeys(now);
        self.expire_keys(now);
        self.erase_expired(now);
        self.retry_fetching(now);
        self.offers.outgrown(now.timer);
        self.outbox.handle_timeout(now.timer);
        self.ready.extend(self.outbox.contacts());
    }

    /// When [`Node::handle_timeout`] next has something to do, by the timer's clock.
    pub fn poll_timeout(&self, now: Now) -> Option<Timestamp> {
        let reachable = self.outbox.contacts();
        let reachable = reachable.iter().filter(|name| self.may_offer(name));
        [
            self.rendezvous.poll_timeout(),
            self.paths.poll_timeout(),
            self.offers.poll_timeout(reachable),
            self.repairs.poll_timeout(now.timer),
            self.bundles_timeout(now.timer),
            self.publication.poll_timeout(),
            self.outbox.poll_timeout(),
            self.posting.poll_timeout(now.timer),
            self.fetching.poll_timeout(),
            self.expiry_timeout(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Ends a turn: what is to be saved, all together, before anything else is polled.
    pub fn take_changes(&mut self, now: Now, rng: &mut dyn CryptoRng) -> Vec<Change> {
        self.acknowledge(now, rng);
        self.say_read(now, rng);
        self.repair(now, rng);
        self.say_resend(now, rng);
        for contact in std::mem::take(&mut self.ready) {
            self.pump(&contact, now, rng);
        }
        self.post_loose();
        self.acknowledge_envelopes(now);
        self.order_strides();
        self.fresh.clear();
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(self.sessions.take_changes());
        changes
    }

    /// The changes were saved; `saved` is what came of those that answer.
    pub fn handle_saved(&mut self, saved: Vec<Saved>, now: Now) {
        for saved in saved {
            match (self.awaiting.pop_front(), saved) {
                (Some(Awaiting::Received(message)), Saved::Received(Some(row))) => {
                    self.events.push_back(Event::Message(Incoming { row, ..*message }));
                }
                (Some(Awaiting::Received(_)), Saved::Received(None)) => {}
                (Some(Awaiting::Opened(sender)), Saved::Opened(opened)) => {
                    self.found_opened(&sender, opened, now);
                }
                (Some(Awaiting::Read(contact)), Saved::Read(ids)) => {
                    self.found_read(&contact, ids);
                }
                (Some(Awaiting::NextExpiry), Saved::NextExpiry(at)) => {
                    self.next_expiry = self.next_expiry.into_iter().chain(at).min();
                }
                (Some(Awaiting::LastReceived(repaired)), Saved::LastReceived(ids)) => {
                    self.repaired.push((repaired, ids));
                }
                (awaiting, saved) => {
                    tracing::error!(?awaiting, ?saved, "the store's answers are out of step");
                }
            }
        }
    }

    /// Whether another turn has something to save already.
    pub fn has_changes(&self) -> bool {
        let nothing = self.receipts.is_empty() && self.repaired.is_empty();
        !nothing || self.fetching.is_due() || !self.ready.is_empty() || !self.changes.is_empty()
    }

    /// The next order to the network.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next work to do off the loop.
    pub fn poll_work(&mut self) -> Option<Work> {
        self.work.pop_front()
    }

    fn done(&mut self, token: Token, result: Result<(), IntentError>) {
        self.events.push_back(Event::Done { token, result });
    }
}

impl Me {
    fn new(identity: Identity) -> Result<Self, StartError> {
        let Identity { name, server, account_key, devices, device, dh } = identity;
        let devices = devices.verify(&name, &account_key)?;
        let entry = devices.device(&device.public()).ok_or(StartError::NotListed)?.clone();
        let device_id = entry.id;
        let party = Party { name: name.clone(), account_key, device: entry };
        let party = Arc::new(LocalParty { party, dh });
        let device = Arc::new(device);
        Ok(Self { name, server, device, device_id, devices, party })
    }

    fn server_is_on_loopback(&self) -> bool {
        let host = &self.server.at.host;
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}
