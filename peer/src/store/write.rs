//! Changes as SQL: contacts, sessions, prekeys. Everything here runs inside one transaction of the
//! caller.

mod import;
mod messages;
mod order;
mod rekeying;
mod states;

use std::collections::BTreeMap;

use parlor_common::device_list::SignedDeviceList;
use parlor_common::id::{DeviceId, Incarnation, SessionId, Username};
use parlor_common::identity::AccountKey;
use parlor_common::link::{Link, Target};
use parlor_common::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, named_params};

pub(super) use self::import::Importer;
use super::columns::{Json, Millis};
use super::group::{Queued, Reached, Write};
use crate::node::record::{Change, Contact, EphemeralHash, Identity, Saved, StoredSession};

/// Applies changes, and remembers for the length of one transaction which small numbers stand for
/// which long names.
pub(super) struct Writer<'a> {
    db: &'a Connection,
    own: AccountKey,
    people: BTreeMap<Username, i64>,
    incarnations: BTreeMap<(AccountKey, Incarnation), i64>,
    sessions: BTreeMap<SessionId, i64>,
    /// Of people and incarnations: the incarnation that follows there, if one does.
    followers: BTreeMap<(i64, i64), Option<i64>>,
}

impl<'a> Writer<'a> {
    /// A writer for the account whose key is `own`.
    pub(super) const fn new(db: &'a Connection, own: AccountKey) -> Self {
        Self {
            db,
            own,
            people: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            sessions: BTreeMap::new(),
            followers: BTreeMap::new(),
        }
    }

    /// The account's key, which a change may have replaced.
    pub(super) const fn own(&self) -> AccountKey {
        self.own
    }

    /// Applies what came of many changes.
    pub(super) fn write(&mut self, write: &Write<'_>) -> rusqlite::Result<()> {
        match write {
            Write::Change(change, row) => self.apply(change, *row).map(drop),
            Write::Nothing => Ok(()),
            Write::Printed(rows) => self.mark_printed(rows),
            Write::Queue(queued) => self.queue(queued),
            Write::Receive { message, row, printed } => self.receive_new(message, *row, *printed),
            Write::State(reached) => self.set_state(reached),
        }
    }

    /// Applies a change, and gives the answer of one that has an answer. A message that is new gets
    /// this row, or the next one.
    pub(super) fn apply(
        &mut self,
        change: &Change,
        row: Option<i64>,
    ) -> rusqlite::Result<Option<Saved>> {
        match change {
            Change::PutContact(contact) => self.put_contact(contact)?,
            Change::RemoveContact(name) => self.remove_contact(name)?,
            Change::SetOnline(name, online) => self.set_online(name, *online)?,
            Change::PutOwnDevices(devices) => self.put_own_devices(devices)?,
            Change::PutRekeying(devices) => self.put_rekeying(devices)?,
            Change::AdoptRekeying => self.adopt_rekeying()?,
            Change::ForgetRekeying => self.forget_rekeying()?,
            Change::QueueMessage(message) => self.queue(&Queued::new(message, row))?,
            Change::SealMessage(id, sealed) => self.seal(*id, row, sealed)?,
            Change::SetMessageState(id, state, carrier) => {
                let (id, state, carrier) = (*id, *state, *carrier);
                self.set_state(&Reached { id, row, state, carrier })?;
            }
            Change::Posted(id, at) => self.posted(*id, row, *at)?,
            Change::Fail(id, reason) => self.fail(*id, *reason)?,
            Change::TakeBack(id) => self.take_back(*id)?,
            Change::Edit(id, text) => self.edit(*id, text)?,
            Change::MarkRead(contact, ranges) => return self.mark_read(contact, ranges).map(Some),
            Change::EraseExpired(at) => return self.erase_expired(*at).map(Some),
            Change::RememberOpened(envelope) => self.put_opened(envelope, None)?,
            Change::Receive(message) => return self.receive(message, row).map(Some),
            Change::FindOpened(envelope) => return self.find_opened(envelope).map(Some),
            Change::FindLastReceived(from, limit) => {
                return self.find_last_received(from, *limit).map(Some);
            }
            Change::MarkPrinted(rows) => self.mark_printed(rows)?,
            Change::PutSession(session) => self.put_session(session)?,
            Change::RemoveSession(device, session) => self.remove_session(*device, *session)?,
            Change::PutPrekey(id, secret) => self.put_prekey(*id, secret)?,
            Change::RemovePrekey(id) => self.remove_prekey(*id)?,
            Change::RememberEphemeral(hash, at) => self.remember_ephemeral(*hash, *at)?,
            Change::ForgetEphemeral(hash) => self.forget_ephemeral(*hash)?,
            Change::SawPrekey(device, made_at) => self.saw_prekey(*device, *made_at)?,
            Change::PutStarts(starts) => self.put_starts(*starts)?,
        }
        Ok(None)
    }

