//! A new account key: asked for, and adopted once the rendezvous has it.

use parlor_common::device_list::SignedDeviceList;
use rusqlite::OptionalExtension;

use super::Writer;
use crate::node::record::{FailReason, MessageState};
use crate::store::columns::Json;

impl Writer<'_> {
    pub(super) fn put_rekeying(&self, devices: &SignedDeviceList) -> rusqlite::Result<()> {
        self.run("INSERT OR REPLACE INTO rekeying VALUES (1, ?1)", [Json(devices)]).map(drop)
    }

    pub(super) fn forget_rekeying(&self) -> rusqlite::Result<()> {
        self.run("DELETE FROM rekeying", []).map(drop)
    }

    /// What was sent under the old key is still this account's: its writer gets the new one.
    pub(super) fn adopt_rekeying(&mut self) -> rusqlite::Result<()> {
        let mut query = self.db.prepare_cached("SELECT devices FROM rekeying")?;
        let found: Option<Json<SignedDeviceList>> =
            query.query_row([], |row| row.get(0)).optional()?;
        let Some(Json(devices)) = found else { return Ok(()) };
        let (old, new) = (self.own, devices.claimed_account_key());
        let writer = "UPDATE writers SET account_key = ?2 WHERE account_key = ?1";
        self.run(writer, (old.as_bytes(), new.as_bytes()))?;
        let identity = "UPDATE identity SET account_key = ?1, devices = ?2";
        self.run(identity, (new.as_bytes(), Json(&devices)))?;
        self.own = new;
        self.incarnations.clear();
        let failed = "UPDATE messages SET state = ?1, reason = ?2 \
                      WHERE id IN (SELECT message FROM outbox WHERE envelope IS NOT NULL)";
        self.run(failed, (MessageState::Failed, FailReason::OwnKeyChanged))?;
        self.run("DELETE FROM outbox WHERE envelope IS NOT NULL", [])?;
        self.run("DELETE FROM sessions", [])?;
        self.forget_rekeying()
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::id::{DeviceId, SessionId};
    use parlor_common::identity::AccountSecret;
    use parlor_common::time::Timestamp;
    use zeroize::Zeroizing;

    use super::*;
    use crate::node::record::{Change, StoredSession};
    use crate::store::fixture::{contact, id, identity, name, put, queue, queued, sealed, store};

    /// The next list of the fixture's account, under another key.
    fn rekeyed() -> SignedDeviceList {
        let identity = identity();
        let list = identity.devices.verify(&identity.name, &identity.account_key).unwrap();
        let (key, entry) = (AccountSecret::from_seed(&[99; 32]), list.newest().unwrap().clone());
        list.rekeyed(key.public(), entry, Timestamp::from_millis(9)).sign(&key, None)
    }

    #[test]
    fn what_was_asked_for_is_kept_until_it_is_known_what_came_of_it() {
        let mut store = store();
        assert_eq!(store.reader().rekeying().unwrap(), None);
        store.commit(&[Change::PutRekeying(Box::new(rekeyed()))]).unwrap();
        assert_eq!(store.reader().rekeying().unwrap(), Some(rekeyed()));
        assert_eq!(store.reader().identity().unwrap().account_key, identity().account_key);
        store.commit(&[Change::ForgetRekeying]).unwrap();
        assert_eq!(store.reader().rekeying().unwrap(), None);
        store.commit(&[Change::AdoptRekeying]).unwrap();
        assert_eq!(store.reader().identity().unwrap().account_key, identity().account_key);
    }

    #[test]
    fn with_a_new_key_sessions_end_and_what_may_have_arrived_counts_as_failed() {
        let mut store = store();
        let session = StoredSession {
            device: DeviceId([8; 16]),
            id: SessionId([1; 16]),
            used: 1,
            opened_at: Timestamp::from_millis(7),
            state: Zeroizing::new(vec![1; 100]),
        };
        let mut on_its_way = queued(1);
        on_its_way.sealed = Some(sealed(1));
        let changes = [
            put(contact("bob")),
            queue(on_its_way),
            queue(queued(2)),
            Change::PutSession(session),
            Change::PutRekeying(Box::new(rekeyed())),
        ];
        store.commit(&changes).unwrap();
        // What follows in the same transaction is of the new key already.
        let delivered = Change::SetMessageState(id(1, 2), MessageState::Delivered, None);
        store.commit(&[Change::AdoptRekeying, queue(queued(3))]).unwrap();

        let start = store.load().unwrap();
        assert_eq!(start.identity.account_key, rekeyed().claimed_account_key());
        assert_eq!((start.identity.devices, start.sessions), (rekeyed(), vec![]));
        assert_eq!(start.outbox, [queued(2), queued(3)]);
        assert_eq!(store.reader().rekeying().unwrap(), None);
        store.commit(&[delivered]).unwrap();
        let history = store.reader().history(&name("bob"), 50, None).unwrap();
        let states: Vec<_> = history.iter().map(|message| message.state).collect();
        let expected = [MessageState::Failed, MessageState::Delivered, MessageState::Queued];
        assert_eq!(states, expected);
    }
}
