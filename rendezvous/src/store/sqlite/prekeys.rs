//! Prekeys of devices, kept to be handed out. A one-time pair leaves once: it is gone from here in
//! the transaction in which it leaves, and its id is remembered for as long as anybody would take
//! the pair.

use parlor_common::identity::{DeviceKey, Signature};
use parlor_common::prekey::{
    DhPublicBytes, KemPublicBytes, MAX_PREKEY_AGE, PrekeyBundle, PrekeyPair,
};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{PrekeysHeld, PrekeysKept};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::accounts::{AccountId, device_keys, find, owner};
use super::day::{DAY, Day, charge_account};
use super::{QueryError, Tables, loaded, stored};
use crate::server::{BundlesAsked, PrekeysPut, Taking};
use crate::store::interface::Prekeys;

impl Prekeys for Tables<'_> {
    fn put_prekeys(&self, what: &PrekeysPut) -> Result<Option<PrekeysKept>, QueryError> {
        put(self.0, what)
    }

    fn count_prekeys(
        &self,
        device: &DeviceKey,
        at: Timestamp,
    ) -> Result<Option<PrekeysHeld>, QueryError> {
        count(self.0, device, at)
    }

    fn take_bundles(&self, wish: &BundlesAsked) -> Result<Taking, QueryError> {
        take(self.0, wish)
    }
}

pub(super) fn put(db: &Connection, put: &PrekeysPut) -> Result<Option<PrekeysKept>, QueryError> {
    if owner(db, &put.device)?.is_none() {
        return Ok(None);
    }
    forget_old(db, &put.device, put.at)?;
    if put.replace {
        let sql = "DELETE FROM one_time_prekeys WHERE device = ?1";
        db.prepare_cached(sql)?.execute([put.device.as_bytes()])?;
    }
    if let Some(pair) = &put.signed {
        put_signed(db, &put.device, pair)?;
    }
    for pair in &put.one_time {
        put_one_time(db, &put.device, pair)?;
    }
    trim(db, &put.device, put.max_one_time)?;
    let one_time = count_one_time(db, &put.device, put.at)?;
    Ok(Some(PrekeysKept { one_time }))
}

fn put_signed(db: &Connection, device: &DeviceKey, pair: &PrekeyPair) -> Result<(), QueryError> {
    let sql = "INSERT OR REPLACE INTO signed_prekeys
                   (device, id, made_at, dh, dh_signature, kem, kem_signature)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    insert(db, sql, device, pair)
}

/// A pair whose id is kept, or has left already, is not taken.
fn put_one_time(db: &Connection, device: &DeviceKey, pair: &PrekeyPair) -> Result<(), QueryError> {
    let sql = "INSERT INTO one_time_prekeys
                   (device, id, made_at, dh, dh_signature, kem, kem_signature)
               SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
               WHERE NOT EXISTS (SELECT 1 FROM taken_prekeys WHERE device = ?1 AND id = ?2)
               ON CONFLICT (device, id) DO NOTHING";
    insert(db, sql, device, pair)
}

fn insert(
    db: &Connection,
    sql: &str,
    device: &DeviceKey,
    pair: &PrekeyPair,
) -> Result<(), QueryError> {
    db.prepare_cached(sql)?.execute(params![
        device.as_bytes(),
        pair.id,
        stored(pair.made_at.as_millis()),
        pair.dh.as_ref(),
        pair.dh_signature.0,
        pair.kem.as_ref(),
        pair.kem_signature.0,
    ])?;
    Ok(())
}

/// Forgets what would be refused as too old: pairs that wait, and ids of pairs that have left.
fn forget_old(db: &Connection, device: &DeviceKey, at: Timestamp) -> Result<(), QueryError> {
    for sql in [
        "DELETE FROM one_time_prekeys WHERE device = ?1 AND made_at < ?2",
        "DELETE FROM taken_prekeys WHERE device = ?1 AND made_at < ?2",
    ] {
        db.prepare_cached(sql)?.execute(params![device.as_bytes(), oldest(at)])?;
    }
    Ok(())
}

