//! Sessions that do not open any more: with whom a new one is to be started, and when.
//!
//! What cannot be opened is answered by a new session that says what was received. It is answered
//! at once, then no sooner than 1, 2, 4 … 60 seconds after the last answer, until a message of the
//! device opens.

use std::collections::BTreeMap;
use std::time::Duration;

use parlor_common::id::DeviceId;
use parlor_common::time::Timestamp;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// So often at most new sessions are wanted with everybody, because something came on one that is
/// not there and does not say whose it is.
const ALL_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What is to be repaired, by device.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    by_device: BTreeMap<DeviceId, Repair>,
    /// When all may be wanted again.
    all_not_before: Timestamp,
}

#[derive(Debug, Default)]
struct Repair {
    /// Whether a new session is wanted.
    wanted: bool,
    /// Whether one is being started.
    under_way: bool,
    /// How often one was started since a message was opened last.
    tries: u32,
    /// When the next may be.
    not_before: Timestamp,
}

impl Repairs {
    /// Something of a device could not be opened, or its sessions are not to be trusted.
    pub(super) fn want(&mut self, device: DeviceId) {
        self.by_device.entry(device).or_default().wanted = true;
    }

    /// Whether new sessions may be wanted with everybody now: then not again for a day.
    pub(super) fn may_want_all(&mut self, now: Timestamp) -> bool {
        let may = self.all_not_before <= now;
        if may {
            self.all_not_before = now + ALL_INTERVAL;
        }
        may
    }

    /// The devices with which a new session is wanted and may be started now.
    pub(super) fn due(&self, now: Timestamp) -> Vec<DeviceId> {
        let due = self.by_device.iter().filter(|(_, repair)| repair.is_due(now));
        due.map(|(device, _)| *device).collect()
    }

    /// A new session with a device is being started.
    pub(super) fn start(&mut self, device: DeviceId, now: Timestamp) {
        let repair = self.by_device.entry(device).or_default();
        let wait = FIRST_WAIT.saturating_mul(1 << repair.tries.min(16)).min(LONGEST_WAIT);
        repair.wanted = false;
        repair.under_way = true;
        repair.tries = repair.tries.saturating_add(1);
        repair.not_before = now + wait;
    }

    /// A repair cannot be started before then.
    pub(super) fn put_off(&mut self, device: DeviceId, until: Timestamp) {
        if let Some(repair) = self.by_device.get_mut(&device) {
            repair.not_before = repair.not_before.max(until);
        }
    }

    /// Whether a new session with a device is being started.
    pub(super) fn is_under_way(&self, device: DeviceId) -> bool {
        self.by_device.get(&device).is_some_and(|repair| repair.under_way)
    }

    /// A session with a device was started. Returns whether that was a repair: then it is to say so.
    pub(super) fn started(&mut self, device: DeviceId) -> bool {
        let repair = self.by_device.get_mut(&device);
        repair.is_some_and(|repair| std::mem::take(&mut repair.under_way))
    }

    /// A new session that was being started did not come to be.
    pub(super) fn failed(&mut self, device: DeviceId) {
        if let Some(repair) = self.by_device.get_mut(&device) {
            repair.wanted |= std::mem::take(&mut repair.under_way);
        }
    }

    /// A device is nobody's any more.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.by_device.remove(&device);
    }

    /// A message of a device was opened: the next repair need not wait. One that is wanted stays so,
    /// because what could not be opened is not sent again by itself.
    pub(super) fn opened(&mut self, device: DeviceId) {
        let Some(repair) = self.by_device.get_mut(&device) else { return };
        repair.tries = 0;
        if !repair.wanted && !repair.under_way {
            self.by_device.remove(&device);
        }
    }

    /// When the next of those may be started that had to wait.
    pub(super) fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.by_device.values().filter(|repair| repair.wanted);
        waiting.map(|repair| repair.not_before).filter(|at| *at > now).min()
    }
}

impl Repair {
    fn is_due(&self, now: Timestamp) -> bool {
        self.wanted && self.not_before <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId([1; 16]);

    #[test]
    fn repairs_are_spaced_until_a_message_opens() {
        let mut repairs = Repairs::default();
        let mut now = Timestamp::from_millis(1000);
        assert_eq!(repairs.due(now), []);
        for seconds in [0, 1, 2, 4, 8, 16, 32, 60, 60] {
            repairs.want(DEVICE);
            let due = now + Duration::from_secs(seconds);
            if due > now {
                assert_eq!(repairs.due(due - Duration::from_millis(1)), [], "{seconds} s");
                assert_eq!(repairs.poll_timeout(now), Some(due));
            }
            now = due;
            assert_eq!((repairs.due(now), repairs.poll_timeout(now)), (vec![DEVICE], None));
            repairs.start(DEVICE, now);
            assert!(repairs.started(DEVICE) && !repairs.started(DEVICE), "it is said once");
            assert_eq!(repairs.due(now + LONGEST_WAIT), []);
        }
        repairs.opened(DEVICE);
        repairs.want(DEVICE);
        assert_eq!(repairs.due(now), [DEVICE]);
    }

    #[test]
    fn a_repair_that_comes_to_nothing_is_wanted_again_after_its_wait() {
        let (mut repairs, now) = (Repairs::default(), Timestamp::from_millis(1000));
        repairs.failed(DEVICE);
        assert_eq!(repairs.due(now), [], "none was under way");
        repairs.want(DEVICE);
        repairs.start(DEVICE, now);
        repairs.failed(DEVICE);
        assert!(!repairs.started(DEVICE));
        assert_eq!((repairs.due(now), repairs.due(now + FIRST_WAIT)), (vec![], vec![DEVICE]));
        repairs.forget(DEVICE);
        assert_eq!(repairs.due(now + LONGEST_WAIT), []);
    }

    #[test]
    fn what_opens_meanwhile_cancels_no_repair() {
        let (mut repairs, now) = (Repairs::default(), Timestamp::from_millis(1000));
        repairs.want(DEVICE);
        repairs.opened(DEVICE);
        assert_eq!(repairs.due(now), [DEVICE]);
        repairs.start(DEVICE, now);
        repairs.opened(DEVICE);
        assert!(repairs.started(DEVICE));
    }

    #[test]
    fn all_are_repaired_once_a_day() {
        let (mut repairs, now) = (Repairs::default(), Timestamp::from_millis(1000));
        assert!(repairs.may_want_all(now) && !repairs.may_want_all(now));
        let day = now + ALL_INTERVAL;
        assert!(!repairs.may_want_all(day - Duration::from_millis(1)) && repairs.may_want_all(day));
    }
}
