//! A world in one thread: one rendezvous, its peers, a simulated network, virtual time.
//!
//! The world runs the very cores, each with a store in memory, in turns like those of their
//! drivers, and carries bytes between them as QUIC would: streams in order, requests in any order,
//! connections that end at any point. Nothing in it waits and everything that is random hangs on
//! one seed, which is printed when a story fails.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `agenda.rs` | what is going to happen, and when |
//! | `changes.rs` | what an account's owner does to it: devices removed, new keys, the end |
//! | `copies.rs` | copies of profiles: put back, or in a thief's hands |
//! | `faults.rs` | networks that part, disks that are slow, a rendezvous that dies or is put back |
//! | `peer.rs` | a peer: its store, which survives, and its node, which does not |
//! | `rendezvous.rs` | the rendezvous, and connections to it |
//! | `lies.rs` | a rendezvous that shows people other device lists and prekeys than there are |
//! | `links.rs` | links between peers |
//! | `prepared.rs` | a world that is made once, for many worlds that start from it |
//! | `visitor.rs` | raw clients of the rendezvous: registration, login, and what nobody should do |
//! | `stage.rs` | the words of a story |

mod agenda;
mod changes;
mod copies;
mod faults;
mod lies;
mod links;
mod peer;
mod prepared;
mod rendezvous;
mod stage;
mod visitor;

use std::ops::RangeInclusive;
use std::time::Duration;

use parlor_common::envelope::Envelope;
use parlor_common::time::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::agenda::{Agenda, Happening};
pub use self::copies::Copy;
use self::faults::Partitions;
pub use self::faults::RendezvousCopy;
use self::links::Links;
pub use self::links::{Rogue, RogueHeard};
use self::peer::{Peer, PeerId};
pub use self::prepared::Prepared;
use self::rendezvous::Rendezvous;
pub use self::visitor::{Refused, Visitor};
use crate::secrets::Wire;

/// When every world begins, by everybody's clock.
const BEGINNING: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// A story that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// What is not quiet after this long is not going to be: something is tried again and again.
const QUIET: Duration = Duration::from_secs(60);

/// A world that needs more steps than this goes round in circles.
const MOST_STEPS: u64 = 5_000_000;

/// See the [module](self).
pub struct World {
    seed: u64,
    rng: StdRng,
    /// Since the beginning.
    now: Duration,
    steps: u64,
    /// One way between any two, in milliseconds.
    latency: RangeInclusive<u64>,
    agenda: Agenda,
    server: Rendezvous,
    peers: Vec<Peer>,
    links: Links,
    partitions: Partitions,
    /// Whether envelopes are lost, repeated and put out of order on links.
    tampers: bool,
    wire: Wire,
    /// Every envelope that was sent, and by whom.
    envelopes: Vec<(String, Envelope)>,
    /// Whether a panic in it is told by somebody else.
    hushed: bool,
}

