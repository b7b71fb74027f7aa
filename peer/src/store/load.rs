//! What a node starts from.

use parlor_common::id::{DeviceId, MessageId, SessionId, Username};
use parlor_common::time::Timestamp;
use rusqlite::Row;
use zeroize::Zeroizing;

use super::columns::{Key, Millis, SecretBytes, Text};
use super::read::{Reader, message_id};
use super::{ReadError, Store, lock};
use crate::node::record::{
    Carrier, Direction, EphemeralHash, MessageState, OutboxMessage, Sealed, Start, StoredSession,
};

impl Store {
    /// What a node starts from. The node that starts has seen nobody: from here on, nobody counts
    /// as online. And it is one start more.
    pub fn load(&mut self) -> Result<Start, ReadError> {
        let reader = self.reader();
        reader.db.execute("UPDATE contacts SET online = FALSE WHERE online", [])?;
        reader.db.execute("UPDATE identity SET starts = min(starts, 1 << 53) + 1", [])?;
        lock(&self.backlog).written();
        let contacts = reader.contacts()?;
        Ok(Start {
            identity: reader.identity()?,
            contacts: contacts.into_iter().map(|listed| listed.contact).collect(),
            sessions: reader.sessions()?,
            prekeys: reader.prekeys()?,
            outbox: reader.outbox()?,
            last_sent: reader.last_sent()?,
            next_expiry: reader.next_expiry()?,
            ephemerals: reader.ephemerals()?,
            prekeys_seen: reader.prekeys_seen()?,
            starts: reader.starts()?,
        })
    }
}

/// A prekey's id and its encoded secret half.
type StoredPrekey = (u32, Zeroizing<Vec<u8>>);

impl Reader {
    fn sessions(&self) -> Result<Vec<StoredSession>, ReadError> {
        self.all(
            "SELECT device, session, used, opened_at, state FROM sessions ORDER BY id",
            [],
            session,
        )
    }

    fn prekeys(&self) -> Result<Vec<StoredPrekey>, ReadError> {
        self.all("SELECT id, secret FROM prekeys ORDER BY id", [], |row| {
            Ok((row.get(0)?, row.get::<_, SecretBytes>(1)?.0))
        })
    }

    fn ephemerals(&self) -> Result<Vec<(EphemeralHash, Timestamp)>, ReadError> {
        self.all("SELECT hash, at FROM ephemerals", [], |row| {
            Ok((EphemeralHash(row.get(0)?), row.get::<_, Millis>(1)?.0))
        })
    }

    fn prekeys_seen(&self) -> Result<Vec<(DeviceId, Timestamp)>, ReadError> {
        self.all("SELECT device, made_at FROM prekeys_seen", [], |row| {
            Ok((DeviceId(row.get(0)?), row.get::<_, Millis>(1)?.0))
        })
    }

    fn starts(&self) -> Result<u64, ReadError> {
        let starts = self.db.query_one("SELECT starts FROM identity", [], |row| row.get(0));
        Ok(starts.map(i64::cast_unsigned)?)
    }

    /// The last message to each contact, if it is one of the newest in the conversation: the search
    /// must not go through all of it.
    fn last_sent(&self) -> Result<Vec<(Username, MessageId)>, ReadError> {
        let sql = "SELECT p.name, i.incarnation, m.number FROM contacts c \
                   JOIN people p ON p.id = c.person JOIN messages m ON m.id = (\
                   SELECT id FROM (SELECT id, direction, place FROM messages \
                   WHERE person = c.person ORDER BY place DESC LIMIT 1000) \
                   WHERE direction = ?1 ORDER BY place DESC LIMIT 1) \
                   JOIN incarnations i ON i.id = m.incarnation";
        self.all(sql, [Direction::Out], |row| {
            Ok((row.get::<_, Text<Username>>(0)?.0, message_id(row, 1, 2)?))
        })
    }

    /// When the next message is to be erased.
    pub(super) fn next_expiry(&self) -> Result<Option<Timestamp>, ReadError> {
        let sql = "SELECT min(expires_at) FROM messages WHERE expires_at IS NOT NULL";
        let at = self.db.prepare_cached(sql)?.query_one([], |row| row.get::<_, Option<Millis>>(0));
        Ok(at?.map(|Millis(at)| at))
    }

    fn outbox(&self) -> Result<Vec<OutboxMessage>, ReadError> {
        let sql = "SELECT i.incarnation, m.number, p.name, m.text, m.sent_at, m.state, \
                   o.account_key, o.device, o.session, o.envelope, m.carrier, \
                   o.after_incarnation, o.after_number, o.disappears, o.posted_at FROM outbox o \
                   JOIN messages m ON m.id = o.message JOIN people p ON p.id = m.person \
                   JOIN incarnations i ON i.id = m.incarnation ORDER BY o.message";
        self.all(sql, [], outbox_message)
    }
}

fn session(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    Ok(StoredSession {
        device: DeviceId(row.get(0)?),
        id: SessionId(row.get(1)?),
        used: row.get::<_, i64>(2)?.cast_unsigned(),
        opened_at: row.get::<_, Millis>(3)?.0,
        state: row.get::<_, SecretBytes>(4)?.0,
    })
}