    fn put_contact(&mut self, contact: &Contact) -> rusqlite::Result<()> {
        let sql = "INSERT INTO contacts \
                   VALUES (:person, :state, :verified, :key, :changed, :devices, :policy, FALSE, \
                   :unsigned, :refused, :ours, :theirs) \
                   ON CONFLICT (person) DO UPDATE SET state = excluded.state, \
                   verified = excluded.verified, account_key = excluded.account_key, \
                   changed_key = excluded.changed_key, devices = excluded.devices, \
                   policy = excluded.policy, unsigned = excluded.unsigned, \
                   refused = excluded.refused, timer_ours = excluded.timer_ours, \
                   timer_theirs = excluded.timer_theirs";
        let params = named_params! {
            ":person": self.person(&contact.name)?,
            ":state": contact.state,
            ":verified": contact.verified,
            ":key": contact.account_key.as_ref().map(AccountKey::as_bytes),
            ":changed": contact.changed_key.as_ref().map(AccountKey::as_bytes),
            ":devices": contact.devices.as_ref().map(Json),
            ":policy": contact.policy,
            ":unsigned": Json(&contact.unsigned),
            ":refused": contact.refused.as_ref().map(Json),
            ":ours": contact.timers.ours,
            ":theirs": contact.timers.theirs,
        };
        self.run(sql, params).map(drop)
    }

    /// The name stays as long as messages stand under it.
    fn remove_contact(&mut self, name: &Username) -> rusqlite::Result<()> {
        let person = self.person(name)?;
        self.people.remove(name);
        self.run("DELETE FROM contacts WHERE person = ?1", [person])?;
        let unused = "DELETE FROM people WHERE id = ?1 \
                      AND NOT EXISTS (SELECT 1 FROM messages WHERE person = ?1)";
        self.run(unused, [person]).map(drop)
    }

    fn set_online(&self, name: &Username, online: bool) -> rusqlite::Result<()> {
        let sql = "UPDATE contacts SET online = ?2 \
                   WHERE person = (SELECT id FROM people WHERE name = ?1)";
        self.run(sql, (name.as_str(), online)).map(drop)
    }

    fn put_own_devices(&self, devices: &SignedDeviceList) -> rusqlite::Result<()> {
        self.run("UPDATE identity SET devices = ?1", [Json(devices)]).map(drop)
    }

    fn put_session(&self, session: &StoredSession) -> rusqlite::Result<()> {
        let sql = "INSERT INTO sessions (device, session, used, opened_at, state) \
                   VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET used = excluded.used, \
                   opened_at = excluded.opened_at, state = excluded.state";
        let StoredSession { device, id, used, opened_at, state } = session;
        let params = (device.0, id.0, used.cast_signed(), Millis(*opened_at), &**state);
        self.run(sql, params).map(drop)
    }

    fn remove_session(&self, device: DeviceId, session: SessionId) -> rusqlite::Result<()> {
        // What came by it without a message cannot come again.
        let opened = "DELETE FROM opened WHERE message IS NULL \
                      AND session = (SELECT id FROM session_ids WHERE session = ?1)";
        self.run(opened, [session.0])?;
        let sql = "DELETE FROM sessions WHERE device = ?1 AND session = ?2";
        self.run(sql, (device.0, session.0)).map(drop)
    }

