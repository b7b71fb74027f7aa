//! How many unopenable envelopes a device may send before its links are closed for a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;

/// More failures than this in a [`WINDOW`] are no accident.
const FAILURES: usize = 20;
const WINDOW: Duration = Duration::from_secs(1);
/// For how long a device that failed too often gets no link.
const PENANCE: Duration = Duration::from_secs(60);

/// Failures and penances, by device.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: BTreeMap<DeviceKey, VecDeque<Timestamp>>,
    until: BTreeMap<DeviceKey, Timestamp>,
}

impl Patience {
    /// Something of `device` could not be opened. Returns whether that was once too often.
    pub(super) fn failed(&mut self, device: DeviceKey, now: Timestamp) -> bool {
        let failures = self.failures.entry(device).or_default();
        while failures.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            failures.pop_front();
        }
        failures.push_back(now);
        let lost = failures.len() > FAILURES;
        if lost {
            self.failures.remove(&device);
            self.until.insert(device, now + PENANCE);
        }
        lost
    }

    /// Whether `device` may have a link.
    pub(super) fn tolerates(&mut self, device: &DeviceKey, now: Timestamp) -> bool {
        self.until.retain(|_, until| *until > now);
        !self.until.contains_key(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceKey = DeviceKey::from_bytes([1; 32]);

    #[test]
    fn a_flood_of_failures_costs_the_link_for_a_minute() {
        let mut patience = Patience::default();
        let start = Timestamp::from_millis(0);
        assert!((0..FAILURES).all(|_| !patience.failed(DEVICE, start)));
        assert!(patience.tolerates(&DEVICE, start));
        assert!(patience.failed(DEVICE, start));
        assert!(!patience.tolerates(&DEVICE, start));
        assert!(patience.tolerates(&DEVICE, start + PENANCE));
    }

    #[test]
    fn failures_now_and_then_cost_nothing() {
        let mut patience = Patience::default();
        let step = Duration::from_millis(100);
        assert!((0..1000).all(|i| !patience.failed(DEVICE, Timestamp::default() + step * i)));
    }
}
