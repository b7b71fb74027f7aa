//! The rendezvous, and connections to it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use parlor::node::input::{NetInput, RequestId, ServerDown};
use parlor_common::identity::{DeviceKey, ServerSecret};
use parlor_common::link::{HostPort, ServerAddress};
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{Event, Request};
use parlor_rendezvous::config::Registration;
use parlor_rendezvous::limits::Limits;
use parlor_rendezvous::opaque::OpaqueSetup;
use parlor_rendezvous::server::{
    Answer, CloseReason, ConnId, Loopback, NodeId, Output, Query, QueryId, Server, ServerParams,
    StreamId,
};
use parlor_rendezvous::store::Store;
use parlor_rendezvous::turn::settle;
use rand::Rng;
use rand::rngs::StdRng;

use super::World;
use super::agenda::Happening;
use super::lies::Lies;
use super::peer::PeerId;
use super::visitor::Callers;

/// First packets leave again after these times: QUIC's probes.
const KNOCKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_millis(900),
    Duration::from_millis(2100),
    Duration::from_millis(4500),
];
/// An attempt to connect ends after this time.
const CONNECT_TIME: Duration = Duration::from_secs(6);
/// A peer notices after this time that a rendezvous is gone that said nothing.
pub(super) const SERVER_IDLE: Duration = Duration::from_secs(15);
/// The rendezvous notices after this time that a client is gone that said nothing.
pub(super) const CLIENT_IDLE: Duration = Duration::from_secs(20);
/// Requests of a peer that are on their way at once.
const MAX_EXCHANGES: usize = 8;

/// The rendezvous: what it keeps, and its core while it runs.
pub(super) struct Rendezvous {
    pub(super) key: ServerSecret,
    pub(super) opaque: Vec<u8>,
    pub(super) store: Store,
    bus: Loopback,
    limits: Limits,
    core: Option<Server>,
    /// It dies after so many turns more that have something to say, before any of it leaves.
    pub(super) fuse: Option<u32>,
    clients: BTreeMap<ConnId, (PeerId, u32)>,
    pub(super) callers: Callers,
    pub(super) lies: Lies,
    last_conn: u64,
}

/// A peer's connection to the rendezvous, or its attempt at one.
pub(super) struct Connection {
    attempt: u64,
    pub(super) conn: Option<ConnId>,
    last_stream: u64,
    under_way: BTreeMap<StreamId, RequestId>,
    waiting: VecDeque<(RequestId, Vec<u8>)>,
    /// When the last event will have arrived: they come in order.
    last_event: Duration,
}

impl Rendezvous {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let opaque = OpaqueSetup::generate(rng).expose_bytes().to_vec();
        let key = ServerSecret::from_seed(&seed);
        let mut rendezvous = Self::with(key, opaque, Store::in_memory().unwrap());
        rendezvous.start();
        rendezvous
    }

    /// One that does not run yet, with what it keeps.
    pub(super) fn with(key: ServerSecret, opaque: Vec<u8>, store: Store) -> Self {
        Self {
            key,
            opaque,
            store,
            bus: Loopback::default(),
            limits: Limits::default(),
            core: None,
            fuse: None,
            clients: BTreeMap::new(),
            callers: Callers::default(),
            lies: Lies::default(),
            last_conn: 0,
        }
    }

    pub(super) const fn runs(&self) -> bool {
        self.core.is_some()
    }

    pub(super) fn start(&mut self) {
        self.core = Some(Server::new(ServerParams {
            key: self.key.public(),
            next_key_hash: [7; 32],
            opaque: OpaqueSetup::from_bytes(&self.opaque).unwrap(),
            registration: Registration::Open,
            email: None,
            limits: self.limits,
            node: NodeId::default(),
        }));
    }

    pub(super) fn new_conn(&mut self) -> ConnId {
        self.last_conn += 1;
        ConnId(self.last_conn)
    }
}

impl World {
    /// Gives the rendezvous, which nobody has met yet, other limits.
    pub fn limit(&mut self, limits: Limits) {
        self.server.limits = limits;
        self.server.start();
    }

    /// The rendezvous as links name it.
    pub fn server(&self) -> ServerAddress {
        let at: SocketAddr = ([203, 0, 113, 1], 4433).into();
        ServerAddress { key: Some(self.server.key.public()), at: HostPort::from(at) }
    }

    /// How many envelopes wait at the rendezvous for the account of `home`.
    pub fn waiting_envelopes(&mut self, home: &str) -> u64 {
        let query = Query::User { name: self.name(home), at: self.date() };
        let answers = self.server.store.answer(vec![(QueryId(0), query)]);
        match answers.into_iter().next() {
            Some((_, Answer::User(Some(user)))) => user.mailbox.messages,
            answer => panic!("no such user: {answer:?}"),
        }
    }

    /// Everything that the running rendezvous holds in memory and would print.
    pub fn server_debug(&self) -> String {
        format!("{:?}", self.server.core)
    }

    /// Stops the rendezvous in order.
    pub fn stop_rendezvous(&mut self) {
        let date = self.date();
        let core = self.server.core.as_mut().expect("the rendezvous runs");
        core.handle_stopping(date);
        self.settle();
        self.server.core = None;
        self.server.callers.all_closed();
    }

