//! Envelopes that wait for devices until those have saved them.
//!
//! Who sent one is not kept. What the senders together and each alone have in a mailbox is counted
//! in the table `mailboxes`, by triggers, whatever it is that an envelope goes by.
//!
//! An envelope that waits already is not held a second time: a sender who does not know what became
//! of it posts it again, and takes no room with that.
//!
//! # What is left of an envelope that was erased
//!
//! Its row is overwritten where it stood (`secure_delete`), its older form in the write-ahead log
//! goes when the log is emptied, and copies of it that lie between other rows, because those moved
//! from page to page (`rebuildPage` in `btree.c` clears nothing), go when the table is written
//! anew. Log and table are seen to by [`Database::scrub`](crate::store::Database::scrub); the
//! table only while no more than [`MAX_WRITTEN_ANEW`] waits in it. Where more does, such a copy
//! (some bytes of what was sealed end to end) may lie there until its page is used again.

use std::collections::BTreeSet;
use std::time::Duration;

use parlor_common::Blob;
use parlor_common::id::DeviceId;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    MAX_ENVELOPE_BYTES_AT_ONCE, MAX_ENVELOPES_AT_ONCE, WaitingEnvelope,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};

use super::accounts::{AccountId, device_keys, find};
use super::day::{DAY, Day};
use super::{QueryError, Tables, blocks, contacts, loaded, stored};
use crate::admin::Waiting;
use crate::limits::MailboxLimits;
use crate::server::{EnvelopesPosted, Posting, Share};
use crate::store::interface::Mailboxes;

/// When an envelope was posted is kept to the hour, which is enough to know when it is too old.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The table is written anew while so many bytes wait in it at most: that takes some ten
/// milliseconds, in which nobody else is served.
const MAX_WRITTEN_ANEW: u64 = 2 * 1024 * 1024;

impl Mailboxes for Tables<'_> {
    fn post(&self, posted: &EnvelopesPosted) -> Result<Posting, QueryError> {
        post(self.0, posted)
    }

    fn envelopes(&self, of: &DeviceKey, after: u64) -> Result<Vec<WaitingEnvelope>, QueryError> {
        oldest(self.0, of, after)
    }

    fn forget_envelopes(&self, of: &DeviceKey, ids: &[u64]) -> Result<(), QueryError> {
        let sql = "DELETE FROM envelopes WHERE id = ?1 AND device = ?2";
        let mut statement = self.0.prepare_cached(sql)?;
        for id in ids {
            statement.execute(params![stored(*id), of.as_bytes()])?;
        }
        Ok(())
    }

    fn expire_envelopes(&self, before: Timestamp, at: Timestamp) -> Result<u64, QueryError> {
        expire(self.0, before, at)
    }
}

fn post(db: &Connection, posted: &EnvelopesPosted) -> Result<Posting, QueryError> {
    let (Some(from), Some(to)) = (find(db, &posted.from)?, find(db, &posted.to)?) else {
        return Ok(Posting::NoContact);
    };
    if !contacts::both_hold(db, from.id, to.id)? {
        return Ok(Posting::NoContact);
    }
    if blocks::has(db, from.id, to.id)? {
        return Ok(Posting::Blocked);
    }
    let Some(device) = device_of(db, to.id, &posted.device)? else { return Ok(Posting::NoDevice) };
    let new = not_held(db, &device, posted)?;
    if let Some(full) = fullness(db, to.id, posted, &new)? {
        return Ok(full);
    }
    if let Some(until) = charge(db, from.id, posted)? {
        return Ok(Posting::TooMany { until });
    }
    // Whoever is blocked meets all the same bounds, and notices nothing.
    if blocks::has(db, to.id, from.id)? {
        return Ok(Posting::Dropped);
    }
    insert(db, to.id, &device, posted, &new)?;
    Ok(Posting::Held(device))
}

fn device_of(
    db: &Connection,
    account: AccountId,
    device: &DeviceId,
) -> Result<Option<DeviceKey>, QueryError> {
    Ok(device_keys(db, account)?.into_iter().find(|key| DeviceId::of(key) == *device))
}

/// An envelope that was posted, and its SHA-256.
type New<'a> = (&'a [u8], [u8; 32]);

/// Those that do not wait for the device already.
fn not_held<'a>(
    db: &Connection,
    device: &DeviceKey,
    posted: &'a EnvelopesPosted,
) -> Result<Vec<New<'a>>, QueryError> {
    let sql = "SELECT 1 FROM envelopes WHERE device = ?1 AND digest = ?2";
    let mut held = db.prepare_cached(sql)?;
    let (mut new, mut digests) = (Vec::new(), BTreeSet::new());
    for envelope in &posted.envelopes {
        let digest: [u8; 32] = Sha256::digest(envelope).into();
        if digests.insert(digest) && !held.exists(params![device.as_bytes(), digest])? {
            new.push((envelope.as_slice(), digest));
        }
    }
    Ok(new)
}

