//! Changes to messages, both directions.

use std::time::Duration;

use parlor_common::id::MessageId;
use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;
use rusqlite::OptionalExtension;

use super::Writer;
use super::order::last_place;
use crate::node::record::{Direction, EnvelopeRef, MessageState, Opened, ReceivedMessage, Saved};
use crate::store::columns::Millis;
use crate::store::group::{Printed, Queued};
use crate::store::read::message_id;

impl Writer<'_> {
    pub(super) fn queue(&mut self, queued: &Queued<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO messages (id, person, direction, incarnation, number, text, \
                   sent_at, state, carrier, place, expires_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                   ON CONFLICT (incarnation, number) DO NOTHING";
        let Queued { message, row, state, carrier, .. } = queued;
        let row = row.map_or_else(|| self.next_row(), Ok)?;
        let params = (
            row,
            self.person(&message.to)?,
            Direction::Out,
            self.incarnation(self.own, message.id.incarnation())?,
            message.id.number().cast_signed(),
            &message.text,
            Millis(message.sent_at),
            state,
            carrier,
            last_place(row),
            expiry(message.sent_at, message.disappears),
        );
        let is_new = self.run(sql, params)? > 0;
        if is_new && state.waits() { self.put_out(row, queued) } else { Ok(()) }
    }

    fn put_out(&self, row: i64, queued: &Queued<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO outbox (message, account_key, device, session, envelope, \
                   after_incarnation, after_number, disappears) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let Queued { message, sealed, .. } = queued;
        let key = message.account_key.as_ref().map(AccountKey::as_bytes);
        let params = (
            row,
            key,
            sealed.map(|sealed| sealed.device.0),
            sealed.map(|sealed| sealed.session.0),
            sealed.map(|sealed| &sealed.envelope),
            message.after.map(|after| after.incarnation().0),
            message.after.map(|after| after.number().cast_signed()),
            message.disappears,
        );
        self.run(sql, params).map(drop)
    }

    /// Keeps a message, unless it is known; under this row, or the next one.
    pub(super) fn receive(
        &mut self,
        message: &ReceivedMessage,
        row: Option<i64>,
    ) -> rusqlite::Result<Saved> {
        if let Some(row) = self.known(message.account_key, message.id)? {
            // The same message in another envelope, which may come again too.
            self.put_opened(&message.envelope, Some(row))?;
            return Ok(Saved::Received(None));
        }
        let row = row.map_or_else(|| self.next_row(), Ok)?;
        let number = message.id.number().cast_signed();
        self.keep(message, row, Printed::NotYet, Some(number))?;
        Ok(Saved::Received(Some(row)))
    }

    /// Keeps a message whose number is above all that are known of its incarnation.
    pub(super) fn receive_new(
        &mut self,
        message: &ReceivedMessage,
        row: Option<i64>,
        printed: Printed,
    ) -> rusqlite::Result<()> {
        let row = row.map_or_else(|| self.next_row(), Ok)?;
        self.keep(message, row, printed, None)
    }

    /// `before`: the number before which it stands, if its incarnation may have such.
    fn keep(
        &mut self,
        message: &ReceivedMessage,
        row: i64,
        printed: Printed,
        before: Option<i64>,
    ) -> rusqlite::Result<()> {
        if self.insert(message, row, before)? == 0 {
            return Ok(());
        }
        if printed == Printed::NotYet {
            self.run("INSERT INTO unprinted VALUES (?1)", [row])?;
        }
        self.put_opened(&message.envelope, Some(row))
    }

    fn insert(
        &mut self,
        message: &ReceivedMessage,
        row: i64,
        before: Option<i64>,
    ) -> rusqlite::Result<usize> {
        let sql = "INSERT INTO messages (id, person, direction, incarnation, number, text, \
                   sent_at, received_at, state, carrier, place, expires_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                   ON CONFLICT (incarnation, number) DO NOTHING";
        let person = self.person(&message.from)?;
        let incarnation = self.incarnation(message.account_key, message.id.incarnation())?;
        let number = message.id.number().cast_signed();
        self.put_order(person, message.account_key, message.id, message.after)?;
        let params = (
            row,
            person,
            Direction::In,
            incarnation,
            number,
            &message.text,
            Millis(message.sent_at),
            Millis(message.received_at),
            MessageState::Delivered,
            message.carrier,
            self.place(person, incarnation, before, row)?,
            expiry(message.received_at, message.disappears),
        );
        self.run(sql, params)
    }

    /// The row of the next message.
    pub(super) fn next_row(&self) -> rusqlite::Result<i64> {
        let last: Option<i64> = self
            .db
            .prepare_cached("SELECT max(id) FROM messages")?
            .query_row([], |row| row.get(0))?;
        Ok(last.unwrap_or(0).saturating_add(1))
    }

    /// Erases the texts of messages whose time is over. That they were there stays known.
    pub(super) fn erase_expired(&self, at: Timestamp) -> rusqlite::Result<Saved> {
        let due = "SELECT id FROM messages WHERE expires_at <= ?1";
        let waiting = format!("DELETE FROM outbox WHERE message IN ({due})");
        self.run(&waiting, [Millis(at)])?;
        let unprinted = format!("DELETE FROM unprinted WHERE message IN ({due})");
        self.run(&unprinted, [Millis(at)])?;
        let erase = "UPDATE messages SET text = '', expires_at = NULL WHERE expires_at <= ?1";
        self.run(erase, [Millis(at)])?;
        let next = "SELECT min(expires_at) FROM messages WHERE expires_at IS NOT NULL";
        let next: Option<Millis> = self.db.prepare_cached(next)?.query_row([], |row| row.get(0))?;
        Ok(Saved::NextExpiry(next.map(|Millis(at)| at)))
    }

    pub(super) fn put_opened(
        &mut self,
        envelope: &EnvelopeRef,
        row: Option<i64>,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO opened VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET message = excluded.message, tag = excluded.tag";
        let session = self.session(envelope.session)?;
        let EnvelopeRef { chain, number, tag, .. } = envelope;
        self.run(sql, (session, chain.0, number, tag, row)).map(drop)
    }

    pub(super) fn find_opened(&self, envelope: &EnvelopeRef) -> rusqlite::Result<Saved> {
        let sql = "SELECT i.incarnation, m.number FROM session_ids s \
                   JOIN opened o ON o.session = s.id LEFT JOIN messages m ON m.id = o.message \
                   LEFT JOIN incarnations i ON i.id = m.incarnation \
                   WHERE s.session = ?1 AND o.chain = ?2 AND o.number = ?3 AND o.tag = ?4";
        let mut query = self.db.prepare_cached(sql)?;
        let EnvelopeRef { session, chain, number, tag } = envelope;
        let params = (session.0, chain.0, number, tag);
        let found = query.query_row(params, |row| match row.get::<_, Option<[u8; 8]>>(0)? {
            Some(_) => message_id(row, 0, 1).map(Opened::Message),
            None => Ok(Opened::Other),
        });
        Ok(Saved::Opened(found.optional()?.unwrap_or(Opened::Unknown)))
    }

    pub(super) fn mark_printed(&self, rows: &[i64]) -> rusqlite::Result<()> {
        let sql = "DELETE FROM unprinted WHERE message = ?1";
        rows.iter().try_for_each(|row| self.run(sql, [row]).map(drop))
    }

    /// The row of a message, if there is one.
    pub(super) fn known(
        &mut self,
        writer: AccountKey,
        id: MessageId,
    ) -> rusqlite::Result<Option<i64>> {
        let incarnation = self.incarnation(writer, id.incarnation())?;
        let sql = "SELECT id FROM messages WHERE incarnation = ?1 AND number = ?2";
        self.find(sql, (incarnation, id.number().cast_signed()))
    }
}

