//! Commits that go into the database together.
//!
//! Of what happened to one thing only the end is written: a message that was queued, sealed, sent
//! and delivered meanwhile is one row, and of the states of a session the last one counts.

use std::collections::HashMap;

use parlor_common::id::{DeviceId, MessageId, SessionId};
use parlor_common::identity::AccountKey;
use rusqlite::{Connection, TransactionBehavior};

use super::journal::{Entry, Record};
use super::write::Writer;
use crate::node::record::{Carrier, Change, MessageState, OutboxMessage, ReceivedMessage, Sealed};

/// Commits, in order.
#[derive(Debug, Default)]
pub(super) struct Group {
    records: Vec<Record>,
    /// About how many bytes it holds in memory.
    size: usize,
}

impl Group {
    /// Adds a commit.
    pub(super) fn push(&mut self, record: Record) {
        self.size += record.entries.iter().map(|entry| size(&entry.change)).sum::<usize>();
        self.records.push(record);
    }

    /// Adds what was committed later.
    pub(super) fn append(&mut self, mut later: Self) {
        self.records.append(&mut later.records);
        self.size += later.size;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// About how many bytes it holds in memory.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Writes all of it or nothing, for the account whose key is `own`; nothing if the database has
    /// it already.
    pub(super) fn apply(&self, db: &mut Connection, own: AccountKey) -> rusqlite::Result<()> {
        let Some(Record { number: last, .. }) = self.records.last() else { return Ok(()) };
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if applied(&transaction)? >= *last {
            return Ok(());
        }
        let mut writer = Writer::new(&transaction, own);
        Writes::of(&self.records).iter().try_for_each(|write| writer.write(write))?;
        let sql = "UPDATE journal SET applied = ?1";
        transaction.prepare_cached(sql)?.execute([last.cast_signed()])?;
        transaction.commit()
    }
}

/// The number of the last record that the database has.
pub(super) fn applied(db: &Connection) -> rusqlite::Result<u64> {
    let applied = db.query_one("SELECT applied FROM journal", [], |row| row.get(0));
    applied.map(i64::cast_unsigned)
}

/// About how many bytes a change has.
pub(super) fn size(change: &Change) -> usize {
    const ROUGHLY: usize = 200;
    let long = match change {
        Change::QueueMessage(message) => {
            message.text.len() + message.sealed.as_ref().map_or(0, |sealed| sealed.envelope.len())
        }
        Change::Receive(message) => message.text.len(),
        Change::PutSession(session) => session.state.len(),
        Change::SealMessage(_, sealed) => sealed.envelope.len(),
        Change::Edit(_, text) => text.len(),
        Change::PutContact(_)
        | Change::PutOwnDevices(_)
        | Change::PutPrekey(..)
        | Change::PutRekeying(_) => 2000,
        Change::AdoptRekeying
        | Change::EraseExpired(_)
        | Change::Fail(..)
        | Change::FindLastReceived(..)
        | Change::FindOpened(_)
        | Change::ForgetEphemeral(_)
        | Change::ForgetRekeying
        | Change::MarkPrinted(_)
        | Change::MarkRead(..)
        | Change::Posted(..)
        | Change::PutStarts(_)
        | Change::RememberEphemeral(..)
        | Change::RememberOpened(_)
        | Change::RemoveContact(_)
        | Change::RemovePrekey(_)
        | Change::RemoveSession(..)
        | Change::SawPrekey(..)
        | Change::SetMessageState(..)
        | Change::SetOnline(..)
        | Change::TakeBack(_) => 0,
    };
    ROUGHLY + long
}

/// Something to write.
#[derive(Debug)]
pub(super) enum Write<'a> {
    Change(&'a Change, Option<i64>),
    /// Something later stands for it.
    Nothing,
    Printed(Vec<i64>),
    Queue(Queued<'a>),
    /// A message that is new, and newer than all of its incarnation.
    Receive {
        message: &'a ReceivedMessage,
        row: Option<i64>,
        printed: Printed,
    },
    State(Reached),
}

/// How far a message has come.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) id: MessageId,
    pub(super) row: Option<i64>,
    pub(super) state: MessageState,
    pub(super) carrier: Option<Carrier>,
}

/// Whether a `listen` has printed a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Printed {
    NotYet,
    Already,
}

