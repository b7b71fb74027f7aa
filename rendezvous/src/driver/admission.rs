//! Who may connect: bounds in all and for each source, and proof of an address under load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlor_common::time::Timestamp;
use quinn::{Connecting, Incoming};

use super::now;
use crate::limits::Limits;
use crate::server::{Source, Sources};

/// Counts connections.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    connections: usize,
    handshakes: usize,
    by_source: BTreeMap<Source, usize>,
    sources: Sources,
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
    handshaking: bool,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        let counts = Counts {
            connections: 0,
            handshakes: 0,
            by_source: BTreeMap::new(),
            sources: Sources::new(limits.parts_before_widening),
        };
        Self { limits, counts: Mutex::new(counts) }
    }

    /// Accepts a newcomer, or answers it with a retry or a refusal.
    pub(super) fn judge(self: &Arc<Self>, incoming: Incoming) -> Option<(Connecting, Slot)> {
        let remote = incoming.remote_address();
        match self.decide(remote, incoming.remote_address_validated(), now()) {
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

    fn decide(self: &Arc<Self>, remote: SocketAddr, validated: bool, now: Timestamp) -> Verdict {
        let mut counts = self.counts();
        let source = counts.sources.of(remote.ip(), now);
        let from_source = counts.by_source.get(&source).copied().unwrap_or(0);
        if counts.connections >= self.limits.connections
            || counts.handshakes >= self.limits.handshakes
        {
            return Verdict::Refuse;
        }
        if from_source >= self.limits.connections_per_source {
            // An address that was not proved may be somebody else's.
            if validated {
                counts.sources.blame(remote.ip(), now);
            }
            return Verdict::Refuse;
        }
        if counts.handshakes >= self.limits.handshakes_before_retry && !validated {
            return Verdict::Retry;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        counts.by_source.insert(source, from_source + 1);
        Verdict::Accept(Slot { admission: Arc::clone(self), source, handshaking: true })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counting does not panic between two changes, so that a poisoned lock has sound counts.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
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
        if let Some(count) = counts.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: Limits) -> Arc<Admission> {
        Arc::new(Admission::new(limits))
    }

    fn decide(admission: &Arc<Admission>, ip: &str, validated: bool) -> Verdict {
        admission.decide(SocketAddr::new(ip.parse().unwrap(), 1), validated, Timestamp::default())
    }

    #[test]
    fn a_source_has_its_bound_and_gets_places_back() {
        let admission = admission(Limits { connections_per_source: 1, ..Limits::default() });
        let first = decide(&admission, "2001:db8::1", true);
        assert!(matches!(first, Verdict::Accept(_)));
        assert!(matches!(decide(&admission, "2001:db8::2", true), Verdict::Refuse));
        assert!(matches!(decide(&admission, "2001:db8:0:1::2", true), Verdict::Accept(_)));
        drop(first);
        assert!(matches!(decide(&admission, "2001:db8::2", true), Verdict::Accept(_)));
        assert!(admission.counts().by_source.is_empty());
        assert_eq!(admission.counts().connections, 0);
    }

    #[test]
    fn there_is_a_bound_in_all() {
        let admission = admission(Limits { connections: 1, ..Limits::default() });
        let first = decide(&admission, "192.0.2.1", true);
        assert!(matches!(decide(&admission, "192.0.2.2", true), Verdict::Refuse));
        drop(first);
        assert!(matches!(decide(&admission, "192.0.2.2", true), Verdict::Accept(_)));
    }

    #[test]
    fn under_load_an_address_is_proved_first_and_beyond_it_refused() {
        let limits = Limits { handshakes: 2, handshakes_before_retry: 1, ..Limits::default() };
        let admission = admission(limits);
        let Verdict::Accept(mut first) = decide(&admission, "192.0.2.1", false) else { panic!() };
        assert!(matches!(decide(&admission, "192.0.2.2", false), Verdict::Retry));
        let second = decide(&admission, "192.0.2.2", true);
        assert!(matches!(second, Verdict::Accept(_)));
        assert!(matches!(decide(&admission, "192.0.2.3", true), Verdict::Refuse));
        first.established();
        assert!(matches!(decide(&admission, "192.0.2.3", true), Verdict::Accept(_)));
    }
}
