//! The one reader of clocks.

#![expect(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parlor_common::time::Timestamp;

use super::LONGEST_SLEEP;
use crate::node::input::Now;

/// A timer that starts with the process, and the machine's date.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the timer.
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both times now.
    pub(super) fn now(&self) -> Now {
        let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { timer: timestamp(self.start.elapsed()), date: timestamp(date) }
    }

    /// How long it is until `timer`; not for ever if there is none.
    pub(super) fn until(&self, timer: Option<Timestamp>) -> Duration {
        let now = timestamp(self.start.elapsed());
        timer.map_or(LONGEST_SLEEP, |timer| timer.since(now)).min(LONGEST_SLEEP)
    }
}

fn timestamp(duration: Duration) -> Timestamp {
    Timestamp::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
