//! Accounts as who runs the server sees them.

use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use rusqlite::{Connection, Row, params};

use super::accounts::{AccountId, device_keys, find, parse_name};
use super::{QueryError, Tables, loaded, mailboxes, stored};
use crate::admin::{User, UserDevice, UserLine, UserTries};
use crate::store::interface::Users;

/// Sources of failed logins that are shown of a user, the latest first.
const MAX_TRIES: u32 = 100;

const LINE: &str = "a.name, a.created_at, a.disabled_at, a.last_login,
                    (SELECT count(*) FROM devices d WHERE d.account = a.id), a.id, a.email";

impl Users for Tables<'_> {
    fn users(&self, after: Option<&Username>, limit: u32) -> Result<Vec<UserLine>, QueryError> {
        let sql =
            format!("SELECT {LINE} FROM accounts a WHERE a.name > ?1 ORDER BY a.name LIMIT ?2");
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut rows = statement.query(params![after.map_or("", Username::as_str), limit])?;
        let mut users = Vec::new();
        while let Some(row) = rows.next()? {
            users.push(line(row)?);
        }
        Ok(users)
    }

    fn user(&self, name: &Username, at: Timestamp) -> Result<Option<Box<User>>, QueryError> {
        user(self.0, name, at)
    }

    fn devices_of_user(&self, name: &Username) -> Result<Option<Vec<DeviceKey>>, QueryError> {
        let account = find(self.0, name)?;
        account.map(|account| device_keys(self.0, account.id)).transpose()
    }

    fn set_disabled(&self, name: &Username, since: Option<Timestamp>) -> Result<(), QueryError> {
        // One that is disabled already stays so since then.
        let sql =
            "UPDATE accounts SET disabled_at = iif(?2 IS NULL, NULL, coalesce(disabled_at, ?2))
                   WHERE name = ?1";
        let since = since.map(|since| stored(since.as_millis()));
        self.0.prepare_cached(sql)?.execute(params![name.as_str(), since])?;
        Ok(())
    }

    fn count_accounts(&self) -> Result<u64, QueryError> {
        let mut count = self.0.prepare_cached("SELECT count(*) FROM accounts")?;
        Ok(count.query_row([], |row| row.get(0).map(loaded))?)
    }
}

