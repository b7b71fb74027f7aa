//! How much vain work a device may cause before its links are closed for a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;

use super::outbox::WINDOW;

const SECOND: Duration = Duration::from_secs(1);
/// For how long a device that went too far gets no link.
const PENANCE: Duration = Duration::from_secs(60);

/// What a device did that costs work, or was in vain.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Trouble {
    /// It sent an envelope that could not be opened though a key was tried.
    Failure,
    /// It sent an envelope for which there is no key: of a session that is gone, say, because this
    /// profile was put back to a copy. Then an honest device has a whole window of them on its way.
    Stray,
    /// It sent a new ratchet key, which costs an exponentiation. An honest device has one a second
    /// at most.
    NewKey,
    /// It sent a first message, which costs six exponentiations.
    FirstMessage,
}

impl Trouble {
    /// More than this in a second are no accident.
    const fn bound(self) -> usize {
        match self {
            Self::Failure => 20,
            Self::Stray => 2 * WINDOW,
            Self::NewKey | Self::FirstMessage => 10,
        }
    }
}

/// Troubles and penances, by device.
#[derive(Debug, Default)]
pub(super) struct Patience {
    troubles: BTreeMap<(DeviceKey, Trouble), VecDeque<Timestamp>>,
    until: BTreeMap<DeviceKey, Timestamp>,
}

impl Patience {
    /// A device caused trouble. Returns whether that was once too often.
    pub(super) fn tries(&mut self, device: DeviceKey, trouble: Trouble, now: Timestamp) -> bool {
        let times = self.troubles.entry((device, trouble)).or_default();
        while times.front().is_some_and(|at| now.since(*at) >= SECOND) {
            times.pop_front();
        }
        times.push_back(now);
        let lost = times.len() > trouble.bound();
        if lost {
            self.troubles.remove(&(device, trouble));
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
    fn a_flood_costs_the_link_for_a_minute() {
        for (trouble, bound) in
            [(Trouble::Failure, 20), (Trouble::Stray, 1024), (Trouble::NewKey, 10)]
        {
            let mut patience = Patience::default();
            let start = Timestamp::from_millis(0);
            assert!((0..bound).all(|_| !patience.tries(DEVICE, trouble, start)));
            assert!(patience.tolerates(&DEVICE, start));
            assert!(patience.tries(DEVICE, trouble, start));
            assert!(!patience.tolerates(&DEVICE, start));
            assert!(patience.tolerates(&DEVICE, start + PENANCE));
        }
    }

    #[test]
    fn trouble_now_and_then_costs_nothing() {
        let mut patience = Patience::default();
        let step = Duration::from_millis(100);
        let failed = |at| patience.tries(DEVICE, Trouble::Failure, Timestamp::default() + at);
        assert!((0..1000).map(|i| step * i).map(failed).all(|lost| !lost));
    }
}