/// A message that was queued, and how far it has come.
#[derive(Debug)]
pub(super) struct Queued<'a> {
    pub(super) message: &'a OutboxMessage,
    pub(super) row: Option<i64>,
    pub(super) sealed: Option<&'a Sealed>,
    pub(super) state: MessageState,
    pub(super) carrier: Option<Carrier>,
}

impl<'a> Queued<'a> {
    /// One that was only queued.
    pub(super) const fn new(message: &'a OutboxMessage, row: Option<i64>) -> Self {
        let sealed = message.sealed.as_ref();
        Self { message, row, sealed, state: message.state, carrier: None }
    }
}

/// What is to be written, and where it stands what later changes can be put into.
#[derive(Debug, Default)]
struct Writes<'a> {
    list: Vec<Write<'a>>,
    /// Of messages: where they are queued, or their state is set.
    sent: HashMap<MessageId, usize>,
    /// Of messages, by their rows.
    received: HashMap<i64, usize>,
    sessions: HashMap<(DeviceId, SessionId), usize>,
    /// Of messages that were queued before: where their newest sealed form is.
    sealed: HashMap<MessageId, usize>,
}

impl<'a> Writes<'a> {
    fn of(records: &'a [Record]) -> Vec<Write<'a>> {
        let mut writes = Self::default();
        records.iter().flat_map(|record| &record.entries).for_each(|entry| writes.add(entry));
        writes.list
    }

    fn add(&mut self, Entry { change, row }: &'a Entry) {
        match change {
            Change::QueueMessage(message) => {
                self.sent.insert(message.id, self.list.len());
                self.list.push(Write::Queue(Queued::new(message, *row)));
            }
            Change::SealMessage(id, sealed) => {
                if let Some(Write::Queue(queued)) = self.sent(*id) {
                    queued.sealed = Some(sealed);
                } else {
                    let later = self.sealed.insert(*id, self.list.len());
                    self.drop_write(later);
                    self.list.push(Write::Change(change, *row));
                }
            }
            Change::SetMessageState(id, state, carrier) => {
                let (id, row, state, carrier) = (*id, *row, *state, *carrier);
                self.set_state(Reached { id, row, state, carrier });
            }
            Change::Receive(message) => {
                self.received.extend(row.map(|row| (row, self.list.len())));
                let printed = Printed::NotYet;
                self.list.push(Write::Receive { message, row: *row, printed });
            }
            Change::MarkPrinted(rows) => self.mark_printed(rows),
            Change::PutSession(session) => {
                let later = self.sessions.insert((session.device, session.id), self.list.len());
                self.drop_write(later);
                self.list.push(Write::Change(change, None));
            }
            Change::RemoveSession(device, session) => {
                let later = self.sessions.remove(&(*device, *session));
                self.drop_write(later);
                self.list.push(Write::Change(change, None));
            }
            Change::RememberOpened(_) => self.list.push(Write::Change(change, None)),
            // Everything else may hang on what is in the tables when it is written.
            Change::AdoptRekeying
            | Change::Edit(..)
            | Change::EraseExpired(_)
            | Change::Fail(..)
            | Change::FindLastReceived(..)
            | Change::FindOpened(_)
            | Change::ForgetEphemeral(_)
            | Change::ForgetRekeying
            | Change::MarkRead(..)
            | Change::Posted(..)
            | Change::PutContact(_)
            | Change::PutOwnDevices(_)
            | Change::PutPrekey(..)
            | Change::PutRekeying(_)
            | Change::PutStarts(_)
            | Change::RememberEphemeral(..)
            | Change::RemoveContact(_)
            | Change::RemovePrekey(_)
            | Change::SawPrekey(..)
            | Change::SetOnline(..)
            | Change::TakeBack(_) => {
                let list = std::mem::take(&mut self.list);
                *self = Self { list, ..Self::default() };
                self.list.push(Write::Change(change, *row));
            }
        }
    }

    fn sent(&mut self, id: MessageId) -> Option<&mut Write<'a>> {
        self.list.get_mut(*self.sent.get(&id)?)
    }

