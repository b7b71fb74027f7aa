//! The profile's database: `SQLCipher`, one file and its write-ahead log.
//!
//! The node says what to keep, as [`Change`]s; a turn's changes are saved together or not at all.
//! Front ends read by a [`Reader`], beside the process that writes, what was committed some 10 ms
//! ago.
//!
//! A commit is one record of the journal, and survives the end of the process at any point; the
//! database gets many commits in one transaction, on a thread of its own. A commit is on the disk,
//! and survives the end of the machine, within 100 ms, or at once: see [`Durability`]. What it
//! erased is gone from the files within a second: see `erasure.rs`.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `journal.rs` | the file that commits are appended to |
//! | `known.rs` | which messages are new, and the numbers of their rows, without asking the database |
//! | `backlog.rs`, `worker.rs` | what is to be done after a commit, and when; the thread that does it |
//! | `group.rs` | many commits as few writes |
//! | `write/`, `schema.rs`, `columns.rs` | writes as SQL |
//! | `load.rs`, `read.rs` | what a node starts from; what front ends read |
//! | `search.rs` | messages by their words, in an index that is made behind the commits |
//! | `import.rs`, `salvage.rs` | messages from a file; what is left of a damaged database |
//! | `soundness.rs` | whether a database is damaged |
//! | `erasure.rs`, `old_copy.rs` | what was erased goes from the files; the copy before a migration |
//!
//! The store decides nothing about conversations. Two rules are its own, because only it can keep
//! them for ever: a message is stored once for its writer and id, and the state of a sent message
//! never goes backwards.

mod backlog;
mod columns;
mod erasure;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod group;
mod import;
mod journal;
mod known;
mod load;
mod old_copy;
mod read;
mod salvage;
mod schema;
mod search;
mod soundness;
mod worker;
mod write;

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use serde::Deserialize;
use zeroize::Zeroizing;

pub use error::{CommitError, CopyError, JournalError, OpenError, ReadError};
pub use import::Imported;
pub use read::{HistoryPage, ListedContact, Reader};
pub use salvage::{Salvage, SalvageError, Salvaged};
pub use search::Progress;
pub use soundness::{Company, faults};

use crate::node::record::{Change, Identity, Saved};
use backlog::Backlog;
use columns::Key;
use group::Group;
use journal::Journal;
use known::Known;
use write::Writer;

/// The key of a profile's database: 32 random bytes.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// The length in bytes.
    pub const LEN: usize = 32;

    /// A key of random bytes.
    pub const fn new(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }

    /// The key, to be written where only its owner reads.
    pub fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The form in which `SQLCipher` takes the key as it is, without deriving another from it.
    fn pragma_value(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(data_encoding::HEXLOWER.encode(self.0.as_slice()));
        Zeroizing::new(format!("x'{}'", digits.as_str()))
    }
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreKey").finish_non_exhaustive()
    }
}

/// How many pages the log may have before a commit moves them into the database: 16 MiB. Fewer
/// cost a busy conversation time, more cost the next start.
const CHECKPOINT_PAGES: u32 = 4_000;

/// How much of the database is kept in memory, in KiB: as much as a large group of commits changes.
const CACHE_KIB: i64 = 8_000;

/// A commit of more bytes goes into the database at once, and not by the journal.
const LONG_COMMIT: usize = 4 * 1024 * 1024;

/// How pages are authenticated: part of the format. Today's processors have instructions for
/// SHA-256 and none for SHA-512, which is the default: a commit of one message takes a fifth less.
const HMAC: &str = "HMAC_SHA256";

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How much a commit survives.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of the process, at any point; 100 ms later also the end of the machine.
    #[default]
    Process,
    /// The end of the machine, at any point: each commit waits for the disk.
    Power,
}

/// A profile's database, to be written by one process.
#[derive(Debug)]
pub struct Store {
    backlog: Mutex<Backlog>,
    database: Arc<Database>,
    known: Known,
    /// The account's own key, which is the writer of all messages sent.
    own: AccountKey,
    /// Copies of the database from before its tables were brought up to date.
    old_copies: Vec<PathBuf>,
}

/// The connection that writes, for whoever has its turn.
#[derive(Debug)]
struct Database(Mutex<Reader>);

impl Database {
    fn new(db: Connection) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Reader { db })))
    }

    fn lock(&self) -> MutexGuard<'_, Reader> {
        lock(&self.0)
    }
}

