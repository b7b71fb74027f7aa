//! Makes sure that a key that was erased is gone from the files, for somebody too who has them
//! and the profile's key.
//!
//! `SQLite` leaves erased bytes in three places. Free space is overwritten by `secure_delete`. The
//! log keeps old forms of pages until it is emptied. And a page from which rows moved to another,
//! because one grew or went, keeps their bytes between its own (`rebuildPage` in `btree.c` clears
//! nothing, whatever `secure_delete` says): so the tables that hold keys are written anew before
//! the log is emptied.
//!
//! That happens once, soon after the first of any number of commits, and never in one.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use parlor_common::time::Timestamp;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{BUSY_TIMEOUT, CommitError, Store};

/// How long after a commit what it erased may still be found: a second, with the work itself.
const DELAY: Duration = Duration::from_millis(900);

/// How long the end of a store waits for a process that reads.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// The tables whose rows hold keys that are erased some day.
const KEY_TABLES: [&str; 2] = ["sessions", "prekeys"];

/// What is still to be erased, and when.
#[derive(Debug)]
pub(super) struct Erasure {
    log: Log,
    /// Whether rows may have moved since the tables of keys were written anew.
    rows_moved: bool,
}

/// How it stands with the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Log {
    Empty,
    /// Something stands in it, for how long is not known yet.
    Written,
    /// It is to be emptied then.
    Due(Timestamp),
}

impl Erasure {
    /// Of a database of which nothing is known.
    pub(super) const fn new() -> Self {
        Self { log: Log::Written, rows_moved: true }
    }

    /// Something was committed.
    pub(super) fn written(&mut self) {
        self.rows_moved = true;
        self.log_written();
    }

    /// Something was committed that touched no keys.
    pub(super) fn log_written(&mut self) {
        if self.log == Log::Empty {
            self.log = Log::Written;
        }
    }

    /// When the log is to be emptied.
    const fn poll_timeout(&self) -> Option<Timestamp> {
        match self.log {
            Log::Due(due) => Some(due),
            Log::Empty | Log::Written => None,
        }
    }
}

impl Store {
    /// Does what is due by now: erases, and brings the search up to date. To be called after every
    /// turn in which something was committed, and when [`Store::poll_timeout`] says.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), CommitError> {
        self.index_due(now)?;
        self.erase_due(now)
    }

    fn erase_due(&mut self, now: Timestamp) -> Result<(), CommitError> {
        let waits = match self.erasure.log {
            Log::Empty => false,
            Log::Written => true,
            // Somebody may be reading what stands in the log: then it is tried again.
            Log::Due(due) if due <= now => !self.erase(Duration::ZERO)?,
            Log::Due(_) => return Ok(()),
        };
        if waits {
            self.erasure.log = Log::Due(now + DELAY);
        }
        Ok(())
    }

    /// When [`Store::handle_timeout`] next has something to do, by the clock that it is told.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = [self.erasure.poll_timeout(), self.indexing.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Erases now what was committed, waiting so long for readers. Returns whether the log is
    /// empty.
    pub(super) fn erase(&mut self, patience: Duration) -> rusqlite::Result<bool> {
        self.reader.db.busy_timeout(patience)?;
        let emptied = self.erase_at_once();
        self.reader.db.busy_timeout(BUSY_TIMEOUT)?;
        match emptied {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            emptied => emptied,
        }
    }

    fn erase_at_once(&mut self) -> rusqlite::Result<bool> {
        if self.erasure.rows_moved {
            write_keys_anew(&mut self.reader.db)?;
            self.erasure.rows_moved = false;
        }
        let emptied = empty_log(&self.reader.db)?;
        if emptied {
            self.erasure.log = Log::Empty;
        }
        Ok(emptied)
    }
}

/// Whether the database at `path` has a log with something in it, though it is not open: it was
/// not closed in order.
pub(super) fn has_log(path: &Path) -> bool {
    let mut log = OsString::from(path);
    log.push("-wal");
    Path::new(&log).metadata().is_ok_and(|found| found.len() > 0)
}

/// Empties the tables of keys, which overwrites whole pages, and fills them from the first row to
/// the last, which moves none. In between the rows are in memory, as temporary tables are here.
fn write_keys_anew(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in KEY_TABLES {
        transaction.execute_batch(&format!(
            "CREATE TEMP TABLE kept AS SELECT * FROM main.{table} ORDER BY rowid; \
             DELETE FROM main.{table}; \
             INSERT INTO main.{table} SELECT * FROM temp.kept ORDER BY rowid; \
             DROP TABLE temp.kept;"
        ))?;
    }
    transaction.commit()
}

