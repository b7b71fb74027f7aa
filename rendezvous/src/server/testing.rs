//! Core and store in memory, with clients that speak in requests and listen to events.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parlor_common::card::Card;
use parlor_common::device_list::{DeviceEntry, DeviceList, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountSecret, DeviceSecret, ServerKey};
use parlor_common::prekey::{DhPublicBytes, KemPublicBytes, PrekeyPair, PrekeyUse};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Done, ErrorCode, ErrorReply, Event, Held, HeldItems, LoggedIn, LoginStarted, Presence,
    RegisterStarted, Registration, Reply, Request, Ticket,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    AdminId, Bus, CloseReason, ConnId, Loopback, MailId, NodeId, Output, Query, QueryId, Server,
    ServerParams, StreamId,
};
use crate::admin::{AdminAnswer, AdminErrorCode, AdminReply, AdminRequest, PAGE, UserChange};
use crate::audit::Row;
use crate::config::Registration as Policy;
use crate::email::{Mail, NotSent};
use crate::limits::Limits;
use crate::opaque::{Binding, OpaqueSetup, client};
use crate::store::Store;
use crate::turn::settle;

pub(super) const SERVER: ServerKey = ServerKey::from_bytes([9; 32]);
pub(crate) const PASSWORD: &str = "correct horse battery";
const EPOCH: u64 = 1_800_000_000_000;