/// Why a mailbox takes no more, if it does not.
fn fullness(
    db: &Connection,
    account: AccountId,
    posted: &EnvelopesPosted,
    new: &[New<'_>],
) -> Result<Option<Posting>, QueryError> {
    let limits = &posted.limits;
    let more = sum(new.iter().map(|(envelope, _)| *envelope));
    let takes = |held: Waiting, messages: u32, bytes: u64| {
        held.messages.saturating_add(more.messages) <= u64::from(messages)
            && held.bytes.saturating_add(more.bytes) <= bytes
    };
    if !takes(waiting(db, account)?, limits.messages, limits.bytes) {
        return Ok(Some(Posting::Full));
    }
    let of_sender = share(db, account, &posted.share)?;
    let takes = takes(of_sender, limits.messages_per_sender, limits.bytes_per_sender);
    Ok((!takes).then_some(Posting::ShareFull))
}

/// How many these are, and how much.
fn sum<'a>(envelopes: impl Iterator<Item = &'a [u8]>) -> Waiting {
    envelopes.fold(Waiting::default(), |sum, envelope| Waiting {
        messages: sum.messages + 1,
        bytes: sum.bytes.saturating_add(u64::try_from(envelope.len()).unwrap_or(u64::MAX)),
    })
}

/// What waits for an account, of all senders.
pub(super) fn waiting(db: &Connection, account: AccountId) -> Result<Waiting, QueryError> {
    let sql = "SELECT coalesce(sum(messages), 0), coalesce(sum(bytes), 0)
               FROM mailboxes WHERE account = ?1";
    Ok(db.prepare_cached(sql)?.query_row([account.0], load_waiting)?)
}

fn share(db: &Connection, account: AccountId, share: &Share) -> Result<Waiting, QueryError> {
    let sql = "SELECT messages, bytes FROM mailboxes WHERE account = ?1 AND share = ?2";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_row(params![account.0, share.0], load_waiting).optional()?;
    Ok(found.unwrap_or_default())
}

fn load_waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting { messages: loaded(row.get(0)?), bytes: loaded(row.get(1)?) })
}

/// Counts what a sender posts, held already or not; or says until when it may post nothing more.
fn charge(
    db: &Connection,
    sender: AccountId,
    posted: &EnvelopesPosted,
) -> Result<Option<Timestamp>, QueryError> {
    let MailboxLimits { posts_per_day, bytes_per_day, .. } = posted.limits;
    let (posts, bytes) = posted_today(db, sender)?;
    let more = sum(posted.envelopes.iter().map(Vec::as_slice));
    let posts = posts.charge_by(posted.at, more.messages, posts_per_day.into());
    let bytes = bytes.charge_by(posted.at, more.bytes, bytes_per_day);
    match (posts, bytes) {
        (Ok(posts), Ok(bytes)) => keep_posted_today(db, sender, posts, bytes).map(|()| None),
        (Err(until), _) | (_, Err(until)) => Ok(Some(until)),
    }
}

/// Envelopes and bytes that an account has posted; both days begin at the same time.
fn posted_today(db: &Connection, account: AccountId) -> Result<(Day, Day), QueryError> {
    let sql = "SELECT since, posts, bytes FROM posted WHERE account = ?1";
    let row = |row: &Row<'_>| {
        let since = Timestamp::from_millis(loaded(row.get(0)?));
        let day = |count: i64| Day { since, count: loaded(count) };
        Ok((day(row.get(1)?), day(row.get(2)?)))
    };
    let found = db.prepare_cached(sql)?.query_row([account.0], row).optional()?;
    Ok(found.unwrap_or_default())
}

fn keep_posted_today(
    db: &Connection,
    account: AccountId,
    posts: Day,
    bytes: Day,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO posted (account, since, posts, bytes) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let since = stored(posts.since.as_millis());
    statement.execute(params![account.0, since, stored(posts.count), stored(bytes.count)])?;
    Ok(())
}

