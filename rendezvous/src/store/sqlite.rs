//! `SQLite`: one file, write-ahead log, one transaction for a turn.

mod accounts;
mod audit;
mod blocks;
mod contacts;
mod day;
mod email_codes;
mod held;
mod invitations;
mod mailboxes;
mod prekeys;
mod schema;
mod soundness;
mod tries;
mod users;

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};
use thiserror::Error;

pub use self::schema::MigrateError;
use super::interface::{Database, DatabaseError, QueryError, Run};
use crate::server::{Answer, Query, QueryId};

/// How long a statement waits for another process (an admin's command, a backup) to let go.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// As many statements are kept prepared as there are.
const STATEMENTS: usize = 160;

/// The database.
#[derive(Debug)]
pub struct Sqlite {
    pub(crate) connection: Connection,
    /// Rows that had changed when it was scrubbed.
    scrubbed_at: Option<u64>,
}

/// The tables, within a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a>(&'a Connection);

/// The database cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// `SQLite` refused.
    #[error("the database cannot be opened: {0}")]
    Database(#[source] rusqlite::Error),
    /// It is damaged. The text says where.
    #[error(
        "the database is damaged ({0}): leave its folder as it is, and put the database, with \
         server.key and opaque.key, back from a backup"
    )]
    Damaged(String),
    /// It could not be brought to this version.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        if soundness::is_damage(&error) {
            Self::Damaged(error.to_string())
        } else {
            Self::Database(error)
        }
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self(Box::new(error))
    }
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Sqlite {
    /// Opens the database in a file, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::prepare(Connection::open(path)?)
    }

    /// A database that is gone with its value.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    /// A copy of this database as it is now, which is gone with its value.
    pub fn copy_in_memory(&self) -> Result<Self, OpenError> {
        let mut copy = Connection::open_in_memory()?;
        Backup::new(&self.connection, &mut copy)?.step(-1)?;
        Self::prepare(copy)
    }

    fn prepare(mut connection: Connection) -> Result<Self, OpenError> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        soundness::check_pages(&connection)?;
        schema::migrate(&mut connection)?;
        soundness::check_tables(&connection)?;
        Ok(Self { connection, scrubbed_at: None })
    }

    /// Writes the rows of mailboxes anew, and empties the write-ahead log. Returns whether nobody
    /// held the log.
    fn scrub_at_once(&mut self) -> rusqlite::Result<bool> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        mailboxes::write_anew(&transaction)?;
        transaction.commit()?;
        let empty = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = self.connection.query_row(empty, [], |row| row.get(0))?;
        Ok(!busy)
    }
}

impl Database for Sqlite {
    fn transact(
        &mut self,
        queries: Vec<(QueryId, Query)>,
        run: Run,
    ) -> Result<Vec<(QueryId, Answer)>, DatabaseError> {
        let writes = queries.iter().any(|(_, query)| query.is_write());
        let behavior =
            if writes { TransactionBehavior::Immediate } else { TransactionBehavior::Deferred };
        let mut transaction = self.connection.transaction_with_behavior(behavior)?;
        let mut answers = Vec::with_capacity(queries.len());
        for (id, query) in queries {
            answers.push((id, answer_one(&mut transaction, query, run)?));
        }
        transaction.commit()?;
        Ok(answers)
    }

