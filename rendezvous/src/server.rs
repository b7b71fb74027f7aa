//! The rendezvous without its sockets, its clock and its disk: requests in, replies and events out.
//!
//! The core holds what is connected and nothing that is stored. A handler that needs the store
//! yields a [`Query`] and goes on with its [`Answer`]; a reply leaves only after the answer, and so
//! after the commit, that it stands on. Each group of requests has its file:
//!
//! | file | requests |
//! | --- | --- |
//! | `arrivals.rs` | none: connections that come and go |
//! | `buckets.rs`, `sources.rs` | all: how often who may ask |
//! | `registration.rs` | `register.*` |
//! | `email.rs` | `register.start`, where it has a code mailed |
//! | `login.rs` | `login.*`, `recovery.*` |
//! | `account.rs` | `password.*`, `account.*` |
//! | `admin.rs` | none: what who runs the server asks |
//! | `housekeeping.rs` | none: what the server does by itself |
//! | `devices.rs` | `user.get`, `device.*` but for the next |
//! | `cosigning.rs` | `device.cosign` |
//! | `contacts.rs` | `contact.*`, `held.*` |
//! | `mailbox.rs` | `envelope.*` |
//! | `blocks.rs` | `contact.block`, `contact.unblock` |
//! | `invitations.rs` | `invite.create` |
//! | `prekeys.rs` | `prekeys.*`, `device.start` |
//! | `presence.rs` | `presence.watch` |
//! | `signalling.rs` | `path.offer` |

mod account;
mod admin;
mod arrivals;
mod blocks;
mod buckets;
mod bus;
mod connections;
mod contacts;
mod cosigning;
mod devices;
mod email;
mod exchange;
#[cfg(test)]
mod hostile;
mod housekeeping;
mod invitations;
mod login;
mod mailbox;
mod output;
mod prekeys;
mod presence;
mod query;
mod registration;
mod reply;
mod signalling;
mod sources;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, VecDeque};

use parlor_common::candidate::Offer;
use parlor_common::device_list::SignedDeviceList;
use parlor_common::id::Username;
use parlor_common::identity::{DeviceKey, ServerKey};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    ErrorCode, ErrorReply, Event, Invitation, MAX_EVENT, MAX_POST, MAX_REQUEST, Rekeying, Request,
};
use rand::CryptoRng;

use self::admin::AfterAdmin;
use self::buckets::RequestBuckets;
use self::bus::PresentAccounts;
pub use self::bus::{Audience, Bus, Loopback, NodeId, Notice};
use self::connections::{Connections, Identity, Standing};
use self::email::{Mailing, mail_failed};
use self::housekeeping::Housekeeping;
use self::mailbox::Shares;
use self::output::Asker;
pub use self::output::{AdminId, CloseReason, ConnId, MailId, Output, QueryId, StreamId};
pub use self::query::{
    Account, Admission, Answer, Answering, Asking, Blocking, BundlesAsked, CodeAsking,
    ContactAsked, Creation, Credentials, Deleted, EmailCodeAsked, EmailCodeTried, EnvelopesPosted,
    InvitationMade, KnownDevice, ListChange, ListVersions, LoginAttempt, LoginStart, MutualContact,
    MutualContacts, NamedDevice, NewAccount, Origin, PasswordChange, Posting, PrekeysPut, Query,
    RegistrationStart, Rekey, Share, Taking, Tidied, Tidying, UnsentMail, Way,
};
use self::registration::Entrance;
pub use self::registration::Registration;
use self::reply::{Handled, Step, malformed, refusal, refused, unknown_device};
pub use self::sources::Source;
pub(crate) use self::sources::Sources;
use crate::admin::Counters;
use crate::email::{EmailPolicy, Mail};
use crate::limits::Limits;
use crate::opaque::OpaqueSetup;

/// A connection that has sent this many malformed requests is closed: an honest client of another
/// version sends none, and one with a bug should be noticed.
pub const MAX_MALFORMED: u32 = 20;

/// Requests of one connection that may wait while its device is looked up. QUIC allows it no more
/// streams at once than that.
pub const MAX_WAITING: usize = 8;

