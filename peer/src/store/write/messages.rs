//! Changes to messages, both directions.

use parlor_common::id::{MessageId, Username};
use parlor_common::identity::AccountKey;
use rusqlite::OptionalExtension;

use super::Writer;
use crate::node::record::{
    Carrier, Direction, EnvelopeRef, MessageState, ReceivedMessage, Saved, Sealed,
};
use crate::store::columns::Millis;
use crate::store::group::Queued;
use crate::store::read::message_id;

impl Writer<'_> {
    pub(super) fn queue(&mut self, queued: &Queued<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO messages \
                   (id, person, direction, incarnation, number, text, sent_at, state, carrier, place) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?1) \
                   ON CONFLICT (incarnation, number) DO NOTHING";
        let Queued { message, row, state, carrier, .. } = queued;
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
        );
        let is_new = self.run(sql, params)? > 0;
        if is_new && waits(*state) { self.put_out(queued) } else { Ok(()) }
    }

    fn put_out(&self, queued: &Queued<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO outbox VALUES (?1, ?2, ?3, ?4, ?5)";
        let key = queued.message.account_key.as_ref().map(AccountKey::as_bytes);
        let sealed = queued.sealed;
        let params = (
            self.db.last_insert_rowid(),
            key,
            sealed.map(|sealed| sealed.device.0),
            sealed.map(|sealed| sealed.session.0),
            sealed.map(|sealed| &sealed.envelope),
        );
        self.run(sql, params).map(drop)
    }

    pub(super) fn seal(&mut self, id: MessageId, sealed: &Sealed) -> rusqlite::Result<()> {
        let Some(row) = self.known(self.own, id)? else { return Ok(()) };
        // A message that was acknowledged meanwhile is not in the outbox, and stays so.
        let sql = "UPDATE outbox SET device = ?2, session = ?3, envelope = ?4 WHERE message = ?1";
        self.run(sql, (row, sealed.device.0, sealed.session.0, &sealed.envelope)).map(drop)
    }

    pub(super) fn set_state(
        &mut self,
        id: MessageId,
        state: MessageState,
        carrier: Option<Carrier>,
    ) -> rusqlite::Result<()> {
        let Some(row) = self.known(self.own, id)? else { return Ok(()) };
        let forward = "UPDATE messages SET state = ?2, carrier = coalesce(?3, carrier) \
                       WHERE id = ?1 AND state <= ?2";
        self.run(forward, (row, state, carrier))?;
        if waits(state) {
            return Ok(());
        }
        self.run("DELETE FROM outbox WHERE message = ?1", [row]).map(drop)
    }

    pub(super) fn receive(
        &mut self,
        message: &ReceivedMessage,
        row: Option<i64>,
        printed: bool,
    ) -> rusqlite::Result<Saved> {
        let sql = "INSERT INTO messages (id, person, direction, incarnation, number, text, sent_at, \
                   received_at, state, carrier, place) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?1) \
                   ON CONFLICT (incarnation, number) DO NOTHING";
        let params = (
            row,
            self.person(&message.from)?,
            Direction::In,
            self.incarnation(message.account_key, message.id.incarnation())?,
            message.id.number().cast_signed(),
            &message.text,
            Millis(message.sent_at),
            Millis(message.received_at),
            MessageState::Delivered,
            message.carrier,
        );
        let new = (self.run(sql, params)? > 0).then(|| self.db.last_insert_rowid());
        if let Some(row) = new {
            if !printed {
                self.run("INSERT INTO unprinted VALUES (?1)", [row])?;
            }
            self.put_opened(&message.envelope, row)?;
        } else if let Some(row) = self.known(message.account_key, message.id)? {
            // The same message in another envelope, which may come again too.
            self.put_opened(&message.envelope, row)?;
        }
        Ok(Saved::Received(new))
    }

    fn put_opened(&mut self, envelope: &EnvelopeRef, row: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO opened VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET message = excluded.message, tag = excluded.tag";
        let session = self.session(envelope.session)?;
        let EnvelopeRef { chain, number, tag, .. } = envelope;
        self.run(sql, (session, chain.0, number, tag, row)).map(drop)
    }

    pub(super) fn find_opened(&self, envelope: &EnvelopeRef) -> rusqlite::Result<Saved> {
        let sql = "SELECT i.incarnation, m.number FROM session_ids s \
                   JOIN opened o ON o.session = s.id JOIN messages m ON m.id = o.message \
                   JOIN incarnations i ON i.id = m.incarnation \
                   WHERE s.session = ?1 AND o.chain = ?2 AND o.number = ?3 AND o.tag = ?4";
        let mut query = self.db.prepare_cached(sql)?;
        let EnvelopeRef { session, chain, number, tag } = envelope;
        let params = (session.0, chain.0, number, tag);
        let id = query.query_row(params, |row| message_id(row, 0, 1)).optional()?;
        Ok(Saved::Opened(id))
    }

    pub(super) fn find_last_received(
        &self,
        from: &Username,
        limit: u32,
    ) -> rusqlite::Result<Saved> {
        let sql = "SELECT i.incarnation, m.number FROM messages m \
                   JOIN incarnations i ON i.id = m.incarnation \
                   WHERE m.person = (SELECT id FROM people WHERE name = ?1) \
                   AND m.direction = ?2 ORDER BY m.id DESC LIMIT ?3";
        let mut query = self.db.prepare_cached(sql)?;
        let params = (from.as_str(), Direction::In, limit);
        let ids = query.query_map(params, |row| message_id(row, 0, 1))?;
        Ok(Saved::LastReceived(ids.collect::<rusqlite::Result<_>>()?))
    }

    pub(super) fn mark_printed(&self, rows: &[i64]) -> rusqlite::Result<()> {
        let sql = "DELETE FROM unprinted WHERE message = ?1";
        rows.iter().try_for_each(|row| self.run(sql, [row]).map(drop))
    }

    /// The row of a message, if there is one.
    fn known(&mut self, writer: AccountKey, id: MessageId) -> rusqlite::Result<Option<i64>> {
        let incarnation = self.incarnation(writer, id.incarnation())?;
        let sql = "SELECT id FROM messages WHERE incarnation = ?1 AND number = ?2";
        self.find(sql, (incarnation, id.number().cast_signed()))
    }
}