    fn remember_ephemeral(&self, hash: EphemeralHash, at: Timestamp) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO ephemerals VALUES (?1, ?2)";
        self.run(sql, (hash.0, Millis(at))).map(drop)
    }

    fn forget_ephemeral(&self, hash: EphemeralHash) -> rusqlite::Result<()> {
        self.run("DELETE FROM ephemerals WHERE hash = ?1", [hash.0]).map(drop)
    }

    fn saw_prekey(&self, device: DeviceId, made_at: Timestamp) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO prekeys_seen VALUES (?1, ?2)";
        self.run(sql, (device.0, Millis(made_at))).map(drop)
    }

    fn put_starts(&self, starts: u64) -> rusqlite::Result<()> {
        self.run("UPDATE identity SET starts = ?1", [starts.cast_signed()]).map(drop)
    }

    fn put_prekey(&self, id: u32, secret: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO prekeys VALUES (?1, ?2) \
                   ON CONFLICT DO UPDATE SET secret = excluded.secret";
        self.run(sql, (id, secret)).map(drop)
    }

    fn remove_prekey(&self, id: u32) -> rusqlite::Result<()> {
        self.run("DELETE FROM prekeys WHERE id = ?1", [id]).map(drop)
    }

    fn person(&mut self, name: &Username) -> rusqlite::Result<i64> {
        if let Some(id) = self.people.get(name) {
            return Ok(*id);
        }
        let find = "SELECT id FROM people WHERE name = ?1";
        let insert = "INSERT INTO people (name) VALUES (?1)";
        let id = self.find_or_insert(find, insert, [name.as_str()])?;
        self.people.insert(name.clone(), id);
        Ok(id)
    }

    fn incarnation(
        &mut self,
        writer: AccountKey,
        incarnation: Incarnation,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.incarnations.get(&(writer, incarnation)) {
            return Ok(*id);
        }
        let find = "SELECT id FROM writers WHERE account_key = ?1";
        let insert = "INSERT INTO writers (account_key) VALUES (?1)";
        let writer_id = self.find_or_insert(find, insert, [writer.as_bytes()])?;
        let find = "SELECT id FROM incarnations WHERE incarnation = ?1 AND writer = ?2";
        let insert = "INSERT INTO incarnations (incarnation, writer) VALUES (?1, ?2)";
        let id = self.find_or_insert(find, insert, (incarnation.0, writer_id))?;
        self.incarnations.insert((writer, incarnation), id);
        Ok(id)
    }

    fn session(&mut self, session: SessionId) -> rusqlite::Result<i64> {
        if let Some(id) = self.sessions.get(&session) {
            return Ok(*id);
        }
        let find = "SELECT id FROM session_ids WHERE session = ?1";
        let insert = "INSERT INTO session_ids (session) VALUES (?1)";
        let id = self.find_or_insert(find, insert, [session.0])?;
        self.sessions.insert(session, id);
        Ok(id)
    }

    fn find_or_insert(
        &self,
        find: &str,
        insert: &str,
        params: impl Params + Copy,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(find, params)? {
            return Ok(id);
        }
        self.run(insert, params)?;
        Ok(self.db.last_insert_rowid())
    }

    fn find(&self, sql: &str, params: impl Params) -> rusqlite::Result<Option<i64>> {
        self.db.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()
    }

    /// Runs a statement, and says how many rows it changed.
    fn run(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(params)
    }
}

/// Writes who this device is into a new database.
pub(super) fn put_identity(db: &Connection, identity: &Identity) -> rusqlite::Result<()> {
    let server = Link { server: identity.server.clone(), target: Target::Server };
    let seed = identity.device.expose_seed();
    let params = named_params! {
        ":name": identity.name.as_str(),
        ":server": server.to_string(),
        ":account_key": identity.account_key.as_bytes(),
        ":devices": Json(&identity.devices),
        ":seed": seed.as_slice(),
        ":dh": identity.dh.secret().expose_bytes(),
    };
    let sql = "INSERT INTO identity VALUES \
               (1, :name, :server, :account_key, :devices, :seed, :dh, 0)";
    db.execute(sql, params).map(drop)
}