fn insert(
    db: &Connection,
    account: AccountId,
    device: &DeviceKey,
    posted: &EnvelopesPosted,
    new: &[New<'_>],
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO envelopes (account, device, share, posted_at, envelope, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let hour = hour(posted.at);
    let (device, share) = (device.as_bytes(), posted.share.0);
    for (envelope, digest) in new {
        statement.execute(params![account.0, device, share, hour, envelope, digest])?;
    }
    Ok(())
}

/// The beginning of the hour, as the table has it.
fn hour(at: Timestamp) -> i64 {
    let millis = u64::try_from(HOUR.as_millis()).unwrap_or(u64::MAX);
    stored(at.as_millis() / millis * millis)
}

fn oldest(db: &Connection, of: &DeviceKey, after: u64) -> Result<Vec<WaitingEnvelope>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT id, envelope FROM envelopes WHERE device = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let limit = i64::try_from(MAX_ENVELOPES_AT_ONCE).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![of.as_bytes(), stored(after), limit])?;
    let (mut envelopes, mut room) = (Vec::new(), MAX_ENVELOPE_BYTES_AT_ONCE);
    while let Some(row) = rows.next()? {
        let (id, envelope): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        match room.checked_sub(envelope.len()) {
            Some(left) => room = left,
            None if envelopes.is_empty() => room = 0,
            None => break,
        }
        envelopes.push(WaitingEnvelope { id: loaded(id), envelope: Blob(envelope) });
    }
    Ok(envelopes)
}

/// Erases every envelope of an account.
pub(super) fn empty(db: &Connection, account: AccountId) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "DELETE FROM envelopes WHERE device IN (SELECT key FROM devices WHERE account = ?1)",
    )?;
    statement.execute([account.0])?;
    Ok(())
}

/// Erases what is too old, and the counts of days that are over. What was posted by a clock that
/// has been set back since is as old as it is now.
fn expire(db: &Connection, before: Timestamp, at: Timestamp) -> Result<u64, QueryError> {
    let tomorrow = stored((at + DAY).as_millis());
    let mut renew =
        db.prepare_cached("UPDATE envelopes SET posted_at = ?1 WHERE posted_at > ?2")?;
    renew.execute([hour(at), tomorrow])?;
    let yesterday = stored((at - DAY).as_millis());
    let mut forget = db.prepare_cached("DELETE FROM posted WHERE since <= ?1 OR since > ?2")?;
    forget.execute([yesterday, tomorrow])?;
    let mut erase = db.prepare_cached("DELETE FROM envelopes WHERE posted_at < ?1")?;
    let erased = erase.execute([stored(before.as_millis())])?;
    Ok(u64::try_from(erased).unwrap_or(u64::MAX))
}