/// Whether a message of this state waits in the outbox.
const fn waits(state: MessageState) -> bool {
    match state {
        MessageState::Queued | MessageState::Sent => true,
        MessageState::Delivered | MessageState::Read | MessageState::Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::id::SessionId;

    use super::*;
    use crate::node::record::Change;
    use crate::store::Store;
    use crate::store::fixture::{
        account, answer, envelope, id, name, queue, queued, receive, received, sealed, store,
    };

    fn set(store: &mut Store, state: MessageState, carrier: Option<Carrier>) {
        store.commit(&[Change::SetMessageState(id(1, 1), state, carrier)]).unwrap();
    }

    fn state(store: &Store) -> (MessageState, Option<Carrier>) {
        let message = store.reader().message(id(1, 1)).unwrap().unwrap();
        (message.state, message.carrier)
    }

    fn envelopes(store: &Store) -> i64 {
        let sql = "SELECT count(*) FROM outbox WHERE envelope IS NOT NULL";
        store.reader().db.query_one(sql, [], |row| row.get(0)).unwrap()
    }

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
        let known = Saved::Opened(Some(id(2, 1)));
        assert_eq!(find(&mut store, received(1).envelope), known);
        assert_eq!(find(&mut store, again.envelope), known);
        assert_eq!(find(&mut store, received(2).envelope), Saved::Opened(None));
        let unknown = EnvelopeRef { session: SessionId([5; 16]), ..envelope(1) };
        assert_eq!(find(&mut store, unknown), Saved::Opened(None));
    }

    #[test]
    fn states_never_go_backwards() {
        let mut store = store();
        store.commit(&[queue(queued(1))]).unwrap();
        assert_eq!(state(&store), (MessageState::Queued, None));
        set(&mut store, MessageState::Delivered, Some(Carrier::Direct));
        let delivered = (MessageState::Delivered, Some(Carrier::Direct));
        for earlier in [MessageState::Queued, MessageState::Sent, MessageState::Failed] {
            set(&mut store, earlier, None);
            assert_eq!(state(&store), delivered);
        }
        set(&mut store, MessageState::Read, None);
        assert_eq!(state(&store), (MessageState::Read, Some(Carrier::Direct)));
    }

    #[test]
    fn a_message_that_was_given_up_and_is_acknowledged_was_delivered() {
        let mut store = store();
        store.commit(&[queue(queued(1))]).unwrap();
        set(&mut store, MessageState::Failed, None);
        set(&mut store, MessageState::Delivered, Some(Carrier::Direct));
        assert_eq!(state(&store).0, MessageState::Delivered);
    }

    #[test]
    fn delivery_erases_the_sealed_form_and_nothing_brings_it_back() {
        let mut store = store();
        store.commit(&[queue(queued(1)), Change::SealMessage(id(1, 1), sealed(1))]).unwrap();
        set(&mut store, MessageState::Sent, Some(Carrier::Direct));
        assert_eq!(envelopes(&store), 1);
        set(&mut store, MessageState::Delivered, Some(Carrier::Direct));
        assert_eq!(envelopes(&store), 0);
        store.commit(&[Change::SealMessage(id(1, 1), sealed(2))]).unwrap();
        assert_eq!(envelopes(&store), 0);
    }

    #[test]
    fn what_a_stranger_puts_into_numbers_and_times_comes_back_as_it_was() {
        let mut store = store();
        let mut odd = received(1);
        odd.id = id(0xff, u64::MAX);
        odd.sent_at = parlor_common::time::Timestamp::from_millis(u64::MAX);
        odd.text = "a\0b'); DROP TABLE messages; --".to_owned();
        odd.envelope.number = u32::MAX;
        answer(&mut store, receive(odd.clone()));
        let found = store.reader().message(odd.id).unwrap().unwrap();
        assert_eq!((found.id, found.sent_at, found.text), (odd.id, odd.sent_at, odd.text));
        let found = answer(&mut store, Change::FindOpened(odd.envelope));
        assert_eq!(found, Saved::Opened(Some(odd.id)));
    }
}