/// Whoever panicked has left nothing half done: a transaction is rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Makes the database of a new profile at `path`, where there must be no file or an empty one.
    pub fn create(path: &Path, key: &StoreKey, identity: &Identity) -> Result<Self, CommitError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let db = begin(connect(path, key, flags)?, identity)?;
        let journal = Journal::new(path, key, Durability::Process, 0);
        Ok(Self::of(db, identity.account_key, Some(journal), Vec::new())?)
    }

    /// A database that ends with the process.
    pub fn in_memory(identity: &Identity) -> Result<Self, CommitError> {
        let db = begin(Connection::open_in_memory()?, identity)?;
        Ok(Self::of(db, identity.account_key, None, Vec::new())?)
    }

    fn of(
        db: Connection,
        own: AccountKey,
        journal: Option<Journal>,
        old_copies: Vec<PathBuf>,
    ) -> rusqlite::Result<Self> {
        let (known, last) = (Known::of(&db)?, group::applied(&db)?);
        let database = Database::new(db);
        let backlog = Mutex::new(Backlog::new(&database, journal, last));
        Ok(Self { backlog, database, known, own, old_copies })
    }

    /// Opens the database of a profile, and brings its tables up to date. Where they are of an
    /// older version, a copy of the database is made first; [`Store::forget_old_copy`] says how
    /// long it is kept.
    pub fn open(path: &Path, key: &StoreKey, durability: Durability) -> Result<Self, OpenError> {
        Self::open_with(path, key, durability, schema::migrations())
    }

    fn open_with(
        path: &Path,
        key: &StoreKey,
        durability: Durability,
        migrations: &[&str],
    ) -> Result<Self, OpenError> {
        let not_closed = erasure::has_log(path) || journal::exists(path);
        let mut db = connect(path, key, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let latest = schema::count(migrations);
        let found = check_version(&db, latest)?;
        if found < latest {
            old_copy::make(path, key, found)?;
        }
        configure(&db, durability)?;
        schema::run(&mut db, migrations)?;
        let own = db.query_one("SELECT account_key FROM identity", [], |row| row.get::<_, Key>(0));
        let own = own?.0;
        let last =
            if not_closed { catch_up(path, key, &mut db, own)? } else { group::applied(&db)? };
        let journal = Journal::new(path, key, durability, last);
        Ok(Self::of(db, own, Some(journal), old_copy::all(path, latest))?)
    }

    /// A copy of a database that ends with the process, which ends with it, too.
    pub fn copy_in_memory(&self) -> Result<Self, CommitError> {
        lock(&self.backlog).flush(self.own)?;
        let mut db = Connection::open_in_memory()?;
        Backup::new(&self.database.lock().db, &mut db)?.step(-1)?;
        configure(&db, Durability::Process)?;
        Ok(Self::of(db, self.own, None, Vec::new())?)
    }

    /// What front ends read, with all that was committed. While somebody has it, nothing is
    /// written, and nobody else may have one: not even in the same statement.
    pub fn reader(&self) -> impl Deref<Target = Reader> {
        if let Err(error) = lock(&self.backlog).flush(self.own) {
            // It is in the journal, and what is read is a moment older.
            tracing::warn!(%error, "what was committed is not in the database yet");
        }
        self.database.lock()
    }

    /// Saves changes, all of them or none, and gives the answers of those that answer, in order.
    /// From then on they survive the end of the process.
    pub fn commit(&mut self, changes: impl Into<Vec<Change>>) -> Result<Vec<Saved>, CommitError> {
        let changes: Vec<Change> = changes.into();
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let has_session = changes.iter().any(|change| matches!(change, Change::PutSession(_)));
        let is_long = changes.iter().map(group::size).sum::<usize>() > LONG_COMMIT;
        let rows = if is_long { None } else { self.known.number(&changes) };
        let saved = match rows {
            Some(rows) => self.commit_to_journal(changes, rows)?,
            None => self.commit_to_database(&changes)?,
        };
        if has_session && let Err(error) = self.forget_old_copy() {
            // The changes are saved all the same. It is tried again with the next session.
            tracing::warn!(%error, "an old copy of the database is still there");
        }
        Ok(saved)
    }

    fn commit_to_journal(
        &mut self,
        changes: Vec<Change>,
        rows: Vec<Option<i64>>,
    ) -> Result<Vec<Saved>, CommitError> {
        let entries = known::entries(changes, rows);
        let saved = entries.iter().filter(|entry| matches!(entry.change, Change::Receive(_)));
        let saved = saved.map(|entry| Saved::Received(entry.row)).collect();
        lock(&self.backlog).commit(entries, self.own)?;
        Ok(saved)
    }

    /// For what is rare, and what needs an answer of the database. It is committed there at once,
    /// after all that was committed before.
    fn commit_to_database(&mut self, changes: &[Change]) -> Result<Vec<Saved>, CommitError> {
        let mut backlog = lock(&self.backlog);
        backlog.flush(self.own)?;
        backlog.written();
        let db = &mut self.database.lock().db;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut writer = Writer::new(&transaction, self.own);
        let mut saved = Vec::new();
        for change in changes {
            let row = self.known.new_row(change);
            let answer = writer.apply(change, row)?;
            if let (Some(row), Some(Saved::Received(None))) = (row, &answer) {
                self.known.give_back(row);
            }
            saved.extend(answer);
        }
        let own = writer.own();
        transaction.commit()?;
        self.own = own;
        self.known.learn(db, changes)?;
        Ok(saved)
    }

    /// Brings all that was committed into the database.
    pub fn flush(&self) -> Result<(), CommitError> {
        lock(&self.backlog).flush(self.own)
    }

    /// Waits until what is being done beside is done.
    pub fn settle(&self) -> Result<(), CommitError> {
        lock(&self.backlog).wait()
    }

    /// Does what is due by now, or has it done beside. To be called after every turn in which
    /// something was committed, and when [`Store::poll_timeout`] says.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), CommitError> {
        lock(&self.backlog).handle_timeout(now, self.own)
    }

    /// When [`Store::handle_timeout`] next has something to do, by the clock that it is told.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        lock(&self.backlog).poll_timeout()
    }

    /// Overwrites and removes the copies that were made of older versions. A [`Store::commit`]
    /// that saves a session's state does so by itself: this version works then, and the copy has
    /// become a danger, because it holds keys that are used from now on.
    pub fn forget_old_copy(&mut self) -> io::Result<()> {
        while let Some(copy) = self.old_copies.last() {
            old_copy::erase(copy)?;
            self.old_copies.pop();
        }
        Ok(())
    }

    /// Brings the search some messages further: see `search.rs`. It happens by itself when nothing
    /// else is to be done.
    pub fn index_some(&self) -> Result<Progress, CommitError> {
        self.flush()?;
        Ok(search::index_some(&mut self.database.lock().db)?)
    }

    /// Moves journal and log into the database, brings the search up to date, and closes it.
    pub fn close(self) -> Result<(), CommitError> {
        self.flush()?;
        search::index_before_closing(&mut self.database.lock().db);
        lock(&self.backlog).erase_now(self.own, erasure::CLOSING_TIMEOUT)?;
        let Self { backlog, database, .. } = self;
        drop(backlog);
        let Some(Database(reader)) = Arc::into_inner(database) else { return Ok(()) };
        let Reader { db } = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
        db.close().map_err(|(_, error)| error.into())
    }
}