pub(super) struct World {
    pub(super) server: Server,
    pub(super) store: Store,
    bus: Box<dyn Bus>,
    pub(super) now: Timestamp,
    rng: StdRng,
    last: u64,
    /// Where connections come from.
    pub(super) address: IpAddr,
    events: BTreeMap<ConnId, Vec<Event>>,
    closed: BTreeMap<ConnId, CloseReason>,
    replies: BTreeMap<(ConnId, StreamId), Vec<u8>>,
    mails: Vec<(MailId, Mail)>,
    admin: Option<AdminReply>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::limited(Limits::default())
    }

    pub(super) fn limited(limits: Limits) -> Self {
        Self::over(Store::in_memory().unwrap(), limits)
    }

    pub(super) fn over(store: Store, limits: Limits) -> Self {
        let bus = Box::new(Loopback::default());
        Self::node(store, bus, ServerParams { limits, ..params() })
    }

    /// A world of which something is other than usual.
    pub(super) fn with(change: impl FnOnce(ServerParams) -> ServerParams) -> Self {
        let (store, bus) = (Store::in_memory().unwrap(), Box::new(Loopback::default()));
        Self::node(store, bus, change(params()))
    }

    /// The same database under another server, and later.
    pub(super) fn restart(self, change: impl FnOnce(ServerParams) -> ServerParams) -> Self {
        let bus = Box::new(Loopback::default());
        let world = Self::node(self.store, bus, change(params()));
        Self { now: self.now, last: self.last, ..world }
    }

    /// One of several servers that share a database and a bus.
    pub(super) fn node(store: Store, bus: Box<dyn Bus>, params: ServerParams) -> Self {
        Self {
            server: Server::new(params),
            store,
            bus,
            now: Timestamp::from_millis(EPOCH),
            rng: StdRng::from_seed([2; 32]),
            last: 0,
            address: [192, 0, 2, 7].into(),
            events: BTreeMap::new(),
            closed: BTreeMap::new(),
            replies: BTreeMap::new(),
            mails: Vec::new(),
            admin: None,
        }
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Connects the device of a seed; what the server asks and tells is not looked at yet.
    pub(super) fn begin_connect(&mut self, device: u8) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        let key = secret(device).public();
        let address = SocketAddr::new(self.address, 5000);
        self.server.handle_connected(conn, key, address, exporter(conn), self.now);
        conn
    }

    pub(super) fn connect(&mut self, device: u8) -> ConnId {
        let conn = self.begin_connect(device);
        self.settle();
        conn
    }

    pub(super) fn disconnect(&mut self, conn: ConnId) {
        self.server.handle_disconnected(conn, self.now);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        let Self { server, store, bus, now, rng, .. } = self;
        for output in settle(server, store, bus.as_mut(), *now, rng) {
            match output {
                Output::Query(..) | Output::Publish(_) => panic!("settled"),
                Output::Admin { reply, .. } => assert!(self.admin.replace(reply).is_none()),
                Output::Reply { conn, stream, payload } => {
                    assert!(self.replies.insert((conn, stream), payload).is_none());
                }
                Output::Event { conn, payload } => {
                    let event = serde_json::from_slice(&payload).unwrap();
                    self.events.entry(conn).or_default().push(event);
                }
                Output::Close { conn, reason } => {
                    self.closed.insert(conn, reason);
                }
                Output::Mail { id, mail } => self.mails.push((id, mail)),
            }
        }
    }

    /// Sends bytes as a request; what becomes of them is not looked at yet.
    pub(super) fn send(&mut self, conn: ConnId, payload: &[u8]) -> StreamId {
        self.last += 1;
        let stream = StreamId(self.last);
        self.server.handle_request(conn, stream, payload, self.now, &mut self.rng);
        stream
    }

    /// The reply to a request, taken.
    pub(super) fn reply<T: DeserializeOwned>(
        &mut self,
        conn: ConnId,
        stream: StreamId,
    ) -> Result<T, ErrorReply> {
        let payload = self.replies.remove(&(conn, stream));
        parse_reply(&payload.unwrap_or_else(|| panic!("no reply")))
    }

    pub(super) fn try_call<T: DeserializeOwned>(
        &mut self,
        conn: ConnId,
        request: &Request,
    ) -> Result<T, ErrorReply> {
        let stream = self.send(conn, &to_json(request));
        self.settle();
        self.reply(conn, stream)
    }

    pub(super) fn call<T: DeserializeOwned>(&mut self, conn: ConnId, request: &Request) -> T {
        self.try_call(conn, request).unwrap()
    }

    pub(super) fn refused(&mut self, conn: ConnId, request: &Request) -> ErrorCode {
        self.try_call::<serde_json::Value>(conn, request).unwrap_err().code
    }

    /// The mails since the last look.
    pub(super) fn mails(&mut self) -> Vec<(MailId, Mail)> {
        std::mem::take(&mut self.mails)
    }

    /// Tells the server what became of a mail.
    pub(super) fn mailed(&mut self, id: MailId, result: Result<(), NotSent>) {
        self.server.handle_mailed(id, result, self.now);
        self.settle();
    }

    /// Asks as who runs the server.
    pub(super) fn try_admin(
        &mut self,
        request: AdminRequest,
    ) -> Result<AdminAnswer, AdminErrorCode> {
        self.last += 1;
        self.server.handle_admin(AdminId(self.last), request, self.now, &mut self.rng);
        self.settle();
        match self.admin.take().unwrap_or_else(|| panic!("no reply")) {
            AdminReply::Ok(answer) => Ok(answer),
            AdminReply::Error(error) => Err(error.code),
        }
    }

    pub(super) fn admin(&mut self, request: AdminRequest) -> AdminAnswer {
        self.try_admin(request).unwrap()
    }

    /// The rows of the audit trail.
    pub(super) fn trail(&mut self) -> Vec<Row> {
        let answer = self.admin(AdminRequest::AuditNewest { limit: PAGE });
        let AdminAnswer::Audit(page) = answer else { panic!("{answer:?}") };
        page.rows
    }

    /// The events of a connection since the last look.
    pub(super) fn events(&mut self, conn: ConnId) -> Vec<Event> {
        self.events.remove(&conn).unwrap_or_default()
    }

    pub(super) fn closed(&self, conn: ConnId) -> Option<CloseReason> {
        self.closed.get(&conn).copied()
    }

    /// First flight of a registration, and what is needed for the last.
    pub(super) fn start_registration(&mut self, conn: ConnId, as_name: &str) -> Vec<u8> {
        self.try_start_registration(conn, as_name, None).unwrap()
    }

    fn try_start_registration(
        &mut self,
        conn: ConnId,
        as_name: &str,
        ticket: Option<Ticket>,
    ) -> Result<Vec<u8>, ErrorReply> {
        let mut rng = StdRng::from_seed([3; 32]);
        let (message, state) = client::start_registration(PASSWORD, &mut rng);
        let message = message.into();
        let request = Request::RegisterStart { name: name(as_name), message, ticket };
        let started = self.try_call::<RegisterStarted>(conn, &request)?;
        Ok(state.finish(PASSWORD, &started.message.0, &name(as_name), &SERVER, &mut rng).0)
    }

    pub(super) fn try_register(
        &mut self,
        conn: ConnId,
        name: &str,
        devices: SignedDeviceList,
    ) -> Result<Done, ErrorReply> {
        self.register_with(conn, name, devices, None)
    }

    /// The same, with something to be let in by.
    pub(super) fn register_with(
        &mut self,
        conn: ConnId,
        name: &str,
        devices: SignedDeviceList,
        ticket: Option<Ticket>,
    ) -> Result<Done, ErrorReply> {
        let upload = self.try_start_registration(conn, name, ticket)?.into();
        let (account_box, recovery_box) = (vec![7; 60].into(), vec![8; 60].into());
        let registration = Registration { upload, devices, account_box, recovery_box };
        self.try_call(conn, &Request::RegisterFinish(Box::new(registration)))
    }

    /// Connects a device and registers an account with it.
    pub(super) fn register(&mut self, name: &str, device: u8) -> ConnId {
        let conn = self.connect(device);
        self.try_register(conn, name, first_list(name, device)).unwrap();
        self.events(conn);
        conn
    }

    /// Both flights of a login; a client that notices the wrong password sends garbage.
    pub(super) fn login(
        &mut self,
        conn: ConnId,
        as_name: &str,
        password: &str,
    ) -> Result<LoggedIn, ErrorCode> {
        self.try_login(conn, as_name, password).map_err(|error| error.code)
    }

    pub(super) fn try_login(
        &mut self,
        conn: ConnId,
        as_name: &str,
        password: &str,
    ) -> Result<LoggedIn, ErrorReply> {
        let (as_name, exporter) = (name(as_name), exporter(conn));
        let binding = Binding { name: &as_name, server: &SERVER, exporter: &exporter };
        let mut rng = StdRng::from_seed([4; 32]);
        let (message, state) = client::start_login(password, &mut rng);
        let request = Request::LoginStart { name: as_name.clone(), message: message.into() };
        let LoginStarted { message, .. } = self.try_call(conn, &request)?;
        let last = state.finish(password, &message.0, &binding, &mut rng);
        let message = last.map_or_else(|| vec![1; 64], |(message, _)| message).into();
        self.try_call(conn, &Request::LoginFinish { message })
    }

    /// Asks, as the account that signed up with `device`.
    pub(super) fn ask(&mut self, conn: ConnId, from: (&str, u8), to: &str) {
        let card = Box::new(card(from.0, from.1, to));
        self.call::<Done>(conn, &Request::ContactRequest { name: name(to), card });
    }

    pub(super) fn accept(&mut self, conn: ConnId, by: (&str, u8), asker: &str) {
        let card = Some(Box::new(card(by.0, by.1, asker)));
        self.call::<Done>(conn, &Request::ContactAnswer { name: name(asker), card });
    }

    /// Registers alice (device 1) and bob (device 2), and makes them contacts.
    pub(super) fn friends() -> (Self, ConnId, ConnId) {
        let mut world = Self::new();
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        world.ask(alice, ("alice", 1), "bob");
        world.accept(bob, ("bob", 2), "alice");
        for conn in [alice, bob] {
            let ids = world.held(conn).into_iter().map(|item| item.id).collect();
            world.call::<Done>(conn, &Request::HeldAck { ids });
            world.events(conn);
        }
        (world, alice, bob)
    }

    /// How many rows of an event there are in the audit trail.
    pub(super) fn audited(&self, event: &str) -> u32 {
        let sql = "SELECT count(*) FROM audit WHERE event = ?1";
        let connection = &self.store.database.connection;
        connection.query_row(sql, [event], |row| row.get(0)).unwrap()
    }

    /// The reasons of an event in the audit trail, and how often each.
    pub(super) fn audited_reasons(&self, event: &str) -> Vec<(String, u32)> {
        let sql = "SELECT reason, count(*) FROM audit WHERE event = ?1 GROUP BY 1 ORDER BY 1";
        let mut statement = self.store.database.connection.prepare(sql).unwrap();
        let rows = statement.query_map([event], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// All rows of a table, as text.
    pub(super) fn dump(&self, table: &str) -> String {
        let sql = format!("SELECT * FROM {table}");
        let mut statement = self.store.database.connection.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut values = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            values.extend((0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap())));
        }
        values.join(" ")
    }

    /// How many requests were refused.
    pub(super) fn refusals(&self) -> u64 {
        self.server.counters.refused.values().sum()
    }

    /// How many rows a table has.
    pub(super) fn rows(&self, table: &str) -> u32 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.store.database.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    /// What an admin does to a user, in the store.
    pub(super) fn change_user(&mut self, of: &str, change: UserChange) {
        let query = Query::ChangeUser { name: name(of), change, at: self.now };
        self.store.answer(vec![(QueryId(0), query)]);
    }

    pub(super) fn held(&mut self, conn: ConnId) -> Vec<Held> {
        self.call::<HeldItems>(conn, &Request::HeldGet {}).items
    }
}

