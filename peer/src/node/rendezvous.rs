//! The connection to the rendezvous: when to try again, and which requests await their replies.

use std::collections::BTreeMap;
use std::time::Duration;

use parlor_common::time::Timestamp;
use rand::CryptoRng;

use super::input::{RequestId, ServerDown};

/// Waits between tries while the rendezvous is out of reach, before jitter.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// The longest wait where the rendezvous told of its stop or something waits to be sent: back
/// within 5 seconds of its return.
const LONGEST_EAGER: Duration = Duration::from_secs(1);
/// The longest wait otherwise: back within 20 seconds, together with the time of a try.
const LONGEST_CALM: Duration = Duration::from_secs(12);
/// After ten minutes without it nobody expects it soon.
const LONGEST_LATE: Duration = Duration::from_secs(60);
/// How long an absence counts as short.
const SHORT_ABSENCE: Duration = Duration::from_secs(600);

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// None; the next try is due then.
    Down(Timestamp),
    /// A try is under way.
    Connecting,
    /// Connected; the welcome has not come.
    Connected,
    /// Signed in: the rendezvous knows this device.
    SignedIn,
    /// Connected, and the rendezvous does not know this device, or does not any more.
    NotKnown,
}

/// The connection's state. `P` is what a reply is for.
#[derive(Debug)]
pub(super) struct Rendezvous<P> {
    phase: Phase,
    pending: BTreeMap<RequestId, P>,
    next_request: u64,
    /// Since when there has been none, and the waits of this absence.
    down_since: Timestamp,
    tries: u32,
    /// Whether the rendezvous announced its stop.
    told: bool,
}

impl<P> Rendezvous<P> {
    /// No connection; the first try is due at once.
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Down(now),
            pending: BTreeMap::new(),
            next_request: 1,
            down_since: now,
            tries: 0,
            told: false,
        }
    }

    /// How far it is.
    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether requests can be made.
    pub(super) fn is_signed_in(&self) -> bool {
        self.phase == Phase::SignedIn
    }

    /// A try starts if one is due.
    pub(super) fn start_try(&mut self, now: Timestamp) -> bool {
        let due = matches!(self.phase, Phase::Down(at) if at <= now);
        if due {
            self.phase = Phase::Connecting;
        }
        due
    }

    /// The connection stands.
    pub(super) fn connected(&mut self) {
        self.phase = Phase::Connected;
    }

    /// The welcome has come, with one's own name.
    pub(super) fn signed_in(&mut self) {
        self.phase = Phase::SignedIn;
        self.tries = 0;
        self.told = false;
    }

    /// The rendezvous does not know this device: nothing is asked until this connection has ended
    /// and another one is welcomed. Returns what awaited replies.
    pub(super) fn not_known(&mut self) -> Vec<P> {
        self.phase = Phase::NotKnown;
        std::mem::take(&mut self.pending).into_values().collect()
    }

    /// The rendezvous says that it will stop.
    pub(super) fn will_stop(&mut self) {
        self.told = true;
    }

    /// The connection is gone, or a try failed. Returns what awaited replies; the next try comes
    /// after a wait. `eager` if something waits to be sent.
    pub(super) fn down(
        &mut self,
        reason: ServerDown,
        eager: bool,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Vec<P> {
        if self.is_signed_in() {
            self.down_since = now;
        }
        self.told |= reason == ServerDown::Closed;
        let wait = self.wait(eager, now);
        self.tries = self.tries.saturating_add(1);
        self.phase = Phase::Down(now + jittered(wait, rng));
        std::mem::take(&mut self.pending).into_values().collect()
    }

    fn wait(&self, eager: bool, now: Timestamp) -> Duration {
        let short = now.since(self.down_since) < SHORT_ABSENCE;
        let longest = match (short, eager || self.told) {
            (true, true) => LONGEST_EAGER,
            (true, false) => LONGEST_CALM,
            (false, _) => LONGEST_LATE,
        };
        FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(longest)
    }

    /// Something waits to be sent now: a long wait is cut short.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if let Phase::Down(at) = self.phase
            && now.since(self.down_since) < SHORT_ABSENCE
        {
            self.phase = Phase::Down(at.min(now + LONGEST_EAGER));
        }
    }

    /// Numbers a request and remembers what its reply is for.
    pub(super) fn ask(&mut self, purpose: P) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.pending.insert(id, purpose);
        id
    }

    /// What the reply to a request is for, once.
    pub(super) fn answered(&mut self, id: RequestId) -> Option<P> {
        self.pending.remove(&id)
    }

    /// When the next try is due.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Down(at) => Some(at),
            Phase::Connecting | Phase::Connected | Phase::SignedIn | Phase::NotKnown => None,
        }
    }
}

/// Up to a quarter less, so that many peers do not come back at the same moment.
fn jittered(wait: Duration, rng: &mut dyn CryptoRng) -> Duration {
    wait.saturating_sub(wait / 4 * (rng.next_u32() % 256) / 256)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// The longest of the waits between tries in the first ten minutes of an absence.
    fn longest_wait(reason: ServerDown, eager: bool) -> Duration {
        let mut rng = StdRng::seed_from_u64(1);
        let mut now = Timestamp::from_millis(1_000_000);
        let mut connection = Rendezvous::<()>::new(now);
        connection.signed_in();
        let end = now + SHORT_ABSENCE;
        let mut longest = Duration::ZERO;
        while now < end {
            connection.down(reason, eager, now, &mut rng);
            let due = connection.poll_timeout().unwrap();
            longest = longest.max(due.since(now));
            now = due;
            assert!(connection.start_try(now));
        }
        longest
    }

    #[test]
    fn an_announced_or_urgent_absence_is_probed_every_second() {
        assert!(longest_wait(ServerDown::Closed, false) <= LONGEST_EAGER);
        assert!(longest_wait(ServerDown::Unreachable, true) <= LONGEST_EAGER);
        assert!(longest_wait(ServerDown::Unreachable, false) <= LONGEST_CALM);
    }

    #[test]
    fn something_to_send_cuts_a_wait_short() {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Timestamp::from_millis(1_000_000);
        let mut connection = Rendezvous::<()>::new(now);
        for _ in 0..10 {
            connection.down(ServerDown::Unreachable, false, now, &mut rng);
        }
        assert!(connection.poll_timeout().unwrap() > now + LONGEST_EAGER);
        connection.hurry(now);
        assert!(connection.poll_timeout().unwrap() <= now + LONGEST_EAGER);
    }

    #[test]
    fn a_reply_is_for_its_request_once() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut connection = Rendezvous::new(Timestamp::default());
        let one = connection.ask("one");
        let two = connection.ask("two");
        assert_eq!(connection.answered(one), Some("one"));
        assert_eq!(connection.answered(one), None);
        let now = Timestamp::default();
        assert_eq!(connection.down(ServerDown::Closed, false, now, &mut rng), ["two"]);
        assert_eq!(connection.answered(two), None);
    }
}