fn outbox_message(row: &Row<'_>) -> rusqlite::Result<OutboxMessage> {
    let (state, sealed) = (row.get(5)?, sealed(row)?);
    let carrier: Option<Carrier> = row.get(10)?;
    let posted_at = row.get::<_, Option<Millis>>(14)?.map(|Millis(at)| at);
    let after = row.get::<_, Option<[u8; 8]>>(11)?.map(|_| message_id(row, 11, 12));
    Ok(OutboxMessage {
        id: message_id(row, 0, 1)?,
        to: row.get::<_, Text<Username>>(2)?.0,
        text: row.get(3)?,
        sent_at: row.get::<_, Millis>(4)?.0,
        account_key: row.get::<_, Option<Key>>(6)?.map(|key| key.0),
        after: after.transpose()?,
        disappears: row.get(13)?,
        posted: posted_at.filter(|_| {
            sealed.is_some() && (state, carrier) == (MessageState::Sent, Some(Carrier::Mailbox))
        }),
        sealed,
        state,
    })
}

fn sealed(row: &Row<'_>) -> rusqlite::Result<Option<Sealed>> {
    let Some(envelope) = row.get(9)? else { return Ok(None) };
    let (device, session) = (DeviceId(row.get(7)?), SessionId(row.get(8)?));
    Ok(Some(Sealed { device, session, envelope }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::record::{Change, Contact, MessageState};
    use crate::store::fixture::{
        account, contact, device_list, id, identity, name, put, queue, queued, receive, received,
        sealed, store,
    };

    fn stored_session(byte: u8, used: u64) -> StoredSession {
        let state = Zeroizing::new(vec![byte; 1500]);
        let (device, id) = (DeviceId([8; 16]), SessionId([byte; 16]));
        StoredSession { device, id, used, opened_at: Timestamp::from_millis(77), state }
    }

    #[test]
    fn a_node_starts_from_what_was_saved() {
        let mut store = store();
        let mut second = queued(2);
        (second.sealed, second.account_key) = (Some(sealed(1)), None);
        let carol = Contact {
            changed_key: Some(account(4)),
            verified: false,
            devices: None,
            ..contact("carol")
        };
        let changes = [
            put(contact("bob")),
            put(contact("carol")),
            put(carol.clone()),
            queue(queued(1)),
            queue(second.clone()),
            queue(queued(3)),
            Change::SetMessageState(id(1, 3), MessageState::Sent, None),
            Change::PutSession(stored_session(1, 1)),
            Change::PutSession(stored_session(2, u64::MAX)),
            Change::PutPrekey(u32::MAX, Zeroizing::new(vec![1])),
            Change::PutPrekey(1, Zeroizing::new(vec![2])),
            Change::PutPrekey(1, Zeroizing::new(vec![3])),
            receive(received(1)),
        ];
        store.commit(&changes).unwrap();
        let start = store.load().unwrap();
        assert_eq!(start.contacts, [contact("bob"), carol]);
        let third = OutboxMessage { state: MessageState::Sent, ..queued(3) };
        assert_eq!(start.outbox, [queued(1), second, third]);
        assert_eq!(start.sessions, [stored_session(1, 1), stored_session(2, u64::MAX)]);
        let prekeys = [(1, Zeroizing::new(vec![3])), (u32::MAX, Zeroizing::new(vec![1]))];
        assert_eq!(start.prekeys, prekeys);
    }

    #[test]
    fn what_was_erased_is_not_loaded() {
        let mut store = store();
        let replaced = StoredSession { used: 5, ..stored_session(2, 1) };
        let changes = [
            put(contact("bob")),
            queue(queued(1)),
            queue(queued(2)),
            Change::PutSession(stored_session(1, 1)),
            Change::PutSession(stored_session(2, 1)),
            Change::PutPrekey(1, Zeroizing::new(vec![2])),
            Change::RemoveContact(name("bob")),
            Change::SetMessageState(id(1, 1), MessageState::Delivered, None),
            Change::SetMessageState(id(1, 2), MessageState::Failed, None),
            Change::RemoveSession(DeviceId([8; 16]), SessionId([1; 16])),
            Change::PutSession(replaced.clone()),
            Change::RemovePrekey(1),
        ];
        store.commit(&changes).unwrap();
        let start = store.load().unwrap();
        assert_eq!((start.contacts, start.outbox), (vec![], vec![]));
        assert_eq!((start.sessions, start.prekeys), (vec![replaced], vec![]));
    }

    #[test]
    fn the_identity_comes_back_whole_and_only_its_device_list_changes() {
        let mut store = store();
        store.commit(&[Change::PutOwnDevices(Box::new(device_list("alice", 6)))]).unwrap();
        let (found, stored) = (store.load().unwrap().identity, identity());
        assert_eq!((found.name, found.server), (stored.name, stored.server));
        assert_eq!(found.account_key, stored.account_key);
        assert_eq!(found.devices, device_list("alice", 6));
        assert_eq!(found.device.expose_seed(), stored.device.expose_seed());
        assert_eq!(found.dh.secret().expose_bytes(), stored.dh.secret().expose_bytes());
        assert_eq!(found.dh.public(), stored.dh.public());
    }

    #[test]
    fn at_a_start_nobody_counts_as_online() {
        let mut store = store();
        let (bob, dave) = (name("bob"), name("dave"));
        let online = [
            put(contact("bob")),
            Change::SetOnline(bob, true),
            put(contact("bob")),
            Change::SetOnline(dave, true),
        ];
        store.commit(&online).unwrap();
        let seen = |store: &Store| -> Vec<bool> {
            store.reader().contacts().unwrap().iter().map(|listed| listed.online).collect()
        };
        assert_eq!(seen(&store), [true]);
        store.load().unwrap();
        assert_eq!(seen(&store), [false]);
    }
}