/// When a message is erased that was there from `since` on.
fn expiry(since: Timestamp, disappears: Option<u32>) -> Option<Millis> {
    disappears.map(|seconds| Millis(since + Duration::from_secs(seconds.into())))
}

#[cfg(test)]
mod tests {
    use parlor_common::id::SessionId;

    use super::*;
    use crate::node::record::{Change, OutboxMessage};
    use crate::store::Store;
    use crate::store::fixture::{
        account, answer, envelope, id, name, queue, queued, receive, received, sealed, store,
    };

    #[test]
    fn a_message_is_stored_once_for_its_writer_and_id_for_ever() {
        let mut store = store();
        let Saved::Received(Some(row)) = answer(&mut store, receive(received(1))) else { panic!() };
        assert_eq!(answer(&mut store, receive(received(1))), Saved::Received(None));
        // Under another session, after the contact is gone, and in one turn twice.
        let mut again = received(1);
        again.envelope = EnvelopeRef { session: SessionId([6; 16]), ..envelope(0) };
        let changes = [
            Change::RemoveContact(name("bob")),
            receive(again),
            receive(received(2)),
            receive(received(2)),
        ];
        let saved = store.commit(&changes).unwrap();
        let new = Saved::Received(Some(row + 1));
        assert_eq!(saved, [Saved::Received(None), new, Saved::Received(None)]);
        assert_eq!(store.reader().history(&name("bob"), 50, None).unwrap().len(), 2);
    }

