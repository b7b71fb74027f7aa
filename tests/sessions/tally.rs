//! What happened in all cases.

use std::fmt;

/// Counts.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Tally {
    pub sealed: u64,
    pub opened: u64,
    pub opened_late: u64,
    pub duplicates: u64,
    pub given_up: u64,
    pub forged: u64,
    pub steps: u64,
    pub turns: u64,
    pub restarts: u64,
    pub jumps: u64,
    /// The most keys that were kept at a time.
    pub most_kept: usize,
    /// The longest stored form, in bytes.
    pub longest: usize,
}

impl Tally {
    /// Adds another one's counts.
    pub fn add(&mut self, other: Self) {
        self.sealed += other.sealed;
        self.opened += other.opened;
        self.opened_late += other.opened_late;
        self.duplicates += other.duplicates;
        self.given_up += other.given_up;
        self.forged += other.forged;
        self.steps += other.steps;
        self.turns += other.turns;
        self.restarts += other.restarts;
        self.jumps += other.jumps;
        self.most_kept = self.most_kept.max(other.most_kept);
        self.longest = self.longest.max(other.longest);
    }

    /// Whether everything that is to happen has happened.
    #[cfg(test)]
    pub fn has_everything(&self) -> bool {
        let Self { opened, opened_late, duplicates, forged, steps, turns, .. } = self;
        let Self { given_up, restarts, jumps, most_kept, .. } = self;
        let all =
            [opened, opened_late, duplicates, given_up, forged, steps, turns, restarts, jumps];
        all.into_iter().all(|count| *count > 0) && *most_kept == crate::side::MAX_KEPT
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sealed, opened, opened_late, duplicates, given_up, forged, .. } = self;
        let Self { steps, turns, restarts, jumps, most_kept, longest, .. } = self;
        write!(
            f,
            "{sealed} messages sealed, {opened} opened, {opened_late} of them after later ones; \
             {duplicates} duplicates and {forged} forgeries refused; {given_up} keys given up; \
             {steps} steps, {turns} turns; {restarts} restarts, {jumps} jumps of a clock; \
             {most_kept} keys kept at most, {longest} bytes stored"
        )
    }
}
