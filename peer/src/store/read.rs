//! What front ends read.

use std::cmp::Reverse;

use parlor_common::device_list::SignedDeviceList;
use parlor_common::id::{Incarnation, MessageId, Username};
use parlor_common::link::Link;
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::ReadError;
use super::columns::{DeviceSeed, DhSecret, Json, Key, Millis, Text};
use super::search::Search;
use crate::node::record::{Contact, Identity, StoredMessage, Timers};

/// A contact, and whether it was last seen online.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedContact {
    /// The contact.
    pub contact: Contact,
    /// Whether it was online when the profile's engine last heard of it.
    pub online: bool,
}

/// Which part of a conversation is read.
#[derive(Clone, Copy, Debug)]
pub struct HistoryPage<'a> {
    /// How many messages at most: the newest are kept.
    pub limit: u32,
    /// Only messages that stand before this row.
    pub before: Option<i64>,
    /// Only messages that are found by these words: each must be the beginning of a word of the
    /// message, whatever case and accents. Where there is no letter or digit among them, messages
    /// with these very characters, among the newest 100,000.
    pub search: Option<&'a str>,
}

/// Reads a profile. Other connections may write meanwhile: each call sees one whole state.
#[derive(Debug)]
pub struct Reader {
    pub(super) db: Connection,
}

/// The columns of [`message`].
macro_rules! select_messages {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, i.incarnation, m.number, p.name, m.direction, m.text, m.sent_at, \
             m.state, m.carrier, m.reason FROM messages m \
             JOIN incarnations i ON i.id = m.incarnation JOIN people p ON p.id = m.person ",
            $rest
        )
    };
}

impl Reader {
    /// Who this device is.
    pub fn identity(&self) -> Result<Identity, ReadError> {
        let sql = "SELECT name, server, account_key, devices, device_seed, dh_secret FROM identity";
        Ok(self.db.prepare_cached(sql)?.query_one([], identity)?)
    }

    /// The list of a new account key that was asked for, while it is not known what came of it.
    pub fn rekeying(&self) -> Result<Option<SignedDeviceList>, ReadError> {
        let found = self.all("SELECT devices FROM rekeying", [], |row| row.get(0))?;
        Ok(found.into_iter().next().map(|Json(devices)| devices))
    }

    /// All contacts, by name.
    pub fn contacts(&self) -> Result<Vec<ListedContact>, ReadError> {
        let sql = "SELECT p.name, c.state, c.verified, c.account_key, c.changed_key, c.devices, \
                   c.policy, c.online, c.unsigned, c.refused, c.timer_ours, c.timer_theirs \
                   FROM contacts c JOIN people p ON p.id = c.person ORDER BY p.name";
        self.all(sql, [], listed_contact)
    }

    /// The newest `limit` messages of a conversation, oldest first; with `search` only those that
    /// are found by these words. See [`Reader::page`].
    pub fn history(
        &self,
        contact: &Username,
        limit: u32,
        search: Option<&str>,
    ) -> Result<Vec<StoredMessage>, ReadError> {
        self.page(contact, &HistoryPage { limit, before: None, search })
    }

    /// A page of a conversation, oldest first. The other side need not be a contact any more.
    pub fn page(
        &self,
        contact: &Username,
        page: &HistoryPage<'_>,
    ) -> Result<Vec<StoredMessage>, ReadError> {
        let mut query = self.db.prepare_cached("SELECT id FROM people WHERE name = ?1")?;
        let person = query.query_row([contact.as_str()], |row| row.get(0)).optional()?;
        let Some(person) = person else { return Ok(Vec::new()) };
        let HistoryPage { limit, before, search } = *page;
        let mut messages = match search {
            None => self.newest(person, before, limit)?,
            Some(words) => self.find(person, words, before, limit)?,
        };
        messages.reverse();
        Ok(messages)
    }