    #[test]
    fn another_writer_may_use_the_same_id() {
        let mut store = store();
        answer(&mut store, receive(received(1)));
        let mut other = received(1);
        (other.from, other.account_key) = (name("carol"), account(5));
        assert!(matches!(answer(&mut store, receive(other)), Saved::Received(Some(_))));
        let mut ours = queued(1);
        ours.id = id(2, 1);
        store.commit(&[queue(ours)]).unwrap();
        let found = store.reader().message(id(2, 1)).unwrap().unwrap();
        assert_eq!(found.direction, Direction::Out);
    }

    #[test]
    fn an_opened_envelope_names_its_message_also_when_its_session_is_gone() {
        let mut store = store();
        answer(&mut store, receive(received(1)));
        // Sealed anew, because the first acknowledgement was lost.
        let mut again = received(1);
        again.envelope = EnvelopeRef { session: SessionId([6; 16]), ..envelope(0) };
        answer(&mut store, receive(again.clone()));
        let gone = Change::RemoveSession(sealed(0).device, again.envelope.session);
        store.commit(&[gone]).unwrap();

        let find = |store: &mut Store, envelope| answer(store, Change::FindOpened(envelope));
        let known = Saved::Opened(Opened::Message(id(2, 1)));
        assert_eq!(find(&mut store, received(1).envelope), known);
        assert_eq!(find(&mut store, again.envelope), known);
        assert_eq!(find(&mut store, received(2).envelope), Saved::Opened(Opened::Unknown));
        let unknown = EnvelopeRef { session: SessionId([5; 16]), ..envelope(1) };
        assert_eq!(find(&mut store, unknown), Saved::Opened(Opened::Unknown));
    }

    #[test]
    fn an_envelope_without_a_message_is_known_while_its_session_is() {
        let mut store = store();
        let (device, session) = (sealed(0).device, envelope(0).session);
        store.commit(&[Change::RememberOpened(envelope(3)), receive(received(4))]).unwrap();
        let find = |store: &mut Store, number| answer(store, Change::FindOpened(envelope(number)));
        assert_eq!(find(&mut store, 3), Saved::Opened(Opened::Other));
        store.commit(&[Change::RemoveSession(device, session)]).unwrap();
        assert_eq!(find(&mut store, 3), Saved::Opened(Opened::Unknown));
        assert_eq!(find(&mut store, 4), Saved::Opened(Opened::Message(id(2, 4))));
    }

    #[test]
    fn what_disappears_is_gone_after_its_time_and_stays_known() {
        let mut store = store();
        let short = ReceivedMessage { disappears: Some(1), ..received(1) };
        let long = OutboxMessage { disappears: Some(5), ..queued(1) };
        store.commit(&[receive(short.clone()), queue(long), receive(received(2))]).unwrap();
        let at = Timestamp::from_millis;
        assert_eq!(store.reader().next_expiry().unwrap(), Some(at(1060)));
        assert_eq!(store.load().unwrap().outbox[0].disappears, Some(5));
        let next = answer(&mut store, Change::EraseExpired(at(1060)));
        assert_eq!(next, Saved::NextExpiry(Some(at(5101))));
        let texts = |store: &Store| -> Vec<String> {
            let history = store.reader().history(&name("bob"), 50, None).unwrap();
            history.into_iter().map(|message| message.text).collect()
        };
        assert_eq!(texts(&store), ["out 1", "in 2"]);
        assert_eq!(answer(&mut store, receive(short)), Saved::Received(None));
        let next = answer(&mut store, Change::EraseExpired(at(u64::MAX >> 1)));
        assert_eq!((next, texts(&store)), (Saved::NextExpiry(None), vec!["in 2".to_owned()]));
        assert!(store.load().unwrap().outbox.is_empty());
    }

    #[test]
    fn what_a_stranger_puts_into_numbers_and_times_comes_back_as_it_was() {
        let mut store = store();
        let mut odd = received(1);
        odd.id = id(0xff, u64::MAX);
        odd.sent_at = Timestamp::from_millis(u64::MAX);
        odd.text = "a\0b'); DROP TABLE messages; --".to_owned();
        odd.envelope.number = u32::MAX;
        answer(&mut store, receive(odd.clone()));
        let found = store.reader().message(odd.id).unwrap().unwrap();
        assert_eq!((found.id, found.sent_at, found.text), (odd.id, odd.sent_at, odd.text));
        let found = answer(&mut store, Change::FindOpened(odd.envelope));
        assert_eq!(found, Saved::Opened(Opened::Message(odd.id)));
    }
}