/// Empties the table, which overwrites whole pages, and fills it again from the first row to the
/// last, which moves none; unless too much is in it for that. In between the rows are in memory, as
/// temporary tables are here.
pub(super) fn write_anew(db: &Transaction<'_>) -> rusqlite::Result<()> {
    let sum = "SELECT coalesce(sum(bytes), 0) FROM mailboxes";
    if db.query_row(sum, [], |row| row.get(0).map(loaded))? > MAX_WRITTEN_ANEW {
        return Ok(());
    }
    db.execute_batch(
        "CREATE TEMP TABLE kept AS SELECT * FROM main.envelopes ORDER BY id;
         DELETE FROM main.envelopes;
         INSERT INTO main.envelopes SELECT * FROM temp.kept ORDER BY id;
         DROP TABLE temp.kept;",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use tempfile::TempDir;

    use super::super::tests::{account, ask};
    use super::*;
    use crate::limits::Limits;
    use crate::server::testing::{name, secret};
    use crate::server::{Answer, Query, QueryId};
    use crate::store::Store;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    /// What is searched for in the files: no envelope has it twice, and nothing else has it.
    fn mark(number: u16) -> String {
        format!("<{number:05} of the envelopes>")
    }

    /// Alice (device 1) and bob (device 2), who are contacts.
    fn friends() -> (TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("db")).unwrap();
        ask(&mut store, account("alice", 1));
        ask(&mut store, account("bob", 2));
        let sql = "INSERT INTO contacts (owner, contact) VALUES (1, 2), (2, 1)";
        store.database.connection.execute(sql, []).unwrap();
        (folder, store)
    }

    /// An envelope of so many bytes, with its mark several times, for bob.
    fn posted(number: u16, len: usize, at: Timestamp) -> Query {
        let mut envelope = mark(number).repeat(len.div_ceil(24)).into_bytes();
        envelope.truncate(len);
        Query::PostEnvelopes(Box::new(EnvelopesPosted {
            from: name("alice"),
            to: name("bob"),
            device: DeviceId::of(&secret(2).public()),
            share: Share([1; 32]),
            envelopes: vec![envelope],
            at,
            limits: Limits::default().of_mailboxes(),
        }))
    }

    fn post(store: &mut Store, number: u16, len: usize, at: Timestamp) {
        let answer = ask(store, posted(number, len, at));
        assert!(matches!(answer, Answer::Posted(Posting::Held(_))), "{answer:?}");
    }

    /// The first envelope that is posted has the number 1.
    fn forgotten(number: u16) -> Query {
        Query::ForgetEnvelopes { of: secret(2).public(), ids: vec![number.into()] }
    }

    /// The envelopes of which something is in the files.
    fn found(folder: &Path) -> BTreeSet<u16> {
        let files = ["db", "db-wal"].map(|file| fs::read(folder.join(file)).unwrap()).concat();
        let len = mark(0).len();
        let starts =
            files.windows(len).filter(|window| window[0] == b'<' && window[len - 1] == b'>');
        let numbers = starts.filter_map(|window| {
            let text = std::str::from_utf8(window).ok()?;
            text.strip_prefix('<')?.strip_suffix(" of the envelopes>")?.parse().ok()
        });
        numbers.collect()
    }

    fn empty_log(store: &Store) {
        let empty = "PRAGMA wal_checkpoint(TRUNCATE)";
        let connection = &store.database.connection;
        assert_eq!(connection.query_row(empty, [], |row| row.get(0)), Ok(0));
    }

    /// Posts and erases envelopes in an order of chance, so that rows move from page to page.
    /// Returns the ones that are left.
    fn come_and_go(store: &mut Store, rng: &mut StdRng) -> BTreeSet<u16> {
        let (mut queries, mut waiting) = (Vec::new(), Vec::new());
        for number in 1..=400 {
            queries.push(posted(number, rng.random_range(200..500), NOW));
            waiting.push(number);
            while rng.random_bool(0.45) && !waiting.is_empty() {
                queries.push(forgotten(waiting.swap_remove(rng.random_range(0..waiting.len()))));
            }
        }
        while waiting.len() > 20 {
            queries.push(forgotten(waiting.swap_remove(rng.random_range(0..waiting.len()))));
        }
        let numbered = (1..).map(QueryId).zip(queries).collect();
        assert!(!store.answer(numbered).iter().any(|(_, it)| matches!(it, Answer::Unavailable)));
        waiting.into_iter().collect()
    }

    #[test]
    fn of_what_was_erased_nothing_is_in_the_files_once_they_are_scrubbed() {
        let mut copies = 0;
        for seed in 0..64 {
            let (folder, mut store) = friends();
            let kept = come_and_go(&mut store, &mut StdRng::seed_from_u64(seed));
            empty_log(&store);
            copies += found(folder.path()).difference(&kept).count();
            assert!(matches!(ask(&mut store, Query::Scrub), Answer::Scrubbed));
            assert_eq!(found(folder.path()), kept, "seed {seed}");
            // Their numbers are as they were, and the next one is new.
            ask(&mut store, posted(401, 300, NOW));
            let answer = ask(&mut store, Query::Envelopes { of: secret(2).public(), after: 0 });
            let Answer::Envelopes(envelopes) = answer else { panic!("{answer:?}") };
            let numbers = envelopes.iter().map(|waiting| waiting.id);
            assert!(numbers.eq(kept.iter().chain([&401]).copied().map(u64::from)));
            let waiting = waiting(&store.database.connection, AccountId(2)).unwrap();
            assert_eq!(waiting.messages, 21);
        }
        assert!(copies > 0, "no row has left a copy: this shows nothing");
    }

    #[test]
    fn where_too_much_waits_the_rows_are_overwritten_and_the_log_is_emptied() {
        let (folder, mut store) = friends();
        for number in 0..6 {
            post(&mut store, number, 440 * 1024, NOW);
        }
        ask(&mut store, forgotten(2));
        ask(&mut store, Query::Scrub);
        assert_eq!(found(folder.path()), BTreeSet::from([0, 2, 3, 4, 5]));
        assert_eq!(fs::metadata(folder.path().join("db-wal")).unwrap().len(), 0);
    }

    #[test]
    fn who_reads_is_not_waited_for_and_the_next_time_does_it() {
        let (folder, mut store) = friends();
        post(&mut store, 1, 500, NOW);
        let reader = Connection::open(folder.path().join("db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM envelopes").unwrap();
        let count = |of: &Connection| {
            of.query_row("SELECT count(*) FROM envelopes", [], |row| row.get::<_, u32>(0))
        };
        assert_eq!(count(&reader), Ok(1));
        ask(&mut store, forgotten(1));
        ask(&mut store, Query::Scrub);
        assert_eq!((found(folder.path()), count(&reader)), (BTreeSet::from([1]), Ok(1)));
        reader.execute_batch("COMMIT").unwrap();
        ask(&mut store, Query::Scrub);
        assert_eq!(found(folder.path()), BTreeSet::new());
    }

    #[test]
    fn a_clock_that_was_put_back_neither_keeps_nor_erases() {
        let (_folder, mut store) = friends();
        let years = DAY * 1000;
        post(&mut store, 1, 500, NOW + years);
        post(&mut store, 2, 500, NOW);
        let db = Tables(&store.database.connection);
        assert_eq!(db.expire_envelopes(NOW - DAY, NOW).unwrap(), 0);
        assert_eq!(db.expire_envelopes(NOW + DAY, NOW + DAY * 2).unwrap(), 2);
    }
}