impl World {
    /// A world with a rendezvous and nobody in it.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let server = Rendezvous::new(&mut rng);
        Self::around(seed, rng, server)
    }

    /// A world around a rendezvous.
    fn around(seed: u64, rng: StdRng, server: Rendezvous) -> Self {
        Self {
            seed,
            rng,
            now: Duration::ZERO,
            steps: 0,
            latency: 2..=25,
            agenda: Agenda::default(),
            server,
            peers: Vec::new(),
            links: Links::default(),
            partitions: Partitions::default(),
            tampers: false,
            wire: Wire::default(),
            envelopes: Vec::new(),
            hushed: false,
        }
    }

    /// Every byte that crossed the network so far, inside TLS.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Every envelope that was sent so far, and by whom.
    pub fn envelopes(&self) -> &[(String, Envelope)] {
        &self.envelopes
    }

    /// The rendezvous' date, and everybody's whose clock is right.
    pub fn date(&self) -> Timestamp {
        BEGINNING + self.now
    }

    /// The generator on which everything hangs.
    pub fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass, and looks after everything that happened whether all is well.
    pub fn run_watched<E>(
        &mut self,
        time: Duration,
        mut watch: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = self.now + time;
        watch(self)?;
        while self.step(end) {
            watch(self)?;
        }
        self.now = end;
        Ok(())
    }

    /// A world that fails does not say so itself.
    pub fn hush(&mut self) {
        self.hushed = true;
    }

    /// How long the world has lasted.
    pub fn age(&self) -> Duration {
        self.now
    }

    /// From now on what crosses the network takes so long one way, in milliseconds.
    pub fn set_latency(&mut self, latency: RangeInclusive<u64>) {
        self.latency = latency;
    }

    /// Lets time pass until nothing is on its way and nothing is due, but for a minute at most:
    /// who waits for something that is away tries again and again.
    pub fn run_until_quiet(&mut self) {
        let end = self.now + QUIET;
        while self.step(end) {}
    }

    /// Lets time pass until something is so.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = self.now + LONGEST;
        while !is_so(self) {
            assert!(self.step(end), "it never came to this: {what}");
        }
    }

    /// Does what is next, if that is due by `end`. Returns whether anything was.
    fn step(&mut self, end: Duration) -> bool {
        self.steps += 1;
        assert!(self.steps < MOST_STEPS, "the world goes round in circles");
        let waking = self.peers.iter().filter_map(|peer| Some((peer.wakes_at()?, peer.id()))).min();
        match (self.agenda.next_at(), waking) {
            (Some(at), waking) if waking.is_none_or(|(wakes, _)| at <= wakes) && at <= end => {
                self.now = self.now.max(at);
                self.happens();
            }
            (_, Some((at, peer))) if at <= end => {
                self.now = self.now.max(at);
                self.wake(peer);
            }
            _ => return false,
        }
        true
    }

    /// Lets the next thing happen; and with it, as one turn, what happens to the same peer then.
    fn happens(&mut self) {
        let at = self.agenda.next_at();
        let Some(happening) = self.agenda.pop() else { return };
        let to = happening.to();
        self.happen(happening);
        let Some(peer) = to else { return };
        while let Some(next) = self.agenda.pop_if(|time, next| Some(time) == at && next.to() == to)
        {
            self.happen(next);
        }
        self.turn(peer);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told { peer, life, input } => self.tell(peer, life, *input),
            Happening::Saved { peer, life } => self.saved(peer, life),
            Happening::Knock { peer, life, attempt } => self.knock(peer, life, attempt),
            Happening::GaveUp { peer, life, attempt } => self.gave_up(peer, life, attempt),
            Happening::Asked { conn, stream, payload } => self.asked(conn, stream, &payload),
            Happening::Gone { conn } => self.client_gone(conn),
            Happening::Answered { peer, life, conn, stream, payload } => {
                self.answered(peer, life, conn, stream, payload);
            }
            Happening::Event { peer, life, conn, payload } => {
                self.event(peer, life, conn, &payload)
            }
            Happening::Lost { peer, life, conn, why } => self.lost_server(peer, life, conn, why),
            Happening::Greeted(greeting) => self.greeted(greeting),
            Happening::Linked { link } => self.linked(link),
            Happening::Carried { link, side, bytes, .. } => self.carried(link, side, &bytes),
            Happening::Finished { link, side, .. } => self.link_finished(link, side),
        }
    }

    /// How long something takes one way now.
    fn latency(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(self.latency.clone()))
    }

    /// When something arrives that leaves now, and not before what left `before` it.
    fn arrival(&mut self, before: Duration) -> Duration {
        (self.now + self.latency()).max(before)
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.agenda.push(self.now + after, happening);
    }

    fn id(&self, home: &str) -> PeerId {
        let known = self.peers.iter().find(|peer| peer.home() == home);
        known.unwrap_or_else(|| panic!("nobody called {home}")).id()
    }

    fn peer(&self, home: &str) -> &Peer {
        let id = self.id(home);
        &self.peers[id.0]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.hushed {
            eprintln!("the world's seed was {}, and it lasted {:?}", self.seed, self.now);
        }
    }
}
