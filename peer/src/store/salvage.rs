//! Reads what is left of a database, row by row: what cannot be read is stepped over.
//!
//! `SQLCipher` authenticates every page, and a connection that met a bad one is of no use any more.
//! So each bad place costs new connections: the rows behind it are tried one by one at first, then
//! in growing steps, and where the bad place ends is found by halving.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use parlor_common::id::{Incarnation, MessageId, Username};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use thiserror::Error;

use super::columns::{Millis, Text};
use super::{OpenError, StoreKey, check_version, connect, schema};
use crate::archive::LOST_NAME;
use crate::node::record::StoredMessage;

/// What was saved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Salvaged {
    /// How many messages could be read.
    pub saved: u64,
    /// How many are there and could not be read; `None` if nothing tells any more.
    pub lost: Option<u64>,
}

/// Why nothing more could be saved.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// The database does not even open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was read could not be put anywhere.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl From<rusqlite::Error> for SalvageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Open(error.into())
    }
}

/// A database of which some pages may be bad.
#[derive(Debug)]
pub struct Salvage<'a> {
    path: &'a Path,
    key: &'a StoreKey,
    people: BTreeMap<i64, Username>,
    incarnations: BTreeMap<i64, Incarnation>,
}

impl<'a> Salvage<'a> {
    /// Opens the database of a profile, if that is possible at all, and reads its names.
    pub fn open(path: &'a Path, key: &'a StoreKey) -> Result<Self, SalvageError> {
        let (people, incarnations) = (BTreeMap::new(), BTreeMap::new());
        let mut salvage = Self { path, key, people, incarnations };
        salvage.people = salvage
            .names("SELECT id, name FROM people", |row| Ok(row.get::<_, Text<Username>>(1)?.0))?;
        salvage.incarnations = salvage
            .names("SELECT id, incarnation FROM incarnations", |row| row.get(1).map(Incarnation))?;
        Ok(salvage)
    }

    /// The name of the account, or [`LOST_NAME`].
    pub fn own_name(&self) -> Result<Username, SalvageError> {
        let name = self.connect()?.query_one("SELECT name FROM identity", [], |row| {
            Ok(row.get::<_, Text<Username>>(0)?.0)
        });
        Ok(name.unwrap_or_else(|_| lost_name(None)))
    }

    /// Gives all messages that can be read, or those of one conversation, in the order in which they
    /// came. What disappears some day is not for keeping elsewhere, and left out.
    pub fn messages(
        &self,
        contact: Option<&Username>,
        mut give: impl FnMut(StoredMessage) -> io::Result<()>,
    ) -> Result<Salvaged, SalvageError> {
        let sql = "SELECT id, person, incarnation, number, direction, text, sent_at, state, \
                   carrier, reason, expires_at FROM messages";
        let (mut seen, mut saved) = (0, 0);
        let read = |row: &Row<'_>| Ok((self.message(row)?, row.get::<_, Option<i64>>(10)?));
        self.each_row(sql, read, |(message, expires_at)| {
            if contact.is_none_or(|contact| *contact == message.contact) {
                seen += 1;
                if expires_at.is_none() && !message.text.is_empty() {
                    saved += 1;
                    give(message)?;
                }
            }
            Ok(())
        })?;
        let lost = self.count(contact)?.map(|all| all.saturating_sub(seen));
        Ok(Salvaged { saved, lost })
    }

    fn message(&self, row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
        let person: i64 = row.get(1)?;
        let known = self.people.get(&person).cloned();
        let incarnation: i64 = row.get(2)?;
        let lost = Incarnation(incarnation.to_be_bytes());
        let incarnation = self.incarnations.get(&incarnation).copied().unwrap_or(lost);
        Ok(StoredMessage {
            row: row.get(0)?,
            id: MessageId::new(incarnation, row.get::<_, i64>(3)?.cast_unsigned()),
            contact: known.unwrap_or_else(|| lost_name(Some(person))),
            direction: row.get(4)?,
            text: row.get(5)?,
            sent_at: row.get::<_, Millis>(6)?.0,
            state: row.get(7)?,
            carrier: row.get(8)?,
            reason: row.get(9)?,
        })
    }

    /// How many messages there are, by an index: it may be whole where the messages are not.
    fn count(&self, contact: Option<&Username>) -> Result<Option<u64>, SalvageError> {
        let sql = "SELECT count(*) FROM messages \
                   WHERE ?1 IS NULL OR person = (SELECT id FROM people WHERE name = ?1)";
        let db = self.connect()?;
        let count = db.query_one(sql, [contact.map(Username::as_str)], |row| row.get::<_, i64>(0));
        Ok(count.ok().and_then(|count| u64::try_from(count).ok()))
    }