/// What a server is and keeps to itself.
#[derive(Debug)]
pub struct ServerParams {
    /// The server's key: its identity in every login.
    pub key: ServerKey,
    /// SHA-256 of the next key, told to every client.
    pub next_key_hash: [u8; 32],
    /// OPAQUE's long-term secrets.
    pub opaque: OpaqueSetup,
    /// Who may register.
    pub registration: Registration,
    /// Whose addresses may register, and what is mailed to them, where it is by e-mail.
    pub email: Option<EmailPolicy>,
    /// How much is too much.
    pub limits: Limits,
    /// Which of the servers that share the store this is.
    pub node: NodeId,
}

/// The rendezvous' core.
#[derive(Debug)]
pub struct Server {
    params: ServerParams,
    connections: Connections,
    present: PresentAccounts,
    sources: Sources,
    buckets: RequestBuckets,
    shares: Shares,
    pending: BTreeMap<QueryId, Pending>,
    mails: BTreeMap<MailId, Mailing>,
    outputs: VecDeque<Output>,
    last_query: u64,
    last_mail: u64,
    counters: Counters,
    housekeeping: Housekeeping,
}

/// What a query was asked for.
#[derive(Debug)]
enum Pending {
    /// Whose device a new connection has.
    Arrival(ConnId),
    /// Who is to hear that an account came, went or changed its devices.
    Announcement(Username),
    /// Nothing more.
    Nothing,
    /// What who runs the server asked.
    Admin(AdminId, AfterAdmin),
    /// What has had its time.
    Tidied,
    /// The head of the audit trail, to be logged.
    AuditHead,
    /// A request that goes on.
    Request(Asker, After),
}

/// Where a request goes on when the store has answered.
#[derive(Debug)]
enum After {
    RegisterStart { name: Username, message: Vec<u8>, entrance: Entrance },
    RegisterFinish(Identity),
    EmailCode { mailing: Box<Mailing>, mail: Box<Mail> },
    MailTakenBack,
    LoginStart { name: Username, message: Vec<u8>, origin: Origin },
    RecoveryStart { name: Username, origin: Origin },
    LoginFinish { name: Username, way: Way },
    PasswordFinish { name: Username },
    RekeyCheck { name: Username, origin: Origin, rekeying: Box<Rekeying> },
    RekeyDone(Identity),
    Deleted(Username),
    UserGet,
    DeviceAddCheck { name: Username, origin: Origin, devices: Box<SignedDeviceList> },
    DeviceAddDone(Identity),
    DeviceRemoveCheck { name: Username, origin: Origin, devices: Box<SignedDeviceList> },
    DeviceRemoveDone(Username),
    DeviceList(Username),
    DeviceName,
    DeviceCosignCheck { name: Username, origin: Origin, devices: Box<SignedDeviceList> },
    DeviceCosignDone(Username),
    ContactList,
    ContactRequest { from: Username, to: Username },
    ContactAnswer { by: Username, asker: Username },
    ContactRemove { of: Username, contact: Username },
    InviteCreate(Box<Invitation>),
    Blocked { owner: Username, other: Username },
    HeldGet,
    HeldAck,
    PresenceWatch,
    PathOffer { from: Username, to: Username, offer: Box<Offer> },
    PrekeysPut,
    PrekeysCount,
    PrekeysGet,
    DeviceStart,
    EnvelopePost,
    EnvelopeGet,
    EnvelopeAck,
}

impl Server {
    /// A server with nobody connected.
    pub fn new(params: ServerParams) -> Self {
        Self {
            connections: Connections::default(),
            present: PresentAccounts::default(),
            sources: Sources::new(params.limits.parts_before_widening),
            buckets: buckets::full(),
            shares: Shares::default(),
            params,
            pending: BTreeMap::new(),
            mails: BTreeMap::new(),
            outputs: VecDeque::new(),
            last_query: 0,
            last_mail: 0,
            counters: Counters::default(),
            housekeeping: Housekeeping::default(),
        }
    }

    /// A request's payload arrived on a stream.
    pub fn handle_request(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        payload: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) {
        let asker = Asker { conn, stream };
        match serde_json::from_slice(payload) {
            Ok(request) if !fits(&request, payload) => self.handle_malformed(conn, stream),
            Ok(request) => self.admit(asker, request, now, rng),
            Err(error) => {
                tracing::debug!(%conn, %error, "a malformed request");
                self.handle_malformed(conn, stream);
            }
        }
    }

