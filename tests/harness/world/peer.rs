//! A peer: its store, which survives, and its node, which does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use parlor::node::Node;
use parlor::node::input::{Input, Intent, LinkId, LocalAddress, NetInput, Now, ServerDown, Token};
use parlor::node::output::{Event, Transmit};
use parlor::node::record::{Change, Identity};
use parlor::store::Store;
use parlor_common::id::{Incarnation, Username};
use parlor_common::identity::DeviceSecret;
use parlor_common::time::Timestamp;
use rand::Rng;

use super::agenda::Happening;
use super::rendezvous::Connection;
use super::{BEGINNING, World};

/// How long work takes.
const WORK_TIME: Duration = Duration::from_millis(20);

/// A peer's place in the world.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct PeerId(pub(super) usize);

/// See the [module](self).
pub(super) struct Peer {
    id: PeerId,
    home: String,
    name: Username,
    pub(super) device: DeviceSecret,
    store: Store,
    node: Option<Node>,
    /// Counts starts: what was on its way to an earlier life is lost.
    pub(super) life: u32,
    started_at: Duration,
    /// When it took its last turn: then it said when it wants to be woken.
    turned_at: Duration,
    /// What its clock shows more than others'; less, if `clock_is_late`.
    skew: Duration,
    clock_is_late: bool,
    next_token: u64,
    /// It dies after so many commits more, before anything that they allow leaves.
    fuse: Option<u32>,
    disk: Disk,
    told: Vec<Event>,
    /// How many of these it was told in earlier lives.
    told_before: usize,
    pub(super) connection: Option<Connection>,
    pub(super) attempts: u64,
    /// Its links by its own numbers: the world's number, and its side.
    pub(super) links: BTreeMap<LinkId, (usize, usize)>,
    pub(super) last_link: u64,
    pub(super) dialed: Vec<SocketAddr>,
}

/// A disk on which a commit takes time, in which the peer does nothing else.
#[derive(Default)]
struct Disk {
    /// How long a commit takes.
    time: Duration,
    /// What is being saved.
    saving: Option<Vec<Change>>,
    /// What the peer will be told when that is done.
    waiting: Vec<Input>,
}

impl Peer {
    pub(super) fn id(&self) -> PeerId {
        self.id
    }

    pub(super) fn home(&self) -> &str {
        &self.home
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Puts another store in the place of its own.
    pub(super) fn put_back(&mut self, store: Store) {
        assert!(self.node.is_none(), "{} is up", self.home);
        self.store = store;
    }

    pub(super) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Where it is in this life: another port in each.
    pub(super) fn address(&self) -> SocketAddr {
        let host = u8::try_from(self.id.0 + 1).unwrap();
        let port = u16::try_from(5000 + self.life).unwrap();
        ([198, 51, 100, host], port).into()
    }

    pub(super) fn wakes_at(&self) -> Option<Duration> {
        let node = self.node.as_ref().filter(|_| self.disk.saving.is_none())?;
        let timer = node.poll_timeout(self.now(self.turned_at))?;
        Some(self.started_at + Duration::from_millis(timer.as_millis()))
    }

    fn now(&self, now: Duration) -> Now {
        let timer = now.saturating_sub(self.started_at).as_millis();
        let date = BEGINNING + now;
        let date = if self.clock_is_late { date - self.skew } else { date + self.skew };
        Now { timer: Timestamp::from_millis(timer.try_into().unwrap()), date }
    }
}

impl World {
    /// A peer moves in, with what its registration or login made, and is started.
    pub(super) fn move_in(&mut self, home: &str, identity: Identity) {
        let store = Store::in_memory(&identity).unwrap();
        self.move_in_with(home, &identity, store);
    }

    /// A peer moves in with a store, and is started.
    pub(super) fn move_in_with(&mut self, home: &str, identity: &Identity, store: Store) {
        assert!(self.peers.iter().all(|peer| peer.home != home), "{home} is taken");
        let id = PeerId(self.peers.len());
        self.peers.push(Peer {
            id,
            home: home.to_owned(),
            name: identity.name.clone(),
            device: DeviceSecret::from_seed(&identity.device.expose_seed()),
            store,
            node: None,
            life: 0,
            started_at: Duration::ZERO,
            turned_at: Duration::ZERO,
            skew: Duration::ZERO,
            clock_is_late: false,
            next_token: 1,
            fuse: None,
            disk: Disk::default(),
            told: Vec::new(),
            told_before: 0,
            connection: None,
            attempts: 0,
            links: BTreeMap::new(),
            last_link: 0,
            dialed: Vec::new(),
        });
        self.boot(id);
    }

