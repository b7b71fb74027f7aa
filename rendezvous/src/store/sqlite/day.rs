//! Counting what may be done so often in 24 hours.

use std::time::Duration;

use parlor_common::time::Timestamp;
use rusqlite::{Connection, Row, params};

use super::accounts::AccountId;
use super::{QueryError, loaded, stored};

/// The time over which it is counted.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often something was done since its day began. A day begins with what is counted first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Day {
    pub(super) since: Timestamp,
    pub(super) count: u64,
}

impl Day {
    /// Reads a row of the two.
    pub(super) fn load(row: &Row<'_>) -> rusqlite::Result<Self> {
        let since = Timestamp::from_millis(loaded(row.get(0)?));
        Ok(Self { since, count: loaded(row.get(1)?) })
    }

    /// The day with one more counted; or the time until which there may be none. A clock that was
    /// set back by a day begins another.
    pub(super) fn charge(self, at: Timestamp, limit: u32) -> Result<Self, Timestamp> {
        self.charge_by(at, 1, limit.into())
    }

    /// The same, with `amount` more.
    pub(super) fn charge_by(
        self,
        at: Timestamp,
        amount: u64,
        limit: u64,
    ) -> Result<Self, Timestamp> {
        let over = at.distance(self.since) >= DAY;
        let day = if over { Self { since: at, count: 0 } } else { self };
        let count = day.count.saturating_add(amount);
        if count > limit {
            return Err(day.since + DAY);
        }
        Ok(Self { count, ..day })
    }
}

/// Counts something that an account does, in the columns that `select` reads and `update` writes:
/// the day's begin and its count. Says until when there may be none, if that is so.
pub(super) fn charge_account(
    db: &Connection,
    account: AccountId,
    (select, update): (&str, &str),
    at: Timestamp,
    limit: u32,
) -> Result<Option<Timestamp>, QueryError> {
    let before = db.prepare_cached(select)?.query_row([account.0], Day::load)?;
    let day = match before.charge(at, limit) {
        Ok(day) => day,
        Err(until) => return Ok(Some(until)),
    };
    let since = stored(day.since.as_millis());
    db.prepare_cached(update)?.execute(params![account.0, since, stored(day.count)])?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_limit_and_then_another_begins() {
        let start = Timestamp::from_millis(1_800_000_000_000);
        let first = Day::default().charge(start, 2).unwrap();
        assert_eq!(first, Day { since: start, count: 1 });
        let later = start + Duration::from_secs(3600);
        let second = first.charge(later, 2).unwrap();
        assert_eq!(second.charge(later, 2), Err(start + DAY));
        let next = start + DAY;
        assert_eq!(second.charge(next, 2), Ok(Day { since: next, count: 1 }));
        // The clock was set back: what was counted in the future is no reason to wait for it.
        let back = start - DAY;
        assert_eq!(second.charge(back, 2), Ok(Day { since: back, count: 1 }));
    }

    #[test]
    fn several_are_counted_at_once_or_none_of_them() {
        let start = Timestamp::from_millis(1_800_000_000_000);
        let day = Day::default().charge_by(start, 7, 10).unwrap();
        assert_eq!(day.charge_by(start, 4, 10), Err(start + DAY));
        assert_eq!(day.charge_by(start, 3, 10), Ok(Day { since: start, count: 10 }));
        assert_eq!(Day::default().charge_by(start, 11, 10), Err(start + DAY));
        assert_eq!(day.charge_by(start, u64::MAX, 10), Err(start + DAY));
    }
}
