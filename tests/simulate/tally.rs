//! What happened in all scenarios.

use std::fmt;
use std::time::Duration;

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) scenarios: u64,
    pub(crate) steps: u64,
    /// Peers that ended in the middle of something.
    pub(crate) kills: u64,
    pub(crate) put_back: u64,
    pub(crate) server_ends: u64,
    pub(crate) queued: u64,
    pub(crate) delivered: u64,
    pub(crate) told: u64,
    /// How long the worlds have lasted, by their own clocks.
    pub(crate) time: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.scenarios += other.scenarios;
        self.steps += other.steps;
        self.kills += other.kills;
        self.put_back += other.put_back;
        self.server_ends += other.server_ends;
        self.queued += other.queued;
        self.delivered += other.delivered;
        self.told += other.told;
        self.time += other.time;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scenarios of {} steps: {} messages queued, {} stored at both ends, {} told; peers \
             killed {} times and put back {}, the rendezvous ended {} times; {} hours simulated",
            self.scenarios,
            self.steps,
            self.queued,
            self.delivered,
            self.told,
            self.kills,
            self.put_back,
            self.server_ends,
            self.time.as_secs() / 3600,
        )
    }
}
