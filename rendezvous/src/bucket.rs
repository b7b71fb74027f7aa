//! Token buckets, by the generic cell rate algorithm: how often something may happen.
//!
//! The algorithm is `governor`'s; its clock stands still and its store is one number, so that time
//! is told and the number can be kept anywhere.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use parlor_common::time::Timestamp;

/// The largest bucket; what is configured beyond it counts as it.
const MOST_AT_ONCE: u32 = 1_000_000;

/// Nothing happens later than this, some 146 years after the epoch: the algorithm adds to it, and
/// the database's numbers end twice as late.
const END_OF_TIME: u64 = 1 << 62;

/// Where nothing is allowed, the answer is to come back after so long.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Buckets that a table sweeps for the first time.
const FIRST_SWEEP: usize = 1024;

/// How large a bucket is and how fast it fills.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Tokens in a full bucket; 0: nothing is allowed; beyond a million counts as a million.
    pub at_once: u32,
    /// Tokens that come back in a minute; 0 counts as 1.
    pub per_minute: u32,
}

/// All that there is to know of a bucket: when it will be full again, in nanoseconds since the
/// epoch. One that will have been is as good as new.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bucket(u64);

impl Rate {
    /// Takes a token, and returns what is left; or says when there will be one.
    ///
    /// A bucket that would be full later than one that is emptied now is of another clock or another
    /// rate, and counts as full: a clock that was set back locks nobody out.
    pub fn draw(self, bucket: Bucket, now: Timestamp) -> Result<Bucket, Timestamp> {
        if self.at_once == 0 {
            return Err(now + NEVER);
        }
        let (quota, now) = (self.quota(), nanos(now));
        let empty = now.saturating_add(nanos_of(quota.burst_size_replenished_in()));
        let full_at = if bucket.0 > empty { 0 } else { bucket.0 };
        let limiter: Limiter =
            RateLimiter::new(quota, Cellar::holding(full_at), Stopped::default());
        limiter.clock().0.set(now.into());
        match limiter.check() {
            Ok(()) => Ok(Bucket(limiter.into_state_store().0.get().into())),
            Err(not_until) => Err(timestamp(not_until.earliest_possible())),
        }
    }

    fn quota(self) -> Quota {
        let per_minute = NonZeroU32::new(self.per_minute).unwrap_or(NonZeroU32::MIN);
        let at_once = NonZeroU32::new(self.at_once.min(MOST_AT_ONCE)).unwrap_or(NonZeroU32::MIN);
        Quota::per_minute(per_minute).allow_burst(at_once)
    }
}

impl Bucket {
    /// As it is kept.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch, less than 2^63.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether the bucket is full.
    pub fn is_full(self, now: Timestamp) -> bool {
        self.0 <= nanos(now)
    }
}

/// Buckets of many holders, as long as they are not full. Bounded: at the most, those that are
/// fuller than the others are forgotten, whose holders lose least and gain least by it.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    kept: BTreeMap<K, Bucket>,
    most: usize,
    /// Buckets from which on the full ones are looked for.
    sweep_at: usize,
}

impl<K: Ord> Buckets<K> {
    /// All full; not more than `most` of them will be kept.
    pub(crate) const fn new(most: usize) -> Self {
        Self { kept: BTreeMap::new(), most, sweep_at: FIRST_SWEEP }
    }

    /// Takes a token from a holder's bucket. Refused, with when there will be one, if it is empty.
    pub(crate) fn draw(&mut self, of: K, rate: Rate, now: Timestamp) -> Result<(), Timestamp> {
        let bucket = self.kept.get(&of).copied().unwrap_or_default();
        self.kept.insert(of, rate.draw(bucket, now)?);
        if self.kept.len() >= self.sweep_at.min(self.most) {
            self.sweep(now);
        }
        Ok(())
    }

