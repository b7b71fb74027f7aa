//! The tables, and how a database of an older version gets them.

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;

/// Each migration brings a database from the version of its index to the next. Only ever append.
const MIGRATIONS: &[&str] = &[FIRST, PREKEYS, ABUSE, MAILBOXES, DIGESTS];

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

const PREKEYS: &str = "
    ALTER TABLE accounts ADD COLUMN bundles_since INTEGER NOT NULL DEFAULT 0; -- as asking_since,
    ALTER TABLE accounts ADD COLUMN bundles INTEGER NOT NULL DEFAULT 0; -- of asking for prekeys
    ALTER TABLE devices ADD COLUMN starts INTEGER NOT NULL DEFAULT 0; -- the largest that it told

    CREATE TABLE signed_prekeys (
        device         BLOB PRIMARY KEY REFERENCES devices (key) ON DELETE CASCADE,
        id             INTEGER NOT NULL,
        made_at        INTEGER NOT NULL,
        dh             BLOB NOT NULL, -- 384 bytes, and each signature 64
        dh_signature   BLOB NOT NULL,
        kem            BLOB NOT NULL, -- 1,184 bytes
        kem_signature  BLOB NOT NULL
    ) STRICT;

    CREATE TABLE one_time_prekeys (
        number         INTEGER PRIMARY KEY, -- grows in the order of arrival
        device         BLOB NOT NULL REFERENCES devices (key) ON DELETE CASCADE,
        id             INTEGER NOT NULL,
        made_at        INTEGER NOT NULL,
        dh             BLOB NOT NULL,
        dh_signature   BLOB NOT NULL,
        kem            BLOB NOT NULL,
        kem_signature  BLOB NOT NULL,
        UNIQUE (device, id)
    ) STRICT;
    CREATE INDEX one_time_prekeys_by_age ON one_time_prekeys (device, made_at);

    -- The one-time pairs that have left, until they would be refused as too old: put again, they
    -- would leave twice.
    CREATE TABLE taken_prekeys (
        device   BLOB NOT NULL REFERENCES devices (key) ON DELETE CASCADE,
        id       INTEGER NOT NULL,
        made_at  INTEGER NOT NULL,
        PRIMARY KEY (device, id)
    ) STRICT, WITHOUT ROWID;

    -- How many one-time pairs of a device have left for an account since its day of them began.
    CREATE TABLE handouts (
        asker   INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        device  BLOB NOT NULL REFERENCES devices (key) ON DELETE CASCADE,
        since   INTEGER NOT NULL,
        count   INTEGER NOT NULL,
        PRIMARY KEY (asker, device)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX handouts_of_device ON handouts (device);
    CREATE INDEX handouts_by_age ON handouts (since);
";

/// What accounts need to withstand abuse.
const ABUSE: &str = "
    ALTER TABLE accounts ADD COLUMN disabled_at INTEGER; -- absent: it is not
    ALTER TABLE accounts ADD COLUMN email TEXT; -- normalised, if it registered by one
    ALTER TABLE accounts ADD COLUMN last_login INTEGER;
    ALTER TABLE devices ADD COLUMN name TEXT; -- as its owner calls it

    -- Names of deleted accounts, which are not given out again.
    CREATE TABLE retired_names (
        name  TEXT PRIMARY KEY,
        at    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE blocks (
        owner    INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        blocked  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        PRIMARY KEY (owner, blocked)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX blocks_of_blocked ON blocks (blocked);

    CREATE TABLE invitations (
        id          TEXT PRIMARY KEY, -- the first 8 digits of the code's hash
        code_hash   BLOB NOT NULL UNIQUE, -- SHA-256
        uses        INTEGER NOT NULL,
        used        INTEGER NOT NULL DEFAULT 0,
        made_at     INTEGER NOT NULL,
        expires_at  INTEGER NOT NULL,
        made_by     INTEGER REFERENCES accounts (id) ON DELETE CASCADE, -- absent: an admin
        revoked_at  INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX invitations_by_maker ON invitations (made_by);

    -- Codes that were mailed and have not come back yet.
    CREATE TABLE email_codes (
        address     TEXT PRIMARY KEY, -- normalised
        name        TEXT NOT NULL,
        code_hash   BLOB NOT NULL, -- SHA-256, of code and address
        sent_at     INTEGER NOT NULL,
        expires_at  INTEGER NOT NULL,
        attempts    INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;

    -- How many mails have left since the day of them began: in all, to a domain, to an address.
    CREATE TABLE mails_sent (
        scope  TEXT PRIMARY KEY,
        since  INTEGER NOT NULL,
        count  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- Failed logins by name, whether there is such an account or not, and source; by the name
    -- alone where the source is empty.
    CREATE TABLE tries (
        number        INTEGER PRIMARY KEY, -- grows with each touch
        name          TEXT NOT NULL,
        source        TEXT NOT NULL,
        failures      INTEGER NOT NULL,
        since         INTEGER NOT NULL, -- when they began to be counted
        next_at       INTEGER NOT NULL, -- the next try must wait until then
        locked_until  INTEGER NOT NULL,
        locks         INTEGER NOT NULL,
        last_at       INTEGER NOT NULL,
        known         INTEGER NOT NULL DEFAULT 0, -- whether it has logged in from there
        UNIQUE (name, source)
    ) STRICT;

    -- Token buckets that outlive a restart.
    CREATE TABLE buckets (
        number   INTEGER PRIMARY KEY, -- grows with each touch
        scope    TEXT NOT NULL UNIQUE,
        full_at  INTEGER NOT NULL -- when it will be full again, in nanoseconds
    ) STRICT;

    CREATE TABLE audit (
        seq      INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL,
        event    TEXT NOT NULL,
        account  TEXT,
        source   TEXT,
        reason   TEXT,
        hash     TEXT NOT NULL -- SHA-256 of the row and of the hash before it, hexadecimal
    ) STRICT;
";

/// Envelopes that wait for devices.
const MAILBOXES: &str = "
    -- Without a sender, and with no more of the time than is needed to know when it is too old.
    CREATE TABLE envelopes (
        id         INTEGER PRIMARY KEY AUTOINCREMENT, -- an id is never used again
        account    INTEGER NOT NULL, -- the device's
        device     BLOB NOT NULL REFERENCES devices (key) ON DELETE CASCADE,
        share      BLOB NOT NULL, -- a keyed hash of sender and recipient, 32 bytes
        posted_at  INTEGER NOT NULL, -- the beginning of the hour
        envelope   BLOB NOT NULL
    ) STRICT;
    CREATE INDEX envelopes_of_device ON envelopes (device, id);
    CREATE INDEX envelopes_by_age ON envelopes (posted_at);

    -- How much waits for an account, by share.
    CREATE TABLE mailboxes (
        account   INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        share     BLOB NOT NULL,
        messages  INTEGER NOT NULL,
        bytes     INTEGER NOT NULL,
        PRIMARY KEY (account, share)
    ) STRICT, WITHOUT ROWID;

    CREATE TRIGGER envelope_came AFTER INSERT ON envelopes BEGIN
        INSERT INTO mailboxes (account, share, messages, bytes)
        VALUES (NEW.account, NEW.share, 1, length(NEW.envelope))
        ON CONFLICT (account, share) DO UPDATE
        SET messages = messages + 1, bytes = bytes + excluded.bytes;
    END;

    CREATE TRIGGER envelope_went AFTER DELETE ON envelopes BEGIN
        UPDATE mailboxes SET messages = messages - 1, bytes = bytes - length(OLD.envelope)
        WHERE account = OLD.account AND share = OLD.share;
        DELETE FROM mailboxes
        WHERE account = OLD.account AND share = OLD.share AND messages = 0;
    END;

    -- How much an account has posted since its day of that began.
    CREATE TABLE posted (
        account  INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
        since    INTEGER NOT NULL,
        posts    INTEGER NOT NULL,
        bytes    INTEGER NOT NULL
    ) STRICT;
";

/// An envelope that waits is held once.
const DIGESTS: &str = "
    ALTER TABLE envelopes ADD COLUMN digest BLOB; -- SHA-256; none of what was posted before
    CREATE UNIQUE INDEX envelopes_once ON envelopes (device, digest);
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

    #[test]
    fn a_database_of_the_first_version_keeps_what_is_in_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(FIRST).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let filled = "
            INSERT INTO accounts (id, name, account_key, credential, record, memory_kib, passes,
                lanes, account_box, recovery_box, devices, list_version, list_hash, created_at)
            VALUES (7, 'alice', x'01', x'02', x'03', 4, 5, 6, x'07', x'08', '[]', 1, x'09', 10);
            INSERT INTO devices (key, account) VALUES (x'0b', 7);";
        connection.execute_batch(filled).unwrap();
        migrate(&mut connection).unwrap();
        let read = "SELECT a.name, a.bundles_since, a.bundles, d.starts
                    FROM devices d JOIN accounts a ON a.id = d.account";
        let row: (String, i64, u32, i64) = connection
            .query_row(read, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap();
        assert_eq!(row, ("alice".to_owned(), 0, 0, 0));
    }
}
