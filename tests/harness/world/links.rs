//! Links between peers: ordered streams both ways, which end at any point.

use std::net::SocketAddr;
use std::time::Duration;

use parlor::node::input::{Input, LinkId, NetInput};
use parlor_common::identity::DeviceKey;
use parlor_common::wire::peer::{MAX_PEER_FRAME, PeerFrame};
use parlor_common::wire::{FrameDecoder, frame};
use rand::RngExt;

use super::World;
use super::agenda::Happening;
use super::peer::PeerId;

/// An address that does not answer is given up after this time.
const SILENCE_TIME: Duration = Duration::from_secs(2);
/// The death of the other side is noticed after this time.
const IDLE: Duration = Duration::from_secs(12);

/// All links that there ever were.
#[derive(Default)]
pub(super) struct Links {
    all: Vec<Link>,
}

/// A link. Side 0 dialed.
struct Link {
    sides: [Side; 2],
    /// Nothing crosses it any more.
    is_cut: bool,
}

/// One end of a link.
struct Side {
    /// Who is there: a peer in one of its lives, or somebody who plays by no rules.
    peer: Option<(PeerId, u32)>,
    /// The peer's number for the link.
    id: LinkId,
    state: State,
    /// Bytes on their way to here.
    decoder: FrameDecoder,
    last_arrival: Duration,
    /// What somebody who plays by no rules has received.
    heard: Vec<PeerFrame>,
}

/// How an end of a link is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Frames go and come.
    Open,
    /// This side has closed it: nothing goes or comes.
    Closing,
    /// This side knows that it is gone.
    Down,
}

/// A dialer's hello, on its way.
pub(super) struct Greeting {
    dialer: Option<(PeerId, u32)>,
    key: DeviceKey,
    from: SocketAddr,
    expected: DeviceKey,
    address: SocketAddr,
    pub(super) to: Option<PeerId>,
}

/// The end of a link of somebody who plays by no rules.
#[derive(Clone, Copy, Debug)]
pub struct Rogue {
    link: usize,
}

/// What such a one has heard.
#[derive(Debug)]
pub struct RogueHeard<'a> {
    /// Frames, the hello left out.
    pub frames: &'a [PeerFrame],
    /// Whether the other side has closed the link.
    pub is_closed: bool,
}

impl Side {
    fn new(peer: Option<(PeerId, u32)>, id: LinkId, now: Duration) -> Self {
        let decoder = FrameDecoder::new(MAX_PEER_FRAME);
        let state = State::Open;
        Self { peer, id, state, decoder, last_arrival: now, heard: Vec::new() }
    }
}

impl World {
    pub(super) fn dial(&mut self, id: PeerId, device: DeviceKey, address: SocketAddr) {
        let peer = &mut self.peers[id.0];
        peer.dialed.push(address);
        let (dialer, key, from) = (Some((id, peer.life)), peer.device.public(), peer.address());
        let found = self.peers.iter().find(|peer| peer.is_up() && peer.address() == address);
        let Some(to) = found.map(super::peer::Peer::id) else {
            return self.dial_failed(id, device, address, SILENCE_TIME);
        };
        let greeting = Greeting { dialer, key, from, expected: device, address, to: Some(to) };
        let after = self.latency() + self.latency() + self.latency();
        self.plan(after, Happening::Greeted(greeting));
    }

    fn dial_failed(&mut self, id: PeerId, device: DeviceKey, address: SocketAddr, after: Duration) {
        let life = self.peers[id.0].life;
        let input = Box::new(Input::Net(NetInput::DialFailed { device, address }));
        self.plan(after, Happening::Told { peer: id, life, input });
    }

    pub(super) fn greeted(&mut self, greeting: Greeting) {
        let Greeting { dialer, key, from, expected, address, to } = greeting;
        let Some(to) = to else { return };
        let peer = &mut self.peers[to.0];
        let is_there = peer.is_up() && peer.address() == address;
        let parted = dialer.is_some_and(|(id, _)| self.partitions.are_parted(id, to));
        if !is_there || parted || peer.device.public() != expected {
            if let Some((id, _)) = dialer {
                self.dial_failed(id, expected, address, SILENCE_TIME);
            }
            return;
        }
        let link = self.links.all.len();
        let (life, there) = (peer.life, self.new_end(to, link, 1));
        // A dialer that died with its hello on the way leaves a link that nobody ends.
        let dialer_lives = dialer
            .is_none_or(|(id, life)| self.peers[id.0].is_up() && self.peers[id.0].life == life);
        let here = dialer.filter(|_| dialer_lives);
        let here = here.map_or(LinkId(0), |(id, _)| self.new_end(id, link, 0));
        let sides =
            [Side::new(dialer, here, self.now), Side::new(Some((to, life)), there, self.now)];
        self.links.all.push(Link { sides, is_cut: false });
        let up =
            NetInput::LinkUp { link: there, device: key, address: from, dialed: false, rtt: RTT };
        self.tell_net(to, life, up);
        if !dialer_lives {
            self.links.all[link].is_cut = true;
            return self.lose(link, 1);
        }
        let at = self.arrival(self.now);
        self.links.all[link].sides[0].last_arrival = at;
        self.agenda.push(at, Happening::Linked { link });
    }

