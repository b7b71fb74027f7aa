//! Points in time, as numbers: the drivers read clocks, everybody else is told.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Milliseconds since the Unix epoch.
///
/// Arithmetic saturates: a time that came from a stranger can be any number.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time between the two, whichever came first.
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-23T23:31:24.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// A text is not a time as [`Timestamp`] prints it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a time is written as in 2026-11-23T23:31:24.000Z")]
pub struct ParseTimestampError;

/// Reads what is printed, and nothing else.
impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = parse(text).ok_or(ParseTimestampError)?;
        // One form for each time: no thirteenth month, no missing digit.
        if time.to_string() == text { Ok(time) } else { Err(ParseTimestampError) }
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between: &[char]| -> Option<Vec<u64>> {
        text.split(between).map(|digits| digits.parse().ok()).collect()
    };
    let [year, month, day] = numbers(date, &['-'])?.try_into().ok()?;
    let [hour, minute, second, millis] = numbers(time, &[':', '.'])?.try_into().ok()?;
    let days = u128::from(days_before(year, month, day)?);
    let in_day = [(hour, 3_600_000), (minute, 60_000), (second, 1000), (millis, 1)];
    let in_day = in_day.map(|(number, unit)| u128::from(number) * unit);
    let all = days * 86_400_000 + in_day.into_iter().sum::<u128>();
    u64::try_from(all).ok().map(Timestamp)
}

/// How many days came between 1970-01-01 and this one (Hinnant, `days_from_civil`).
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = shifted_month.checked_mul(153)?.checked_add(2)? / 5;
    let day_of_year = day_of_year.checked_add(day.checked_sub(1)?)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100;
    let day_of_era = day_of_era.checked_add(day_of_year)?;
    era.checked_mul(146_097)?.checked_add(day_of_era)?.checked_sub(719_468)
}

/// Year, month and day of the day `days` after 1970-01-01, in the proleptic Gregorian calendar
/// (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp::from_millis(1_709_164_800_000).to_string(),
            "2024-02-29T00:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(1_795_476_684_042).to_string(),
            "2026-11-23T23:31:24.042Z"
        );
    }

    #[test]
    fn what_is_printed_reads_back_and_nothing_else_does() {
        let leap = 1_709_164_800_000;
        for millis in [0, 1, leap, 951_782_399_999, 1_795_476_684_042, u64::MAX - 1, u64::MAX] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23T23:31:24Z",
            "2026-11-23T23:31:24.000",
            "2026-11-23T23:31:24.0000Z",
            "2026-11-23T24:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-02-29T00:00:00.000Z",
            "2026-11-00T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "+2026-11-23T23:31:24.000Z",
            "99999999999999999999-01-01T00:00:00.000Z",
            "18446744073709551615-01-01T00:00:00.000Z",
            "2026-18446744073709551615-01T00:00:00.000Z",
            "2026-01-18446744073709551615T00:00:00.000Z",
            "2026-01-01T18446744073709551615:00:00.000Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(ParseTimestampError), "{bad}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let late = Timestamp::from_millis(u64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Timestamp::default() - Duration::from_secs(1), Timestamp::default());
        assert_eq!(Timestamp::default().since(late), Duration::ZERO);
        // The farthest time still prints.
        assert!(!late.to_string().is_empty());
    }
}