    /// Ends the rendezvous without a word.
    pub fn kill_rendezvous(&mut self) {
        self.server.core = None;
        self.server.callers.all_closed();
        for (conn, (peer, life)) in std::mem::take(&mut self.server.clients) {
            let why = ServerDown::Unreachable;
            self.plan(SERVER_IDLE, Happening::Lost { peer, life, conn, why });
        }
    }

    /// Starts the rendezvous again, with what it kept.
    pub fn start_rendezvous(&mut self) {
        assert!(self.server.core.is_none(), "the rendezvous runs already");
        self.server.start();
    }

    pub(super) fn with_core(&mut self, act: impl FnOnce(&mut Server, &mut StdRng)) {
        if let Some(core) = &mut self.server.core {
            act(core, &mut self.rng);
            self.settle();
        }
    }

    /// The rest of a turn of the rendezvous, as its driver takes it.
    fn settle(&mut self) {
        let date = self.date();
        let Rendezvous { core: Some(core), store, bus, .. } = &mut self.server else { return };
        let outputs = settle(core, store, bus, date, &mut self.rng);
        if !outputs.is_empty() && self.rendezvous_burns_out() {
            return;
        }
        for output in outputs {
            match output {
                Output::Mail { .. } => unreachable!("nobody registers by e-mail"),
                Output::Query(..) | Output::Publish(_) | Output::Admin { .. } => {
                    unreachable!("they are settled, or not asked")
                }
                Output::Reply { conn, stream, payload } => self.send_reply(conn, stream, payload),
                Output::Event { conn, payload } => self.send_event(conn, payload),
                Output::Close { conn, reason } => self.send_close(conn, reason),
            }
        }
    }

    fn send_reply(&mut self, conn: ConnId, stream: StreamId, payload: Vec<u8>) {
        self.wire.record(&frame(&payload));
        let Some(&(peer, life)) = self.server.clients.get(&conn) else {
            return self.server.callers.reply(conn, stream, payload);
        };
        let payload = self.server.lies.tell(peer, payload);
        let after = self.latency();
        self.plan(after, Happening::Answered { peer, life, conn, stream, payload });
    }

    fn send_event(&mut self, conn: ConnId, payload: Vec<u8>) {
        self.wire.record(&frame(&payload));
        let Some(&(peer, life)) = self.server.clients.get(&conn) else {
            return self.server.callers.event(conn, &payload);
        };
        let payload = self.server.lies.tell(peer, payload);
        let at = self.event_arrival(peer, conn);
        self.agenda.push(at, Happening::Event { peer, life, conn, payload });
    }

    fn send_close(&mut self, conn: ConnId, reason: CloseReason) {
        let Some((peer, life)) = self.server.clients.remove(&conn) else {
            return self.server.callers.close(conn, reason);
        };
        let at = self.event_arrival(peer, conn);
        let why = ServerDown::Closed;
        self.agenda.push(at, Happening::Lost { peer, life, conn, why });
    }

    fn event_arrival(&mut self, peer: PeerId, conn: ConnId) -> Duration {
        let of_conn = |connection: &&mut Connection| connection.conn == Some(conn);
        let connection = self.peers[peer.0].connection.as_mut();
        let before =
            connection.filter(of_conn).map_or(self.now, |connection| connection.last_event);
        let at = self.arrival(before);
        let connection = self.peers[peer.0].connection.as_mut();
        if let Some(connection) = connection.filter(of_conn) {
            connection.last_event = at;
        }
        at
    }

    pub(super) fn connect_server(&mut self, id: PeerId) {
        let peer = &mut self.peers[id.0];
        assert!(peer.connection.is_none(), "one connection to the rendezvous at a time");
        peer.attempts += 1;
        let (life, attempt) = (peer.life, peer.attempts);
        peer.connection = Some(Connection {
            attempt,
            conn: None,
            last_stream: 0,
            under_way: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_event: Duration::ZERO,
        });
        for knock in KNOCKS {
            // There, back, and there again: then the rendezvous has judged the handshake.
            let after = knock + self.latency() + self.latency() + self.latency();
            self.plan(after, Happening::Knock { peer: id, life, attempt });
        }
        self.plan(CONNECT_TIME, Happening::GaveUp { peer: id, life, attempt });
    }

    pub(super) fn knock(&mut self, id: PeerId, life: u32, attempt: u64) {
        let peer = &mut self.peers[id.0];
        let (alive, device, address) = (peer.life == life, peer.device.public(), peer.address());
        let Some(connection) = peer.connection.as_mut().filter(|_| alive) else { return };
        let fresh = connection.attempt == attempt && connection.conn.is_none();
        if !fresh || self.server.core.is_none() || self.partitions.are_parted_from_server(id) {
            return;
        }
        let conn = self.server.new_conn();
        connection.conn = Some(conn);
        connection.last_event = self.now;
        self.server.clients.insert(conn, (id, life));
        let at = self.event_arrival(id, conn);
        let input = Box::new(parlor::node::input::Input::Net(NetInput::ServerUp));
        self.agenda.push(at, Happening::Told { peer: id, life, input });
        self.client_connects(conn, device, address);
    }

