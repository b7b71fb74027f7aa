//! The tables, and how those of an older version become those of this one.
//!
//! What grows without bound has keys that grow at their end: a random key would dirty a page for
//! each row, and every dirty page is encrypted. So long names (people, account keys,
//! incarnations, sessions) stand once in a table of their own and are small numbers elsewhere.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Each entry takes the tables one version further; the version is the number of entries that
/// were run, in `PRAGMA user_version`. Entries that were shipped never change.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, SEARCH];

const VERSION_1: &str = "
-- Who this device is: one row.
CREATE TABLE identity (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    name        TEXT NOT NULL,
    server      TEXT NOT NULL,              -- as a link
    account_key BLOB NOT NULL,
    devices     TEXT NOT NULL,              -- the signed list, as it travels
    device_seed BLOB NOT NULL,
    dh_secret   BLOB NOT NULL
) STRICT;

-- Everybody whose name stands in a conversation or among the contacts.
CREATE TABLE people (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE contacts (
    person      INTEGER PRIMARY KEY REFERENCES people,
    state       INTEGER NOT NULL,
    verified    INTEGER NOT NULL,
    account_key BLOB,
    changed_key BLOB,
    devices     TEXT,
    policy      INTEGER NOT NULL,
    online      INTEGER NOT NULL
) STRICT;

-- The accounts that wrote messages, this one among them.
CREATE TABLE writers (
    id          INTEGER PRIMARY KEY,
    account_key BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE incarnations (
    id          INTEGER PRIMARY KEY,
    incarnation BLOB NOT NULL,
    writer      INTEGER NOT NULL REFERENCES writers,
    UNIQUE (incarnation, writer)
) STRICT;

-- Both directions. A message is known by its writer, incarnation and number, for ever.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY,
    person      INTEGER NOT NULL REFERENCES people,
    direction   INTEGER NOT NULL,
    incarnation INTEGER NOT NULL REFERENCES incarnations,
    number      INTEGER NOT NULL,
    text        TEXT NOT NULL,
    sent_at     INTEGER NOT NULL,           -- ms, by the writer's clock
    received_at INTEGER,                    -- ms, by ours; absent for sent ones
    state       INTEGER NOT NULL,
    carrier     INTEGER
) STRICT;
CREATE UNIQUE INDEX messages_known ON messages (incarnation, number);
CREATE INDEX messages_of_person ON messages (person);

-- What of the sent messages is not acknowledged yet.
CREATE TABLE outbox (
    message     INTEGER PRIMARY KEY REFERENCES messages,
    account_key BLOB,
    device      BLOB,
    session     BLOB,
    envelope    BLOB,
    CHECK ((device IS NULL) = (envelope IS NULL) AND (session IS NULL) = (envelope IS NULL))
) STRICT;

-- What of the received messages no listen has printed yet.
CREATE TABLE unprinted (
    message INTEGER PRIMARY KEY REFERENCES messages
) STRICT;

CREATE TABLE sessions (
    id      INTEGER PRIMARY KEY,
    device  BLOB NOT NULL,
    session BLOB NOT NULL,
    used    INTEGER NOT NULL,
    state   BLOB NOT NULL,
    UNIQUE (device, session)
) STRICT;

-- Sessions that messages came by: they stay when the session itself is erased.
CREATE TABLE session_ids (
    id      INTEGER PRIMARY KEY,
    session BLOB NOT NULL UNIQUE
) STRICT;

-- Which message an opened envelope held.
CREATE TABLE opened (
    session INTEGER NOT NULL REFERENCES session_ids,
    number  INTEGER NOT NULL,
    message INTEGER NOT NULL REFERENCES messages,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE prekeys (
    id     INTEGER PRIMARY KEY,
    secret BLOB NOT NULL
) STRICT;
";

/// The Double Ratchet: sessions and prekeys of before cannot be used any more, and what they sealed
/// is sealed anew.
const VERSION_2: &str = "
DELETE FROM prekeys;
DROP TABLE sessions;
CREATE TABLE sessions (
    id        INTEGER PRIMARY KEY,
    device    BLOB NOT NULL,
    session   BLOB NOT NULL,
    used      INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,             -- ms
    state     BLOB NOT NULL,
    UNIQUE (device, session)
) STRICT;
UPDATE outbox SET device = NULL, session = NULL, envelope = NULL;

DROP TABLE opened;
DELETE FROM session_ids;

-- Which message an opened envelope held: by its session, chain and number; and the start of its
-- tag, because a number can be used twice by who was put back to an earlier state.
CREATE TABLE opened (
    session INTEGER NOT NULL REFERENCES session_ids,
    chain   BLOB NOT NULL,
    number  INTEGER NOT NULL,
    tag     BLOB NOT NULL,
    message INTEGER NOT NULL REFERENCES messages,
    PRIMARY KEY (session, chain, number)
) STRICT, WITHOUT ROWID;

-- First messages that were accepted, by the hashes of their ephemeral keys.
CREATE TABLE ephemerals (
    hash BLOB PRIMARY KEY,
    at   INTEGER NOT NULL                   -- ms
) STRICT, WITHOUT ROWID;

-- When the newest signed prekey that was seen of a device was made.
CREATE TABLE prekeys_seen (
    device  BLOB PRIMARY KEY,
    made_at INTEGER NOT NULL                -- ms
) STRICT, WITHOUT ROWID;

ALTER TABLE identity ADD COLUMN starts INTEGER NOT NULL DEFAULT 0;
";

/// Devices that no earlier device has signed for, and the list that was refused last.
const VERSION_3: &str = "
ALTER TABLE contacts ADD COLUMN unsigned TEXT NOT NULL DEFAULT '[]';    -- device ids
ALTER TABLE contacts ADD COLUMN refused TEXT;                           -- hash of a list
";

/// A new account key that was asked for.
const VERSION_4: &str = "
-- At most one row, until it is known whether the rendezvous has the new key.
CREATE TABLE rekeying (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    devices TEXT NOT NULL                   -- the first list under the new key
) STRICT;
";

/// Delivery: the order of a conversation as a column of its own, in which what comes late finds its
/// place; why messages fail and when they disappear; envelopes that held no message.
const VERSION_5: &str = "
-- Which record of the journal was the last whose changes are in these tables: one row.
CREATE TABLE journal (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    applied INTEGER NOT NULL
) STRICT;
INSERT INTO journal VALUES (1, 0);

ALTER TABLE messages ADD COLUMN place INTEGER NOT NULL DEFAULT 0;  -- in its conversation
ALTER TABLE messages ADD COLUMN reason INTEGER;                    -- why it failed
ALTER TABLE messages ADD COLUMN expires_at INTEGER;                -- ms, by our clock
UPDATE messages SET place = id << 20;
DROP INDEX messages_of_person;
CREATE INDEX messages_in_order ON messages (person, place);
CREATE INDEX messages_that_expire ON messages (expires_at) WHERE expires_at IS NOT NULL;

-- Which incarnation of its writer another one follows in a conversation.
CREATE TABLE follows (
    incarnation INTEGER NOT NULL REFERENCES incarnations,
    person      INTEGER NOT NULL REFERENCES people,
    previous    INTEGER NOT NULL REFERENCES incarnations,
    PRIMARY KEY (incarnation, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX followed ON follows (previous, person);

ALTER TABLE outbox ADD COLUMN after_incarnation BLOB;
ALTER TABLE outbox ADD COLUMN after_number INTEGER;
ALTER TABLE outbox ADD COLUMN disappears INTEGER;                  -- after so many seconds
ALTER TABLE outbox ADD COLUMN posted_at INTEGER;                   -- ms; the mailbox has it

ALTER TABLE contacts ADD COLUMN timer_ours INTEGER;                -- seconds
ALTER TABLE contacts ADD COLUMN timer_theirs INTEGER;

-- Which message an opened envelope held, if it held one.
CREATE TABLE opened_5 (
    session INTEGER NOT NULL REFERENCES session_ids,
    chain   BLOB NOT NULL,
    number  INTEGER NOT NULL,
    tag     BLOB NOT NULL,
    message INTEGER REFERENCES messages,
    PRIMARY KEY (session, chain, number)
) STRICT, WITHOUT ROWID;
INSERT INTO opened_5 SELECT * FROM opened;
DROP TABLE opened;
ALTER TABLE opened_5 RENAME TO opened;
";

/// How words are found in a text: letters, digits and marks are of a word, everything else stands
/// between words. Marks, for scripts that write vowels by them.
macro_rules! tokenizer {
    () => {
        "unicode61 remove_diacritics 2 categories ''L* N* Co Mn Mc''"
    };
}

/// The tokenizer of the search, as it stands in a string of SQL.
pub(super) const TOKENIZER: &str = tokenizer!();

/// Full-text search: see `search.rs`.
const SEARCH: &str = concat!(
    "
-- The words of the messages, and the numbers of the people. Only which column of which message a
-- word stands in: phrases are not searched for. First letters are indexed too, because what begins
-- with a letter is nearly everything. What is erased is erased from here at once.
CREATE VIRTUAL TABLE search USING fts5(
    person, text, content = 'messages', content_rowid = 'id', detail = column, prefix = '1',
    tokenize = '",
    tokenizer!(),
    "'
);
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);

-- Up to which row messages are in it: one row.
CREATE TABLE search_progress (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    up_to INTEGER NOT NULL
) STRICT;
INSERT INTO search_progress VALUES (1, 0);

-- The number of the last row is given out again when that row is erased.
CREATE TRIGGER search_erased AFTER DELETE ON messages
WHEN old.id <= (SELECT up_to FROM search_progress) BEGIN
    INSERT INTO search (search, rowid, person, text)
    VALUES ('delete', old.id, old.person, old.text);
    UPDATE search_progress SET up_to = min(up_to, (SELECT coalesce(max(id), 0) FROM messages));
END;
CREATE TRIGGER search_changed AFTER UPDATE OF person, text ON messages
WHEN old.id <= (SELECT up_to FROM search_progress) BEGIN
    INSERT INTO search (search, rowid, person, text)
    VALUES ('delete', old.id, old.person, old.text);
    INSERT INTO search (rowid, person, text) VALUES (new.id, new.person, new.text);
END;
"
);

/// What takes the tables of any version to the latest one.
pub(super) const fn migrations() -> &'static [&'static str] {
    MIGRATIONS
}

/// The version that this program writes.
pub(super) fn latest() -> u32 {
    count(MIGRATIONS)
}

/// The version of the tables; 0 for a database without any.
pub(super) fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Takes the tables to the latest version, each step whole or not at all.
pub(super) fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    run(db, MIGRATIONS)
}

/// Runs those migrations that have not been run yet.
pub(super) fn run(db: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let done = version(db)?;
    for (version, migration) in (1..=count(migrations)).zip(migrations) {
        if version > done {
            let step = Transaction::new(db, TransactionBehavior::Immediate)?;
            step.execute_batch(migration)?;
            step.pragma_update(None, "user_version", version)?;
            step.commit()?;
        }
    }
    Ok(())
}

/// The version to which these migrations lead.
pub(super) fn count(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);";
    const TWO: &str = "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = x + 1;";

    fn y(db: &Connection) -> i64 {
        db.query_one("SELECT y FROM a", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn migrations_run_in_order_and_once() {
        let mut db = Connection::open_in_memory().unwrap();
        run(&mut db, &[ONE]).unwrap();
        run(&mut db, &[ONE, TWO]).unwrap();
        run(&mut db, &[ONE, TWO]).unwrap();
        assert_eq!((version(&db).unwrap(), y(&db)), (2, 2));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let mut db = Connection::open_in_memory().unwrap();
        assert!(run(&mut db, &[ONE, TWO, "CREATE TABLE b (x) STRICT; nonsense"]).is_err());
        assert_eq!((version(&db).unwrap(), y(&db)), (2, 2));
        assert!(db.execute("INSERT INTO b VALUES (1)", []).is_err());
    }

    #[test]
    fn contacts_of_the_first_version_have_no_unsigned_devices() {
        let mut db = Connection::open_in_memory().unwrap();
        run(&mut db, &[VERSION_1]).unwrap();
        let bob = "INSERT INTO people VALUES (1, 'bob'); \
                   INSERT INTO contacts VALUES (1, 3, 1, NULL, NULL, NULL, 1, 0)";
        db.execute_batch(bob).unwrap();
        migrate(&mut db).unwrap();
        let sql = "SELECT unsigned, refused FROM contacts";
        let found = db.query_one(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(found, Ok(("[]".to_owned(), None::<String>)));
    }

    #[test]
    fn messages_of_the_fourth_version_stand_in_the_order_of_their_rows() {
        let mut db = Connection::open_in_memory().unwrap();
        run(&mut db, &[VERSION_1, VERSION_2, VERSION_3, VERSION_4]).unwrap();
        let told = "INSERT INTO people VALUES (1, 'bob'); INSERT INTO writers VALUES (1, x'00'); \
                    INSERT INTO incarnations VALUES (1, x'01', 1); \
                    INSERT INTO messages VALUES (7, 1, 0, 1, 1, 'one', 1, 1, 4, 1), \
                    (9, 1, 0, 1, 2, 'two', 1, 1, 4, 1); INSERT INTO session_ids VALUES (1, x'02'); \
                    INSERT INTO opened VALUES (1, x'03', 0, x'04', 9)";
        db.execute_batch(told).unwrap();
        migrate(&mut db).unwrap();
        let sql = "SELECT m.place >> 20, o.tag FROM messages m \
                   LEFT JOIN opened o ON o.message = m.id WHERE m.person = 1 ORDER BY m.place";
        let mut query = db.prepare(sql).unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(i64, Option<Vec<u8>>)> = rows.collect::<rusqlite::Result<_>>().unwrap();
        assert_eq!(rows, [(7, None), (9, Some(vec![4]))]);
    }

    #[test]
    fn the_tables_of_the_latest_version_can_be_made() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        assert_eq!(version(&db).unwrap(), latest());
    }
}
