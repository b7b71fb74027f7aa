//! Makes sure that a key that was erased is gone from the files, for somebody too who has them
//! and the profile's key.
//!
//! `SQLite` leaves erased bytes in three places. Free space is overwritten by `secure_delete`. The
//! log keeps old forms of pages until it is emptied. And a page from which rows moved to another,
//! because one grew or went, keeps their bytes between its own (`rebuildPage` in `btree.c` clears
//! nothing, whatever `secure_delete` says): so the tables that hold keys are written anew before
//! the log is emptied.
//!
//! And before the database has it, it stands in the journal: with the log, a file of that is
//! erased.
//!
//! That happens once, soon after the first of any number of commits, and never in one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::BUSY_TIMEOUT;

/// How long the end of a store waits for a process that reads.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// The tables whose rows hold keys that are erased some day.
const KEY_TABLES: [&str; 2] = ["sessions", "prekeys"];

/// Erases what was committed where it was replaced, waiting so long for readers. Returns whether the
/// log is empty. The tables of keys are written anew where `rows_moved`.
pub(super) fn erase(
    db: &mut Connection,
    rows_moved: bool,
    patience: Duration,
) -> rusqlite::Result<bool> {
    db.busy_timeout(patience)?;
    let emptied = erase_at_once(db, rows_moved);
    db.busy_timeout(BUSY_TIMEOUT)?;
    match emptied {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
        emptied => emptied,
    }
}

fn erase_at_once(db: &mut Connection, rows_moved: bool) -> rusqlite::Result<bool> {
    if rows_moved {
        write_keys_anew(db)?;
    }
    empty_log(db)
}

/// Whether the database at `path` has a log with something in it, though it is not open: it was
/// not closed in order.
pub(super) fn has_log(path: &Path) -> bool {
    log(path).metadata().is_ok_and(|found| found.len() > 0)
}

/// Writes the log to the disk: for when it cannot be emptied.
pub(super) fn sync_log(path: &Path) -> io::Result<()> {
    match File::open(log(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        log => log?.sync_all(),
    }
}

fn log(path: &Path) -> PathBuf {
    let mut log = OsString::from(path);
    log.push("-wal");
    log.into()
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

    use parlor_common::time::Timestamp;
    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::node::record::Change;
    use crate::store::backlog::ERASURE_TIME as DELAY;
    use crate::store::fixture::{contact, identity, put, store};
    use crate::store::{Reader, Store, StoreKey};

    const MINUTE: Timestamp = Timestamp::from_millis(60_000);

    struct Files(TempDir);

    impl Files {
        fn new() -> (Self, Store) {
            let files = Self(TempDir::new().unwrap());
            let store = Store::create(&files.path(), &key(), &identity()).unwrap();
            (files, store)
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("profile.db")
        }

        fn log_len(&self) -> u64 {
            fs::metadata(self.0.path().join("profile.db-wal")).unwrap().len()
        }

        /// How many bytes stand in the journal's files.
        fn journal_len(&self) -> u64 {
            let files =
                ["profile.journal", "profile.journal.old"].map(|name| self.0.path().join(name));
            files.iter().filter_map(|file| fs::metadata(file).ok()).map(|found| found.len()).sum()
        }
    }

    fn key() -> StoreKey {
        StoreKey::new(Zeroizing::new([1; 32]))
    }

    /// When something is due, but for the search.
    fn due(store: &Store) -> Option<Timestamp> {
        crate::store::lock(&store.backlog).saving_timeout()
    }

    /// Does what is due, and waits until it is done.
    fn tick(store: &mut Store, now: Timestamp) {
        store.handle_timeout(now).unwrap();
        store.settle().unwrap();
    }

    #[test]
    fn journal_and_log_are_emptied_within_a_second_of_the_first_commit_and_not_before() {
        let (files, mut store) = Files::new();
        assert_eq!(due(&store), None);
        tick(&mut store, MINUTE);
        let at = MINUTE + DELAY;
        assert_eq!(due(&store), Some(at));
        // Whatever else is committed puts nothing off.
        store.commit(&[put(contact("bob"))]).unwrap();
        tick(&mut store, at - Duration::from_millis(1));
        assert_eq!(due(&store), Some(at));
        assert!(files.log_len() > 0 && files.journal_len() > 0);
        tick(&mut store, at);
        assert_eq!((due(&store), files.log_len(), files.journal_len()), (None, 0, 0));
        assert!(DELAY < Duration::from_secs(1));
    }

    #[test]
    fn a_commit_after_that_starts_the_time_again_and_nothing_else_does() {
        let (files, mut store) = Files::new();
        tick(&mut store, MINUTE);
        tick(&mut store, MINUTE + DELAY);
        let later = MINUTE + 10 * DELAY;
        tick(&mut store, later);
        assert_eq!(due(&store), None);
        store.commit(&[put(contact("bob"))]).unwrap();
        tick(&mut store, later);
        // Into the database, onto the disk.
        for _ in 0..2 {
            let next = due(&store).unwrap();
            assert!(next < later + Duration::from_millis(100));
            tick(&mut store, next);
        }
        assert_eq!(due(&store), Some(later + DELAY));
        assert!(files.log_len() > 0 && files.journal_len() > 0);
        tick(&mut store, later + 5 * DELAY);
        assert_eq!((due(&store), files.log_len(), files.journal_len()), (None, 0, 0));
    }

    #[test]
    fn a_reader_that_holds_the_log_is_not_waited_for() {
        let (files, mut store) = Files::new();
        tick(&mut store, MINUTE);
        let reader = Reader::open(&files.path(), &key()).unwrap();
        reader.db.execute_batch("BEGIN").unwrap();
        assert_eq!(reader.contacts().unwrap().len(), 0);
        store.commit(&[put(contact("bob"))]).unwrap();
        let mut now = MINUTE;
        for _ in 0..3 {
            now = now + DELAY;
            tick(&mut store, now);
            assert_eq!(due(&store), Some(now + DELAY));
        }
        let held = files.log_len();
        assert!(held > 0);
        tick(&mut store, now + DELAY);
        assert_eq!(files.log_len(), held, "trying again writes nothing");
        assert_eq!(reader.contacts().unwrap().len(), 0);
        reader.db.execute_batch("COMMIT").unwrap();
        tick(&mut store, now + 2 * DELAY);
        assert_eq!((due(&store), files.log_len(), files.journal_len()), (None, 0, 0));
        assert_eq!(reader.contacts().unwrap().len(), 1);
    }

    #[test]
    fn every_table_of_keys_is_written_anew_as_it_was() {
        let (_files, mut store) = Files::new();
        let prekey = |id: u32| Change::PutPrekey(id, Zeroizing::new(vec![7; 900]));
        let prekeys: Vec<_> = [5, 1, u32::MAX, 40, 2, 3].map(prekey).into_iter().collect();
        store.commit(prekeys).unwrap();
        let before = store.load().unwrap();
        assert!(erase(&mut store.database.lock().db, true, Duration::ZERO).unwrap());
        let after = store.load().unwrap();
        assert_eq!(before.prekeys.len(), 6);
        assert_eq!((after.prekeys, after.sessions), (before.prekeys, before.sessions));
    }

    #[test]
    fn a_store_in_memory_has_nothing_to_empty() {
        let mut store = store();
        tick(&mut store, MINUTE);
        tick(&mut store, MINUTE + DELAY);
        assert_eq!(due(&store), None);
    }
}