/// When the oldest pair that is not too old at `at` was made, as the tables have it.
fn oldest(at: Timestamp) -> i64 {
    stored((at - MAX_PREKEY_AGE).as_millis())
}

/// Keeps the newest `kept` one-time pairs of a device. So a device that lost its secrets gets rid
/// of the pairs that it can no longer answer to, by putting others.
fn trim(db: &Connection, device: &DeviceKey, kept: u32) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "DELETE FROM one_time_prekeys WHERE number IN (
             SELECT number FROM one_time_prekeys WHERE device = ?1
             ORDER BY made_at DESC, number DESC LIMIT -1 OFFSET ?2)",
    )?;
    statement.execute(params![device.as_bytes(), kept])?;
    Ok(())
}

pub(super) fn count(
    db: &Connection,
    device: &DeviceKey,
    at: Timestamp,
) -> Result<Option<PrekeysHeld>, QueryError> {
    if owner(db, device)?.is_none() {
        return Ok(None);
    }
    let one_time = count_one_time(db, device, at)?;
    let signed = signed(db, device, at)?.map(|pair| pair.id);
    Ok(Some(PrekeysHeld { one_time, signed }))
}

fn count_one_time(db: &Connection, device: &DeviceKey, at: Timestamp) -> Result<u32, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT count(*) FROM one_time_prekeys WHERE device = ?1 AND made_at >= ?2",
    )?;
    Ok(statement.query_row(params![device.as_bytes(), oldest(at)], |row| row.get(0))?)
}

pub(super) fn take(db: &Connection, wish: &BundlesAsked) -> Result<Taking, QueryError> {
    let BundlesAsked { asker, of, at, limits } = wish;
    let Some(account) = owner(db, asker)? else { return Ok(Taking::NoAccount) };
    if let Some(until) = charge_request(db, account, *at, limits.requests_per_day)? {
        return Ok(Taking::TooMany { until });
    }
    let Some(of) = find(db, of)? else { return Ok(Taking::UnknownUser) };
    forget_handouts(db, *at)?;
    let mut bundles = Vec::new();
    for device in device_keys(db, of.id)?.into_iter().filter(|device| device != asker) {
        let Some(signed) = signed(db, &device, *at)? else { continue };
        let one_time = take_one_time(db, account, &device, *at, limits.one_time_per_day)?;
        bundles.push(PrekeyBundle { device, signed, one_time });
    }
    Ok(Taking::Taken(bundles))
}

/// The signed pair of a device, if it is not too old.
fn signed(
    db: &Connection,
    device: &DeviceKey,
    at: Timestamp,
) -> Result<Option<PrekeyPair>, QueryError> {
    let sql = "SELECT id, made_at, dh, dh_signature, kem, kem_signature
               FROM signed_prekeys WHERE device = ?1 AND made_at >= ?2";
    one(db, sql, params![device.as_bytes(), oldest(at)])
}

/// Takes a one-time pair of a device out, if there is one and `account` has not had so many today.
fn take_one_time(
    db: &Connection,
    account: AccountId,
    device: &DeviceKey,
    at: Timestamp,
    limit: u32,
) -> Result<Option<PrekeyPair>, QueryError> {
    forget_old(db, device, at)?;
    let sql = "SELECT id, made_at, dh, dh_signature, kem, kem_signature
               FROM one_time_prekeys WHERE device = ?1
               ORDER BY made_at DESC, number DESC LIMIT 1";
    let Some(pair) = one(db, sql, params![device.as_bytes()])? else { return Ok(None) };
    if !charge_handout(db, account, device, at, limit)? {
        return Ok(None);
    }
    let mut delete =
        db.prepare_cached("DELETE FROM one_time_prekeys WHERE device = ?1 AND id = ?2")?;
    delete.execute(params![device.as_bytes(), pair.id])?;
    let mut remember =
        db.prepare_cached("INSERT INTO taken_prekeys (device, id, made_at) VALUES (?1, ?2, ?3)")?;
    let made_at = stored(pair.made_at.as_millis());
    remember.execute(params![device.as_bytes(), pair.id, made_at])?;
    Ok(Some(pair))
}

