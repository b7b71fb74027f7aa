//! What the rendezvous is told of this device's keys: prekeys for those who come while it is away,
//! and how often it was started, by which a restored or copied profile is found out.

use std::time::Duration;

use parlor_common::prekey::PrekeyPair;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    MAX_PAIRS_AT_ONCE, PrekeysHeld, PrekeysKept, Request, Started,
};
use rand::CryptoRng;

use super::Node;
use super::input::Now;
use super::record::Change;
use super::server::Purpose;
use super::work::Work;

/// The rendezvous keeps so many one-time pairs of a device.
const PAIRS_KEPT: u32 = 100;
/// It gets more when it has fewer than this.
const PAIRS_SHORT: u32 = 20;
/// It is looked after this often: a signed pair is due once a week.
const LOOK_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// A rendezvous that claims more starts than this is not believed: nobody starts so often.
pub(super) const MOST_STARTS: u64 = 1 << 53;

/// What is under way.
#[derive(Debug)]
pub(super) struct Publication {
    /// How often this profile was started.
    starts: u64,
    /// How often this process has told that count.
    tells: u32,
    /// The signed pair that the rendezvous was given last.
    signed: Option<u32>,
    /// Whether one-time pairs are given until the rendezvous has all that it keeps.
    filling: bool,
    /// Whether what the rendezvous holds is of an earlier state of this profile, and to be replaced.
    replaces: bool,
    /// When to look again.
    next_look: Option<Timestamp>,
}

impl Publication {
    /// For the `starts`th start of a profile.
    pub(super) const fn new(starts: u64) -> Self {
        Self { starts, tells: 0, signed: None, filling: false, replaces: false, next_look: None }
    }

    /// Whether another start than this one has told the rendezvous a count as high as ours. What
    /// this process has told before and heard no answer to may be its own.
    const fn is_other(&self, largest: u64) -> bool {
        largest > self.starts || largest == self.starts && self.tells < 2
    }

    /// When the node has something to do for it.
    pub(super) const fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_look
    }

    /// How many one-time pairs the rendezvous is to be given next.
    fn wanted(&mut self, held: u32) -> usize {
        let missing = PAIRS_KEPT.saturating_sub(held);
        self.filling = missing > 0 && (self.filling || held < PAIRS_SHORT);
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        if self.filling { missing.min(MAX_PAIRS_AT_ONCE) } else { 0 }
    }
}

impl Node {
    /// Tells the rendezvous how often this profile was started.
    pub(super) fn tell_start(&mut self) {
        let count = self.publication.starts;
        self.publication.tells += 1;
        self.ask(Request::DeviceStart { count }, Purpose::Started);
    }

    /// The rendezvous says which counts it has heard. Another start than this one has told the same
    /// count, or a larger one: then this profile was put back to an earlier state, or is a copy.
    pub(super) fn handle_started(&mut self, started: Started) {
        let Started { largest } = started;
        if largest > MOST_STARTS || !self.publication.is_other(largest) {
            return self.count_prekeys();
        }
        tracing::warn!("this profile was restored or copied: its sessions are started anew");
        let starts = largest.saturating_add(1);
        self.publication = Publication { replaces: true, ..Publication::new(starts) };
        self.renounce_keys();
        self.tell_start();
    }

    fn count_prekeys(&mut self) {
        self.ask(Request::PrekeysCount {}, Purpose::PrekeysHeld);
    }

    /// Looks after the prekeys at the rendezvous, now and then.
    pub(super) fn look_after_prekeys(&mut self, now: Now) {
        if self.publication.next_look.take_if(|at| *at <= now.timer).is_some()
            && self.rendezvous.is_signed_in()
        {
            self.count_prekeys();
        }
    }

    /// Gives the rendezvous what it lacks: this week's signed pair, and one-time pairs if it runs
    /// short.
    pub(super) fn top_up(&mut self, held: PrekeysHeld, now: Now, rng: &mut dyn CryptoRng) {
        self.publication.next_look = Some(now.timer + LOOK_INTERVAL);
        let signed = self.prekeys.signed(now.date, &mut self.changes, rng);
        let signed = Some(signed).filter(|pair| held.signed != Some(pair.id));
        let held = if self.publication.replaces { 0 } else { held.one_time };
        let one_time: Vec<_> = (0..self.publication.wanted(held))
            .map(|_| self.prekeys.one_time(now.date, &mut self.changes, rng))
            .collect();
        if signed.is_none() {
            self.prekeys_are_there();
        }
        if signed.is_some() || !one_time.is_empty() {
            let device = self.me.device.clone();
            self.publication.signed =
                signed.as_ref().map(|pair| pair.id).or(self.publication.signed);
            self.work.push_back(Work::SignPrekeys { device, signed, one_time });
        }
    }

    /// Prekeys were signed: they are given to the rendezvous.
    pub(super) fn put_prekeys(
        &mut self,
        signed: Option<Box<PrekeyPair>>,
        one_time: Vec<PrekeyPair>,
    ) {
        if self.rendezvous.is_signed_in() {
            let replace = self.publication.replaces;
            let request = Request::PrekeysPut { signed, one_time, replace };
            self.ask(request, Purpose::PrekeysKept);
        }
    }

    /// The rendezvous has kept prekeys: it gets more until it has enough.
    pub(super) fn kept_prekeys(&mut self, kept: PrekeysKept, now: Now, rng: &mut dyn CryptoRng) {
        if std::mem::take(&mut self.publication.replaces) {
            // Only now is there nothing left of the earlier state: until then it is found out again.
            self.changes.push(Change::PutStarts(self.publication.starts));
        }
        let held = PrekeysHeld { one_time: kept.one_time, signed: self.publication.signed };
        self.top_up(held, now, rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_start_is_told_by_a_count_that_this_one_has_not_told() {
        let mut publication = Publication::new(7);
        publication.tells = 1;
        assert!(!publication.is_other(6));
        assert!(publication.is_other(7) && publication.is_other(8));
        publication.tells = 2;
        assert!(!publication.is_other(7), "it is what this process told, unanswered");
        assert!(publication.is_other(8));
    }

    #[test]
    fn the_rendezvous_is_filled_when_it_runs_short() {
        let mut publication = Publication::new(1);
        assert_eq!(publication.wanted(20), 0);
        let mut held = 19;
        let mut puts = 0;
        while let wanted @ 1.. = publication.wanted(held) {
            held += u32::try_from(wanted).unwrap();
            puts += 1;
        }
        assert_eq!((held, puts), (PAIRS_KEPT, 6));
        assert_eq!(publication.wanted(99), 0, "and not at once again");
    }
}