fn begin(mut db: Connection, identity: &Identity) -> Result<Connection, CommitError> {
    configure(&db, Durability::Process)?;
    schema::migrate(&mut db)?;
    write::put_identity(&db, identity)?;
    Ok(db)
}

/// Whether something may stand in the journal of the database at `path`: nobody has it open, and it
/// was not closed; or somebody has it open.
pub fn has_journal(path: &Path) -> bool {
    journal::exists(path)
}

/// Brings into the database what a process that was not closed left in the journal, and erases what
/// it left elsewhere. Returns the number of the last commit.
fn catch_up(
    path: &Path,
    key: &StoreKey,
    db: &mut Connection,
    own: AccountKey,
) -> Result<u64, OpenError> {
    let applied = group::applied(db)?;
    let records = journal::read(path, key)?;
    let last = records.last().map_or(applied, |record| record.number.max(applied));
    let mut group = Group::default();
    let news = records.into_iter().filter(|record| record.number > applied);
    news.for_each(|record| group.push(record));
    group.apply(db, own)?;
    if !erasure::erase(db, true, Duration::ZERO)? {
        erasure::sync_log(path).map_err(JournalError::File)?;
    }
    journal::remove(path).map_err(JournalError::File)?;
    Ok(last)
}

impl Reader {
    /// Opens the database of a profile to read it, also while another process writes.
    pub fn open(path: &Path, key: &StoreKey) -> Result<Self, OpenError> {
        let db = connect(path, key, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check_version(&db, schema::latest())?;
        Ok(Self { db })
    }
}

fn connect(path: &Path, key: &StoreKey, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // A wrong key is told by an error, not by lines on standard error.
    db.execute_batch("PRAGMA cipher_log_level = NONE")?;
    db.pragma_update(None, "key", key.pragma_value().as_str())?;
    db.pragma_update(None, "cipher_hmac_algorithm", HMAC)?;
    db.execute_batch("PRAGMA temp_store = MEMORY")?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// The settings of a connection that writes. Erased rows are overwritten, because erased keys and
/// envelopes are not to be found again. What rows name others by is checked where the program is
/// tested, and by [`faults`]: as constraints they would cost a quarter of the writing.
fn configure(db: &Connection, durability: Durability) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON")?;
    db.pragma_update(None, "foreign_keys", cfg!(debug_assertions))?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let synchronous = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    db.pragma_update(None, "synchronous", synchronous)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
}

/// Gives the version of the tables, if it is `known`. Reads the first page, which shows whether
/// the key fits.
fn check_version(db: &Connection, known: u32) -> Result<u32, OpenError> {
    match schema::version(db)? {
        // No profile was ever written without tables: the file was emptied.
        0 => Err(OpenError::Damaged),
        found if found > known => Err(OpenError::Newer { found, known }),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::node::record::{ContactState, MessageState, ReceivedMessage};
    use crate::store::fixture::{
        answer, contact, id, identity, name, put, queue, queued, receive, received, store,
    };

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("profile.db")
        }

        fn journal(&self) -> PathBuf {
            self.0.path().join("profile.journal")
        }

        fn create(&self) -> Store {
            Store::create(&self.path(), &key(1), &identity()).unwrap()
        }

        fn open(&self) -> Result<Store, OpenError> {
            Store::open(&self.path(), &key(1), Durability::Process)
        }

        /// What is left of a process that is killed now.
        fn killed(&self) -> Self {
            let copy = Self::new();
            for entry in fs::read_dir(self.0.path()).unwrap() {
                let name = entry.unwrap().file_name();
                if !name.to_str().unwrap().ends_with("-shm") {
                    fs::copy(self.0.path().join(&name), copy.0.path().join(&name)).unwrap();
                }
            }
            copy
        }
    }

