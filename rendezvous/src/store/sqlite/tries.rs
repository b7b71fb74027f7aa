//! Failed logins and token buckets that outlive a restart. A row moves to the table's end whenever
//! it is touched, and the table keeps its end: so it is bounded by what was heard of last.

use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::{QueryError, Tables, loaded, stored};
use crate::bucket::Bucket;
use crate::guard::Tries;
use crate::store::interface::Guard;

/// The tables' starts are swept at every so many touches, which they may be longer by: a sweep costs
/// as much as a touch.
const SWEEP: i64 = 8;

impl Guard for Tables<'_> {
    fn tries(&self, name: &Username, source: &str) -> Result<Tries, QueryError> {
        let mut statement = self.0.prepare_cached(
            "SELECT failures, since, next_at, locked_until, locks, last_at, known
             FROM tries WHERE name = ?1 AND source = ?2",
        )?;
        let found = statement.query_row([name.as_str(), source], load).optional()?;
        Ok(found.unwrap_or_default())
    }

    fn keep_tries(
        &self,
        name: &Username,
        source: &str,
        tries: &Tries,
        most: u32,
    ) -> Result<(), QueryError> {
        let mut statement = self.0.prepare_cached(
            "INSERT OR REPLACE INTO tries
                 (name, source, failures, since, next_at, locked_until, locks, last_at, known)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let number = statement.insert(params![
            name.as_str(),
            source,
            tries.failures,
            time(tries.since),
            time(tries.next_at),
            time(tries.locked_until),
            tries.locks,
            time(tries.last_at),
            tries.known,
        ])?;
        if number % SWEEP != 0 {
            return Ok(());
        }
        let mut statement = self.0.prepare_cached(
            "DELETE FROM tries WHERE number <= ?1 AND locked_until <= ?2 AND number IN
                 (SELECT number FROM tries WHERE number <= ?1 ORDER BY number LIMIT 16)",
        )?;
        let last = number.saturating_sub(i64::from(most));
        statement.execute(params![last, time(tries.last_at)])?;
        Ok(())
    }

    fn forget_tries(&self, name: &Username) -> Result<(), QueryError> {
        let mut statement = self.0.prepare_cached("DELETE FROM tries WHERE name = ?1")?;
        statement.execute([name.as_str()])?;
        Ok(())
    }

    fn bucket(&self, scope: &str) -> Result<Bucket, QueryError> {
        let mut statement =
            self.0.prepare_cached("SELECT full_at FROM buckets WHERE scope = ?1")?;
        let row = |row: &Row<'_>| row.get(0).map(|nanos| Bucket::from_nanos(loaded(nanos)));
        Ok(statement.query_row([scope], row).optional()?.unwrap_or_default())
    }

    fn keep_bucket(&self, scope: &str, bucket: Bucket, most: u32) -> Result<(), QueryError> {
        let mut statement = self
            .0
            .prepare_cached("INSERT OR REPLACE INTO buckets (scope, full_at) VALUES (?1, ?2)")?;
        let number = statement.insert(params![scope, stored(bucket.as_nanos())])?;
        if number % SWEEP != 0 {
            return Ok(());
        }
        let mut statement = self.0.prepare_cached("DELETE FROM buckets WHERE number <= ?1")?;
        statement.execute([number.saturating_sub(i64::from(most))])?;
        Ok(())
    }
}

fn load(row: &Row<'_>) -> rusqlite::Result<Tries> {
    Ok(Tries {
        failures: row.get(0)?,
        since: read_time(row, 1)?,
        next_at: read_time(row, 2)?,
        locked_until: read_time(row, 3)?,
        locks: row.get(4)?,
        last_at: read_time(row, 5)?,
        known: row.get(6)?,
    })
}

fn read_time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    row.get(index).map(|millis| Timestamp::from_millis(loaded(millis)))
}

fn time(at: Timestamp) -> i64 {
    stored(at.as_millis())
}