    fn set_state(&mut self, reached: Reached) {
        if !reached.state.waits() {
            // It leaves the outbox.
            let sealed = self.sealed.remove(&reached.id);
            self.drop_write(sealed);
        }
        let known = match self.sent(reached.id) {
            Some(
                Write::Queue(Queued { state, carrier, .. })
                | Write::State(Reached { state, carrier, .. }),
            ) => Some((state, carrier)),
            _ => None,
        };
        let Some((known, known_carrier)) = known else {
            self.sent.insert(reached.id, self.list.len());
            return self.list.push(Write::State(reached));
        };
        if rank(reached.state) >= rank(*known) {
            *known = reached.state;
            *known_carrier = reached.carrier.or(*known_carrier);
        }
    }

    fn mark_printed(&mut self, rows: &[i64]) {
        let mut others = Vec::new();
        for row in rows {
            let place = self.received.get(row).copied();
            match place.and_then(|place| self.list.get_mut(place)) {
                Some(Write::Receive { printed, .. }) => *printed = Printed::Already,
                _ => others.push(*row),
            }
        }
        if !others.is_empty() {
            self.list.push(Write::Printed(others));
        }
    }

    fn drop_write(&mut self, place: Option<usize>) {
        if let Some(write) = place.and_then(|place| self.list.get_mut(place)) {
            *write = Write::Nothing;
        }
    }
}