    fn sweep(&mut self, now: Timestamp) {
        self.kept.retain(|_, bucket| !bucket.is_full(now));
        if self.kept.len() > self.most / 2 {
            let mut all: Vec<_> = self.kept.values().copied().collect();
            let half = all.len() / 2;
            let (_, median, _) = all.select_nth_unstable(half);
            let median = *median;
            self.kept.retain(|_, bucket| *bucket > median);
        }
        self.sweep_at = FIRST_SWEEP.max(2 * self.kept.len());
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

type Limiter = RateLimiter<NotKeyed, Cellar, Stopped, NoOpMiddleware<Nanos>>;

/// A clock that shows what it is set to.
#[derive(Debug, Default)]
struct Stopped(Cell<Nanos>);

impl Clock for Stopped {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

/// A store of one bucket.
#[derive(Debug)]
struct Cellar(Cell<Nanos>);

impl Cellar {
    fn holding(full_at: u64) -> Self {
        Self(Cell::new(full_at.into()))
    }
}

impl StateStore for Cellar {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = judge(Some(self.0.get()))?;
        self.0.set(next);
        Ok(outcome)
    }
}

fn nanos(at: Timestamp) -> u64 {
    nanos_of(at.since(Timestamp::default())).min(END_OF_TIME)
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The first millisecond that is not before it.
fn timestamp(at: Nanos) -> Timestamp {
    Timestamp::from_millis(at.as_u64().div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const RATE: Rate = Rate { at_once: 3, per_minute: 6 };

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn so_many_at_once_and_then_one_by_one() {
        let mut buckets = Buckets::new(10);
        for _ in 0..3 {
            assert_eq!(buckets.draw('a', RATE, NOW), Ok(()));
        }
        assert_eq!(buckets.draw('a', RATE, NOW), Err(NOW + seconds(10)));
        assert_eq!(buckets.draw('b', RATE, NOW), Ok(()));
        let almost = NOW + Duration::from_millis(9_999);
        assert_eq!(buckets.draw('a', RATE, almost), Err(NOW + seconds(10)));
        assert_eq!(buckets.draw('a', RATE, NOW + seconds(10)), Ok(()));
        assert_eq!(buckets.draw('a', RATE, NOW + seconds(10)), Err(NOW + seconds(20)));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut buckets = Buckets::new(10);
        for _ in 0..3 {
            buckets.draw('a', RATE, NOW).unwrap();
        }
        let before = NOW - seconds(365 * 86_400);
        for _ in 0..3 {
            assert_eq!(buckets.draw('a', RATE, before), Ok(()));
        }
        assert_eq!(buckets.draw('a', RATE, before), Err(before + seconds(10)));
    }

    #[test]
    fn impossible_numbers_have_a_rule() {
        let slow = Rate { at_once: 1, per_minute: 0 };
        let bucket = slow.draw(Bucket::default(), NOW).unwrap();
        assert_eq!(slow.draw(bucket, NOW), Err(NOW + seconds(60)));
        let none = Rate { at_once: 0, per_minute: 6 };
        assert_eq!(none.draw(Bucket::default(), NOW), Err(NOW + NEVER));
        let boundless = Rate { at_once: u32::MAX, per_minute: u32::MAX };
        let end = Timestamp::from_millis(u64::MAX);
        for at in [Timestamp::default(), end] {
            assert!(boundless.draw(Bucket::default(), at).is_ok());
            assert!(boundless.draw(Bucket(u64::MAX), at).is_ok());
            let slow = Rate { per_minute: 0, ..boundless };
            assert!(i64::try_from(slow.draw(Bucket::default(), at).unwrap().as_nanos()).is_ok());
        }
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let mut buckets = Buckets::new(10_000);
        for holder in 0..1_000 {
            buckets.draw(holder, RATE, NOW).unwrap();
        }
        for holder in 0..1_000 {
            buckets.draw(10_000 + holder, RATE, NOW + seconds(10)).unwrap();
        }
        assert_eq!(buckets.len(), 1_000);
    }

    #[test]
    fn there_are_not_more_than_so_many_and_the_emptiest_stay() {
        let mut buckets = Buckets::new(100);
        for _ in 0..3 {
            buckets.draw(0, RATE, NOW).unwrap();
        }
        for holder in 1..1_000 {
            buckets.draw(holder, RATE, NOW).unwrap();
            assert!(buckets.len() <= 100);
        }
        assert!(buckets.draw(0, RATE, NOW).is_err());
    }

    proptest! {
        #[test]
        fn in_any_time_no_more_get_through_than_the_bucket_and_what_comes_back(
            at_once in 1..20_u32,
            per_minute in 1..6_000_u32,
            steps in prop::collection::vec(0..2_000_u64, 1..200),
        ) {
            let (rate, mut buckets, mut now, mut through) =
                (Rate { at_once, per_minute }, Buckets::new(10), NOW, 0_u64);
            for step in steps {
                now = now + Duration::from_millis(step);
                match buckets.draw((), rate, now) {
                    Ok(()) => through += 1,
                    Err(until) => {
                        prop_assert!(until > now);
                        prop_assert!(until.since(now) <= seconds(60) / per_minute + seconds(1) / 1_000);
                    }
                }
            }
            let millis = u64::try_from(now.since(NOW).as_millis()).unwrap();
            let back = millis * u64::from(per_minute) / 60_000;
            // The interval is whole nanoseconds, rounded down.
            prop_assert!(through <= u64::from(at_once) + back + 1);
        }
    }
}
