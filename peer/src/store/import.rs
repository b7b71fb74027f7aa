//! Brings messages from a file back: all of them, or none.

use rusqlite::TransactionBehavior;

use super::known::Known;
use super::write::{Importer, Writer};
use super::{CommitError, Store, lock};
use crate::archive::ArchivedMessage;

/// What came of an import.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// How many messages the file has.
    pub messages: u64,
    /// How many of them were not here.
    pub new: u64,
}

impl Store {
    /// Keeps messages, in one transaction: the first error of `messages` undoes all. One that is
    /// here already stays as it is. Sessions, contacts and the outbox are not touched, and no
    /// `listen` prints what was imported.
    pub fn import<E: From<CommitError>>(
        &mut self,
        messages: impl Iterator<Item = Result<ArchivedMessage, E>>,
    ) -> Result<Imported, E> {
        let mut backlog = lock(&self.backlog);
        backlog.flush(self.own)?;
        backlog.written();
        let db = &mut self.database.lock().db;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(CommitError::from)?;
        let mut inserter = Importer::new(Writer::new(&transaction, self.own));
        let mut imported = Imported::default();
        for message in messages {
            imported.messages += 1;
            let new = inserter.import(&message?).map_err(CommitError::from)?;
            imported.new += u64::from(new);
        }
        transaction.commit().map_err(CommitError::from)?;
        self.known = Known::of(db).map_err(CommitError::from)?;
        Ok(imported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::record::{Change, MessageState};
    use crate::store::fixture::{contact, id, name, put, queue, queued, receive, received, store};

    #[derive(Debug)]
    enum Stop {
        Bad,
        Commit,
    }

    impl From<CommitError> for Stop {
        fn from(_: CommitError) -> Self {
            Self::Commit
        }
    }

    fn exported(store: &Store) -> Vec<ArchivedMessage> {
        let found = store.reader().history(&name("bob"), 50, None).unwrap();
        found.into_iter().map(|message| ArchivedMessage::of(message, &name("alice"))).collect()
    }

    fn conversation() -> Vec<ArchivedMessage> {
        let mut store = store();
        let delivered = Change::SetMessageState(id(1, 1), MessageState::Delivered, None);
        let changes = [queue(queued(1)), receive(received(1)), queue(queued(2)), delivered];
        store.commit(changes).unwrap();
        exported(&store)
    }

    fn import(store: &mut Store, messages: &[ArchivedMessage]) -> Imported {
        store.import(messages.iter().cloned().map(Ok::<_, Stop>)).unwrap()
    }

    #[test]
    fn what_was_exported_comes_back_once() {
        let mut store = store();
        let messages = conversation();
        assert_eq!(import(&mut store, &messages), Imported { messages: 3, new: 3 });
        let back = exported(&store);
        assert_eq!(back[..2], messages[..2]);
        assert_eq!(back[2], ArchivedMessage { state: MessageState::Failed, ..messages[2].clone() });
        assert_eq!(import(&mut store, &messages), Imported { messages: 3, new: 0 });
        assert_eq!(exported(&store), back);
        assert_eq!(store.reader().waiting(&name("bob")).unwrap(), 0);
        assert_eq!(store.reader().unprinted(0, 9).unwrap(), []);
        assert_eq!(store.reader().contacts().unwrap(), []);
        assert_eq!(store.reader().history(&name("bob"), 9, Some("out")).unwrap().len(), 2);
    }

    #[test]
    fn what_is_here_stays_as_it_is_and_what_is_older_comes_before_it() {
        let mut store = store();
        store.commit([receive(received(1)), queue(queued(2))]).unwrap();
        let before = exported(&store);
        assert_eq!(import(&mut store, &conversation()).new, 1);
        let after = exported(&store);
        assert_eq!(after[1..], before);
        assert_eq!(after[0].text, "out 1");
        assert_eq!(store.reader().waiting(&name("bob")).unwrap(), 1);
    }

    #[test]
    fn what_arrives_again_of_a_known_contact_is_known() {
        let mut store = store();
        store.commit([put(contact("bob"))]).unwrap();
        import(&mut store, &conversation());
        let saved = store.commit([receive(received(1))]).unwrap();
        assert_eq!(saved, [crate::node::record::Saved::Received(None)]);
        assert_eq!(exported(&store).len(), 3);
    }

    #[test]
    fn one_bad_line_undoes_all() {
        let mut store = store();
        let [first, ..] = &conversation()[..] else { panic!("there are messages") };
        let lines = [Ok(first.clone()), Err(Stop::Bad)];
        assert!(matches!(store.import(lines.into_iter()), Err(Stop::Bad)));
        assert_eq!(exported(&store), []);
        assert_eq!(import(&mut store, std::slice::from_ref(first)).new, 1);
    }
}