    /// Starts a peer's node from its store.
    pub(super) fn boot(&mut self, id: PeerId) {
        let peer = &mut self.peers[id.0];
        assert!(peer.node.is_none(), "{} is up already", peer.home);
        peer.life += 1;
        peer.started_at = self.now;
        peer.told_before = peer.told.len();
        let mut incarnation = [0; 8];
        self.rng.fill_bytes(&mut incarnation);
        // A process that starts knows of its store what is in the database, and nothing else.
        peer.store = peer.store.copy_in_memory().unwrap();
        let start = peer.store.load().unwrap();
        let now = peer.now(self.now);
        peer.node = Some(Node::new(start, Incarnation(incarnation), now).unwrap());
        let local = LocalAddress { address: peer.address(), prefix_len: 24 };
        let life = peer.life;
        self.tell(id, life, Input::Net(NetInput::LocalAddresses(vec![local])));
        self.turn(id);
    }

    /// Ends a peer's node in order, as its driver does.
    pub(super) fn shut_down(&mut self, id: PeerId) {
        let life = self.peers[id.0].life;
        self.finish_saving(id);
        self.tell(id, life, Input::Net(NetInput::ServerDown(ServerDown::Closed)));
        self.save(id);
        self.hear_events(id);
        self.forget_node(id, true);
    }

    /// Ends a peer's node in the middle of whatever it does.
    pub fn kill(&mut self, home: &str) {
        let id = self.id(home);
        self.forget_node(id, false);
    }

    fn forget_node(&mut self, id: PeerId, in_order: bool) {
        let peer = &mut self.peers[id.0];
        peer.node = None;
        peer.disk = Disk { time: peer.disk.time, ..Disk::default() };
        self.leave_server(id, in_order);
        self.leave_links(id, in_order);
    }

    /// Kills a peer when it has committed so many times more, before anything that the last commit
    /// allows has left.
    pub fn kill_after_commits(&mut self, home: &str, commits: u32) {
        let id = self.id(home);
        self.peers[id.0].fuse = Some(commits);
    }

    /// A peer that was to be killed lives on.
    pub fn spare(&mut self, home: &str) {
        let id = self.id(home);
        self.peers[id.0].fuse = None;
    }

    /// From now on each commit of a peer takes so long; no time for a disk as fast as others'.
    pub fn slow_disk(&mut self, home: &str, time: Duration) {
        let id = self.id(home);
        self.peers[id.0].disk.time = time;
    }

    /// Whether a peer is running.
    pub fn is_up(&self, home: &str) -> bool {
        self.peer(home).is_up()
    }

    /// Sets a peer's clock forward, or back.
    pub fn set_clock(&mut self, home: &str, skew: Duration, is_late: bool) {
        let id = self.id(home);
        let peer = &mut self.peers[id.0];
        (peer.skew, peer.clock_is_late) = (skew, is_late);
    }

    /// A front end wants something of a peer.
    pub fn intend(&mut self, home: &str, intent: Intent) -> Token {
        let id = self.id(home);
        let peer = &mut self.peers[id.0];
        assert!(peer.is_up(), "{home} is not running");
        let token = Token(peer.next_token);
        peer.next_token += 1;
        let (life, input) = (peer.life, Box::new(Input::Intent(token, intent)));
        self.plan(Duration::ZERO, Happening::Told { peer: id, life, input });
        token
    }

    /// Everything that a peer's front end was told so far, in all of its lives.
    pub fn told(&self, home: &str) -> &[Event] {
        &self.peer(home).told
    }

    /// What it was told in this life.
    pub(super) fn told_lately(&self, home: &str) -> &[Event] {
        let peer = self.peer(home);
        &peer.told[peer.told_before..]
    }

    /// What a peer has stored.
    pub fn store(&self, home: &str) -> &Store {
        &self.peer(home).store
    }

    /// Saves something in the store of a peer that does not run, as a command does.
    pub(super) fn commit(&mut self, home: &str, change: Change) {
        let id = self.id(home);
        let peer = &mut self.peers[id.0];
        assert!(peer.node.is_none(), "{home} is running");
        peer.store.commit(&[change]).unwrap();
    }

    /// A peer's device key.
    pub fn device(&self, home: &str) -> &DeviceSecret {
        &self.peer(home).device
    }

    /// The name of the account that a peer belongs to.
    pub fn name(&self, home: &str) -> Username {
        self.peer(home).name.clone()
    }

    /// Where a peer is now.
    pub fn address(&self, home: &str) -> SocketAddr {
        self.peer(home).address()
    }

    /// All addresses that a peer has dialed.
    pub fn dialed(&self, home: &str) -> &[SocketAddr] {
        &self.peer(home).dialed
    }

    /// What a peer believes to know, for the curious.
    pub fn debug(&self, home: &str) -> String {
        format!("{:?}", self.peer(home).node)
    }