    fn names<T>(
        &self,
        sql: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<BTreeMap<i64, T>, SalvageError> {
        let mut names = BTreeMap::new();
        let read = |row: &Row<'_>| Ok((row.get(0)?, read(row)?));
        self.each_row(sql, read, |(id, name)| {
            names.insert(id, name);
            Ok(())
        })?;
        Ok(names)
    }

    /// Gives all rows of a table that can be read; `select` has their number, `id`, first.
    fn each_row<T>(
        &self,
        select: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        mut give: impl FnMut(T) -> io::Result<()>,
    ) -> Result<(), SalvageError> {
        let sql = format!("{select} WHERE id >= ?1 ORDER BY id");
        let mut next = Some(1);
        while let Some(from) = next {
            let reached = self.read_from(&sql, from, &read, &mut give)?;
            next = match reached {
                Reached::End => None,
                Reached::BadBehind(row) => self.after_bad(&sql, row, &read)?,
            };
        }
        Ok(())
    }

    /// Gives rows from one on, until one cannot be read.
    fn read_from<T>(
        &self,
        sql: &str,
        from: i64,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        mut give: impl FnMut(T) -> io::Result<()>,
    ) -> Result<Reached, SalvageError> {
        let db = self.connect()?;
        let mut query = db.prepare(sql)?;
        let mut rows = query.query([from])?;
        let mut last = from.saturating_sub(1);
        loop {
            let found = match rows.next() {
                Ok(None) => return Ok(Reached::End),
                Ok(Some(row)) => row.get(0).and_then(|id| Ok((id, read(row)?))),
                Err(error) => Err(error),
            };
            match found {
                Ok((id, value)) => {
                    last = id;
                    give(value)?;
                }
                Err(error) if is_passing(&error) => return Err(error.into()),
                Err(_) => return Ok(Reached::BadBehind(last)),
            }
        }
    }

    /// The first row behind a bad place, which begins behind `row`; `None` if there is none.
    fn after_bad<T>(
        &self,
        sql: &str,
        row: i64,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<i64>, SalvageError> {
        let (mut bad, mut step) = (row, 1_i64);
        let mut good = loop {
            let tried = row.saturating_add(step);
            if tried == bad {
                return Ok(None);
            }
            if self.is_readable(sql, tried, &read)? {
                break tried;
            }
            bad = tried;
            step = step.saturating_add(1 + step / 8);
        };
        while good - bad > 1 {
            let tried = bad + (good - bad) / 2;
            if self.is_readable(sql, tried, &read)? {
                good = tried;
            } else {
                bad = tried;
            }
        }
        Ok(Some(good))
    }

    /// Whether the first row from one on can be read, or that there is none.
    fn is_readable<T>(
        &self,
        sql: &str,
        from: i64,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<bool, SalvageError> {
        let db = self.connect()?;
        let mut query = db.prepare(sql)?;
        let first = query.query([from])?.next().and_then(|row| row.map(read).transpose());
        match first {
            Ok(_) => Ok(true),
            Err(error) if is_passing(&error) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    fn connect(&self) -> Result<Connection, SalvageError> {
        let db = connect(self.path, self.key, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // Without it a file that was cut off is refused whole. It is opened to be read only.
        db.execute_batch("PRAGMA writable_schema = ON")?;
        check_version(&db, schema::latest())?;
        Ok(db)
    }
}

/// How far a read came.
enum Reached {
    End,
    /// The last row that could be read.
    BadBehind(i64),
}

/// Whether an error says nothing about the file: it may be another one the next time.
fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
        )
    )
}

/// In place of the name of the person of this number, or of the own one.
#[expect(clippy::expect_used, reason = "a word with a number is a name")]
fn lost_name(person: Option<i64>) -> Username {
    let number = person.map(|person| format!("-{person}")).unwrap_or_default();
    format!("{LOST_NAME}{number}").parse().expect("it is a name")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::node::record::{Change, ReceivedMessage};
    use crate::store::Store;
    use crate::store::fixture::{identity, name, queue, queued, receive, received};

    const PAGE: usize = 4096;
    const COUNT: u32 = 400;

    struct Files(TempDir);

    impl Files {
        /// A closed database with messages of bob, and one to carol.
        fn new() -> Self {
            let files = Self(TempDir::new().unwrap());
            let mut store = Store::create(&files.path(), &key(), &identity()).unwrap();
            let text = |number| format!("{number} {}", "x".repeat(200));
            let mut changes: Vec<Change> = (1..=COUNT)
                .map(|number| receive(ReceivedMessage { text: text(number), ..received(number) }))
                .collect();
            let mut to_carol = queued(1);
            to_carol.to = name("carol");
            changes.push(queue(to_carol));
            store.commit(changes).unwrap();
            store.close().unwrap();
            files
        }

        fn path(&self) -> std::path::PathBuf {
            self.0.path().join("profile.db")
        }

        fn pages(&self) -> usize {
            fs::read(self.path()).unwrap().len() / PAGE
        }

        fn break_page(&self, page: usize) {
            let mut bytes = fs::read(self.path()).unwrap();
            bytes[page * PAGE + 2000] ^= 1;
            fs::write(self.path(), bytes).unwrap();
        }

        fn rows(&self, contact: Option<&str>) -> Result<(Vec<i64>, Salvaged), SalvageError> {
            let (path, key) = (self.path(), key());
            let salvage = Salvage::open(&path, &key)?;
            let mut rows = Vec::new();
            let contact = contact.map(name);
            let salvaged = salvage.messages(contact.as_ref(), |message| {
                rows.push(message.row);
                Ok(())
            })?;
            assert_eq!(usize::try_from(salvaged.saved), Ok(rows.len()));
            Ok((rows, salvaged))
        }
    }

    fn key() -> StoreKey {
        StoreKey::new(Zeroizing::new([1; 32]))
    }

    #[test]
    fn of_a_whole_database_everything_is_read() {
        let files = Files::new();
        let (rows, salvaged) = files.rows(None).unwrap();
        assert_eq!(rows, (1..=i64::from(COUNT) + 1).collect::<Vec<_>>());
        assert_eq!(salvaged.lost, Some(0));
        assert_eq!(files.rows(Some("carol")).unwrap().0, [i64::from(COUNT) + 1]);
        assert_eq!(files.rows(Some("nobody")).unwrap().1, Salvaged { saved: 0, lost: Some(0) });
        let path = files.path();
        let own = Salvage::open(&path, &key()).unwrap().own_name().unwrap();
        assert_eq!(own, name("alice"));
    }

    /// Whichever page is bad, no more is lost than what stands on it; or, if others are found by
    /// it, nothing opens and that is said.
    #[test]
    fn one_bad_page_costs_what_stands_on_it() {
        let files = Files::new();
        let whole = fs::read(files.path()).unwrap();
        let mut lossy = 0;
        for page in 0..files.pages() {
            fs::write(files.path(), &whole).unwrap();
            files.break_page(page);
            let Ok((rows, salvaged)) = files.rows(None) else { continue };
            assert!(rows.is_sorted());
            let missing = u64::from(COUNT) + 1 - salvaged.saved;
            assert!(salvaged.lost.is_none_or(|lost| lost == missing), "{page}: {salvaged:?}");
            lossy += u32::from((1..40).contains(&missing));
            assert!(!(40..=300).contains(&missing), "page {page}: {missing} rows are missing");
        }
        assert!(lossy > 15, "there is a page for some twenty messages");
    }

    #[test]
    fn several_bad_pages_are_stepped_over() {
        let files = Files::new();
        let from = files.pages() / 2;
        for page in [from, from + 1, from + 5] {
            files.break_page(page);
        }
        let (rows, salvaged) = files.rows(None).unwrap();
        assert!(rows.len() > 200 && salvaged.saved < u64::from(COUNT) + 1, "{salvaged:?}");
    }

    #[test]
    fn what_holds_no_database_is_said() {
        let files = Files::new();
        for bytes in [&[][..], &[7; 2 * PAGE]] {
            fs::write(files.path(), bytes).unwrap();
            assert!(matches!(files.rows(None), Err(SalvageError::Open(OpenError::Damaged))));
        }
    }

    #[test]
    fn a_database_that_was_cut_off_gives_what_is_on_it() {
        let files = Files::new();
        let bytes = fs::read(files.path()).unwrap();
        fs::write(files.path(), &bytes[..files.pages() * 3 / 4 * PAGE]).unwrap();
        let found = files.rows(None);
        let (rows, salvaged) = found.unwrap();
        assert!(!rows.is_empty() && salvaged.lost != Some(0), "{salvaged:?}");
    }
}
