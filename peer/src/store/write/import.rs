//! Messages that come from a file.

use parlor_common::identity::AccountKey;
use rusqlite::OptionalExtension;

use super::Writer;
use crate::archive::ArchivedMessage;
use crate::node::record::{Direction, MessageState};
use crate::store::columns::{Key, Millis};

/// The writer of messages whose account key nobody knows here.
const UNKNOWN_WRITER: AccountKey = AccountKey::from_bytes([0; 32]);

impl Writer<'_> {
    /// Keeps a message, unless one of its id is in its conversation. Returns whether it is new.
    pub(in crate::store) fn import(&mut self, message: &ArchivedMessage) -> rusqlite::Result<bool> {
        let person = self.person(&message.contact)?;
        if self.is_in_conversation(person, message)? {
            return Ok(false);
        }
        let writer = match message.direction {
            Direction::Out => self.own,
            Direction::In => self.key_of(person)?.unwrap_or(UNKNOWN_WRITER),
        };
        let sql = "INSERT INTO messages \
                   (person, direction, incarnation, number, text, sent_at, state, carrier) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
                   ON CONFLICT (incarnation, number) DO NOTHING";
        let params = (
            person,
            message.direction,
            self.incarnation(writer, message.id.incarnation())?,
            message.id.number().cast_signed(),
            &message.text,
            Millis(message.sent_at),
            state_of(message),
            message.carrier,
        );
        Ok(self.run(sql, params)? > 0)
    }

    fn is_in_conversation(&self, person: i64, message: &ArchivedMessage) -> rusqlite::Result<bool> {
        let sql = "SELECT m.id FROM incarnations i JOIN messages m ON m.incarnation = i.id \
                   WHERE i.incarnation = ?1 AND m.number = ?2 AND m.person = ?3 LIMIT 1";
        let (incarnation, number) = (message.id.incarnation().0, message.id.number());
        Ok(self.find(sql, (incarnation, number.cast_signed(), person))?.is_some())
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
