//! Who may connect: bounds in all and for each source, and proof of an address under load.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlor_common::time::Timestamp;
use quinn::{Connecting, Incoming};

use super::now;
use super::room::{AllRoom, Room};
use crate::bucket::Buckets;
use crate::limits::Limits;
use crate::server::{Source, Sources};

/// Sources whose handshakes are counted, at about 100 bytes.
const MAX_BUCKETS: usize = 100_000;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    room: AllRoom,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    connections: usize,
    handshakes: usize,
    by_source: BTreeMap<Source, FromSource>,
    sources: Sources,
    /// Of a source, apart for addresses that were proved: who forges somebody's address empties
    /// only the bucket before the proof.
    begun: Buckets<(Source, Proof)>,
}

/// What a source has here.
#[derive(Debug)]
struct FromSource {
    connections: usize,
    room: Room,
}

/// Whether an address was proved.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Proof {
    None,
    /// By QUIC Retry, or a token from before.
    Given,
}

/// What becomes of a newcomer.
#[derive(Debug)]
enum Verdict {
    Accept(Slot),
    Refuse,
    Retry,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    source: Source,
    room: Room,
    handshaking: bool,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        let counts = Counts {
            connections: 0,
            handshakes: 0,
            by_source: BTreeMap::new(),
            sources: Sources::new(limits.parts_before_widening),
            begun: Buckets::new(MAX_BUCKETS),
        };
        let room = AllRoom::new(limits.request_memory_mib);
        Self { limits, room, counts: Mutex::new(counts) }
    }

    /// Accepts a newcomer, or answers it with a retry or a refusal.
    pub(super) fn judge(self: &Arc<Self>, incoming: Incoming) -> Option<(Connecting, Slot)> {
        let remote = incoming.remote_address();
        match self.decide(remote.ip(), Proof::of(&incoming), now()) {
            Verdict::Accept(slot) => match incoming.accept() {
                Ok(connecting) => return Some((connecting, slot)),
                Err(error) => tracing::debug!(%remote, %error, "a first packet was refused"),
            },
            Verdict::Refuse => {
                tracing::debug!(%remote, "refused: too many connections");
                incoming.refuse();
            }
            // An address that was proved already is accepted or refused, never asked again.
            Verdict::Retry => drop(incoming.retry()),
        }
        None
    }

    fn decide(self: &Arc<Self>, ip: IpAddr, proof: Proof, now: Timestamp) -> Verdict {
        let mut counts = self.counts();
        let source = counts.sources.of(ip, now);
        if counts.connections >= self.limits.connections
            || counts.handshakes >= self.limits.handshakes
        {
            return Verdict::Refuse;
        }
        let from_source = counts.by_source.get(&source).map_or(0, |it| it.connections);
        let is_full = from_source >= self.limits.connections_per_source;
        let rate = match proof {
            Proof::None => self.limits.unproved_handshakes(),
            Proof::Given => self.limits.handshakes(),
        };
        if is_full || counts.begun.draw((source, proof), rate, now).is_err() {
            return counts.too_many(ip, proof, now);
        }
        if counts.handshakes >= self.limits.handshakes_before_retry && proof == Proof::None {
            return Verdict::Retry;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        let new = || FromSource { connections: 0, room: self.room.for_source() };
        let from_source = counts.by_source.entry(source).or_insert_with(new);
        from_source.connections += 1;
        let room = from_source.room.clone();
        Verdict::Accept(Slot { admission: Arc::clone(self), source, room, handshaking: true })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counting does not panic between two changes, so that a poisoned lock has sound counts.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// What becomes of one that comes too much from its source: the blame needs a proof, since an
    /// address may be forged.
    fn too_many(&mut self, ip: IpAddr, proof: Proof, now: Timestamp) -> Verdict {
        match proof {
            Proof::None => Verdict::Retry,
            Proof::Given => {
                self.sources.blame(ip, now);
                Verdict::Refuse
            }
        }
    }
}

impl Proof {
    fn of(incoming: &Incoming) -> Self {
        if incoming.remote_address_validated() { Self::Given } else { Self::None }
    }
}

impl Slot {
    /// Where requests of the connection have room.
    pub(super) const fn room(&self) -> &Room {
        &self.room
    }

    /// The handshake is over; the connection stays.
    pub(super) fn established(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.admission.counts().handshakes -= 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.established();
        let mut counts = self.admission.counts();
        counts.connections -= 1;
        if let Some(from_source) = counts.by_source.get_mut(&self.source) {
            from_source.connections -= 1;
            if from_source.connections == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn admission(limits: Limits) -> Arc<Admission> {
        Arc::new(Admission::new(limits))
    }

    fn decide(admission: &Arc<Admission>, ip: &str, proof: Proof) -> Verdict {
        admission.decide(ip.parse().unwrap(), proof, NOW)
    }

    #[test]
    fn a_source_has_its_bound_and_gets_places_back() {
        let admission = admission(Limits { connections_per_source: 1, ..Limits::default() });
        let first = decide(&admission, "2001:db8::1", Proof::Given);
        assert!(matches!(first, Verdict::Accept(_)));
        assert!(matches!(decide(&admission, "2001:db8::2", Proof::Given), Verdict::Refuse));
        assert!(matches!(decide(&admission, "2001:db8:0:1::2", Proof::Given), Verdict::Accept(_)));
        drop(first);
        assert!(matches!(decide(&admission, "2001:db8::2", Proof::Given), Verdict::Accept(_)));
        assert!(admission.counts().by_source.is_empty());
        assert_eq!(admission.counts().connections, 0);
    }

    #[test]
    fn there_is_a_bound_in_all() {
        let admission = admission(Limits { connections: 1, ..Limits::default() });
        let first = decide(&admission, "192.0.2.1", Proof::Given);
        assert!(matches!(decide(&admission, "192.0.2.2", Proof::Given), Verdict::Refuse));
        drop(first);
        assert!(matches!(decide(&admission, "192.0.2.2", Proof::Given), Verdict::Accept(_)));
    }

    #[test]
    fn under_load_an_address_is_proved_first_and_beyond_it_refused() {
        let limits = Limits { handshakes: 2, handshakes_before_retry: 1, ..Limits::default() };
        let admission = admission(limits);
        let Verdict::Accept(mut first) = decide(&admission, "192.0.2.1", Proof::None) else {
            panic!()
        };
        assert!(matches!(decide(&admission, "192.0.2.2", Proof::None), Verdict::Retry));
        let second = decide(&admission, "192.0.2.2", Proof::Given);
        assert!(matches!(second, Verdict::Accept(_)));
        assert!(matches!(decide(&admission, "192.0.2.3", Proof::Given), Verdict::Refuse));
        first.established();
        assert!(matches!(decide(&admission, "192.0.2.3", Proof::Given), Verdict::Accept(_)));
    }

    #[test]
    fn a_source_begins_so_many_handshakes_at_once_and_then_one_by_one() {
        let limits =
            Limits { handshakes_at_once: 2, handshakes_per_minute: 6, ..Limits::default() };
        let admission = admission(limits);
        for _ in 0..2 {
            assert!(matches!(decide(&admission, "192.0.2.1", Proof::Given), Verdict::Accept(_)));
        }
        assert!(matches!(decide(&admission, "192.0.2.1", Proof::Given), Verdict::Refuse));
        assert!(matches!(decide(&admission, "192.0.2.2", Proof::Given), Verdict::Accept(_)));
        let later = NOW + Duration::from_secs(10);
        let ip = "192.0.2.1".parse().unwrap();
        assert!(matches!(admission.decide(ip, Proof::Given, later), Verdict::Accept(_)));
        assert!(matches!(admission.decide(ip, Proof::Given, later), Verdict::Refuse));
    }

    #[test]
    fn who_forges_an_address_makes_its_owner_prove_it_and_no_more() {
        let limits = Limits {
            unproved_handshakes_at_once: 1,
            unproved_handshakes_per_minute: 6,
            connections_per_source: 3,
            parts_before_widening: 1,
            ..Limits::default()
        };
        let admission = admission(limits);
        assert!(matches!(decide(&admission, "192.0.2.1", Proof::None), Verdict::Accept(_)));
        for _ in 0..10 {
            assert!(matches!(decide(&admission, "192.0.2.1", Proof::None), Verdict::Retry));
        }
        assert!(matches!(decide(&admission, "192.0.2.1", Proof::Given), Verdict::Accept(_)));
        assert!(matches!(decide(&admission, "192.0.2.2", Proof::Given), Verdict::Accept(_)));
        let ip = "192.0.2.1".parse().unwrap();
        let later = NOW + Duration::from_secs(10);
        assert!(matches!(admission.decide(ip, Proof::None, later), Verdict::Accept(_)));
        assert!(matches!(admission.decide(ip, Proof::None, later), Verdict::Retry));
    }

    #[test]
    fn a_prefix_of_which_many_parts_come_too_much_has_one_bound() {
        let limits =
            Limits { connections_per_source: 1, parts_before_widening: 2, ..Limits::default() };
        let admission = admission(limits);
        let mut kept = Vec::new();
        for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            let first = decide(&admission, ip, Proof::Given);
            assert!(matches!(first, Verdict::Accept(_)));
            kept.push(first);
            assert!(matches!(decide(&admission, ip, Proof::Given), Verdict::Refuse));
        }
        assert!(matches!(decide(&admission, "192.0.2.4", Proof::Given), Verdict::Refuse));
        assert!(matches!(decide(&admission, "198.51.100.1", Proof::Given), Verdict::Accept(_)));
    }
}