    fn new_end(&mut self, id: PeerId, link: usize, side: usize) -> LinkId {
        let peer = &mut self.peers[id.0];
        peer.last_link += 1;
        let number = LinkId(peer.last_link);
        peer.links.insert(number, (link, side));
        number
    }

    pub(super) fn linked(&mut self, link: usize) {
        let [here, there] = &self.links.all[link].sides;
        let (Some((id, life)), Some((other, _))) = (here.peer, there.peer) else { return };
        let other = &self.peers[other.0];
        let (device, address) = (other.device.public(), other.address());
        if here.state == State::Open {
            let up = NetInput::LinkUp { link: here.id, device, address, dialed: true, rtt: RTT };
            self.tell_net(id, life, up);
            self.turn(id);
        }
    }

    pub(super) fn send_frame(&mut self, id: PeerId, link: LinkId, what: &PeerFrame) {
        let Some(&(link, side)) = self.peers[id.0].links.get(&link) else { return };
        if self.links.all[link].sides[side].state != State::Open {
            return;
        }
        let copies = match what {
            PeerFrame::Envelope(envelope) => {
                let home = self.peers[id.0].home().to_owned();
                self.envelopes.push((home, envelope.clone()));
                if self.tampers { self.rng.random_range(0..3) } else { 1 }
            }
            _ => 1,
        };
        for _ in 0..copies {
            self.send_bytes(link, side, frame(&what.encode()));
        }
    }

    /// From now on envelopes on links are lost, repeated and put out of order, as a carrier might
    /// that holds them; or not any more.
    pub fn tamper(&mut self, tampers: bool) {
        self.tampers = tampers;
    }

    fn send_bytes(&mut self, link: usize, from: usize, bytes: Vec<u8>) {
        self.wire.record(&bytes);
        let side = 1 - from;
        let at = self.link_arrival(link, side);
        let to = self.links.all[link].sides[side].peer.map(|(id, _)| id);
        self.agenda.push(at, Happening::Carried { link, side, to, bytes });
    }

    fn link_arrival(&mut self, link: usize, side: usize) -> Duration {
        if self.tampers {
            return self.now + self.latency();
        }
        let at = self.arrival(self.links.all[link].sides[side].last_arrival);
        self.links.all[link].sides[side].last_arrival = at;
        at
    }

    pub(super) fn carried(&mut self, link: usize, side: usize, bytes: &[u8]) {
        let Link { sides, is_cut } = &mut self.links.all[link];
        let end = &mut sides[side];
        if *is_cut || end.state != State::Open {
            return;
        }
        end.decoder.push(bytes);
        loop {
            let end = &mut self.links.all[link].sides[side];
            let payload = match end.decoder.next_frame() {
                Ok(Some(payload)) => payload,
                Ok(None) => return,
                Err(_) => return self.break_link(link, side),
            };
            let Ok(frame) = PeerFrame::parse(&payload) else { return self.break_link(link, side) };
            match (end.peer, frame) {
                (Some(_), PeerFrame::Unknown(_)) => {}
                (Some((id, life)), frame) => {
                    let input = NetInput::LinkFrame { link: end.id, frame };
                    self.tell_net(id, life, input);
                }
                (None, frame) => end.heard.push(frame),
            }
        }
    }

    /// What came is no frame: the link is over, for both.
    fn break_link(&mut self, link: usize, side: usize) {
        self.links.all[link].is_cut = true;
        self.down(link, side);
        let to = self.links.all[link].sides[1 - side].peer.map(|(id, _)| id);
        let after = self.latency();
        self.plan(after, Happening::Finished { link, side: 1 - side, to });
    }