    fn scrub(&mut self) -> Result<(), DatabaseError> {
        if self.scrubbed_at == Some(self.connection.total_changes()) {
            return Ok(());
        }
        // Nobody is served meanwhile: who reads is not waited for, but comes back to the next time.
        self.connection.busy_timeout(Duration::ZERO)?;
        let scrubbed = self.scrub_at_once();
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        match scrubbed {
            Ok(true) => self.scrubbed_at = Some(self.connection.total_changes()),
            Ok(false) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn put_note(&self, name: &str, value: &str) -> Result<(), DatabaseError> {
        let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.connection.execute(sql, [name, value])?;
        Ok(())
    }

    fn close(self) -> Result<(), DatabaseError> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// Reads a note of a database that another process may be using.
pub fn read_note(path: &Path, name: &str) -> rusqlite::Result<Option<String>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let sql = "SELECT value FROM meta WHERE name = ?1";
    connection.query_row(sql, [name], |row| row.get(0)).optional()
}

/// Runs one query in a savepoint. Only what concerns the whole transaction is an error.
fn answer_one(
    transaction: &mut Transaction<'_>,
    query: Query,
    run: Run,
) -> rusqlite::Result<Answer> {
    let result = if query.is_write() {
        let savepoint = transaction.savepoint()?;
        match run(&Tables(&savepoint), query) {
            Ok(answer) => savepoint.commit().map(|()| Ok(answer))?,
            Err(error) => savepoint.finish().map(|()| Err(error))?,
        }
    } else {
        run(&Tables(transaction), query)
    };
    Ok(result.unwrap_or_else(|error| {
        tracing::error!(%error, "a query failed");
        Answer::Unavailable
    }))
}

/// A number as `SQLite` keeps it.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that `SQLite` kept; the ones kept here are never negative.
fn loaded(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use parlor_common::device_list::{DeviceEntry, DeviceList};
    use parlor_common::id::Username;
    use parlor_common::identity::{AccountSecret, DeviceSecret};
    use parlor_common::prekey::DhPublicBytes;
    use parlor_common::time::Timestamp;
    use parlor_common::wire::rendezvous::Argon2Params;

    use super::*;
    use crate::opaque::{CredentialId, Record};
    use crate::server::Source;
    use crate::server::{Admission, Creation, NewAccount, Origin};
    use crate::store::{Store, suite};

    pub(in crate::store) fn account(name: &str, device: u8) -> Query {
        let (name, at) = (name.parse::<Username>().unwrap(), Timestamp::from_millis(1));
        let account = AccountSecret::from_seed(&[device; 32]);
        let key = DeviceSecret::from_seed(&[device; 32]).public();
        let entry = DeviceEntry::new(key, DhPublicBytes(Box::new([1; 384])), at);
        let list = DeviceList::first(name.clone(), account.public(), entry, at);
        let devices = list.sign(&account, None).verify(&name, &account.public()).unwrap();
        Query::CreateAccount(Box::new(NewAccount {
            devices,
            credential: CredentialId([1; 32]),
            record: Record(vec![2; 192]),
            argon2: Argon2Params::DEFAULT,
            account_box: vec![3; 60].into(),
            recovery_box: vec![4; 60].into(),
            admission: Admission::Open,
            origin: origin(device),
        }))
    }

    /// A request of a device, at the first moment.
    pub(in crate::store) fn origin(device: u8) -> Origin {
        let device = DeviceSecret::from_seed(&[device; 32]).public();
        let remote = [192, 0, 2, 7].into();
        Origin { remote, source: Source::of(remote), device, at: Timestamp::from_millis(1) }
    }

    pub(in crate::store) fn ask(store: &mut Store, query: Query) -> Answer {
        store.answer(vec![(QueryId(1), query)]).pop().unwrap().1
    }

    fn exists(store: &mut Store, name: &str) -> bool {
        let answer = ask(store, Query::Devices { name: name.parse().unwrap() });
        matches!(answer, Answer::Devices(Some(_)))
    }

    #[test]
    fn of_two_registrations_of_a_name_in_one_turn_the_first_wins() {
        let mut store = Store::in_memory().unwrap();
        let queries = vec![(QueryId(1), account("alice", 1)), (QueryId(2), account("alice", 2))];
        let answers = store.answer(queries);
        let created: Vec<_> = answers
            .into_iter()
            .map(|(_, answer)| {
                let Answer::Created(creation) = answer else { panic!("{answer:?}") };
                creation
            })
            .collect();
        assert_eq!(created, [Creation::Created, Creation::NameTaken]);
    }

    #[test]
    fn a_full_disk_makes_the_server_unavailable_and_leaves_nothing_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = Store::open(&path).unwrap();
        ask(&mut store, account("alice", 1));
        let pages: u32 = store
            .database
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        store.database.connection.pragma_update(None, "max_page_count", pages).unwrap();
        let mut full = 0;
        for device in 2..60 {
            let name = format!("user{device}");
            let created = matches!(ask(&mut store, account(&name, device)), Answer::Created(_));
            assert_eq!(exists(&mut store, &name), created);
            full += u32::from(!created);
        }
        assert!(full > 0);
        let devices: u32 = store
            .database
            .connection
            .query_row("SELECT count(*) FROM devices", [], |row| row.get(0))
            .unwrap();
        assert_eq!(devices, 59 - full);
        // Room again, and all is well.
        store.database.connection.pragma_update(None, "max_page_count", pages * 100).unwrap();
        assert!(matches!(
            ask(&mut store, account("later", 99)),
            Answer::Created(Creation::Created)
        ));
    }

    #[test]
    fn a_database_that_is_locked_makes_the_server_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = Store::open(&path).unwrap();
        store.database.connection.busy_timeout(Duration::ZERO).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(ask(&mut store, account("alice", 1)), Answer::Unavailable));
        assert!(!exists(&mut store, "alice"));
        other.execute_batch("COMMIT").unwrap();
        assert!(matches!(ask(&mut store, account("alice", 1)), Answer::Created(_)));
    }

    #[test]
    fn what_is_corrupt_is_unavailable_and_its_neighbours_are_not() {
        let mut store = Store::in_memory().unwrap();
        ask(&mut store, account("alice", 1));
        ask(&mut store, account("bob", 2));
        let scribble = "UPDATE accounts SET devices = '{' WHERE name = 'alice'";
        store.database.connection.execute(scribble, []).unwrap();
        let devices = |name: &str| Query::Devices { name: name.parse().unwrap() };
        let answers =
            store.answer(vec![(QueryId(1), devices("alice")), (QueryId(2), devices("bob"))]);
        assert!(matches!(
            answers[..],
            [(QueryId(1), Answer::Unavailable), (QueryId(2), Answer::Devices(Some(_)))]
        ));
    }

    #[test]
    fn notes_are_kept_and_can_be_read_beside_a_running_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let store = Store::open(&path).unwrap();
        assert_eq!(read_note(&path, "listen").unwrap(), None);
        store.put_note("listen", "here").unwrap();
        store.put_note("listen", "there").unwrap();
        assert_eq!(read_note(&path, "listen").unwrap().as_deref(), Some("there"));
    }

    #[test]
    fn it_does_what_the_interfaces_promise_with_many_connections() {
        suite::passes(|test| {
            let folder = tempfile::tempdir().unwrap();
            test(&|| Store::open(&folder.path().join("db")).unwrap());
        });
    }
}