/// The order in which a message goes through its states, as in the database.
const fn rank(state: MessageState) -> u8 {
    match state {
        MessageState::Queued => 1,
        MessageState::Sent => 2,
        MessageState::Failed => 3,
        MessageState::Delivered => 4,
        MessageState::Read => 5,
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::time::Timestamp;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use zeroize::Zeroizing;

    use super::*;
    use crate::node::record::{StoredMessage, StoredSession};
    use crate::store::Store;
    use crate::store::fixture::{
        contact, id, identity, name, put, queue, queued, receive, received, sealed, store,
    };

    fn delivered(number: u64) -> Change {
        let (state, carrier) = (MessageState::Delivered, Some(Carrier::Direct));
        Change::SetMessageState(id(1, number), state, carrier)
    }

    fn session(session: u8, state: u8) -> Change {
        let (device, id) = (DeviceId([8; 16]), SessionId([session; 16]));
        let (opened_at, state) = (Timestamp::default(), Zeroizing::new(vec![state; 99]));
        Change::PutSession(StoredSession { device, id, used: 1, opened_at, state })
    }

    fn writes(changes: &[Change]) -> Vec<String> {
        let entries = |change: &Change| vec![Entry { change: change.clone(), row: Some(1) }];
        let records = changes.iter().map(|change| Record { number: 1, entries: entries(change) });
        let records: Vec<_> = records.collect();
        let writes = Writes::of(&records);
        let lasting = writes.iter().filter(|write| !matches!(write, Write::Nothing));
        lasting.map(|write| format!("{write:?}")).collect()
    }

    #[test]
    fn a_message_that_was_delivered_meanwhile_is_one_row_and_leaves_no_envelope() {
        let changes = [
            queue(queued(1)),
            Change::SealMessage(id(1, 1), sealed(1)),
            session(1, 1),
            Change::SetMessageState(id(1, 1), MessageState::Sent, None),
            delivered(1),
            session(1, 2),
        ];
        assert_eq!(writes(&changes).len(), 2);
        let mut store = store();
        store.commit(changes).unwrap();
        let message = store.reader().message(id(1, 1)).unwrap().unwrap();
        assert_eq!(message.state, MessageState::Delivered);
        assert_eq!(message.carrier, Some(Carrier::Direct));
        let start = store.load().unwrap();
        assert_eq!((start.outbox, start.sessions.len()), (vec![], 1));
        assert_eq!(start.sessions[0].state[..], [2; 99]);
    }

    #[test]
    fn a_message_that_was_printed_meanwhile_never_waits_for_a_listener() {
        let changes = [receive(received(1)), Change::MarkPrinted(vec![1])];
        assert_eq!(writes(&changes).len(), 1);
        assert_eq!(writes(&[Change::MarkPrinted(vec![1, 2])]).len(), 1);
    }

    #[test]
    fn what_may_hang_on_the_tables_parts_what_comes_before_from_what_comes_after() {
        let contact = put(contact("bob"));
        assert_eq!(writes(&[session(1, 1), contact, session(1, 2)]).len(), 3);
    }

    /// Changes as a node makes them, in an order that it would not always choose.
    fn random_change(rng: &mut StdRng, sent: &mut u64, got: &mut u32) -> Change {
        let states = [
            MessageState::Queued,
            MessageState::Sent,
            MessageState::Failed,
            MessageState::Delivered,
            MessageState::Read,
        ];
        let carriers = [Carrier::Direct, Carrier::Mailbox];
        let some = |rng: &mut StdRng, sent: u64| id(1, rng.random_range(1..=sent.max(1)));
        match rng.random_range(0..18) {
            0..3 => {
                *sent += 1;
                queue(queued(*sent))
            }
            3..5 => Change::SealMessage(some(rng, *sent), sealed(rng.random_range(0..9))),
            5..10 => {
                let state = states[rng.random_range(0..states.len())];
                let carrier = Some(carriers[rng.random_range(0..2)]);
                Change::SetMessageState(some(rng, *sent), state, carrier)
            }
            10..12 => {
                *got += u32::from(rng.random_range(0..5) > 0);
                receive(received(*got))
            }
            12..14 => Change::MarkPrinted(vec![rng.random_range(1..20)]),
            14..16 => session(rng.random_range(1..4), rng.random_range(0..9)),
            16 => Change::RemoveSession(DeviceId([8; 16]), SessionId([rng.random_range(1..4); 16])),
            _ if rng.random_range(0..2) > 0 => put(contact("bob")),
            _ => Change::RemoveContact(name("bob")),
        }
    }

    type Contents = (Vec<StoredMessage>, Vec<StoredMessage>, String, String);

    fn contents(store: &mut Store) -> Contents {
        let start = store.load().unwrap();
        let reader = store.reader();
        let mut sessions: Vec<_> =
            start.sessions.iter().map(|session| (session.id, session.state.to_vec())).collect();
        sessions.sort();
        (
            reader.history(&name("bob"), 500, None).unwrap(),
            reader.unprinted(0, 500).unwrap(),
            format!("{:?}", start.outbox),
            format!("{:?} {sessions:?}", start.contacts),
        )
    }

    #[test]
    fn many_commits_together_leave_what_each_by_itself_would() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut together, mut alone) = (store(), store());
            let (mut sent, mut got) = (0, 0);
            for _ in 0..60 {
                let change = random_change(&mut rng, &mut sent, &mut got);
                let saved = together.commit([change.clone()]).unwrap();
                assert_eq!(alone.commit([change]).unwrap(), saved, "seed {seed}");
                alone.flush().unwrap();
            }
            assert_eq!(contents(&mut together), contents(&mut alone), "seed {seed}");
        }
    }

    #[test]
    fn a_group_that_the_database_has_changes_nothing() {
        let mut db = Connection::open_in_memory().unwrap();
        crate::store::schema::migrate(&mut db).unwrap();
        let mut group = Group::default();
        let entries = vec![Entry { change: receive(received(1)), row: Some(5) }];
        group.push(Record { number: 3, entries });
        for _ in 0..2 {
            group.apply(&mut db, identity().account_key).unwrap();
        }
        let count = db.query_one("SELECT count(*), max(id) FROM messages", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        assert_eq!((count, applied(&db)), (Ok((1, 5)), Ok(3)));
    }
}