/// What every server of these tests is: the same secrets, as a restarted server has.
pub(super) fn params() -> ServerParams {
    ServerParams {
        key: SERVER,
        next_key_hash: [8; 32],
        opaque: OpaqueSetup::generate(&mut StdRng::from_seed([1; 32])),
        registration: Policy::Open,
        email: None,
        limits: Limits::default(),
        node: NodeId(1),
    }
}

fn to_json(request: &Request) -> Vec<u8> {
    serde_json::to_vec(request).unwrap()
}

/// A reply as the client takes it.
#[expect(clippy::unwrap_in_result, reason = "what is no reply fails the test")]
pub(crate) fn parse_reply<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ErrorReply> {
    match serde_json::from_slice(payload).unwrap() {
        Reply::Ok(body) => Ok(body),
        Reply::Error(error) => Err(error),
    }
}

pub(crate) fn name(text: &str) -> Username {
    text.parse().unwrap()
}

pub(crate) fn secret(device: u8) -> DeviceSecret {
    DeviceSecret::from_seed(&[device; 32])
}

pub(super) fn exporter(conn: ConnId) -> [u8; 32] {
    Sha256::digest(conn.0.to_be_bytes()).into()
}

/// The account key of a name.
pub(crate) fn account(name: &str) -> AccountSecret {
    AccountSecret::from_seed(&Sha256::digest(name).into())
}

