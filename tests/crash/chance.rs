//! What is left to chance: all of it hangs on the seed.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::process::Part;
use crate::stage::Stage;

/// When somebody is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// While messages are written, saved, sent and received.
    MidBurst,
    /// When all that was written has just been answered as queued.
    JustQueued,
    /// Right after the start.
    AtStart,
    /// While it receives what was written in its absence.
    CatchingUp,
}

/// Messages and kills that are to come, and how they are spread.
#[derive(Debug)]
pub struct Chance {
    rng: StdRng,
    pub messages_left: usize,
    pub kills_left: usize,
}

impl Chance {
    pub fn new(seed: u64, messages: usize, kills: usize) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), messages_left: messages, kills_left: kills }
    }

    pub fn number(&mut self, range: RangeInclusive<usize>) -> usize {
        self.rng.random_range(range)
    }

    /// Happens once in so many times.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.rng.random_ratio(1, times)
    }

    /// One kill less to come.
    pub fn kill(&mut self, stage: &mut Stage, victim: Part) -> anyhow::Result<()> {
        self.kills_left = self.kills_left.saturating_sub(1);
        stage.kill(victim)
    }

    /// A peer twice as often as the rendezvous.
    pub fn victim(&mut self) -> Part {
        match self.number(0..=4) {
            0 | 1 => Part::Alice,
            2 | 3 => Part::Bob,
            _ => Part::Rendezvous,
        }
    }

    pub fn moment(&mut self) -> Moment {
        match self.number(0..=5) {
            0 | 1 => Moment::MidBurst,
            2 => Moment::JustQueued,
            3 => Moment::AtStart,
            _ => Moment::CatchingUp,
        }
    }

    /// The next messages that somebody writes: how long each is. A burst is big now and then; all
    /// of them together are as many as there shall be.
    pub fn burst(&mut self) -> Vec<usize> {
        let mean = (self.messages_left / self.kills_left.max(1) / 2).clamp(1, 100);
        let most = if self.once_in(8) { 8 * mean } else { 2 * mean };
        let count = self.number(1..=most).min(self.messages_left);
        self.messages_left -= count;
        (0..count)
            .map(|_| if self.once_in(50) { self.number(0..=9000) } else { self.number(0..=300) })
            .collect()
    }
}