    fn key(byte: u8) -> StoreKey {
        StoreKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn what_was_committed_is_there_when_it_is_opened_again() {
        let folder = Folder::new();
        let mut store = folder.create();
        let messages: Vec<_> = (1..=1000).map(|number| receive(received(number))).collect();
        let saved = store.commit(messages).unwrap();
        assert_eq!(saved.len(), 1000);
        store.close().unwrap();
        assert!(!folder.0.path().join("profile.db-wal").exists());

        let mut store = folder.open().unwrap();
        let history = store.reader().history(&name("bob"), 2000, None).unwrap();
        assert_eq!(history.len(), 1000);
        assert_eq!(answer(&mut store, receive(received(7))), Saved::Received(None));
    }

    #[test]
    fn a_commit_is_there_though_the_store_was_never_closed() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[receive(received(1))]).unwrap();
        let copy = folder.killed();
        let store = copy.open().unwrap();
        assert!(store.reader().message(id(2, 1)).unwrap().is_some());
    }

    #[test]
    fn a_killed_process_s_commits_are_there_in_the_end_as_it_told_them() {
        let folder = Folder::new();
        let mut store = folder.create();
        answer(&mut store, receive(received(1)));
        let told: Vec<_> =
            (2..=9).map(|number| answer(&mut store, receive(received(number)))).collect();
        let delivered = Change::SetMessageState(id(1, 1), MessageState::Delivered, None);
        store.commit([queue(queued(1)), queue(queued(2)), delivered]).unwrap();
        let history = |store: &Store| store.reader().history(&name("bob"), 50, None).unwrap();
        let mut killed = folder.killed();
        // It may be killed again while it starts, or anywhere after that.
        for _ in 0..3 {
            let store = killed.open().unwrap();
            assert_eq!(history(&store).len(), 11);
            let found = history(&store);
            let as_told = found[1..9].iter().map(|message| Saved::Received(Some(message.row)));
            assert_eq!(as_told.collect::<Vec<_>>(), told);
            killed = killed.killed();
        }
        assert_eq!(killed.open().unwrap().load().unwrap().outbox, [queued(2)]);
        assert_eq!(history(&killed.open().unwrap()), history(&store));
    }

    #[test]
    fn a_process_that_is_killed_anywhere_has_all_commits_but_what_it_was_writing() {
        let folder = Folder::new();
        let mut store = folder.create();
        answer(&mut store, receive(received(1)));
        let mut lens = vec![0];
        for number in 2..=6 {
            store.commit([receive(received(number))]).unwrap();
            lens.push(fs::metadata(folder.journal()).unwrap().len());
        }
        for len in 0..=*lens.last().unwrap() {
            let killed = folder.killed();
            let journal = fs::OpenOptions::new().write(true).open(killed.journal()).unwrap();
            journal.set_len(len).unwrap();
            let store = killed.open().unwrap();
            let whole = lens.iter().filter(|whole| **whole > 0 && **whole <= len).count();
            let history = store.reader().history(&name("bob"), 50, None).unwrap();
            assert_eq!(history.len(), 1 + whole, "{len} bytes");
        }
    }

    #[test]
    fn a_commit_after_a_kill_goes_on_where_the_killed_process_was() {
        let folder = Folder::new();
        let mut killed = folder.killed();
        drop(folder.create());
        for number in 1..=20 {
            let folder = if number == 1 { folder.killed() } else { killed };
            let mut store = folder.open().unwrap();
            for part in 0..3 {
                store.commit([receive(received(3 * number + part))]).unwrap();
            }
            killed = folder.killed();
        }
        let history = killed.open().unwrap().reader().history(&name("bob"), 500, None).unwrap();
        let rows: Vec<_> = history.iter().map(|message| message.row).collect();
        assert_eq!(rows, (1..=60).collect::<Vec<_>>());
    }

    #[test]
    fn commits_that_wait_are_in_a_copy_and_in_what_is_loaded() {
        let mut store = store();
        store.commit([put(contact("bob")), queue(queued(1))]).unwrap();
        let mut copy = store.copy_in_memory().unwrap();
        store.commit([queue(queued(2))]).unwrap();
        assert_eq!(copy.load().unwrap().outbox, [queued(1)]);
        assert_eq!(store.load().unwrap().outbox, [queued(1), queued(2)]);
    }

    #[test]
    fn changes_are_saved_together_or_not_at_all() {
        let mut store = store();
        let look_up = Change::FindOpened(received(1).envelope);
        store.database.lock().db.execute_batch("ALTER TABLE contacts RENAME TO gone").unwrap();
        let changes = [queue(queued(1)), put(contact("bob")), look_up];
        assert!(matches!(store.commit(changes), Err(CommitError::Failed(_))));
        assert_eq!(store.reader().message(id(1, 1)).unwrap(), None);
        store.commit([queue(queued(1))]).unwrap();
        assert!(store.reader().message(id(1, 1)).unwrap().is_some());
    }

    #[test]
    fn a_full_disk_loses_nothing_that_was_committed() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[receive(received(1))]).unwrap();
        let pages: u32 =
            store.reader().db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.reader().db.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let long = |number| ReceivedMessage { text: "x".repeat(500), ..received(number) };
        let many: Vec<_> = (2..=200).map(|number| receive(long(number))).collect();
        assert_eq!(store.commit(many).unwrap().len(), 199);
        assert!(matches!(store.flush(), Err(CommitError::Full)));
        assert_eq!(store.reader().history(&name("bob"), 500, None).unwrap().len(), 1);
        let killed = folder.killed();
        let history = killed.open().unwrap().reader().history(&name("bob"), 500, None).unwrap();
        assert_eq!(history.len(), 200);
        store.database.lock().db.pragma_update(None, "max_page_count", 100_000).unwrap();
        assert_eq!(store.reader().history(&name("bob"), 500, None).unwrap().len(), 200);
    }

    #[test]
    fn a_database_that_stays_full_stops_commits_before_the_backlog_grows_without_bound() {
        let folder = Folder::new();
        let mut store = folder.create();
        let pages: u32 =
            store.reader().db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.reader().db.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let long = |number| ReceivedMessage { text: "x".repeat(500_000), ..received(number) };
        let refused = (1..100).find_map(|number| store.commit([receive(long(number))]).err());
        assert!(matches!(refused, Some(CommitError::Full)), "{refused:?}");
    }

    #[test]
    fn it_can_be_read_while_another_process_writes() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[put(contact("bob"))]).unwrap();
        store.flush().unwrap();
        let reader = Reader::open(&folder.path(), &key(1)).unwrap();
        let mut writing = store.database.lock();
        let open = TransactionBehavior::Immediate;
        let transaction = writing.db.transaction_with_behavior(open).unwrap();
        transaction.execute("UPDATE contacts SET state = 4", []).unwrap();
        assert_eq!(reader.contacts().unwrap()[0].contact.state, ContactState::Mutual);
        transaction.commit().unwrap();
        assert_eq!(reader.contacts().unwrap()[0].contact.state, ContactState::Blocked);
        assert_eq!(reader.identity().unwrap().name, name("alice"));
        assert!(reader.db.execute("DELETE FROM contacts", []).is_err());
    }

    #[test]
    fn a_second_writer_is_told_that_it_is_busy() {
        let folder = Folder::new();
        let first = folder.create();
        let mut second = folder.open().unwrap();
        second.database.lock().db.busy_timeout(Duration::ZERO).unwrap();
        let mut writing = first.database.lock();
        let open = TransactionBehavior::Immediate;
        let transaction = writing.db.transaction_with_behavior(open).unwrap();
        second.commit(&[put(contact("bob"))]).unwrap();
        assert!(matches!(second.flush(), Err(CommitError::Busy)));
        drop(transaction);
        second.flush().unwrap();
    }

    #[test]
    fn a_wrong_key_opens_nothing() {
        let folder = Folder::new();
        folder.create().close().unwrap();
        assert!(matches!(
            Store::open(&folder.path(), &key(2), Durability::Process),
            Err(OpenError::Damaged)
        ));
        assert!(matches!(Reader::open(&folder.path(), &key(2)), Err(OpenError::Damaged)));
    }

    #[test]
    fn no_plaintext_is_in_the_files() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[receive(received(1))]).unwrap();
        for name in ["profile.db", "profile.db-wal"] {
            let bytes = fs::read(folder.0.path().join(name)).unwrap();
            for word in ["in 1", "alice", "SQLite format", "messages"] {
                assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()));
            }
        }
    }

    #[test]
    fn a_newer_version_is_refused() {
        let folder = Folder::new();
        let store = folder.create();
        let newer = schema::latest() + 1;
        store.database.lock().db.pragma_update(None, "user_version", newer).unwrap();
        store.close().unwrap();
        let refused = folder.open();
        assert!(matches!(refused, Err(OpenError::Newer { found, .. }) if found == newer));
        let refused = Reader::open(&folder.path(), &key(1));
        assert!(matches!(refused, Err(OpenError::Newer { .. })));
    }

    #[test]
    fn a_damaged_file_is_refused_or_found_out_and_never_a_panic() {
        let folder = Folder::new();
        let mut store = folder.create();
        let messages: Vec<_> = (1..=200).map(|number| receive(received(number))).collect();
        store.commit(messages).unwrap();
        store.close().unwrap();
        let whole = fs::read(folder.path()).unwrap();
        let try_reading = |bytes: &[u8]| -> bool {
            fs::write(folder.path(), bytes).unwrap();
            let Ok(mut store) = folder.open() else { return false };
            let history = store.reader().history(&name("bob"), 500, None);
            store.load().is_ok() && history.is_ok_and(|found| found.len() == 200)
        };
        assert!(try_reading(&whole));
        for len in [0, 1, 100, 4096, 5000, whole.len() / 2, whole.len() - 4096] {
            assert!(!try_reading(&whole[..len]), "{len} bytes");
        }
        // Every page is authenticated: what changed is found out when it is read.
        for at in (2000..whole.len()).step_by(4096) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(!try_reading(&changed) || at > 4096, "the first page is always read");
        }
        assert!(!try_reading(&[7; 8192]));
    }

    #[test]
    fn columns_that_this_program_never_writes_are_damage() {
        let mut store = store();
        store.commit(&[put(contact("bob"))]).unwrap();
        store.flush().unwrap();
        store.database.lock().db.execute("UPDATE contacts SET state = 77", []).unwrap();
        assert!(matches!(store.load(), Err(ReadError::Damaged)));
        store
            .database
            .lock()
            .db
            .execute("UPDATE contacts SET state = 1, account_key = x'01'", [])
            .unwrap();
        assert!(matches!(store.load(), Err(ReadError::Damaged)));
        store.database.lock().db.execute("DELETE FROM identity", []).unwrap();
        assert!(matches!(store.reader().identity(), Err(ReadError::Damaged)));
    }

    #[test]
    fn rows_that_are_erased_are_overwritten() {
        let store = store();
        let secure =
            store.database.lock().db.pragma_query_value(None, "secure_delete", |row| row.get(0));
        assert_eq!(secure, Ok(1));
    }
}
