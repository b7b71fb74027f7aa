//! Contact requests and answers that wait until their recipient has saved them.

use parlor_common::card::Card;
use parlor_common::id::Username;
use parlor_common::wire::rendezvous::{Held, HeldKind, MAX_HELD_AT_ONCE};
use rusqlite::{Connection, Row, params};

use super::accounts::{AccountId, parse_name};
use super::{QueryError, Tables, blocks, loaded, stored};
use crate::store::interface::HeldItems;

impl HeldItems for Tables<'_> {
    fn held(&self, of: &Username) -> Result<Vec<Held>, QueryError> {
        oldest(self.0, of)
    }

    fn forget_held(&self, of: &Username, ids: &[u64]) -> Result<(), QueryError> {
        forget(self.0, of, ids)
    }
}

/// What is held, as the table names it. The card is JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    Request(&'a str),
    Accepted(&'a str),
    Declined,
}

/// Holds an item for `account`, unless it has blocked the sender.
pub(super) fn hold(
    db: &Connection,
    account: AccountId,
    sender: AccountId,
    item: Item<'_>,
) -> Result<(), QueryError> {
    if blocks::has(db, account, sender)? {
        return Ok(());
    }
    let (kind, card) = match item {
        Item::Request(card) => ("request", Some(card)),
        Item::Accepted(card) => ("accepted", Some(card)),
        Item::Declined => ("declined", None),
    };
    let mut statement = db
        .prepare_cached("INSERT INTO held (account, sender, kind, card) VALUES (?1, ?2, ?3, ?4)")?;
    statement.execute(params![account.0, sender.0, kind, card])?;
    Ok(())
}

/// Renews the card of a request that still waits.
pub(super) fn renew_request(
    db: &Connection,
    account: AccountId,
    sender: AccountId,
    card: &str,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "UPDATE held SET card = ?3 WHERE account = ?1 AND sender = ?2 AND kind = 'request'",
    )?;
    statement.execute(params![account.0, sender.0, card])?;
    Ok(())
}

/// Drops whatever of `sender` waits for `account`.
pub(super) fn drop_from(
    db: &Connection,
    account: AccountId,
    sender: AccountId,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached("DELETE FROM held WHERE account = ?1 AND sender = ?2")?;
    statement.execute([account.0, sender.0])?;
    Ok(())
}

/// Drops a request that was answered or taken back before it was fetched.
pub(super) fn drop_request(
    db: &Connection,
    account: AccountId,
    sender: AccountId,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "DELETE FROM held WHERE account = ?1 AND sender = ?2 AND kind = 'request'",
    )?;
    statement.execute([account.0, sender.0])?;
    Ok(())
}

/// How many requests wait for `account`.
pub(super) fn requests(db: &Connection, account: AccountId) -> Result<u32, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT count(*) FROM held WHERE account = ?1 AND kind = 'request'")?;
    Ok(statement.query_row([account.0], |row| row.get(0))?)
}

pub(super) fn oldest(db: &Connection, of: &Username) -> Result<Vec<Held>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT h.id, s.name, h.kind, h.card
         FROM held h JOIN accounts a ON a.id = h.account JOIN accounts s ON s.id = h.sender
         WHERE a.name = ?1 ORDER BY h.id LIMIT ?2",
    )?;
    let limit = i64::try_from(MAX_HELD_AT_ONCE).unwrap_or(i64::MAX);
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let rows = statement.query_map(params![of.as_str(), limit], row)?;
    let mut items = Vec::new();
    for row in rows {
        let (id, sender, kind, card): (i64, String, String, Option<String>) = row?;
        let what = parse_kind(&kind, card.as_deref())?;
        items.push(Held { id: loaded(id), from: parse_name(&sender)?, what });
    }
    Ok(items)
}

fn parse_kind(kind: &str, card: Option<&str>) -> Result<HeldKind, QueryError> {
    match (kind, card) {
        ("request", Some(card)) => Ok(HeldKind::Request { card: parse_card(card)? }),
        ("accepted", Some(card)) => Ok(HeldKind::Accepted { card: parse_card(card)? }),
        ("declined", None) => Ok(HeldKind::Declined {}),
        _ => Err(QueryError::Corrupt("held item")),
    }
}

fn parse_card(json: &str) -> Result<Box<Card>, QueryError> {
    serde_json::from_str(json).map_err(|_| QueryError::Corrupt("card"))
}

pub(super) fn forget(db: &Connection, of: &Username, ids: &[u64]) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "DELETE FROM held
         WHERE id = ?1 AND account = (SELECT id FROM accounts WHERE name = ?2)",
    )?;
    for id in ids {
        statement.execute(params![stored(*id), of.as_str()])?;
    }
    Ok(())
}
