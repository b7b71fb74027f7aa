//! Which rows are taken and which messages are known, without asking the database for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parlor_common::id::{Incarnation, MessageId};
use parlor_common::identity::AccountKey;
use rusqlite::{Connection, OptionalExtension};

use super::journal::Entry;
use crate::node::record::Change;

/// Of so many incarnations of writers it is remembered which messages are known.
const MAX_INCARNATIONS: usize = 4096;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Known {
    next_row: i64,
    /// The highest number of a message of each writer and incarnation. What is above is new.
    highest: BTreeMap<(AccountKey, Incarnation), u64>,
    /// The rows of messages that were queued here and wait.
    waiting: HashMap<MessageId, i64>,
}

/// Which row a change is about.
enum Row {
    /// None, or it is not known here.
    None,
    /// This one.
    Known(i64),
    /// The database must be asked.
    Ask,
}

impl Known {
    /// Of a database.
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT coalesce(max(id), 0) FROM messages";
        let last: i64 = db.query_one(sql, [], |row| row.get(0))?;
        let next_row = last.saturating_add(1);
        Ok(Self { next_row, highest: BTreeMap::new(), waiting: HashMap::new() })
    }

    /// Gives each new message of these changes a row, and names those of others. `None` where the
    /// database must be asked: for an answer, or because a message may be known.
    pub(super) fn number(&mut self, changes: &[Change]) -> Option<Vec<Option<i64>>> {
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes {
            match self.row(change) {
                Row::None => rows.push(None),
                Row::Known(row) => rows.push(Some(row)),
                Row::Ask => return None,
            }
        }
        Some(rows)
    }

    fn row(&mut self, change: &Change) -> Row {
        match change {
            Change::AdoptRekeying
            | Change::EraseExpired(_)
            | Change::FindLastReceived(..)
            | Change::FindOpened(_)
            | Change::MarkRead(..) => Row::Ask,
            Change::QueueMessage(_) => self.new_row(change).map_or(Row::None, Row::Known),
            Change::Receive(message) => {
                if self.is_surely_new(message.account_key, message.id) {
                    Row::Known(self.take_row())
                } else {
                    Row::Ask
                }
            }
            Change::Posted(id, _) | Change::SealMessage(id, _) => self.row_of(id),
            Change::SetMessageState(id, state, _) if state.waits() => self.row_of(id),
            Change::SetMessageState(id, ..) | Change::Fail(id, _) | Change::TakeBack(id) => {
                self.waiting.remove(id).map_or(Row::None, Row::Known)
            }
            Change::Edit(..)
            | Change::ForgetEphemeral(_)
            | Change::ForgetRekeying
            | Change::MarkPrinted(_)
            | Change::PutContact(_)
            | Change::PutOwnDevices(_)
            | Change::PutPrekey(..)
            | Change::PutRekeying(_)
            | Change::PutSession(_)
            | Change::PutStarts(_)
            | Change::RememberEphemeral(..)
            | Change::RememberOpened(_)
            | Change::RemoveContact(_)
            | Change::RemovePrekey(_)
            | Change::RemoveSession(..)
            | Change::SawPrekey(..)
            | Change::SetOnline(..) => Row::None,
        }
    }

    fn row_of(&self, id: &MessageId) -> Row {
        self.waiting.get(id).copied().map_or(Row::None, Row::Known)
    }

    /// A row for the message that a change may bring, if it is one that does.
    pub(super) fn new_row(&mut self, change: &Change) -> Option<i64> {
        if !matches!(change, Change::QueueMessage(_) | Change::Receive(_)) {
            return None;
        }
        let row = self.take_row();
        if let Change::QueueMessage(message) = change {
            self.waiting.insert(message.id, row);
        }
        Some(row)
    }

    /// The next row.
    fn take_row(&mut self) -> i64 {
        let row = self.next_row;
        self.next_row = row.saturating_add(1);
        row
    }

    /// The row that was given last was not needed.
    pub(super) fn give_back(&mut self, row: i64) {
        self.next_row = row;
    }

    fn is_surely_new(&mut self, writer: AccountKey, id: MessageId) -> bool {
        let Some(highest) = self.highest.get_mut(&(writer, id.incarnation())) else { return false };
        let is_new = id.number() > *highest;
        *highest = id.number().max(*highest);
        is_new
    }

    /// Learns which messages of the incarnations in these changes are in the database, in which
    /// everything must be that was committed.
    pub(super) fn learn(&mut self, db: &Connection, changes: &[Change]) -> rusqlite::Result<()> {
        let received: BTreeSet<_> = changes.iter().filter_map(writer_of).collect();
        for (writer, incarnation) in received {
            if self.highest.len() >= MAX_INCARNATIONS {
                self.highest.clear();
            }
            self.highest.insert((writer, incarnation), highest(db, writer, incarnation)?);
        }
        Ok(())
    }
}

/// The writer and the incarnation of a message that was received.
fn writer_of(change: &Change) -> Option<(AccountKey, Incarnation)> {
    let Change::Receive(message) = change else { return None };
    Some((message.account_key, message.id.incarnation()))
}

/// Pairs changes with their rows.
pub(super) fn entries(changes: Vec<Change>, rows: Vec<Option<i64>>) -> Vec<Entry> {
    changes.into_iter().zip(rows).map(|(change, row)| Entry { change, row }).collect()
}

/// The highest number of a writer's incarnation; 0 if there is no message of it. Numbers from 2^63
/// on stand as negative ones in the database: where there are such nothing counts as surely new.
fn highest(db: &Connection, writer: AccountKey, incarnation: Incarnation) -> rusqlite::Result<u64> {
    let sql = "SELECT id FROM incarnations WHERE incarnation = ?1 \
               AND writer = (SELECT id FROM writers WHERE account_key = ?2)";
    let mut query = db.prepare_cached(sql)?;
    let params = (incarnation.0, writer.as_bytes());
    let id: Option<i64> = query.query_row(params, |row| row.get(0)).optional()?;
    let Some(id) = id else { return Ok(0) };
    // Two look-ups at the ends of an index.
    let sql = "SELECT (SELECT min(number) FROM messages WHERE incarnation = ?1), \
               (SELECT max(number) FROM messages WHERE incarnation = ?1)";
    let ends: (Option<i64>, Option<i64>) =
        db.prepare_cached(sql)?.query_one([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(match ends {
        (Some(0..), Some(highest)) => highest.unsigned_abs(),
        (Some(_), _) => u64::MAX,
        (None, _) => 0,
    })
}
