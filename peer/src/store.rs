//! The profile's database: `SQLCipher`, one file and its write-ahead log.
//!
//! The node says what to keep, as [`Change`]s; a turn's changes are one transaction, saved together
//! or not at all. Front ends read by a [`Reader`], beside the process that writes.
//!
//! A commit survives the end of the process at any point; it is on the disk, and survives the end
//! of the machine, at the next checkpoint of the log. What a commit erased is gone from the files
//! within a second: see `erasure.rs`.
//!
//! The store decides nothing about conversations. Two rules are its own, because only it can keep
//! them for ever: a message is stored once for its writer and id, and the state of a sent message
//! never goes backwards.

mod columns;
mod erasure;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod import;
mod load;
mod old_copy;
mod read;
mod salvage;
mod schema;
mod search;
mod soundness;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parlor_common::identity::AccountKey;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use zeroize::Zeroizing;

pub use error::{CommitError, CopyError, OpenError, ReadError};
pub use import::Imported;
pub use read::{HistoryPage, ListedContact, Reader};
pub use salvage::{Salvage, SalvageError, Salvaged};
pub use search::Progress;
pub use soundness::{Company, faults};

use crate::node::record::{Change, Identity, Saved};
use columns::Key;
use erasure::Erasure;
use search::Indexing;
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

/// How pages are authenticated: part of the format. Today's processors have instructions for
/// SHA-256 and none for SHA-512, which is the default: a commit of one message takes a fifth less.
const HMAC: &str = "HMAC_SHA256";

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A profile's database, to be written by one process.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    /// The account's own key, which is the writer of all messages sent.
    own: AccountKey,
    erasure: Erasure,
    indexing: Indexing,
    /// Copies of the database from before its tables were brought up to date.
    old_copies: Vec<PathBuf>,
}