    /// How long a request of a connection may be, in bytes; absent while it is not known whose its
    /// device is.
    pub fn longest_request(&self, conn: ConnId) -> Option<usize> {
        match self.connections.get(conn)?.standing {
            Standing::Arriving(_) => None,
            Standing::Stranger => Some(MAX_REQUEST),
            Standing::SignedIn(_) => Some(MAX_POST),
        }
    }

    /// What arrived on a stream is no request: not a whole frame, one too long, or no JSON.
    pub fn handle_malformed(&mut self, conn: ConnId, stream: StreamId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.malformed += 1;
        let over = connection.malformed >= MAX_MALFORMED;
        let error = malformed("that is not a request of the rendezvous protocol");
        self.conclude(Asker { conn, stream }, Err(error));
        if over {
            tracing::debug!(%conn, "closed after too many malformed requests");
            self.close(conn, CloseReason::Misbehaved);
        }
    }

    /// The store answered a query.
    pub fn handle_answer(
        &mut self,
        query: QueryId,
        answer: Answer,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) {
        match self.pending.remove(&query) {
            Some(Pending::Arrival(conn)) => self.welcome(conn, answer, now, rng),
            Some(Pending::Announcement(name)) => self.tell_contacts(&name, answer),
            Some(Pending::Request(asker, after)) => {
                let handled = self.resume(asker, after, answer, now, rng);
                self.blame(asker, &handled, now);
                self.conclude(asker, handled);
            }
            Some(Pending::Admin(id, after)) => self.resume_admin(id, after, answer),
            Some(Pending::Tidied) => Self::tidied(&answer),
            Some(Pending::AuditHead) => Self::log_audit_head(&answer),
            Some(Pending::Nothing) | None => {}
        }
    }

