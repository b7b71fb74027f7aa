//! The tables, and how a database of an older version gets them.

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;

/// Each migration brings a database from the version of its index to the next. Only ever append.
const MIGRATIONS: &[&str] = &[FIRST];

const FIRST: &str = "
    CREATE TABLE accounts (
        id            INTEGER PRIMARY KEY,
        name          TEXT NOT NULL UNIQUE,
        account_key   BLOB NOT NULL,
        credential    BLOB NOT NULL, -- OPAQUE's credential identifier, 32 bytes
        record        BLOB NOT NULL, -- OPAQUE's record, 192 bytes
        memory_kib    INTEGER NOT NULL,
        passes        INTEGER NOT NULL,
        lanes         INTEGER NOT NULL,
        account_box   BLOB NOT NULL,
        recovery_box  BLOB NOT NULL,
        devices       TEXT NOT NULL, -- the signed list, JSON
        list_version  INTEGER NOT NULL,
        list_hash     BLOB NOT NULL,
        created_at    INTEGER NOT NULL, -- times are milliseconds since the epoch
        asking_since  INTEGER NOT NULL DEFAULT 0, -- when the day of contact requests began
        asked         INTEGER NOT NULL DEFAULT 0  -- and how many there were since
    ) STRICT;

    CREATE TABLE devices (
        key      BLOB PRIMARY KEY,
        account  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX devices_of_account ON devices (account);

    -- A row says that its owner holds the contact. While the owner's request is open, its card is
    -- here. Two are mutual contacts when each holds the other and no request is open.
    CREATE TABLE contacts (
        owner    INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        contact  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        card     TEXT,
        PRIMARY KEY (owner, contact)
    ) STRICT;
    CREATE INDEX contacts_of_contact ON contacts (contact);

    CREATE TABLE held (
        id       INTEGER PRIMARY KEY AUTOINCREMENT, -- an id is never used again
        account  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        sender   INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        kind     TEXT NOT NULL CHECK (kind IN ('request', 'accepted', 'declined')),
        card     TEXT
    ) STRICT;
    CREATE INDEX held_for_account ON held (account, id);
    CREATE INDEX held_by_sender ON held (sender);

    CREATE TABLE meta (
        name   TEXT PRIMARY KEY,
        value  TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// A database could not be brought to this version.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// `SQLite` refused; nothing was changed.
    #[error("the database cannot be brought to this version: {0}")]
    Database(#[from] rusqlite::Error),
    /// A newer program wrote it.
    #[error(
        "the database is of version {found}, and this program knows {known} at most: \
         run the newer parlor-rendezvous that wrote it, or restore a backup"
    )]
    TooNew {
        /// The database's version.
        found: usize,
        /// The newest version that this program knows.
        known: usize,
    },
}

/// Brings a database to the newest version in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), MigrateError> {
    let known = MIGRATIONS.len();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let missing = MIGRATIONS.get(found..).ok_or(MigrateError::TooNew { found, known })?;
    if missing.is_empty() {
        return Ok(());
    }
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", u32::try_from(known).unwrap_or(u32::MAX))?;
    transaction.commit()?;
    tracing::debug!(from = found, to = known, "database migrated");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_migrated_once_and_a_newer_one_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = migrate(&mut connection).unwrap_err();
        assert!(matches!(refused, MigrateError::TooNew { found: 99, .. }));
        assert!(refused.to_string().contains("version 99"));
    }
}
