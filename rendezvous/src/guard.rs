//! Against guessing: how soon the next login may be tried, and when none may.
//!
//! Every try counts when it begins, and a success takes it back: a client that has guessed wrong
//! never says so. Tries are counted for a name and a source, and in a wider measure for the name
//! alone; for a name that nobody has like for any other.

use std::time::Duration;

use parlor_common::time::Timestamp;

use crate::limits::Limits;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// After so long without a failure everything is forgotten.
pub const FORGOTTEN_AFTER: Duration = DAY;

/// How much guessing is too much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuardLimits {
    /// Failures after which nothing waits yet.
    free: u32,
    /// Failures within the window that lock.
    lock_at: u32,
    /// The window, which begins with the first failure that counts in it.
    window: Duration,
    /// How long the first lock lasts; each further one twice as long as the one before.
    lock: Duration,
    /// The longest lock, and the longest wait.
    longest: Duration,
}

impl GuardLimits {
    /// For a name and a source.
    pub fn of_source(limits: &Limits) -> Self {
        Self {
            free: limits.login_failures_free,
            lock_at: limits.login_failures_to_lock.max(1),
            window: MINUTE * limits.login_window_minutes,
            lock: MINUTE * limits.login_lock_minutes,
            longest: HOUR * limits.login_longest_lock_hours,
        }
    }

    /// For a name alone, whatever the sources: nothing waits, and a lock has one length.
    pub fn of_name(limits: &Limits) -> Self {
        let lock = MINUTE * limits.login_lock_minutes;
        let lock_at = limits.login_failures_per_name_per_day.max(1);
        Self { free: u32::MAX, lock_at, window: DAY, lock, longest: lock }
    }

    /// How long the next try waits after so many failures.
    fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.checked_sub(self.free.saturating_add(1));
        doublings.map_or(Duration::ZERO, |it| self.doubled(Duration::from_secs(1), it))
    }

    fn doubled(&self, first: Duration, times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times.min(31)).unwrap_or(u32::MAX);
        first.saturating_mul(factor).min(self.longest)
    }
}

/// What may become of a try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It goes on.
    Allowed,
    /// It came too soon, and counts.
    TooFast {
        /// When the next one is taken.
        until: Timestamp,
    },
    /// There have been too many.
    Locked {
        /// When the next one is taken.
        until: Timestamp,
    },
}

/// A try, judged and counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// What may become of it.
    pub verdict: Verdict,
    /// Whether it was one too many, so that the next ones are locked out.
    pub locks: bool,
}

/// The tries of a name and a source, or of a name alone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tries {
    /// How many have failed in the window.
    pub failures: u32,
    /// When the window began.
    pub since: Timestamp,
    /// The next try must wait until then.
    pub next_at: Timestamp,
    /// No try is taken until then.
    pub locked_until: Timestamp,
    /// How often they have locked.
    pub locks: u32,
    /// When the last one was.
    pub last_at: Timestamp,
    /// Whether one has succeeded, ever.
    pub known: bool,
}

impl Tries {
    /// Judges a try, and counts it unless all are locked.
    pub fn attempt(&mut self, now: Timestamp, limits: &GuardLimits) -> Attempt {
        self.settle(now, limits);
        if now < self.locked_until {
            let verdict = Verdict::Locked { until: self.locked_until };
            return Attempt { verdict, locks: false };
        }
        let too_fast = now < self.next_at;
        self.failures = self.failures.saturating_add(1);
        self.last_at = now;
        self.next_at = now + limits.wait(self.failures);
        let locks = self.failures >= limits.lock_at;
        if locks {
            self.lock(now, limits);
        }
        let verdict = match (too_fast, locks) {
            (false, _) => Verdict::Allowed,
            (true, true) => Verdict::Locked { until: self.locked_until },
            (true, false) => Verdict::TooFast { until: self.next_at },
        };
        Attempt { verdict, locks }
    }

    /// A try has succeeded: it and the failures before it are forgotten.
    pub fn succeed(&mut self, now: Timestamp) {
        *self = Self { last_at: now, known: true, ..Self::default() };
    }

    /// One of many tries has succeeded, which says nothing of the others.
    pub fn take_back(&mut self) {
        self.failures = self.failures.saturating_sub(1);
    }

    /// Whether the next try is locked out.
    pub fn is_locked(&self, now: Timestamp) -> bool {
        now < self.locked_until
    }

    fn lock(&mut self, now: Timestamp, limits: &GuardLimits) {
        self.locked_until = now + limits.doubled(limits.lock, self.locks);
        self.locks = self.locks.saturating_add(1);
        self.failures = 0;
    }

    /// Brings what was counted up to the time.
    fn settle(&mut self, now: Timestamp, limits: &GuardLimits) {
        if now < self.last_at {
            self.set_back(self.last_at.since(now));
        }
        let over = self.last_at.max(self.locked_until) + FORGOTTEN_AFTER;
        if over <= now {
            *self = Self { known: self.known, ..Self::default() };
        }
        if self.failures == 0 || self.since + limits.window <= now {
            self.failures = 0;
            self.since = now;
        }
    }