    /// A node published something: this one or another.
    pub fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Present { node, name, device, online } => {
                self.note_present(name, (node, device), online);
            }
            Notice::Arrived { node, device } => {
                let conn = self.connections.of_device(&device);
                if let Some(conn) = conn.filter(|_| node != self.params.node) {
                    self.replace(conn);
                }
            }
            Notice::DevicesChanged { name } => self.announce(name),
            Notice::Event { to, audience, event } => {
                for conn in self.connections.audience(&to, audience) {
                    self.tell(conn, &event);
                }
            }
            Notice::Envelopes { device } => self.tell_of_envelopes(&device),
            Notice::CutOff { devices, change } => self.cut_off(&devices, change),
        }
    }

    /// The server is about to stop: everybody is told and disconnected.
    pub fn handle_stopping(&mut self, now: Timestamp) {
        tracing::info!(at = %now, "stopping");
        self.ask_audit_head();
        for conn in self.connections.ids() {
            self.tell(conn, &Event::Stopping {});
            self.outputs.push_back(Output::Close { conn, reason: CloseReason::Stopping });
        }
        let mut gone = std::mem::take(&mut self.connections);
        for exchange in gone.take_exchanges() {
            self.give_up(exchange);
        }
        for (name, device) in gone.shown() {
            self.publish_present(name.clone(), device, false);
        }
    }

    /// What the driver has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Handles a request now, or when its device is known.
    fn admit(&mut self, asker: Asker, request: Request, now: Timestamp, rng: &mut dyn CryptoRng) {
        let Some(connection) = self.connections.get_mut(asker.conn) else { return };
        match &mut connection.standing {
            Standing::Arriving(waiting) if waiting.len() < MAX_WAITING => {
                waiting.push((asker.stream, request));
            }
            Standing::Arriving(_) => {
                let error = refusal(ErrorCode::TooFast, "too many requests at once");
                self.conclude(asker, Err(error));
            }
            Standing::Stranger | Standing::SignedIn(_) => {
                let drawn = self.draw(asker, &request, now);
                let handled = drawn.and_then(|()| self.start(asker, request, now, rng));
                self.blame(asker, &handled, now);
                self.conclude(asker, handled);
            }
        }
    }

    fn start(
        &mut self,
        asker: Asker,
        request: Request,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        match request {
            Request::RegisterStart { name, message, ticket } => {
                self.register_start(asker, (name, ticket), message.0, now)
            }
            Request::RegisterFinish(registration) => {
                self.register_finish(asker, *registration, now)
            }
            Request::LoginStart { name, message } => self.login_start(asker, name, message.0, now),
            Request::LoginFinish { message } => self.login_finish(asker, &message.0, now),
            Request::RecoveryStart { name } => self.recovery_start(asker, name, now),
            Request::RecoveryFinish { proof } => self.recovery_finish(asker, &proof, now),
            Request::PasswordStart { message } => self.password_start(asker, &message.0, now, rng),
            Request::PasswordFinish { upload, account_box } => {
                self.password_finish(asker, &upload.0, account_box, now)
            }
            Request::AccountRekey(rekeying) => self.account_rekey(asker, *rekeying, now),
            Request::AccountDelete {} => self.account_delete(asker, now),
            Request::DeviceList {} => self.device_list(asker),
            Request::DeviceName { device, name } => self.device_name(asker, device, name),
            Request::DeviceRemove { devices } => self.device_remove(asker, devices, now),
            Request::DeviceAdd { devices } => self.device_add(asker, devices, now),
            Request::DeviceCosign { devices } => self.device_cosign(asker, devices, now),
            Request::UserGet { name } => self.user_get(asker, name),
            Request::ContactList {} => self.contact_list(asker),
            Request::ContactRequest { name, card } => self.contact_request(asker, name, *card, now),
            Request::ContactAnswer { name, card } => self.contact_answer(asker, name, card),
            Request::ContactRemove { name } => self.contact_remove(asker, name),
            Request::ContactBlock { name } => self.contact_block(asker, name),
            Request::ContactUnblock { name } => self.contact_unblock(asker, name),
            Request::HeldGet {} => self.held_get(asker),
            Request::HeldAck { ids } => self.held_ack(asker, ids),
            Request::PresenceWatch {} => self.presence_watch(asker),
            Request::PathOffer { name, offer } => self.path_offer(asker, name, offer),
            Request::PrekeysPut { signed, one_time, replace } => {
                self.prekeys_put(asker, signed, one_time, replace, now)
            }
            Request::PrekeysCount {} => self.prekeys_count(asker, now),
            Request::PrekeysGet { name } => self.prekeys_get(asker, name, now),
            Request::DeviceStart { count } => self.device_start(asker, count),
            Request::InviteCreate { uses } => self.invite_create(asker, uses, now, rng),
            Request::EnvelopePost { name, device, envelopes } => {
                self.envelope_post(asker, (name, device), envelopes, (now, rng))
            }
            Request::EnvelopeGet { after } => self.envelope_get(asker, after),
            Request::EnvelopeAck { ids } => self.envelope_ack(asker, ids),
            Request::Unknown => {
                Err(refusal(ErrorCode::Unsupported, "this server does not know the request"))
            }
        }
    }

    fn resume(
        &mut self,
        asker: Asker,
        after: After,
        answer: Answer,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        match after {
            After::RegisterStart { name, message, entrance } => {
                self.register_started(asker, (name, entrance), &message, &answer, (now, rng))
            }
            After::RegisterFinish(identity) => self.registered(asker, identity, &answer),
            After::EmailCode { mailing, mail } => self.send_code(*mailing, *mail, &answer),
            After::MailTakenBack => Err(mail_failed()),
            After::LoginStart { name, message, origin } => {
                self.login_started(asker, (name, &message, origin), answer, rng)
            }
            After::RecoveryStart { name, origin } => {
                self.recovery_started(asker, (name, origin), answer)
            }
            After::LoginFinish { name, way } => self.logged_in(asker, (name, way), answer, now),
            After::PasswordFinish { name } => self.password_changed(asker, name, &answer),
            After::RekeyCheck { name, origin, rekeying } => {
                self.rekey_check(asker, (name, origin), *rekeying, answer)
            }
            After::RekeyDone(identity) => self.rekeyed(asker, identity, answer),
            After::Deleted(name) => self.account_deleted(asker, &name, answer),
            After::UserGet => Self::user_got(answer),
            After::DeviceAddCheck { name, origin, devices } => {
                self.device_add_check(asker, (name, origin), *devices, answer)
            }
            After::DeviceRemoveCheck { name, origin, devices } => {
                self.device_remove_check(asker, (name, origin), *devices, answer)
            }
            After::DeviceRemoveDone(name) => self.device_removed(asker, name, answer),
            After::DeviceList(name) => self.devices_listed(&name, answer),
            After::DeviceName => Self::device_named(&answer),
            After::DeviceAddDone(identity) => self.device_added(asker, identity, &answer),
            After::DeviceCosignCheck { name, origin, devices } => {
                self.device_cosign_check(asker, (name, origin), *devices, answer)
            }
            After::DeviceCosignDone(name) => self.device_cosigned(asker, name, &answer),
            After::ContactList => Self::contact_listed(answer),
            After::ContactRequest { from, to } => self.contact_requested(&from, &to, &answer),
            After::ContactAnswer { by, asker } => self.contact_answered(&by, &asker, &answer),
            After::ContactRemove { of, contact } => self.contact_removed(&of, &contact, &answer),
            After::InviteCreate(invitation) => Self::invited(*invitation, &answer),
            After::Blocked { owner, other } => self.contact_blocked(&owner, &other, &answer),
            After::HeldGet => Self::held_got(answer),
            After::HeldAck => Self::held_acked(&answer),
            After::PresenceWatch => self.presence_now(answer),
            After::PathOffer { from, to, offer } => self.pass_offer(&from, &to, offer, &answer),
            After::PrekeysPut => Self::prekeys_kept(&answer),
            After::PrekeysCount => Self::prekeys_counted(&answer),
            After::PrekeysGet => Self::prekeys_got(answer),
            After::DeviceStart => Self::device_started(&answer),
            After::EnvelopePost => self.envelope_posted(&answer),
            After::EnvelopeGet => Self::envelopes_got(answer),
            After::EnvelopeAck => self.envelopes_acked(&answer, now),
        }
    }

    /// Replies to a request that has come to an end.
    fn conclude(&mut self, asker: Asker, handled: Handled) {
        let payload = match handled {
            Ok(Step::Wait) => return,
            Ok(Step::Reply(payload)) => payload,
            Err(error) => {
                self.counters.refused(error.code);
                refused(error)
            }
        };
        let Asker { conn, stream } = asker;
        if self.connections.get(conn).is_some() {
            self.outputs.push_back(Output::Reply { conn, stream, payload });
        }
    }

    /// Asks the store on behalf of a request.
    #[expect(clippy::unnecessary_wraps, reason = "it is what its callers come to")]
    fn ask(&mut self, asker: Asker, query: Query, after: After) -> Handled {
        self.query(query, Pending::Request(asker, after));
        Ok(Step::Wait)
    }

    fn query(&mut self, query: Query, pending: Pending) {
        self.last_query += 1;
        let id = QueryId(self.last_query);
        self.pending.insert(id, pending);
        self.outputs.push_back(Output::Query(id, query));
    }

    fn tell(&mut self, conn: ConnId, event: &Event) {
        match serde_json::to_vec(event) {
            Ok(payload) if payload.len() <= MAX_EVENT => {
                self.outputs.push_back(Output::Event { conn, payload });
            }
            Ok(payload) => {
                tracing::debug!(%conn, bytes = payload.len(), "an event is too long: dropped");
            }
            Err(error) => tracing::error!(%error, "an event does not serialize"),
        }
    }

    fn publish(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Publish(notice));
    }

    fn publish_present(&mut self, name: Username, device: DeviceKey, online: bool) {
        let node = self.params.node;
        self.publish(Notice::Present { node, name, device, online });
    }

    fn publish_event(&mut self, to: Username, audience: Audience, event: Event) {
        self.publish(Notice::Event { to, audience, event });
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.counters.cut(reason);
        self.outputs.push_back(Output::Close { conn, reason });
        self.forget(conn);
    }

    /// The account that a request's connection speaks for.
    fn identity(&self, asker: Asker) -> Result<&Identity, ErrorReply> {
        let known = self.connections.get(asker.conn).and_then(connections::Connection::identity);
        known.ok_or_else(unknown_device)
    }

    /// The name of that account.
    fn name(&self, asker: Asker) -> Result<Username, ErrorReply> {
        self.identity(asker).map(|identity| identity.name.clone())
    }
}

/// Whether a request is no longer than one of its kind may be.
fn fits(request: &Request, payload: &[u8]) -> bool {
    payload.len() <= MAX_REQUEST || matches!(request, Request::EnvelopePost { .. })
}
