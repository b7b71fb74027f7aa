//! The audit trail's rows, and the note of the newest one beside them.

use parlor_common::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row as TableRow, params};

use super::{QueryError, Tables, loaded, stored};
use crate::audit::{AuditEvent, Entry, Head, MAX_TEXT, Page, Reason, Row};
use crate::store::interface::Audit;

/// The note of the newest row.
const HEAD: &str = "audit_head";

const COLUMNS: &str = "seq, at, event, account, source, reason, hash";

impl Audit for Tables<'_> {
    fn insert_audit(&self, entry: &Entry) -> Result<Row, QueryError> {
        append(self.0, entry)
    }

    fn audit_after(&self, seq: u64, limit: u32) -> Result<Page, QueryError> {
        // From the very start also what stands where the server writes nothing.
        let seq = if seq == 0 { i64::MIN } else { stored(seq) };
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2");
        Ok(Page { rows: rows(self.0, &sql, &[seq, limit.into()])?, head: head(self.0)? })
    }

    fn newest_audit(&self, limit: u32) -> Result<Page, QueryError> {
        let sql = format!("SELECT {COLUMNS} FROM audit ORDER BY seq DESC LIMIT ?1");
        let mut rows = rows(self.0, &sql, &[limit.into()])?;
        rows.reverse();
        Ok(Page { rows, head: head(self.0)? })
    }

    fn cut_audit(&self, before: Timestamp, at: Timestamp) -> Result<u64, QueryError> {
        cut(self.0, before, at)
    }
}

fn append(db: &Connection, entry: &Entry) -> Result<Row, QueryError> {
    let row = Row::following(&predecessor(db)?, entry);
    let mut statement = db.prepare_cached(
        "INSERT INTO audit (seq, at, event, account, source, reason, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (seq, at) = (stored(row.seq), stored(row.at.as_millis()));
    let Row { event, account, source, reason, hash, .. } = &row;
    statement.execute(params![seq, at, event, account, source, reason, hash])?;
    let mut statement = db.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?;
    statement.execute([HEAD, &format!("{}:{}", row.seq, row.hash)])?;
    Ok(row)
}

/// What the next row follows: what was written last, whether it is still there or not. So a trail
/// that was tampered with goes on, and what was done to it stays to be seen.
fn predecessor(db: &Connection) -> Result<Head, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT (SELECT value FROM meta WHERE name = ?1), (SELECT max(seq) FROM audit)",
    )?;
    let row = |row: &TableRow<'_>| Ok((row.get(0)?, row.get(1)?));
    let (note, last): (Option<String>, Option<i64>) = statement.query_row([HEAD], row)?;
    let noted: Head = note.and_then(|note| note.parse().ok()).unwrap_or_default();
    Ok(Head { seq: noted.seq.max(last.map_or(0, loaded)), ..noted })
}

fn head(db: &Connection) -> Result<Option<Head>, QueryError> {
    let mut statement = db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let note: Option<String> = statement.query_row([HEAD], |row| row.get(0)).optional()?;
    Ok(note.and_then(|note| note.parse().ok()))
}

fn rows(db: &Connection, sql: &str, numbers: &[i64]) -> Result<Vec<Row>, QueryError> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(rusqlite::params_from_iter(numbers), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Reads whatever is there: that it is what was written, its hash says.
fn read(row: &TableRow<'_>) -> rusqlite::Result<Row> {
    let number =
        |index| row.get(index).map(|number: i64| u64::try_from(number).unwrap_or(u64::MAX));
    let text = |index| -> rusqlite::Result<Option<String>> {
        let ValueRef::Text(text) = row.get_ref(index)? else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(text).chars().take(MAX_TEXT).collect()))
    };
    Ok(Row {
        seq: number(0)?,
        at: Timestamp::from_millis(number(1)?),
        event: text(2)?.unwrap_or_default(),
        account: text(3)?,
        source: text(4)?,
        reason: text(5)?,
        hash: text(6)?.unwrap_or_default(),
    })
}

/// Cuts off the longest stretch of rows from the start that are all older than `before`. Where a
/// clock was wrong for a while, too much stays rather than too little.
fn cut(db: &Connection, before: Timestamp, at: Timestamp) -> Result<u64, QueryError> {
    let Some(newest) = newest_of_old(db, before)? else { return Ok(0) };
    let anchor = newest.head().ok_or(QueryError::Corrupt("audit row"))?;
    if newest == Row::anchor(&anchor) {
        return Ok(0);
    }
    append(db, &Entry::new(AuditEvent::AuditCut, at).because(Reason::Cut(anchor)))?;
    let seq = stored(anchor.seq);
    let mut delete = db.prepare_cached("DELETE FROM audit WHERE seq < ?1")?;
    let gone = delete.execute([seq])?;
    let Row { at, event, .. } = Row::anchor(&anchor);
    let mut update = db.prepare_cached(
        "UPDATE audit SET at = ?2, event = ?3, account = NULL, source = NULL, reason = NULL
         WHERE seq = ?1",
    )?;
    update.execute(params![seq, stored(at.as_millis()), event])?;
    Ok(u64::try_from(gone).unwrap_or(u64::MAX).saturating_add(1))
}