fn one(db: &Connection, sql: &str, params: impl Params) -> Result<Option<PrekeyPair>, QueryError> {
    Ok(db.prepare_cached(sql)?.query_row(params, load).optional()?)
}

fn load(row: &Row<'_>) -> rusqlite::Result<PrekeyPair> {
    Ok(PrekeyPair {
        id: row.get(0)?,
        made_at: Timestamp::from_millis(loaded(row.get(1)?)),
        dh: DhPublicBytes(Box::new(row.get(2)?)),
        dh_signature: Signature(row.get(3)?),
        kem: KemPublicBytes(Box::new(row.get(4)?)),
        kem_signature: Signature(row.get(5)?),
    })
}

/// Counts a wish for bundles; or says until when there may be none.
fn charge_request(
    db: &Connection,
    account: AccountId,
    at: Timestamp,
    limit: u32,
) -> Result<Option<Timestamp>, QueryError> {
    let select = "SELECT bundles_since, bundles FROM accounts WHERE id = ?1";
    let update = "UPDATE accounts SET bundles_since = ?2, bundles = ?3 WHERE id = ?1";
    charge_account(db, account, (select, update), at, limit)
}

/// Counts a one-time pair of `device` that leaves for `account`; returns whether it may.
fn charge_handout(
    db: &Connection,
    account: AccountId,
    device: &DeviceKey,
    at: Timestamp,
    limit: u32,
) -> Result<bool, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT since, count FROM handouts WHERE asker = ?1 AND device = ?2")?;
    let found = statement.query_row(params![account.0, device.as_bytes()], Day::load).optional()?;
    let Ok(day) = found.unwrap_or_default().charge(at, limit) else { return Ok(false) };
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO handouts (asker, device, since, count) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let since = stored(day.since.as_millis());
    statement.execute(params![account.0, device.as_bytes(), since, stored(day.count)])?;
    Ok(true)
}