    /// The newest messages of a conversation before a row, newest first.
    fn newest(
        &self,
        person: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, ReadError> {
        let Some(row) = before else {
            let sql = select_messages!(
                "WHERE m.person = ?1 AND m.text <> '' \
                 ORDER BY m.place DESC, m.number DESC LIMIT ?2"
            );
            return self.all(sql, (person, limit), message);
        };
        let sql = select_messages!(
            "JOIN messages b ON b.id = ?2 WHERE m.person = ?1 AND m.text <> '' \
             AND m.place <= b.place AND (m.place, m.number) < (b.place, b.number) \
             ORDER BY m.place DESC, m.number DESC LIMIT ?3"
        );
        self.all(sql, (person, row, limit), message)
    }

    /// The newest messages that are found, newest first. Which are the newest goes by when they
    /// came: the index knows nothing of their order.
    fn find(
        &self,
        person: i64,
        words: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, ReadError> {
        let before = before.unwrap_or(i64::MAX);
        let rows = Search { person, words, before, limit }.run(&self.db)?;
        let mut query = self.db.prepare_cached(select_messages!("WHERE m.id = ?1"))?;
        let mut placed =
            self.db.prepare_cached("SELECT place, number FROM messages WHERE id = ?1")?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let place: (i64, i64) =
                placed.query_one([row], |row| Ok((row.get(0)?, row.get(1)?)))?;
            found.push((place, query.query_one([row], message)?));
        }
        found.sort_by_key(|(place, _)| Reverse(*place));
        Ok(found.into_iter().map(|(_, message)| message).collect())
    }

    /// All messages that are not acknowledged yet, in the order in which they were queued.
    pub fn undelivered(&self) -> Result<Vec<StoredMessage>, ReadError> {
        let sql = select_messages!("JOIN outbox o ON o.message = m.id ORDER BY m.id");
        self.all(sql, [], message)
    }

    /// How many messages to a contact are not acknowledged yet.
    pub fn waiting(&self, contact: &Username) -> Result<u32, ReadError> {
        let sql = "SELECT count(*) FROM outbox o JOIN messages m ON m.id = o.message \
                   JOIN people p ON p.id = m.person WHERE p.name = ?1";
        let count = self.db.prepare_cached(sql)?.query_one([contact.as_str()], |row| row.get(0));
        Ok(count?)
    }

    /// The first `limit` received messages after row `after_row` that no `listen` has printed, in
    /// order. The first page is after row 0.
    pub fn unprinted(&self, after_row: i64, limit: u32) -> Result<Vec<StoredMessage>, ReadError> {
        let sql = select_messages!(
            "JOIN unprinted u ON u.message = m.id WHERE u.message > ?1 \
             ORDER BY u.message LIMIT ?2"
        );
        self.all(sql, (after_row, limit), message)
    }

    /// The message of an id. Should somebody have used the id of a message that was sent from here,
    /// it is the one that was sent.
    pub fn message(&self, id: MessageId) -> Result<Option<StoredMessage>, ReadError> {
        let sql = select_messages!(
            "WHERE i.incarnation = ?1 AND m.number = ?2 ORDER BY m.direction DESC LIMIT 1"
        );
        let params = (id.incarnation().0, id.number().cast_signed());
        Ok(self.db.prepare_cached(sql)?.query_row(params, message).optional()?)
    }

    /// All rows that a query finds.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ReadError> {
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map(params, read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn identity(row: &Row<'_>) -> rusqlite::Result<Identity> {
    Ok(Identity {
        name: row.get::<_, Text<Username>>(0)?.0,
        server: row.get::<_, Text<Link>>(1)?.0.server,
        account_key: row.get::<_, Key>(2)?.0,
        devices: row.get::<_, Json<_>>(3)?.0,
        device: row.get::<_, DeviceSeed>(4)?.0,
        dh: row.get::<_, DhSecret>(5)?.0,
    })
}

fn listed_contact(row: &Row<'_>) -> rusqlite::Result<ListedContact> {
    let contact = Contact {
        name: row.get::<_, Text<Username>>(0)?.0,
        state: row.get(1)?,
        verified: row.get(2)?,
        account_key: row.get::<_, Option<Key>>(3)?.map(|key| key.0),
        changed_key: row.get::<_, Option<Key>>(4)?.map(|key| key.0),
        devices: row.get::<_, Option<Json<_>>>(5)?.map(|devices| devices.0),
        policy: row.get(6)?,
        unsigned: row.get::<_, Json<_>>(8)?.0,
        refused: row.get::<_, Option<Json<_>>>(9)?.map(|list| list.0),
        timers: Timers { ours: row.get(10)?, theirs: row.get(11)? },
    };
    Ok(ListedContact { contact, online: row.get(7)? })
}

fn message(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    Ok(StoredMessage {
        row: row.get(0)?,
        id: message_id(row, 1, 2)?,
        contact: row.get::<_, Text<Username>>(3)?.0,
        direction: row.get(4)?,
        text: row.get(5)?,
        sent_at: row.get::<_, Millis>(6)?.0,
        state: row.get(7)?,
        carrier: row.get(8)?,
        reason: row.get(9)?,
    })
}

/// A message's id, of the columns with its incarnation and its number.
pub(super) fn message_id(
    row: &Row<'_>,
    incarnation: usize,
    number: usize,
) -> rusqlite::Result<MessageId> {
    let number = row.get::<_, i64>(number)?.cast_unsigned();
    Ok(MessageId::new(Incarnation(row.get(incarnation)?), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::record::{Carrier, Change, Direction, MessageState};
    use crate::store::fixture::{contact, id, name, put, queue, queued, receive, received, store};

    fn texts(messages: &[StoredMessage]) -> Vec<&str> {
        messages.iter().map(|message| message.text.as_str()).collect()
    }

    #[test]
    fn history_is_oldest_first_and_keeps_the_newest() {
        let mut store = store();
        let mut to_carol = queued(9);
        to_carol.to = name("carol");
        let changes =
            [queue(queued(1)), receive(received(1)), queue(to_carol), receive(received(2))];
        store.commit(changes).unwrap();
        let history = store.reader().history(&name("bob"), 50, None).unwrap();
        assert_eq!(texts(&history), ["out 1", "in 1", "in 2"]);
        let newest = store.reader().history(&name("bob"), 2, None).unwrap();
        assert_eq!(newest, history[1..]);
        assert_eq!(store.reader().history(&name("nobody"), 50, None).unwrap(), []);

        let (sent, got) = (&history[0], &history[1]);
        assert_eq!((sent.direction, sent.state), (Direction::Out, MessageState::Queued));
        assert_eq!((sent.carrier, sent.sent_at), (None, queued(1).sent_at));
        assert_eq!((got.direction, got.state), (Direction::In, MessageState::Delivered));
        assert_eq!((got.carrier, got.id), (Some(Carrier::Direct), id(2, 1)));
    }

    #[test]
    fn a_conversation_is_read_in_pages() {
        let mut store = store();
        let changes: Vec<_> = (1..=5).map(|number| receive(received(number))).collect();
        store.commit(changes).unwrap();
        let page = |before, search| {
            let page = HistoryPage { limit: 2, before, search };
            store.reader().page(&name("bob"), &page).unwrap()
        };
        for search in [None, Some("in")] {
            let last = page(None, search);
            assert_eq!(texts(&last), ["in 4", "in 5"]);
            let before = page(Some(last[0].row), search);
            assert_eq!(texts(&before), ["in 2", "in 3"]);
            let first = page(Some(before[0].row), search);
            assert_eq!(texts(&first), ["in 1"]);
            assert_eq!(page(Some(first[0].row), search), []);
        }
    }

    #[test]
    fn history_keeps_the_name_of_a_contact_that_was_removed() {
        let mut store = store();
        let changes = [
            put(contact("bob")),
            receive(received(1)),
            put(contact("carol")),
            Change::RemoveContact(name("bob")),
            Change::RemoveContact(name("carol")),
            Change::RemoveContact(name("nobody")),
        ];
        store.commit(changes).unwrap();
        assert_eq!(store.reader().contacts().unwrap(), []);
        let history = store.reader().history(&name("bob"), 50, None).unwrap();
        assert_eq!(history[0].contact, name("bob"));
        // A name without messages is forgotten.
        let sql = "SELECT group_concat(name) FROM people";
        let names: String = store.reader().db.query_one(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(names, "bob");
    }

    #[test]
    fn what_no_listen_has_printed_comes_in_pages_and_once() {
        let mut store = store();
        let changes: Vec<_> = (1..=5).map(|number| receive(received(number))).collect();
        store.commit(changes).unwrap();
        store.commit([queue(queued(1))]).unwrap();
        let page = store.reader().unprinted(0, 2).unwrap();
        assert_eq!(texts(&page), ["in 1", "in 2"]);
        let next = store.reader().unprinted(page[1].row, 2).unwrap();
        assert_eq!(texts(&next), ["in 3", "in 4"]);

        let rows = page.iter().chain(&next).map(|message| message.row).collect();
        store.commit([Change::MarkPrinted(rows)]).unwrap();
        assert_eq!(texts(&store.reader().unprinted(0, 9).unwrap()), ["in 5"]);
        // Known again is not new.
        store.commit([receive(received(1))]).unwrap();
        assert_eq!(texts(&store.reader().unprinted(0, 9).unwrap()), ["in 5"]);
    }

    #[test]
    fn a_message_that_is_not_there_is_not_found() {
        assert_eq!(store().reader().message(id(1, 1)).unwrap(), None);
    }
}