/// The last row before the first that is to stay.
fn newest_of_old(db: &Connection, before: Timestamp) -> Result<Option<Row>, QueryError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM audit WHERE seq < coalesce(
             (SELECT seq FROM audit WHERE at >= ?1 ORDER BY seq LIMIT 1), 9223372036854775807)
         ORDER BY seq DESC LIMIT 1"
    );
    Ok(rows(db, &sql, &[stored(before.as_millis())])?.pop())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::{Broken, Chain, Verified};
    use crate::server::{Answer, Query, QueryId, Tidying};
    use crate::store::Store;
    use crate::store::sqlite::tests::{account, ask};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn entry(millis: u64) -> Entry {
        Entry::new(AuditEvent::LoginFailed, at(millis)).of("alice".parse().unwrap())
    }

    fn append_at(store: &mut Store, millis: u64) -> u64 {
        let answer = ask(store, Query::Record(Box::new(entry(millis))));
        let Answer::Recorded(seq) = answer else { panic!("{answer:?}") };
        seq
    }

    fn page(store: &mut Store, query: Query) -> Page {
        let answer = ask(store, query);
        let Answer::Audit(page) = answer else { panic!("{answer:?}") };
        page
    }

    fn cut_before(store: &mut Store, before: u64) -> u64 {
        let (audit_before, envelopes_before) = (Some(at(before)), at(0));
        let tidying = Tidying { at: at(1_000), audit_before, envelopes_before };
        let answer = ask(store, Query::Tidy(Box::new(tidying)));
        let Answer::Tidied(tidied) = answer else { panic!("{answer:?}") };
        tidied.audit_rows
    }

    fn verify(store: &mut Store) -> Result<Verified, Broken> {
        let mut chain = Chain::new(None);
        loop {
            let page = page(store, Query::AuditAfter { seq: chain.last_seq(), limit: 3 });
            if page.rows.is_empty() {
                return chain.finish(page.head);
            }
            for row in &page.rows {
                chain.feed(row)?;
            }
        }
    }

    fn tamper(store: &Store, sql: &str) {
        store.database.connection.execute_batch(sql).unwrap();
    }

    fn filled(rows: u64) -> Store {
        let mut store = Store::in_memory().unwrap();
        for millis in 1..=rows {
            assert_eq!(append_at(&mut store, millis), millis);
        }
        store
    }

    #[test]
    fn rows_are_read_in_pages_and_from_the_end() {
        let mut store = filled(5);
        let seqs = |page: &Page| page.rows.iter().map(|row| row.seq).collect::<Vec<_>>();
        let newest = page(&mut store, Query::AuditNewest { limit: 2 });
        assert_eq!(seqs(&newest), [4, 5]);
        let later = page(&mut store, Query::AuditAfter { seq: 1, limit: 2 });
        assert_eq!(seqs(&later), [2, 3]);
        assert_eq!(later.head, newest.rows[1].head());
        assert_eq!(verify(&mut store).unwrap().rows, 5);
    }

    #[test]
    fn whatever_is_done_to_the_table_is_noticed() {
        let broken = |sql: &str| {
            let mut store = filled(5);
            tamper(&store, sql);
            let found = verify(&mut store).unwrap_err();
            // And it stays to be seen when the trail goes on.
            append_at(&mut store, 6);
            assert!(verify(&mut store).is_err(), "{sql}");
            found
        };
        let edited = |seq| Broken::Edited { seq };
        assert_eq!(broken("UPDATE audit SET account = 'bob' WHERE seq = 3"), edited(3));
        assert_eq!(broken("UPDATE audit SET account = NULL WHERE seq = 3"), edited(3));
        assert_eq!(
            broken("UPDATE audit SET account = CAST(x'ff' AS TEXT) WHERE seq = 3"),
            edited(3)
        );
        assert_eq!(broken("UPDATE audit SET at = -1 WHERE seq = 3"), edited(3));
        assert_eq!(broken("UPDATE audit SET hash = upper(hash) WHERE seq = 3"), edited(3));
        assert_eq!(broken("DELETE FROM audit WHERE seq = 3"), Broken::Missing { seq: 3 });
        assert_eq!(broken("DELETE FROM audit WHERE seq < 3"), Broken::BadStart { seq: 3 });
        let ends = |last, written| Broken::BadEnd { last, written };
        assert_eq!(broken("DELETE FROM audit WHERE seq > 3"), ends(3, 5));
        assert_eq!(broken("DELETE FROM audit"), ends(0, 5));
        assert_eq!(broken("DELETE FROM meta WHERE name = 'audit_head'"), Broken::NoHead);
        let swap =
            "UPDATE audit SET seq = 99 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;
                    UPDATE audit SET seq = 3 WHERE seq = 99";
        assert_eq!(broken(swap), edited(2));
        let insert = "INSERT INTO audit SELECT 6, at, event, account, source, reason, hash
                      FROM audit WHERE seq = 5";
        assert_eq!(broken(insert), edited(6));
        let before = insert.replace("SELECT 6", "SELECT -1");
        assert_eq!(broken(&before), Broken::BadStart { seq: u64::MAX });
    }

    #[test]
    fn old_rows_are_cut_at_an_anchor_and_what_is_left_is_sound() {
        let mut store = filled(5);
        assert_eq!(cut_before(&mut store, 1), 0);
        assert_eq!(cut_before(&mut store, 4), 3);
        let rows = page(&mut store, Query::AuditAfter { seq: 0, limit: 10 }).rows;
        let events: Vec<_> = rows.iter().map(|row| (row.seq, row.event.as_str())).collect();
        let login = "login_failed";
        assert_eq!(events, [(3, "anchor"), (4, login), (5, login), (6, "audit_cut")]);
        assert_eq!(rows[0].account, None);
        assert_eq!(verify(&mut store).unwrap().rows, 3);
        // Nothing is old any more: no row is spent on saying so.
        assert_eq!(cut_before(&mut store, 4), 0);
        assert_eq!(cut_before(&mut store, 2_000), 4);
        assert_eq!(verify(&mut store).unwrap().rows, 1);
        append_at(&mut store, 3_000);
        assert_eq!(verify(&mut store).unwrap().rows, 2);
    }

    #[test]
    fn a_cut_that_the_server_did_not_make_is_noticed() {
        let mut store = filled(5);
        cut_before(&mut store, 3);
        tamper(&store, "DELETE FROM audit WHERE seq = 2");
        tamper(&store, "UPDATE audit SET at = 0, event = 'anchor', account = NULL WHERE seq = 3");
        assert_eq!(verify(&mut store), Err(Broken::BadStart { seq: 4 }));
    }

    #[test]
    fn rows_that_a_wrong_clock_wrote_make_a_cut_shorter_and_never_longer() {
        let mut store = filled(3);
        append_at(&mut store, 9_000_000);
        append_at(&mut store, 5);
        append_at(&mut store, 0);
        assert_eq!(cut_before(&mut store, 100), 3);
        assert_eq!(verify(&mut store).unwrap().rows, 4);
    }

    #[test]
    fn several_nodes_write_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(Store::open(&path).unwrap());
        let write = |path: &Path, node: u64| {
            let mut store = Store::open(path).unwrap();
            for round in 0..10 {
                let two = [node, round].map(|n| Query::Record(Box::new(entry(n))));
                let queries = two.into_iter().map(|query| (QueryId(1), query)).collect();
                for (_, answer) in store.answer(queries) {
                    assert!(matches!(answer, Answer::Recorded(_)), "{answer:?}");
                }
                if round == 5 {
                    cut_before(&mut store, 4);
                }
            }
        };
        std::thread::scope(|scope| {
            for node in 0..4 {
                let path = &path;
                scope.spawn(move || write(path, node));
            }
        });
        let mut store = Store::open(&path).unwrap();
        assert!(verify(&mut store).unwrap().head.seq >= 80);
    }

    #[test]
    fn on_a_full_disk_neither_the_row_nor_the_change_is_there_and_it_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("db")).unwrap();
        append_at(&mut store, 1);
        let pragma = |store: &Store, pages: u32| {
            store.database.connection.pragma_update(None, "max_page_count", pages).unwrap();
        };
        let count = |store: &Store, sql: &str| -> u32 {
            store.database.connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let pages = count(&store, "PRAGMA page_count");
        pragma(&store, pages);
        let mut full = 0;
        for device in 0..60 {
            let answer = ask(&mut store, account(&format!("user{device}"), device));
            full += u32::from(matches!(answer, Answer::Unavailable));
            let accounts = count(&store, "SELECT count(*) FROM accounts");
            assert_eq!(accounts + 1, count(&store, "SELECT count(*) FROM audit"));
            assert_eq!(accounts + full, u32::from(device) + 1);
        }
        assert!(full > 0);
        verify(&mut store).unwrap();
        pragma(&store, pages * 100);
        append_at(&mut store, 3);
        verify(&mut store).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_order_of_rows_and_cuts_is_sound(times in prop::collection::vec(0..50_u64, 1..30)) {
            let mut store = Store::in_memory().unwrap();
            for millis in times {
                if millis % 5 == 0 {
                    cut_before(&mut store, millis);
                } else {
                    append_at(&mut store, millis);
                }
                prop_assert!(verify(&mut store).is_ok());
            }
        }
    }
}