/// Forgets hand-outs of a day that is over, anybody's: what is left is bounded by how often
/// accounts may ask in a day.
fn forget_handouts(db: &Connection, at: Timestamp) -> Result<(), QueryError> {
    let mut statement =
        db.prepare_cached("DELETE FROM handouts WHERE since <= ?1 OR since >= ?2")?;
    let (past, future) = (at - DAY, at + DAY);
    statement.execute([stored(past.as_millis()), stored(future.as_millis())])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use parlor_common::prekey::PrekeyUse;

    use super::super::tests::{account, ask};
    use super::*;
    use crate::limits::Limits;
    use crate::server::testing::{name, prekey, secret};
    use crate::server::{Answer, Query};
    use crate::store::Store;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn put(store: &mut Store, device: u8, ids: std::ops::RangeInclusive<u32>, at: Timestamp) {
        let query = Query::PutPrekeys(Box::new(PrekeysPut {
            device: secret(device).public(),
            signed: Some(prekey(device, PrekeyUse::Signed, 1, at)),
            one_time: ids.map(|id| prekey(device, PrekeyUse::OneTime, id, at)).collect(),
            replace: false,
            at,
            max_one_time: 100,
        }));
        assert!(matches!(ask(store, query), Answer::PrekeysKept(Some(_))));
    }

    fn wish(device: u8, of: &str, at: Timestamp) -> Query {
        let limits = Limits { one_time_prekeys_per_day: 1000, ..Limits::default() }.of_prekeys();
        let asker = secret(device).public();
        Query::TakeBundles(Box::new(BundlesAsked { asker, of: name(of), at, limits }))
    }

    /// The id of the one-time pair that came with alice's bundle.
    fn taken(answer: Answer) -> Option<u32> {
        let Answer::Bundles(Taking::Taken(bundles)) = answer else { panic!("{answer:?}") };
        bundles[0].one_time.as_ref().map(|pair| pair.id)
    }

    fn rows(store: &Store, table: &str) -> u32 {
        let sql = format!("SELECT count(*) FROM {table}");
        store.database.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    /// Alice (device 1) with one-time pairs of these ids, and bob (device 2).
    fn two(mut store: Store, ids: std::ops::RangeInclusive<u32>) -> Store {
        ask(&mut store, account("alice", 1));
        ask(&mut store, account("bob", 2));
        put(&mut store, 1, ids, NOW);
        store
    }

    #[test]
    fn two_processes_on_one_database_never_give_the_same_pair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = two(Store::open(&path).unwrap(), 1..=16);
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(|| take_some(&path));
            (take_some(&path), other.join().unwrap())
        });
        assert!(one.is_disjoint(&two));
        let left = rows(&store, "one_time_prekeys");
        assert_eq!(one.len() + two.len() + usize::try_from(left).unwrap(), 16);
        assert_eq!(rows(&store, "taken_prekeys"), 16 - left);
        put(&mut store, 1, 1..=16, NOW);
        assert_eq!(rows(&store, "one_time_prekeys"), left);
    }

    fn take_some(path: &Path) -> BTreeSet<u32> {
        let mut store = Store::open(path).unwrap();
        let mut ids = BTreeSet::new();
        for _ in 0..8 {
            // One that meets the other's lock for too long is refused, and takes nothing.
            if let Answer::Bundles(Taking::Taken(bundles)) = ask(&mut store, wish(2, "alice", NOW))
            {
                ids.extend(bundles.into_iter().filter_map(|bundle| bundle.one_time).map(|p| p.id));
            }
        }
        ids
    }

    #[test]
    fn a_wish_that_fails_takes_nothing() {
        let mut store = two(Store::in_memory().unwrap(), 1..=2);
        let scribble = "UPDATE one_time_prekeys SET kem = x'00' WHERE id = 2";
        store.database.connection.execute(scribble, []).unwrap();
        assert!(matches!(ask(&mut store, wish(2, "alice", NOW)), Answer::Unavailable));
        assert_eq!((rows(&store, "one_time_prekeys"), rows(&store, "handouts")), (2, 0));
        store.database.connection.execute("DELETE FROM one_time_prekeys WHERE id = 2", []).unwrap();
        assert_eq!(taken(ask(&mut store, wish(2, "alice", NOW))), Some(1));
    }

    #[test]
    fn what_is_past_is_not_kept() {
        let mut store = two(Store::in_memory().unwrap(), 1..=3);
        assert_eq!(taken(ask(&mut store, wish(2, "alice", NOW))), Some(3));
        ask(&mut store, account("carol", 3));
        let tables = ["one_time_prekeys", "taken_prekeys", "handouts"];
        let kept = |store: &Store| tables.map(|table| rows(store, table));
        assert_eq!(kept(&store), [2, 1, 1]);
        // A day later somebody else asks for somebody else.
        ask(&mut store, wish(3, "bob", NOW + DAY));
        assert_eq!(kept(&store), [2, 1, 0]);
        let late = NOW + MAX_PREKEY_AGE;
        put(&mut store, 1, 9..=9, late);
        assert_eq!(kept(&store), [3, 1, 0]);
        put(&mut store, 1, 9..=9, late + Duration::from_millis(1));
        assert_eq!(kept(&store), [1, 0, 0]);
    }

    #[test]
    fn all_of_it_goes_with_the_account() {
        let mut store = two(Store::in_memory().unwrap(), 1..=3);
        put(&mut store, 2, 1..=3, NOW);
        ask(&mut store, wish(2, "alice", NOW));
        ask(&mut store, wish(1, "bob", NOW));
        let tables = ["signed_prekeys", "one_time_prekeys", "taken_prekeys", "handouts"];
        assert_eq!(tables.map(|table| rows(&store, table)), [2, 4, 2, 2]);
        store.database.connection.execute("DELETE FROM accounts WHERE name = 'alice'", []).unwrap();
        assert_eq!(tables.map(|table| rows(&store, table)), [1, 2, 1, 0]);
    }
}