    /// The clock was set back: what was to be waited for still is, and no longer.
    fn set_back(&mut self, by: Duration) {
        for time in [&mut self.since, &mut self.next_at, &mut self.locked_until, &mut self.last_at]
        {
            *time = *time - by;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn limits() -> GuardLimits {
        GuardLimits::of_source(&Limits::default())
    }

    fn after(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    /// Fails `times`, each as soon as it may.
    fn fail(tries: &mut Tries, times: u32) -> Timestamp {
        let mut now = START;
        for _ in 0..times {
            now = now.max(tries.next_at);
            assert_eq!(tries.attempt(now, &limits()).verdict, Verdict::Allowed);
        }
        now
    }

    #[test]
    fn from_the_fourth_failure_on_the_next_try_waits() {
        let mut tries = Tries::default();
        for _ in 0..4 {
            assert_eq!(tries.attempt(START, &limits()).verdict, Verdict::Allowed);
        }
        for wait in [1, 2, 4, 8, 16] {
            let now = tries.next_at;
            assert_eq!(now, after(wait * 2 - 1));
            let mut early = tries;
            let just_before = now - Duration::from_millis(1);
            assert!(matches!(
                early.attempt(just_before, &limits()).verdict,
                Verdict::TooFast { .. }
            ));
            assert_eq!(tries.attempt(now, &limits()).verdict, Verdict::Allowed);
        }
    }

    #[test]
    fn a_try_that_comes_too_soon_counts() {
        let mut tries = Tries::default();
        fail(&mut tries, 4);
        for wait in [2, 4, 8, 16, 32] {
            let until = START + Duration::from_secs(wait);
            assert_eq!(tries.attempt(START, &limits()).verdict, Verdict::TooFast { until });
        }
        let until = after(15 * 60);
        assert_eq!(tries.attempt(START, &limits()).verdict, Verdict::Locked { until });
        assert_eq!(tries.attempt(START, &limits()).verdict, Verdict::Locked { until });
    }

    #[test]
    fn each_lock_is_twice_as_long_up_to_a_day_and_tries_in_it_do_not_count() {
        let (mut tries, mut now) = (Tries::default(), START);
        for minutes in [15, 30, 60, 120, 240, 480, 960, 1440, 1440] {
            while !tries.is_locked(now) {
                tries.attempt(now, &limits());
            }
            let until = tries.locked_until;
            assert_eq!(until, now + MINUTE * minutes);
            for _ in 0..100 {
                let verdict = tries.attempt(now, &limits()).verdict;
                assert_eq!(verdict, Verdict::Locked { until });
            }
            now = until;
        }
        assert_eq!(tries.attempt(now, &limits()).verdict, Verdict::Allowed);
    }

    #[test]
    fn a_success_and_a_day_without_failures_forget_everything() {
        let mut tries = Tries::default();
        let now = fail(&mut tries, 9);
        tries.succeed(now);
        assert!(tries.known);
        for _ in 0..4 {
            assert_eq!(tries.attempt(now, &limits()).verdict, Verdict::Allowed);
        }
        let mut tries = Tries::default();
        while !tries.is_locked(START) {
            tries.attempt(START, &limits());
        }
        let later = tries.locked_until + DAY;
        assert_eq!(tries.attempt(later, &limits()).verdict, Verdict::Allowed);
        assert_eq!((tries.locks, tries.failures), (0, 1));
    }

    #[test]
    fn ten_failures_over_a_longer_time_do_not_lock() {
        let (mut tries, mut now) = (Tries::default(), START);
        for _ in 0..40 {
            assert_eq!(tries.attempt(now, &limits()).verdict, Verdict::Allowed);
            now = now + MINUTE * 2;
        }
    }

    #[test]
    fn a_name_alone_locks_at_a_far_higher_bound_and_nothing_waits() {
        let limits = GuardLimits::of_name(&Limits::default());
        let mut tries = Tries::default();
        for _ in 0..1000 {
            assert_eq!(tries.attempt(START, &limits).verdict, Verdict::Allowed);
        }
        assert!(matches!(tries.attempt(START, &limits).verdict, Verdict::Locked { .. }));
        let mut tries = Tries::default();
        for _ in 0..5000 {
            assert_eq!(tries.attempt(START, &limits).verdict, Verdict::Allowed);
            tries.take_back();
        }
    }

    #[test]
    fn each_number_of_the_configuration_has_its_say() {
        let limits = Limits {
            login_failures_free: 1,
            login_failures_to_lock: 3,
            login_window_minutes: 1,
            login_lock_minutes: 90,
            login_longest_lock_hours: 2,
            ..Limits::default()
        };
        let limits = GuardLimits::of_source(&limits);
        let mut tries = Tries::default();
        for (at, next_at) in [(0, 0), (0, 1), (61, 61), (61, 62)] {
            assert_eq!(tries.attempt(after(at), &limits).verdict, Verdict::Allowed);
            assert_eq!(tries.next_at, after(next_at));
        }
        assert!(tries.attempt(after(62), &limits).locks);
        assert_eq!(tries.locked_until, after(62 + 90 * 60));
        let mut now = tries.locked_until;
        while !tries.attempt(now, &limits).locks {
            now = now.max(tries.next_at);
        }
        assert_eq!(tries.locked_until, now + HOUR * 2);
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_nobody_waits_longer_than_the_longest_lock(
            times in prop::collection::vec(any::<u32>(), 1..200)
        ) {
            let mut tries = Tries::default();
            for seconds in times {
                let now = after(seconds.into());
                let verdict = tries.attempt(now, &limits()).verdict;
                if let Verdict::TooFast { until } | Verdict::Locked { until } = verdict {
                    prop_assert!(until > now && until <= now + DAY);
                }
            }
        }
    }
}