    /// A side closes the link: what it has sent arrives, and nothing else.
    pub(super) fn close_link(&mut self, id: PeerId, link: LinkId) {
        let Some(&(link, side)) = self.peers[id.0].links.get(&link) else { return };
        let end = &mut self.links.all[link].sides[side];
        if end.state != State::Open {
            return;
        }
        end.state = State::Closing;
        self.finish(link, 1 - side);
        let after = self.latency() + self.latency();
        self.plan(after, Happening::Finished { link, side, to: Some(id) });
    }

    fn finish(&mut self, link: usize, side: usize) {
        let to = self.links.all[link].sides[side].peer.map(|(id, _)| id);
        let at = self.link_arrival(link, side);
        self.agenda.push(at, Happening::Finished { link, side, to });
    }

    pub(super) fn link_finished(&mut self, link: usize, side: usize) {
        self.down(link, side);
    }

    fn down(&mut self, link: usize, side: usize) {
        let end = &mut self.links.all[link].sides[side];
        let (id, before) = (end.id, std::mem::replace(&mut end.state, State::Down));
        let Some((peer, life)) = end.peer.filter(|_| before != State::Down) else { return };
        if self.peers[peer.0].life == life {
            self.peers[peer.0].links.remove(&id);
            self.tell_net(peer, life, NetInput::LinkDown { link: id });
        }
    }

    /// A peer's links end with its node.
    pub(super) fn leave_links(&mut self, id: PeerId, in_order: bool) {
        for (link, side) in std::mem::take(&mut self.peers[id.0].links).into_values() {
            let was = std::mem::replace(&mut self.links.all[link].sides[side].state, State::Down);
            match (in_order, was) {
                (true, State::Open) => self.finish(link, 1 - side),
                (true, State::Closing | State::Down) => {}
                (false, _) => self.lose(link, 1 - side),
            }
        }
    }

    fn lose(&mut self, link: usize, side: usize) {
        let to = self.links.all[link].sides[side].peer.map(|(id, _)| id);
        self.plan(IDLE, Happening::Finished { link, side, to });
    }

    /// Cuts all links between two peers: what is on its way is lost, and both notice at once.
    pub fn cut_links(&mut self, one: &str, other: &str) {
        for link in self.links_between(one, other) {
            self.links.all[link].is_cut = true;
            for side in 0..2 {
                let to = self.links.all[link].sides[side].peer.map(|(id, _)| id);
                self.plan(Duration::ZERO, Happening::Finished { link, side, to });
            }
        }
    }

    /// All links between two peers go silent: what is on its way is lost, and both notice late.
    pub fn silence_links(&mut self, one: &str, other: &str) {
        for link in self.links_between(one, other) {
            self.links.all[link].is_cut = true;
            self.lose(link, 0);
            self.lose(link, 1);
        }
    }

    /// How many links there are between two peers.
    pub fn links(&self, one: &str, other: &str) -> usize {
        self.links_between(one, other).len()
    }

    fn links_between(&self, one: &str, other: &str) -> Vec<usize> {
        let ids = [self.id(one), self.id(other)];
        let is_between = |link: &Link| {
            let alive = |side: &Side| side.state == State::Open;
            let at = |side: &Side, id| side.peer.is_some_and(|(at, _)| at == id);
            let [a, b] = &link.sides;
            let between = at(a, ids[0]) && at(b, ids[1]) || at(a, ids[1]) && at(b, ids[0]);
            between && !link.is_cut && alive(a) && alive(b)
        };
        let all = self.links.all.iter().enumerate();
        all.filter(|(_, link)| is_between(link)).map(|(number, _)| number).collect()
    }

    /// Somebody who holds the device key `key` dials a peer, and is taken.
    pub fn rogue_dials(&mut self, key: DeviceKey, target: &str) -> Rogue {
        let peer = self.peer(target);
        let (expected, address, to) = (peer.device.public(), peer.address(), Some(peer.id()));
        let from = ([192, 0, 2, 66], 6666).into();
        let link = self.links.all.len();
        self.greeted(Greeting { dialer: None, key, from, expected, address, to });
        assert_eq!(self.links.all.len(), link + 1, "{target} takes connections");
        self.turn(self.id(target));
        Rogue { link }
    }

    /// Sends any bytes on such a link.
    pub fn rogue_sends(&mut self, rogue: Rogue, bytes: &[u8]) {
        self.send_bytes(rogue.link, 0, bytes.to_vec());
    }

    /// What came back on such a link.
    pub fn rogue_heard(&self, rogue: Rogue) -> RogueHeard<'_> {
        let side = &self.links.all[rogue.link].sides[0];
        RogueHeard { frames: &side.heard, is_closed: side.state == State::Down }
    }
}

/// What the handshake measures.
const RTT: Duration = Duration::from_millis(20);