pub(crate) fn entry(device: u8) -> DeviceEntry {
    let dh = DhPublicBytes(Box::new([device; 384]));
    DeviceEntry::new(secret(device).public(), dh, Timestamp::from_millis(EPOCH))
}

/// A pair of prekeys that the device of a seed signed; its keys are bytes of its id.
pub(crate) fn prekey(device: u8, used: PrekeyUse, id: u32, made_at: Timestamp) -> PrekeyPair {
    let byte = u8::try_from(id % 251).unwrap();
    let dh = DhPublicBytes(Box::new([byte; DhPublicBytes::LEN]));
    let kem = KemPublicBytes(Box::new([byte; KemPublicBytes::LEN]));
    PrekeyPair::sign(&secret(device), used, id, made_at, dh, kem)
}

pub(crate) fn first_list(of: &str, device: u8) -> SignedDeviceList {
    let at = Timestamp::from_millis(EPOCH);
    let key = account(of).public();
    DeviceList::first(name(of), key, entry(device), at).sign(&account(of), None)
}

pub(crate) fn verified(of: &str, list: SignedDeviceList) -> VerifiedDeviceList {
    list.verify(&name(of), &account(of).public()).unwrap()
}

pub(crate) fn card(from: &str, device: u8, to: &str) -> Card {
    let devices = verified(from, first_list(from, device));
    Card::sign(&devices, name(to), Timestamp::from_millis(EPOCH), &secret(device))
}

pub(super) fn presence(of: &str, online: bool) -> Event {
    Event::Presence(Presence { name: name(of), online, list_version: 1 })
}