/// Moves the log into the database and makes its file empty. Returns whether nobody held it.
fn empty_log(db: &Connection) -> rusqlite::Result<bool> {
    let busy: bool = db.query_one("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!busy)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::store::fixture::{contact, identity, put, store};
    use crate::store::{Reader, StoreKey};

    const MINUTE: Timestamp = Timestamp::from_millis(60_000);

    struct Files(TempDir);

    impl Files {
        fn new() -> (Self, Store) {
            let files = Self(TempDir::new().unwrap());
            let store = Store::create(&files.path(), &key(), &identity()).unwrap();
            (files, store)
        }

        fn path(&self) -> std::path::PathBuf {
            self.0.path().join("profile.db")
        }

        fn log_len(&self) -> u64 {
            fs::metadata(self.0.path().join("profile.db-wal")).unwrap().len()
        }
    }

    fn key() -> StoreKey {
        StoreKey::new(Zeroizing::new([1; 32]))
    }

    #[test]
    fn the_log_is_emptied_within_a_second_of_the_first_commit_and_not_before() {
        let (files, mut store) = Files::new();
        assert_eq!(store.erasure.poll_timeout(), None);
        store.handle_timeout(MINUTE).unwrap();
        let due = MINUTE + DELAY;
        assert_eq!(store.erasure.poll_timeout(), Some(due));
        // Whatever else is committed puts nothing off.
        store.commit(&[put(contact("bob"))]).unwrap();
        store.handle_timeout(due - Duration::from_millis(1)).unwrap();
        assert_eq!(store.erasure.poll_timeout(), Some(due));
        assert!(files.log_len() > 0);
        store.handle_timeout(due).unwrap();
        assert_eq!((store.erasure.poll_timeout(), files.log_len()), (None, 0));
        assert!(DELAY < Duration::from_secs(1));
    }

    #[test]
    fn a_commit_after_that_starts_the_time_again_and_nothing_else_does() {
        let (files, mut store) = Files::new();
        store.handle_timeout(MINUTE).unwrap();
        store.handle_timeout(MINUTE + DELAY).unwrap();
        let later = MINUTE + 10 * DELAY;
        store.handle_timeout(later).unwrap();
        assert_eq!(store.erasure.poll_timeout(), None);
        store.commit(&[put(contact("bob"))]).unwrap();
        store.handle_timeout(later).unwrap();
        assert_eq!(store.erasure.poll_timeout(), Some(later + DELAY));
        assert!(files.log_len() > 0);
        store.handle_timeout(later + 5 * DELAY).unwrap();
        assert_eq!((store.erasure.poll_timeout(), files.log_len()), (None, 0));
    }

    #[test]
    fn a_reader_that_holds_the_log_is_not_waited_for() {
        let (files, mut store) = Files::new();
        store.handle_timeout(MINUTE).unwrap();
        let reader = Reader::open(&files.path(), &key()).unwrap();
        reader.db.execute_batch("BEGIN").unwrap();
        assert_eq!(reader.contacts().unwrap().len(), 0);
        store.commit(&[put(contact("bob"))]).unwrap();
        let mut now = MINUTE;
        for _ in 0..3 {
            now = now + DELAY;
            store.handle_timeout(now).unwrap();
            assert_eq!(store.erasure.poll_timeout(), Some(now + DELAY));
        }
        let held = files.log_len();
        assert!(held > 0);
        store.handle_timeout(now + DELAY).unwrap();
        assert_eq!(files.log_len(), held, "trying again writes nothing");
        assert_eq!(reader.contacts().unwrap().len(), 0);
        reader.db.execute_batch("COMMIT").unwrap();
        store.handle_timeout(now + 2 * DELAY).unwrap();
        assert_eq!((store.erasure.poll_timeout(), files.log_len()), (None, 0));
        assert_eq!(reader.contacts().unwrap().len(), 1);
    }

    #[test]
    fn every_table_of_keys_is_written_anew_as_it_was() {
        use crate::node::record::Change;
        let (_files, mut store) = Files::new();
        let prekey = |id: u32| Change::PutPrekey(id, Zeroizing::new(vec![7; 900]));
        let prekeys: Vec<_> = [5, 1, u32::MAX, 40, 2, 3].map(prekey).into_iter().collect();
        store.commit(&prekeys).unwrap();
        let before = store.load().unwrap();
        assert!(store.erase(Duration::ZERO).unwrap());
        let after = store.load().unwrap();
        assert_eq!(before.prekeys.len(), 6);
        assert_eq!((after.prekeys, after.sessions), (before.prekeys, before.sessions));
    }

    #[test]
    fn a_store_in_memory_has_nothing_to_empty() {
        let mut store = store();
        store.handle_timeout(MINUTE).unwrap();
        store.handle_timeout(MINUTE + DELAY).unwrap();
        assert_eq!(store.erasure.poll_timeout(), None);
    }
}
