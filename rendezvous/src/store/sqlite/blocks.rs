//! Who wants to hear nothing of whom.

use parlor_common::id::Username;
use rusqlite::{Connection, params};

use super::accounts::{AccountId, find};
use super::contacts::{drop_open_request, mutual_versions};
use super::{QueryError, Tables, held};
use crate::server::Blocking;
use crate::store::interface::Blocks;

impl Blocks for Tables<'_> {
    fn block(&self, owner: &Username, other: &Username) -> Result<Blocking, QueryError> {
        let sql = "INSERT OR IGNORE INTO blocks (owner, blocked) VALUES (?1, ?2)";
        change(self.0, sql, owner, other, held::drop_from)
    }

    fn unblock(&self, owner: &Username, other: &Username) -> Result<Blocking, QueryError> {
        let sql = "DELETE FROM blocks WHERE owner = ?1 AND blocked = ?2";
        // A request that was made meanwhile was never held: it can be made again.
        let drop_request = |db: &Connection, own, theirs| drop_open_request(db, theirs, own);
        change(self.0, sql, owner, other, drop_request)
    }
}

fn change(
    db: &Connection,
    sql: &str,
    owner: &Username,
    other: &Username,
    and: impl Fn(&Connection, AccountId, AccountId) -> Result<(), QueryError>,
) -> Result<Blocking, QueryError> {
    let (Some(own), Some(theirs)) = (find(db, owner)?, find(db, other)?) else {
        return Ok(Blocking::UnknownUser);
    };
    if db.prepare_cached(sql)?.execute(params![own.id.0, theirs.id.0])? > 0 {
        and(db, own.id, theirs.id)?;
    }
    let versions = mutual_versions(db, own, theirs)?;
    Ok(versions.map_or(Blocking::Strangers, Blocking::Contacts))
}

/// Whether `owner` has blocked `other`.
pub(super) fn has(db: &Connection, owner: AccountId, other: AccountId) -> Result<bool, QueryError> {
    let mut statement = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM blocks WHERE owner = ?1 AND blocked = ?2)")?;
    Ok(statement.query_row([owner.0, other.0], |row| row.get(0))?)
}