impl Store {
    /// Makes the database of a new profile at `path`, where there must be no file or an empty one.
    pub fn create(path: &Path, key: &StoreKey, identity: &Identity) -> Result<Self, CommitError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        Self::begin(connect(path, key, flags)?, identity)
    }

    /// A database that ends with the process.
    pub fn in_memory(identity: &Identity) -> Result<Self, CommitError> {
        Self::begin(Connection::open_in_memory()?, identity)
    }

    fn begin(mut db: Connection, identity: &Identity) -> Result<Self, CommitError> {
        configure(&db)?;
        schema::migrate(&mut db)?;
        write::put_identity(&db, identity)?;
        Ok(Self::of(db, identity.account_key, Vec::new()))
    }

    const fn of(db: Connection, own: AccountKey, old_copies: Vec<PathBuf>) -> Self {
        let (erasure, indexing) = (Erasure::new(), Indexing::new());
        Self { reader: Reader { db }, own, erasure, indexing, old_copies }
    }

    /// Opens the database of a profile, and brings its tables up to date. Where they are of an
    /// older version, a copy of the database is made first; [`Store::forget_old_copy`] says how
    /// long it is kept.
    pub fn open(path: &Path, key: &StoreKey) -> Result<Self, OpenError> {
        Self::open_with(path, key, schema::migrations())
    }

    fn open_with(path: &Path, key: &StoreKey, migrations: &[&str]) -> Result<Self, OpenError> {
        let not_closed = erasure::has_log(path);
        let mut db = connect(path, key, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let latest = schema::count(migrations);
        let found = check_version(&db, latest)?;
        if found < latest {
            old_copy::make(path, key, found)?;
        }
        configure(&db)?;
        schema::run(&mut db, migrations)?;
        let own = db.query_one("SELECT account_key FROM identity", [], |row| row.get::<_, Key>(0));
        let mut store = Self::of(db, own?.0, old_copy::all(path, latest));
        if not_closed {
            store.erase(Duration::ZERO)?;
        }
        Ok(store)
    }

    /// A copy of a database that ends with the process, which ends with it, too.
    pub fn copy_in_memory(&self) -> Result<Self, CommitError> {
        let mut db = Connection::open_in_memory()?;
        Backup::new(&self.reader.db, &mut db)?.step(-1)?;
        configure(&db)?;
        Ok(Self::of(db, self.own, Vec::new()))
    }

    /// What front ends read.
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Saves changes, all of them or none, and gives the answers of those that answer, in order.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<Saved>, CommitError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.reader.db.transaction_with_behavior(behavior)?;
        let mut writer = Writer::new(&transaction, self.own);
        let saved = changes.iter().filter_map(|change| writer.apply(change).transpose());
        let saved = saved.collect::<rusqlite::Result<_>>()?;
        let own = writer.own();
        transaction.commit()?;
        self.own = own;
        self.erasure.written();
        self.indexing.written();
        if changes.iter().any(|change| matches!(change, Change::PutSession(_)))
            && let Err(error) = self.forget_old_copy()
        {
            // The changes are saved all the same. It is tried again with the next session.
            tracing::warn!(%error, "an old copy of the database is still there");
        }
        Ok(saved)
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

    /// Brings the search up to date, moves the log into the database and closes both.
    pub fn close(mut self) -> Result<(), CommitError> {
        self.index_before_closing();
        self.erase(erasure::CLOSING_TIMEOUT)?;
        self.reader.db.close().map_err(|(_, error)| error.into())
    }
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
/// envelopes are not to be found again.
fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
         PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON",
    )?;
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
    use crate::node::record::{ContactState, ReceivedMessage};
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

        fn create(&self) -> Store {
            Store::create(&self.path(), &key(1), &identity()).unwrap()
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
        let saved = store.commit(&messages).unwrap();
        assert_eq!(saved.len(), 1000);
        store.close().unwrap();
        assert!(!folder.0.path().join("profile.db-wal").exists());

        let mut store = Store::open(&folder.path(), &key(1)).unwrap();
        let history = store.reader().history(&name("bob"), 2000, None).unwrap();
        assert_eq!(history.len(), 1000);
        assert_eq!(answer(&mut store, receive(received(7))), Saved::Received(None));
    }

    #[test]
    fn a_commit_is_there_though_the_store_was_never_closed() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[receive(received(1))]).unwrap();
        let copy = Folder::new();
        for name in ["profile.db", "profile.db-wal"] {
            fs::copy(folder.0.path().join(name), copy.0.path().join(name)).unwrap();
        }
        let reader = Reader::open(&copy.path(), &key(1)).unwrap();
        assert!(reader.message(id(2, 1)).unwrap().is_some());
        let store = Store::open(&copy.path(), &key(1)).unwrap();
        assert!(store.reader().message(id(2, 1)).unwrap().is_some());
    }

    #[test]
    fn changes_are_saved_together_or_not_at_all() {
        let mut store = store();
        store.commit(&[queue(queued(1))]).unwrap();
        // An id is used once: the second change of these fails.
        let changes = [put(contact("bob")), queue(queued(1)), queue(queued(2))];
        assert!(matches!(store.commit(&changes), Err(CommitError::Failed(_))));
        assert_eq!(store.reader().contacts().unwrap(), []);
        assert_eq!(store.reader().message(id(1, 2)).unwrap(), None);
        store.commit(&[queue(queued(2))]).unwrap();
    }

    #[test]
    fn a_full_disk_loses_nothing_that_was_there() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[receive(received(1))]).unwrap();
        let pages: u32 =
            store.reader.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.reader.db.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let long = |number| ReceivedMessage { text: "x".repeat(500), ..received(number) };
        let many: Vec<_> = (2..=200).map(|number| receive(long(number))).collect();
        assert!(matches!(store.commit(&many), Err(CommitError::Full)));
        let history = store.reader().history(&name("bob"), 50, None).unwrap();
        assert_eq!(history.len(), 1);
        store.reader.db.pragma_update(None, "max_page_count", 100_000).unwrap();
        assert_eq!(store.commit(&many).unwrap().len(), 199);
    }

    #[test]
    fn it_can_be_read_while_another_process_writes() {
        let folder = Folder::new();
        let mut store = folder.create();
        store.commit(&[put(contact("bob"))]).unwrap();
        let reader = Reader::open(&folder.path(), &key(1)).unwrap();
        let open = TransactionBehavior::Immediate;
        let transaction = store.reader.db.transaction_with_behavior(open).unwrap();
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
        let mut first = folder.create();
        let mut second = Store::open(&folder.path(), &key(1)).unwrap();
        second.reader.db.busy_timeout(Duration::ZERO).unwrap();
        let open = TransactionBehavior::Immediate;
        let transaction = first.reader.db.transaction_with_behavior(open).unwrap();
        let refused = second.commit(&[put(contact("bob"))]);
        assert!(matches!(refused, Err(CommitError::Busy)));
        drop(transaction);
        second.commit(&[put(contact("bob"))]).unwrap();
    }

    #[test]
    fn a_wrong_key_opens_nothing() {
        let folder = Folder::new();
        folder.create().close().unwrap();
        assert!(matches!(Store::open(&folder.path(), &key(2)), Err(OpenError::Damaged)));
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
        store.reader.db.pragma_update(None, "user_version", newer).unwrap();
        store.close().unwrap();
        let refused = Store::open(&folder.path(), &key(1));
        assert!(matches!(refused, Err(OpenError::Newer { found, .. }) if found == newer));
        let refused = Reader::open(&folder.path(), &key(1));
        assert!(matches!(refused, Err(OpenError::Newer { .. })));
    }

    #[test]
    fn a_damaged_file_is_refused_or_found_out_and_never_a_panic() {
        let folder = Folder::new();
        let mut store = folder.create();
        let messages: Vec<_> = (1..=200).map(|number| receive(received(number))).collect();
        store.commit(&messages).unwrap();
        store.close().unwrap();
        let whole = fs::read(folder.path()).unwrap();
        let try_reading = |bytes: &[u8]| -> bool {
            fs::write(folder.path(), bytes).unwrap();
            let Ok(mut store) = Store::open(&folder.path(), &key(1)) else { return false };
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
        store.reader.db.execute("UPDATE contacts SET state = 77", []).unwrap();
        assert!(matches!(store.load(), Err(ReadError::Damaged)));
        store.reader.db.execute("UPDATE contacts SET state = 1, account_key = x'01'", []).unwrap();
        assert!(matches!(store.load(), Err(ReadError::Damaged)));
        store.reader.db.execute("DELETE FROM identity", []).unwrap();
        assert!(matches!(store.reader().identity(), Err(ReadError::Damaged)));
    }

    #[test]
    fn rows_that_are_erased_are_overwritten() {
        let store = store();
        let secure = store.reader.db.pragma_query_value(None, "secure_delete", |row| row.get(0));
        assert_eq!(secure, Ok(1));
    }
}
