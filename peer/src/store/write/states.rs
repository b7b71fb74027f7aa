//! What becomes of messages that were sent from here.

use parlor_common::id::{MessageId, Username};
use parlor_common::time::Timestamp;
use rusqlite::named_params;

use super::Writer;
use crate::node::content::IdRange;
use crate::node::record::{Direction, FailReason, MAX_READ, MessageState, Saved, Sealed};
use crate::store::columns::Millis;
use crate::store::group::Reached;
use crate::store::read::message_id;

impl Writer<'_> {
    pub(super) fn seal(
        &mut self,
        id: MessageId,
        row: Option<i64>,
        sealed: &Sealed,
    ) -> rusqlite::Result<()> {
        let Some(row) = self.own_row(id, row)? else { return Ok(()) };
        // A message that was acknowledged meanwhile is not in the outbox, and stays so.
        let sql = "UPDATE outbox SET device = ?2, session = ?3, envelope = ?4 WHERE message = ?1";
        self.run(sql, (row, sealed.device.0, sealed.session.0, &sealed.envelope)).map(drop)
    }

    /// The row of a message that was sent from here, if there is one; where it is known already,
    /// nothing is looked up.
    fn own_row(&mut self, id: MessageId, known: Option<i64>) -> rusqlite::Result<Option<i64>> {
        if known.is_some() { Ok(known) } else { self.known(self.own, id) }
    }

    pub(super) fn posted(
        &mut self,
        id: MessageId,
        row: Option<i64>,
        at: Timestamp,
    ) -> rusqlite::Result<()> {
        let Some(row) = self.own_row(id, row)? else { return Ok(()) };
        self.run("UPDATE outbox SET posted_at = ?2 WHERE message = ?1", (row, Millis(at))).map(drop)
    }

    pub(super) fn set_state(&mut self, reached: &Reached) -> rusqlite::Result<()> {
        let Reached { id, row, state, carrier } = *reached;
        let Some(row) = self.own_row(id, row)? else { return Ok(()) };
        let forward = "UPDATE messages SET state = ?2, carrier = coalesce(?3, carrier), \
                       reason = NULL WHERE id = ?1 AND state <= ?2";
        self.run(forward, (row, state, carrier))?;
        if state.waits() {
            return Ok(());
        }
        self.run("DELETE FROM outbox WHERE message = ?1", [row]).map(drop)
    }

    pub(super) fn fail(&mut self, id: MessageId, reason: FailReason) -> rusqlite::Result<()> {
        let Some(row) = self.known(self.own, id)? else { return Ok(()) };
        let (state, carrier) = (MessageState::Failed, None);
        self.set_state(&Reached { id, row: Some(row), state, carrier })?;
        let sql = "UPDATE messages SET reason = ?2 WHERE id = ?1 AND state = ?3";
        self.run(sql, (row, reason, MessageState::Failed)).map(drop)
    }

    /// Only what is still queued: what has left may have arrived.
    pub(super) fn take_back(&mut self, id: MessageId) -> rusqlite::Result<()> {
        let Some(row) = self.known(self.own, id)? else { return Ok(()) };
        let queued = "SELECT id FROM messages WHERE id = ?1 AND state = ?2";
        if self.find(queued, (row, MessageState::Queued))?.is_some() {
            self.run("DELETE FROM outbox WHERE message = ?1", [row])?;
            self.run("DELETE FROM messages WHERE id = ?1", [row])?;
        }
        Ok(())
    }

    pub(super) fn edit(&mut self, id: MessageId, text: &str) -> rusqlite::Result<()> {
        let Some(row) = self.known(self.own, id)? else { return Ok(()) };
        let sql = "UPDATE messages SET text = ?2 WHERE id = ?1 AND state = ?3";
        if self.run(sql, (row, text, MessageState::Queued))? > 0 {
            let unseal = "UPDATE outbox SET device = NULL, session = NULL, envelope = NULL \
                          WHERE message = ?1";
            self.run(unseal, [row])?;
        }
        Ok(())
    }

    /// Only what was delivered to this contact becomes read.
    pub(super) fn mark_read(
        &mut self,
        contact: &Username,
        ranges: &[IdRange],
    ) -> rusqlite::Result<Saved> {
        let person = self.person(contact)?;
        let mut read = Vec::new();
        for range in ranges {
            let incarnation = self.incarnation(self.own, range.incarnation)?;
            // Numbers are stored as signed: those that count grow from one.
            let last = range.last.min(i64::MAX.cast_unsigned());
            let sql = "UPDATE messages SET state = :read WHERE id IN (SELECT id FROM messages \
                       WHERE incarnation = :incarnation AND number BETWEEN :first AND :last \
                       AND person = :person AND direction = :out AND state = :delivered \
                       LIMIT :most) RETURNING number";
            let params = named_params! {
                ":read": MessageState::Read,
                ":incarnation": incarnation,
                ":first": range.first.min(last).cast_signed(),
                ":last": last.cast_signed(),
                ":person": person,
                ":out": Direction::Out,
                ":delivered": MessageState::Delivered,
                ":most": MAX_READ.saturating_sub(u32::try_from(read.len()).unwrap_or(u32::MAX)),
            };
            let mut query = self.db.prepare_cached(sql)?;
            let numbers = query.query_map(params, |row| row.get::<_, i64>(0))?;
            for number in numbers {
                read.push(MessageId::new(range.incarnation, number?.cast_unsigned()));
            }
        }
        read.sort_unstable();
        Ok(Saved::Read(read))
    }

    pub(super) fn find_last_received(
        &self,
        from: &Username,
        limit: u32,
    ) -> rusqlite::Result<Saved> {
        let sql = "SELECT i.incarnation, m.number FROM messages m \
                   JOIN incarnations i ON i.id = m.incarnation \
                   WHERE m.person = (SELECT id FROM people WHERE name = ?1) \
                   AND m.direction = ?2 ORDER BY m.place DESC LIMIT ?3";
        let mut query = self.db.prepare_cached(sql)?;
        let params = (from.as_str(), Direction::In, limit);
        let ids = query.query_map(params, |row| message_id(row, 0, 1))?;
        Ok(Saved::LastReceived(ids.collect::<rusqlite::Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::record::{Carrier, Change, StoredMessage};
    use crate::store::Store;
    use crate::store::fixture::{
        answer, id, name, queue, queued, receive, received, sealed, store,
    };

    #[test]
    fn a_message_that_was_queued_while_the_database_was_asked_is_found_again() {
        let mut store = store();
        // Whether the first of an incarnation is new is asked of the database.
        store.commit([queue(queued(1)), receive(received(1))]).unwrap();
        set(&mut store, MessageState::Delivered, None);
        assert_eq!(state(&store).0, MessageState::Delivered);
        assert_eq!(store.load().unwrap().outbox, []);
    }

    fn set(store: &mut Store, state: MessageState, carrier: Option<Carrier>) {
        store.commit(&[Change::SetMessageState(id(1, 1), state, carrier)]).unwrap();
    }

    fn message(store: &Store, number: u64) -> Option<StoredMessage> {
        store.reader().message(id(1, number)).unwrap()
    }

    fn state(store: &Store) -> (MessageState, Option<Carrier>) {
        let message = message(store, 1).unwrap();
        (message.state, message.carrier)
    }

    fn envelopes(store: &Store) -> i64 {
        let sql = "SELECT count(*) FROM outbox WHERE envelope IS NOT NULL";
        store.reader().db.query_one(sql, [], |row| row.get(0)).unwrap()
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
    fn a_message_that_was_given_up_says_why_and_if_it_is_acknowledged_was_delivered() {
        let mut store = store();
        store.commit(&[queue(queued(1))]).unwrap();
        store.commit(&[Change::Fail(id(1, 1), FailReason::ContactBlocked)]).unwrap();
        let failed = message(&store, 1).unwrap();
        assert_eq!(failed.state, MessageState::Failed);
        assert_eq!(failed.reason, Some(FailReason::ContactBlocked));
        set(&mut store, MessageState::Delivered, Some(Carrier::Direct));
        store.commit(&[Change::Fail(id(1, 1), FailReason::ContactRemoved)]).unwrap();
        let delivered = message(&store, 1).unwrap();
        assert_eq!((delivered.state, delivered.reason), (MessageState::Delivered, None));
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
    fn only_what_is_queued_can_be_taken_back_or_edited() {
        let mut store = store();
        store.commit(&[queue(queued(1)), queue(queued(2)), queue(queued(3))]).unwrap();
        store.commit(&[Change::SealMessage(id(1, 2), sealed(1))]).unwrap();
        set(&mut store, MessageState::Sent, Some(Carrier::Direct));
        let edit = |number| Change::Edit(id(1, number), "better".to_owned());
        store.commit(&[edit(1), edit(2), Change::TakeBack(id(1, 3))]).unwrap();
        store.commit(&[Change::TakeBack(id(1, 1)), Change::TakeBack(id(1, 9))]).unwrap();
        assert_eq!(message(&store, 1).unwrap().text, "out 1");
        assert_eq!(message(&store, 2).unwrap().text, "better");
        assert_eq!((message(&store, 3), envelopes(&store)), (None, 0));
        assert_eq!(store.load().unwrap().outbox.len(), 2);
    }

    #[test]
    fn what_a_contact_has_seen_is_read_if_it_was_delivered_there() {
        let mut store = store();
        let mut to_carol = queued(3);
        to_carol.to = name("carol");
        let deliver = |number| {
            Change::SetMessageState(id(1, number), MessageState::Delivered, Some(Carrier::Direct))
        };
        let changes = [queue(queued(1)), queue(queued(2)), queue(to_carol), deliver(1), deliver(3)];
        store.commit(&changes).unwrap();
        let all = IdRange { incarnation: id(1, 1).incarnation(), first: 0, last: u64::MAX };
        let seen = Change::MarkRead(name("bob"), vec![all]);
        assert_eq!(answer(&mut store, seen.clone()), Saved::Read(vec![id(1, 1)]));
        assert_eq!(answer(&mut store, seen), Saved::Read(vec![]));
        assert_eq!(state(&store), (MessageState::Read, Some(Carrier::Direct)));
    }
}