    pub(super) fn client_connects(
        &mut self,
        conn: ConnId,
        device: DeviceKey,
        address: SocketAddr,
    ) -> [u8; 32] {
        let mut exporter = [0; 32];
        self.rng.fill_bytes(&mut exporter);
        let date = self.date();
        self.with_core(|core, _| core.handle_connected(conn, device, address, exporter, date));
        exporter
    }

    pub(super) fn client_gone(&mut self, conn: ConnId) {
        let date = self.date();
        self.server.clients.remove(&conn);
        self.with_core(|core, _| core.handle_disconnected(conn, date));
    }

    pub(super) fn request(&mut self, id: PeerId, request: RequestId, what: &Request) {
        let payload = serde_json::to_vec(what).unwrap();
        let peer = &mut self.peers[id.0];
        if let Some(connection) = &mut peer.connection {
            connection.waiting.push_back((request, payload));
            return self.ask_next(id);
        }
        let life = peer.life;
        let failed = NetInput::RequestFailed { id: request };
        let input = Box::new(parlor::node::input::Input::Net(failed));
        self.plan(Duration::ZERO, Happening::Told { peer: id, life, input });
    }

    /// Sends requests that wait, as far as there are streams for them.
    fn ask_next(&mut self, id: PeerId) {
        loop {
            let Some(connection) = &mut self.peers[id.0].connection else { return };
            let Some(conn) = connection.conn else { return };
            if connection.under_way.len() >= MAX_EXCHANGES {
                return;
            }
            let Some((request, payload)) = connection.waiting.pop_front() else { return };
            connection.last_stream += 1;
            let stream = StreamId(connection.last_stream);
            connection.under_way.insert(stream, request);
            self.wire.record(&frame(&payload));
            let after = self.latency();
            self.plan(after, Happening::Asked { conn, stream, payload });
        }
    }

    pub(super) fn asked(&mut self, conn: ConnId, stream: StreamId, payload: &[u8]) {
        let date = self.date();
        if self.server.clients.contains_key(&conn) && !self.partitions.is_dead(conn) {
            self.with_core(|core, rng| core.handle_request(conn, stream, payload, date, rng));
        }
    }

    pub(super) fn answered(
        &mut self,
        id: PeerId,
        life: u32,
        conn: ConnId,
        stream: StreamId,
        payload: Vec<u8>,
    ) {
        if self.partitions.is_dead(conn) {
            return;
        }
        let Some(connection) = self.connection(id, life, conn) else { return };
        let Some(request) = connection.under_way.remove(&stream) else { return };
        self.tell_net(id, life, NetInput::ServerReply { id: request, payload });
        self.ask_next(id);
    }

    pub(super) fn event(&mut self, id: PeerId, life: u32, conn: ConnId, payload: &[u8]) {
        if self.connection(id, life, conn).is_some() && !self.partitions.is_dead(conn) {
            let event: Event = serde_json::from_slice(payload).unwrap();
            self.tell_net(id, life, NetInput::ServerEvent(Box::new(event)));
        }
    }

    /// A connection is gone.
    pub(super) fn lost_server(&mut self, id: PeerId, life: u32, conn: ConnId, why: ServerDown) {
        if self.connection(id, life, conn).is_some() {
            self.disconnected(id, life, why);
        }
    }

    /// An attempt has taken too long, unless it has come to something.
    pub(super) fn gave_up(&mut self, id: PeerId, life: u32, attempt: u64) {
        let peer = &self.peers[id.0];
        let connection = peer.connection.as_ref().filter(|_| peer.life == life);
        if connection.is_some_and(|known| known.attempt == attempt && known.conn.is_none()) {
            self.disconnected(id, life, ServerDown::Unreachable);
        }
    }

    fn disconnected(&mut self, id: PeerId, life: u32, why: ServerDown) {
        let Some(connection) = self.peers[id.0].connection.take() else { return };
        let under_way = connection.under_way.into_values();
        for request in under_way.chain(connection.waiting.into_iter().map(|(id, _)| id)) {
            self.tell_net(id, life, NetInput::RequestFailed { id: request });
        }
        self.tell_net(id, life, NetInput::ServerDown(why));
    }

    fn connection(&mut self, id: PeerId, life: u32, conn: ConnId) -> Option<&mut Connection> {
        let peer = &mut self.peers[id.0];
        let alive = peer.life == life;
        peer.connection.as_mut().filter(|connection| alive && connection.conn == Some(conn))
    }

    /// A peer's connection ends with its node.
    pub(super) fn leave_server(&mut self, id: PeerId, in_order: bool) {
        let Some(connection) = self.peers[id.0].connection.take() else { return };
        let Some(conn) = connection.conn.filter(|conn| !self.partitions.is_dead(*conn)) else {
            return;
        };
        let after = if in_order { self.latency() } else { CLIENT_IDLE };
        self.plan(after, Happening::Gone { conn });
    }
}