fn user(db: &Connection, name: &Username, at: Timestamp) -> Result<Option<Box<User>>, QueryError> {
    let sql = format!("SELECT {LINE} FROM accounts a WHERE a.name = ?1");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([name.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let account = AccountId(row.get(5)?);
    let user = User {
        line: line(row)?,
        email: row.get(6)?,
        known_devices: devices(db, account)?,
        tries: tries(db, name, at)?,
        mailbox: mailboxes::waiting(db, account)?,
    };
    Ok(Some(Box::new(user)))
}

fn line(row: &Row<'_>) -> Result<UserLine, QueryError> {
    let name: String = row.get(0)?;
    let time = |millis: i64| Timestamp::from_millis(loaded(millis));
    let (disabled_at, last_login): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
    Ok(UserLine {
        name: parse_name(&name)?,
        created_at: time(row.get(1)?),
        disabled_at: disabled_at.map(time),
        last_login: last_login.map(time),
        devices: row.get(4)?,
        online: false,
    })
}

fn devices(db: &Connection, account: AccountId) -> Result<Vec<UserDevice>, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT key, name FROM devices WHERE account = ?1 ORDER BY key")?;
    let rows = statement.query_map([account.0], |row| {
        let key = DeviceKey::from_bytes(row.get(0)?);
        Ok(UserDevice { device: DeviceId::of(&key), name: row.get(1)?, online: false })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn tries(db: &Connection, name: &Username, at: Timestamp) -> Result<Vec<UserTries>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT source, failures, locked_until FROM tries
         WHERE name = ?1 AND (failures > 0 OR locked_until > ?2) ORDER BY last_at DESC LIMIT ?3",
    )?;
    let now = stored(at.as_millis());
    let rows = statement.query_map(params![name.as_str(), now, MAX_TRIES], |row| {
        let (source, locked_until): (String, i64) = (row.get(0)?, row.get(2)?);
        Ok(UserTries {
            source: Some(source).filter(|source| !source.is_empty()),
            failures: row.get(1)?,
            locked_until: (locked_until > now)
                .then(|| Timestamp::from_millis(loaded(locked_until))),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::UserChange;
    use crate::audit::{AuditEvent, Entry};
    use crate::limits::Limits;
    use crate::server::{Answer, Credentials, LoginAttempt, LoginStart, Query, Way};
    use crate::store::Store;
    use crate::store::sqlite::tests::{account, ask, origin};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn change(store: &mut Store, name: &str, change: UserChange) -> Option<usize> {
        let query = Query::ChangeUser { name: name.parse().unwrap(), change, at: at(9) };
        let answer = ask(store, query);
        let Answer::UserChanged(devices) = answer else { panic!("{answer:?}") };
        devices.map(|devices| devices.len())
    }

    fn delete(store: &mut Store, name: &str) -> bool {
        let name: Username = name.parse().unwrap();
        let entry = Box::new(Entry::new(AuditEvent::UserDeleted, at(9)).of(name.clone()));
        let answer = ask(store, Query::DeleteAccount { name, entry });
        let Answer::Deleted(deleted) = answer else { panic!("{answer:?}") };
        deleted.is_some()
    }

    fn shown(store: &mut Store, name: &str) -> Option<User> {
        let answer = ask(store, Query::User { name: name.parse().unwrap(), at: at(9) });
        let Answer::User(user) = answer else { panic!("{answer:?}") };
        user.map(|user| *user)
    }

    fn events(store: &mut Store) -> Vec<String> {
        let answer = ask(store, Query::AuditNewest { limit: 100 });
        let Answer::Audit(page) = answer else { panic!("{answer:?}") };
        let rows = page.rows.into_iter().map(|row| row.event);
        rows.filter(|event| event.starts_with("user_")).collect()
    }

    /// Whether others find the account: by its device, to log in, to hand out, to change.
    fn found(store: &mut Store, name: &str, device: u8) -> [bool; 3] {
        let name: Username = name.parse().unwrap();
        let origin = origin(device);
        let attempt = || {
            let (way, limits) = (Way::Password, Limits::default());
            Box::new(LoginAttempt { name: name.clone(), way, origin, limits })
        };
        let open = |known: Credentials| !known.shut;
        let started = ask(store, Query::StartLogin(attempt()));
        let Answer::LoginStarted(LoginStart::Allowed(known)) = started else { panic!() };
        [
            matches!(
                ask(store, Query::DeviceOwner { device: origin.device }),
                Answer::Device(Some(_))
            ),
            known.is_some_and(|known| open(*known)),
            matches!(ask(store, Query::FinishLogin(attempt())), Answer::Account(Some(_))),
        ]
    }

    fn with_alice() -> Store {
        let mut store = Store::in_memory().unwrap();
        ask(&mut store, account("alice", 1));
        store
    }

    #[test]
    fn a_disabled_account_is_nobodys_until_it_is_enabled() {
        let mut store = with_alice();
        assert_eq!(found(&mut store, "alice", 1), [true; 3]);
        assert_eq!(change(&mut store, "alice", UserChange::Disable), Some(1));
        assert_eq!(found(&mut store, "alice", 1), [false; 3]);
        assert_eq!(shown(&mut store, "alice").unwrap().line.disabled_at, Some(at(9)));
        // Its name and its device are still its own.
        for (name, device) in [("alice", 2), ("bob", 1)] {
            let answer = ask(&mut store, account(name, device));
            let Answer::Created(creation) = answer else { panic!("{answer:?}") };
            assert_ne!(creation, crate::server::Creation::Created);
        }
        assert_eq!(change(&mut store, "alice", UserChange::Enable), Some(1));
        assert_eq!(found(&mut store, "alice", 1), [true; 3]);
        assert_eq!(events(&mut store), ["user_disabled", "user_enabled"]);
    }

    #[test]
    fn a_deleted_account_is_gone_and_what_is_written_down_of_it_is_not() {
        let mut store = with_alice();
        assert!(delete(&mut store, "alice"));
        assert_eq!(found(&mut store, "alice", 1), [false; 3]);
        assert_eq!(shown(&mut store, "alice"), None);
        let retired = "SELECT count(*) FROM retired_names WHERE name = 'alice'";
        let count = store.database.connection.query_row(retired, [], |row| row.get::<_, u32>(0));
        assert_eq!(count, Ok(1));
        assert!(!delete(&mut store, "alice"));
        assert_eq!(events(&mut store), ["user_deleted"]);
    }

    #[test]
    fn failed_logins_are_shown_and_forgotten() {
        let mut store = with_alice();
        let tries =
            "INSERT INTO tries (name, source, failures, since, next_at, locked_until, locks,
                                        last_at)
                     VALUES ('alice', '192.0.2.7', 10, 0, 0, 20, 1, 5),
                            ('alice', '', 11, 0, 0, 0, 0, 6), ('bob', '', 1, 0, 0, 0, 0, 1)";
        store.database.connection.execute_batch(tries).unwrap();
        let user = shown(&mut store, "alice").unwrap();
        let seen: Vec<_> =
            user.tries.iter().map(|tries| (tries.failures, tries.locked_until)).collect();
        assert_eq!(seen, [(11, None), (10, Some(at(20)))]);
        assert_eq!(user.tries[1].source.as_deref(), Some("192.0.2.7"));
        change(&mut store, "alice", UserChange::Unlock);
        assert_eq!(shown(&mut store, "alice").unwrap().tries, []);
        let left = "SELECT count(*) FROM tries";
        let count = store.database.connection.query_row(left, [], |row| row.get::<_, u32>(0));
        assert_eq!(count, Ok(1));
    }

    #[test]
    fn users_are_listed_in_pages_and_nobody_is_nobody() {
        let mut store = with_alice();
        ask(&mut store, account("bob", 2));
        ask(&mut store, account("carol", 3));
        let page = |store: &mut Store, after: Option<&str>| {
            let after = after.map(|name| name.parse().unwrap());
            let answer = ask(store, Query::Users { after, limit: 2 });
            let Answer::Users(users) = answer else { panic!("{answer:?}") };
            users.into_iter().map(|user| (user.name.to_string(), user.devices)).collect::<Vec<_>>()
        };
        let expected = [("alice".to_owned(), 1), ("bob".to_owned(), 1)];
        assert_eq!(page(&mut store, None), expected);
        assert_eq!(page(&mut store, Some("bob")), [("carol".to_owned(), 1)]);
        for wanted in [UserChange::Disable, UserChange::Enable, UserChange::Unlock] {
            assert_eq!(change(&mut store, "nobody", wanted), None);
        }
        assert_eq!(events(&mut store), [""; 0]);
    }
}