    pub(super) fn tell(&mut self, id: PeerId, life: u32, input: Input) {
        let peer = &mut self.peers[id.0];
        let now = peer.now(self.now);
        if let Some(node) = peer.node.as_mut().filter(|_| peer.life == life) {
            if peer.disk.saving.is_some() {
                return peer.disk.waiting.push(input);
            }
            node.handle(input, now, &mut self.rng);
        }
    }

    pub(super) fn tell_net(&mut self, id: PeerId, life: u32, input: NetInput) {
        self.tell(id, life, Input::Net(input));
    }

    pub(super) fn wake(&mut self, id: PeerId) {
        let peer = &mut self.peers[id.0];
        let now = peer.now(self.now);
        if let Some(node) = &mut peer.node {
            node.handle_timeout(now);
        }
        self.turn(id);
    }

    /// A turn, as the driver takes it: save, then let out what that allows.
    pub(super) fn turn(&mut self, id: PeerId) {
        let disk = &self.peers[id.0].disk;
        if disk.saving.is_some() {
            return;
        }
        let slow = disk.time > Duration::ZERO;
        self.peers[id.0].turned_at = self.now;
        while if slow { self.begin_saving(id) } else { self.save(id) } {
            self.let_out(id);
            if !self.peers[id.0].node.as_ref().is_some_and(Node::has_changes) {
                return;
            }
        }
    }

    /// What is done and told once everything is saved.
    fn let_out(&mut self, id: PeerId) {
        while let Some(order) = self.poll(id, Node::poll_transmit) {
            self.execute(id, order);
        }
        self.hear_events(id);
        while let Some(work) = self.poll(id, Node::poll_work) {
            let input = Box::new(Input::Work(work.run(&mut self.rng)));
            let life = self.peers[id.0].life;
            self.plan(WORK_TIME, Happening::Told { peer: id, life, input });
        }
    }

    /// Hands what is to be saved to a slow disk. Returns whether there is nothing to wait for.
    fn begin_saving(&mut self, id: PeerId) -> bool {
        let peer = &mut self.peers[id.0];
        let now = peer.now(self.now);
        let Some(node) = &mut peer.node else { return false };
        let changes = node.take_changes(now, &mut self.rng);
        if changes.is_empty() {
            return true;
        }
        peer.disk.saving = Some(changes);
        let (time, life) = (peer.disk.time, peer.life);
        self.plan(time, Happening::Saved { peer: id, life });
        false
    }

    /// A slow disk is done. The peer hears what waited in the turn that follows.
    pub(super) fn saved(&mut self, id: PeerId, life: u32) {
        if self.peers[id.0].life != life || !self.finish_saving(id) {
            return;
        }
        self.let_out(id);
        for input in std::mem::take(&mut self.peers[id.0].disk.waiting) {
            self.tell(id, life, input);
        }
    }

    /// What a slow disk was given is saved. Returns whether the node lives, and there was anything.
    fn finish_saving(&mut self, id: PeerId) -> bool {
        let changes = self.peers[id.0].disk.saving.take();
        changes.is_some_and(|changes| self.commit_turn(id, changes))
    }

    fn poll<T>(&mut self, id: PeerId, poll: impl FnOnce(&mut Node) -> Option<T>) -> Option<T> {
        poll(self.peers[id.0].node.as_mut()?)
    }

    /// Saves what the node wants saved. Returns whether the node lives.
    fn save(&mut self, id: PeerId) -> bool {
        let peer = &mut self.peers[id.0];
        let now = peer.now(self.now);
        let Some(node) = &mut peer.node else { return false };
        let changes = node.take_changes(now, &mut self.rng);
        changes.is_empty() || self.commit_turn(id, changes)
    }

    /// Commits what a turn has changed. Returns whether the node lives.
    fn commit_turn(&mut self, id: PeerId, changes: Vec<Change>) -> bool {
        let peer = &mut self.peers[id.0];
        let now = peer.now(self.now);
        let Some(node) = &mut peer.node else { return false };
        let saved = peer.store.commit(changes).unwrap();
        node.handle_saved(saved, now);
        if let Some(left) = peer.fuse.take() {
            if left == 0 {
                self.forget_node(id, false);
                return false;
            }
            peer.fuse = Some(left - 1);
        }
        true
    }

    fn hear_events(&mut self, id: PeerId) {
        let peer = &mut self.peers[id.0];
        let Some(node) = &mut peer.node else { return };
        while let Some(event) = node.poll_event() {
            peer.told.push(event);
        }
    }

    fn execute(&mut self, id: PeerId, order: Transmit) {
        match order {
            Transmit::ConnectServer => self.connect_server(id),
            Transmit::Request { id: request, request: what } => self.request(id, request, &what),
            Transmit::Dial { device, address } => self.dial(id, device, address),
            Transmit::Frame { link, frame } => self.send_frame(id, link, &frame),
            Transmit::CloseLink { link } => self.close_link(id, link),
        }
    }
}
