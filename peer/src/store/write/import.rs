//! Messages that come from a file.

use std::collections::BTreeMap;

use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;
use rusqlite::OptionalExtension;

use super::Writer;
use super::order::last_place;
use crate::archive::ArchivedMessage;
use crate::node::record::{Direction, MessageState};
use crate::store::columns::{Key, Millis};

/// The writer of messages whose account key nobody knows here.
const UNKNOWN_WRITER: AccountKey = AccountKey::from_bytes([0; 32]);

/// Room for what is put before a conversation: 16 million messages.
const ROOM: i64 = last_place(1 << 24);

/// Applies imports, and remembers for the length of one what was in the conversations before.
pub(in crate::store) struct Importer<'a> {
    writer: Writer<'a>,
    before: BTreeMap<i64, Conversation>,
    count: i64,
}

/// A conversation as it was before an import.
#[derive(Clone, Copy)]
struct Conversation {
    first_place: i64,
    last_sent_at: Timestamp,
}

impl<'a> Importer<'a> {
    pub(in crate::store) const fn new(writer: Writer<'a>) -> Self {
        Self { writer, before: BTreeMap::new(), count: 0 }
    }

    /// Keeps a message, unless one of its id is in its conversation. Returns whether it is new.
    pub(in crate::store) fn import(&mut self, message: &ArchivedMessage) -> rusqlite::Result<bool> {
        let person = self.writer.person(&message.contact)?;
        if self.writer.is_in_conversation(person, message)? {
            return Ok(false);
        }
        let row = self.writer.next_row()?;
        let place = self.place(person, message.sent_at, row)?;
        self.writer.insert_imported(message, person, row, place)
    }

    /// In the order of the file: before what was in the conversation, unless it is newer than that.
    fn place(&mut self, person: i64, sent_at: Timestamp, row: i64) -> rusqlite::Result<i64> {
        self.count += 1;
        let before = match self.before.get(&person) {
            Some(before) => *before,
            None => self.writer.conversation(person)?,
        };
        self.before.insert(person, before);
        if sent_at >= before.last_sent_at {
            return Ok(last_place(row));
        }
        let start = before.first_place.saturating_sub(ROOM);
        Ok(start.saturating_add(last_place(self.count)))
    }
}

impl Writer<'_> {
    fn insert_imported(
        &mut self,
        message: &ArchivedMessage,
        person: i64,
        row: i64,
        place: i64,
    ) -> rusqlite::Result<bool> {
        let writer = match message.direction {
            Direction::Out => self.own,
            Direction::In => self.key_of(person)?.unwrap_or(UNKNOWN_WRITER),
        };
        let sql = "INSERT INTO messages \
                   (id, person, direction, incarnation, number, text, sent_at, state, carrier, \
                   place) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                   ON CONFLICT (incarnation, number) DO NOTHING";
        let params = (
            row,
            person,
            message.direction,
            self.incarnation(writer, message.id.incarnation())?,
            message.id.number().cast_signed(),
            &message.text,
            Millis(message.sent_at),
            state_of(message),
            message.carrier,
            place,
        );
        Ok(self.run(sql, params)? > 0)
    }

    fn is_in_conversation(&self, person: i64, message: &ArchivedMessage) -> rusqlite::Result<bool> {
        let sql = "SELECT m.id FROM incarnations i JOIN messages m ON m.incarnation = i.id \
                   WHERE i.incarnation = ?1 AND m.number = ?2 AND m.person = ?3 LIMIT 1";
        let (incarnation, number) = (message.id.incarnation().0, message.id.number());
        Ok(self.find(sql, (incarnation, number.cast_signed(), person))?.is_some())
    }

    /// A conversation as it is; one without messages is older than all.
    fn conversation(&self, person: i64) -> rusqlite::Result<Conversation> {
        let sql = "SELECT (SELECT min(place) FROM messages WHERE person = ?1), sent_at \
                   FROM messages WHERE person = ?1 ORDER BY place DESC LIMIT 1";
        let mut query = self.db.prepare_cached(sql)?;
        let found = query.query_row([person], |row| {
            let last_sent_at = row.get::<_, Millis>(1)?.0;
            Ok(Conversation { first_place: row.get(0)?, last_sent_at })
        });
        let none = Conversation { first_place: 0, last_sent_at: Timestamp::default() };
        Ok(found.optional()?.unwrap_or(none))
    }

    fn key_of(&self, person: i64) -> rusqlite::Result<Option<AccountKey>> {
        let sql = "SELECT account_key FROM contacts WHERE person = ?1";
        let mut query = self.db.prepare_cached(sql)?;
        let key = query.query_row([person], |row| row.get::<_, Option<Key>>(0)).optional()?;
        Ok(key.flatten().map(|key| key.0))
    }
}

/// No outbox of this profile has a message that comes from a file: what was not delivered then will
/// not be.
const fn state_of(message: &ArchivedMessage) -> MessageState {
    match (message.direction, message.state) {
        (_, MessageState::Read) => MessageState::Read,
        (Direction::In, _) | (_, MessageState::Delivered) => MessageState::Delivered,
        (Direction::Out, MessageState::Queued | MessageState::Sent | MessageState::Failed) => {
            MessageState::Failed
        }
    }
}
