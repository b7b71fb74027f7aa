//! Accounts and their devices.

use parlor_common::Blob;
use parlor_common::device_list::{ListHash, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::{AccountKey, DeviceKey};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Argon2Params, Started};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{QueryError, Tables, loaded, mailboxes, stored};
use crate::opaque::{CredentialId, Record};
use crate::server::{
    Account, Admission, Creation, Credentials, KnownDevice, NamedDevice, NewAccount,
    PasswordChange, Rekey,
};
use crate::store::interface::{Accounts, Devices};

impl Accounts for Tables<'_> {
    fn create(&self, account: &NewAccount) -> Result<Creation, QueryError> {
        create(self.0, account)
    }

    fn is_free(&self, name: &Username) -> Result<bool, QueryError> {
        is_free(self.0, name)
    }

    fn credentials(&self, name: &Username) -> Result<Option<Box<Credentials>>, QueryError> {
        credentials(self.0, name)
    }

    fn log_in(&self, name: &Username, at: Timestamp) -> Result<Option<Box<Account>>, QueryError> {
        log_in(self.0, name, at)
    }

    fn replace_password(&self, change: &PasswordChange) -> Result<bool, QueryError> {
        replace_password(self.0, change)
    }

    fn replace_key(&self, rekey: &Rekey) -> Result<Option<Vec<DeviceKey>>, QueryError> {
        replace_key(self.0, rekey)
    }

    fn delete(&self, name: &Username, at: Timestamp) -> Result<Option<Vec<DeviceKey>>, QueryError> {
        delete(self.0, name, at)
    }
}

impl Devices for Tables<'_> {
    fn owner(&self, device: &DeviceKey) -> Result<Option<KnownDevice>, QueryError> {
        of_device(self.0, device)
    }

    fn devices(&self, name: &Username) -> Result<Option<Box<SignedDeviceList>>, QueryError> {
        devices(self.0, name)
    }

    fn replace_devices(
        &self,
        after: ListHash,
        devices: &VerifiedDeviceList,
    ) -> Result<Option<Vec<DeviceKey>>, QueryError> {
        replace_devices(self.0, after, devices)
    }

    fn named_devices(&self, name: &Username) -> Result<Vec<NamedDevice>, QueryError> {
        named_devices(self.0, name)
    }

    fn name_device(
        &self,
        name: &Username,
        device: &DeviceId,
        label: Option<&str>,
    ) -> Result<bool, QueryError> {
        name_device(self.0, name, device, label)
    }

    fn start_device(&self, device: &DeviceKey, count: u64) -> Result<Option<Started>, QueryError> {
        start_device(self.0, device, count)
    }
}

/// An account's number, which never leaves the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct AccountId(pub(super) i64);

/// An account as others refer to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountRow {
    pub(super) id: AccountId,
    pub(super) list_version: u64,
}

/// Finds an account by its name.
pub(super) fn find(db: &Connection, name: &Username) -> Result<Option<AccountRow>, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT id, list_version FROM accounts WHERE name = ?1")?;
    let found = statement.query_row([name.as_str()], |row| {
        Ok(AccountRow { id: AccountId(row.get(0)?), list_version: loaded(row.get(1)?) })
    });
    Ok(found.optional()?)
}

/// A name that the store kept.
pub(super) fn parse_name(name: &str) -> Result<Username, QueryError> {
    name.parse().map_err(|_| QueryError::Corrupt("name"))
}

pub(super) fn of_device(
    db: &Connection,
    device: &DeviceKey,
) -> Result<Option<KnownDevice>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT a.name, a.account_key, EXISTS (SELECT 1 FROM held WHERE account = a.id)
         FROM devices d JOIN accounts a ON a.id = d.account
         WHERE d.key = ?1 AND a.disabled_at IS NULL",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<(String, [u8; 32], bool)> =
        statement.query_row([device.as_bytes().as_slice()], row).optional()?;
    let Some((name, key, held)) = found else { return Ok(None) };
    let account_key = AccountKey::from_bytes(key);
    Ok(Some(KnownDevice { name: parse_name(&name)?, account_key, held }))
}

pub(super) fn create(db: &Connection, account: &NewAccount) -> Result<Creation, QueryError> {
    let list = account.devices.list();
    if !is_free(db, &list.name)? {
        return Ok(Creation::NameTaken);
    }
    for device in &list.devices {
        if owner(db, &device.key)?.is_some() {
            return Ok(Creation::DeviceTaken);
        }
    }
    let mut statement = db.prepare_cached(
        "INSERT INTO accounts (name, account_key, credential, record, memory_kib, passes, lanes,
                               account_box, recovery_box, devices, list_version, list_hash,
                               created_at, email)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let id = statement.insert(params![
        list.name.as_str(),
        list.account_key.as_bytes(),
        account.credential.0,
        account.record.0,
        account.argon2.memory_kib,
        account.argon2.passes,
        account.argon2.lanes,
        account.account_box.0,
        account.recovery_box.0,
        serde_json::to_string(&account.devices)?,
        stored(list.version),
        list.hash().0,
        stored(account.origin.at.as_millis()),
        email(&account.admission),
    ])?;
    for device in &list.devices {
        insert_device(db, AccountId(id), &device.key)?;
    }
    Ok(Creation::Created)
}

/// The address that let an account in.
fn email(admission: &Admission) -> Option<String> {
    match admission {
        Admission::Open | Admission::Invitation(_) => None,
        Admission::Email(tried) => Some(tried.address.to_string()),
    }
}

fn insert_device(
    db: &Connection,
    account: AccountId,
    device: &DeviceKey,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached("INSERT INTO devices (key, account) VALUES (?1, ?2)")?;
    statement.execute(params![device.as_bytes(), account.0])?;
    Ok(())
}

/// The account that a device belongs to.
pub(super) fn owner(db: &Connection, device: &DeviceKey) -> Result<Option<AccountId>, QueryError> {
    let mut statement = db.prepare_cached("SELECT account FROM devices WHERE key = ?1")?;
    let found = statement.query_row([device.as_bytes()], |row| Ok(AccountId(row.get(0)?)));
    Ok(found.optional()?)
}

/// The devices of an account, in the order of their keys.
pub(super) fn device_keys(
    db: &Connection,
    account: AccountId,
) -> Result<Vec<DeviceKey>, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT key FROM devices WHERE account = ?1 ORDER BY key")?;
    let rows = statement.query_map([account.0], |row| row.get(0).map(DeviceKey::from_bytes))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Remembers the largest count of starts that a device has told; returns the one before.
pub(super) fn start_device(
    db: &Connection,
    device: &DeviceKey,
    count: u64,
) -> Result<Option<Started>, QueryError> {
    let mut statement = db.prepare_cached("SELECT starts FROM devices WHERE key = ?1")?;
    let found = statement.query_row([device.as_bytes()], |row| row.get(0)).optional()?;
    let Some(before) = found.map(loaded) else { return Ok(None) };
    let mut statement = db.prepare_cached("UPDATE devices SET starts = ?2 WHERE key = ?1")?;
    statement.execute(params![device.as_bytes(), stored(before.max(count))])?;
    Ok(Some(Started { largest: before }))
}

pub(super) fn credentials(
    db: &Connection,
    name: &Username,
) -> Result<Option<Box<Credentials>>, QueryError> {
    // A name that nobody has reads the account after it, so that it takes as long as any other.
    let mut statement = db.prepare_cached(
        "SELECT credential, record, memory_kib, passes, lanes, recovery_box, account_key,
                disabled_at IS NOT NULL, name = ?1
         FROM accounts WHERE name >= ?1 ORDER BY name LIMIT 1",
    )?;
    let found = statement.query_row([name.as_str()], |row| {
        let argon2 =
            Argon2Params { memory_kib: row.get(2)?, passes: row.get(3)?, lanes: row.get(4)? };
        let credentials = Box::new(Credentials {
            credential: CredentialId(row.get(0)?),
            record: Record(row.get(1)?),
            argon2,
            recovery_box: Blob(row.get(5)?),
            account_key: AccountKey::from_bytes(row.get(6)?),
            shut: row.get(7)?,
        });
        Ok((credentials, row.get(8)?))
    });
    let is_it = |(credentials, is_it): (_, bool)| is_it.then_some(credentials);
    Ok(found.optional()?.and_then(is_it))
}

fn log_in(
    db: &Connection,
    name: &Username,
    at: Timestamp,
) -> Result<Option<Box<Account>>, QueryError> {
    let mut statement = db.prepare_cached(
        "UPDATE accounts SET last_login = ?2 WHERE name = ?1 AND disabled_at IS NULL
         RETURNING account_box, devices",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let at = stored(at.as_millis());
    let found: Option<(Vec<u8>, String)> =
        statement.query_row(params![name.as_str(), at], row).optional()?;
    let Some((account_box, devices)) = found else { return Ok(None) };
    let devices = parse_devices(&devices)?;
    Ok(Some(Box::new(Account { account_box: Blob(account_box), devices })))
}

pub(super) fn devices(
    db: &Connection,
    name: &Username,
) -> Result<Option<Box<SignedDeviceList>>, QueryError> {
    let mut statement = db.prepare_cached("SELECT devices FROM accounts WHERE name = ?1")?;
    let found: Option<String> =
        statement.query_row([name.as_str()], |row| row.get(0)).optional()?;
    found.map(|devices| parse_devices(&devices).map(Box::new)).transpose()
}

fn parse_devices(json: &str) -> Result<SignedDeviceList, QueryError> {
    serde_json::from_str(json).map_err(|_| QueryError::Corrupt("device list"))
}

/// Replaces a list if the one with the hash `after` is in force, and no other account has one of
/// its devices.
pub(super) fn replace_devices(
    db: &Connection,
    after: ListHash,
    devices: &VerifiedDeviceList,
) -> Result<Option<Vec<DeviceKey>>, QueryError> {
    let list = devices.list();
    let Some(account) = find(db, &list.name)? else { return Ok(None) };
    for device in &list.devices {
        if owner(db, &device.key)?.is_some_and(|owner| owner != account.id) {
            return Ok(None);
        }
    }
    let mut statement = db.prepare_cached(
        "UPDATE accounts SET devices = ?1, list_version = ?2, list_hash = ?3
         WHERE id = ?4 AND list_hash = ?5 AND disabled_at IS NULL",
    )?;
    let (json, version) = (serde_json::to_string(devices)?, stored(list.version));
    let replaced =
        statement.execute(params![json, version, list.hash().0, account.id.0, after.0])?;
    if replaced == 0 {
        return Ok(None);
    }
    exchange_devices(db, account.id, devices).map(Some)
}

/// Adds the devices that are new in a list and takes off those that left it, with all that is kept
/// of them. What is kept of the others stays. Returns those that left.
fn exchange_devices(
    db: &Connection,
    account: AccountId,
    devices: &VerifiedDeviceList,
) -> Result<Vec<DeviceKey>, QueryError> {
    let known = device_keys(db, account)?;
    let left: Vec<_> = known.iter().filter(|key| devices.device(key).is_none()).copied().collect();
    let mut delete = db.prepare_cached("DELETE FROM devices WHERE key = ?1")?;
    for key in &left {
        delete.execute([key.as_bytes()])?;
    }
    for device in devices.list().devices.iter().filter(|device| !known.contains(&device.key)) {
        insert_device(db, account, &device.key)?;
    }
    Ok(left)
}

fn replace_password(db: &Connection, change: &PasswordChange) -> Result<bool, QueryError> {
    let mut statement = db.prepare_cached(
        "UPDATE accounts SET credential = ?2, record = ?3, memory_kib = ?4, passes = ?5,
                             lanes = ?6, account_box = ?7
         WHERE name = ?1 AND disabled_at IS NULL",
    )?;
    let changed = statement.execute(params![
        change.name.as_str(),
        change.credential.0,
        change.record.0,
        change.argon2.memory_kib,
        change.argon2.passes,
        change.argon2.lanes,
        change.account_box.0,
    ])?;
    Ok(changed > 0)
}

fn replace_key(db: &Connection, rekey: &Rekey) -> Result<Option<Vec<DeviceKey>>, QueryError> {
    let left = replace_devices(db, rekey.after, &rekey.devices)?;
    if left.is_some() {
        let list = rekey.devices.list();
        let mut statement = db.prepare_cached(
            "UPDATE accounts SET account_key = ?2, account_box = ?3, recovery_box = ?4
             WHERE name = ?1",
        )?;
        let (key, name) = (list.account_key.as_bytes(), list.name.as_str());
        statement.execute(params![name, key, rekey.account_box.0, rekey.recovery_box.0])?;
        // What waits was sealed for the key before, which the sender's client says itself.
        if let Some(account) = find(db, &list.name)? {
            mailboxes::empty(db, account.id)?;
        }
    }
    Ok(left)
}

/// Whether nobody has a name, nor had it.
fn is_free(db: &Connection, name: &Username) -> Result<bool, QueryError> {
    Ok(find(db, name)?.is_none() && !is_retired(db, name)?)
}

fn is_retired(db: &Connection, name: &Username) -> Result<bool, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT EXISTS (SELECT 1 FROM retired_names WHERE name = ?1)")?;
    Ok(statement.query_row([name.as_str()], |row| row.get(0))?)
}

fn delete(
    db: &Connection,
    name: &Username,
    at: Timestamp,
) -> Result<Option<Vec<DeviceKey>>, QueryError> {
    let Some(account) = find(db, name)? else { return Ok(None) };
    let devices = device_keys(db, account.id)?;
    let retire = "INSERT INTO retired_names (name, at) VALUES (?1, ?2)";
    db.execute(retire, params![name.as_str(), stored(at.as_millis())])?;
    db.execute("DELETE FROM accounts WHERE id = ?1", [account.id.0])?;
    Ok(Some(devices))
}

fn named_devices(db: &Connection, name: &Username) -> Result<Vec<NamedDevice>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT d.key, d.name FROM devices d JOIN accounts a ON a.id = d.account
         WHERE a.name = ?1 ORDER BY d.key",
    )?;
    let row = |row: &Row<'_>| {
        Ok(NamedDevice { key: DeviceKey::from_bytes(row.get(0)?), name: row.get(1)? })
    };
    Ok(statement.query_map([name.as_str()], row)?.collect::<rusqlite::Result<_>>()?)
}

fn name_device(
    db: &Connection,
    name: &Username,
    device: &DeviceId,
    label: Option<&str>,
) -> Result<bool, QueryError> {
    let devices = named_devices(db, name)?.into_iter();
    let found = devices.map(|known| known.key).find(|key| DeviceId::of(key) == *device);
    let Some(key) = found else { return Ok(false) };
    let mut statement = db.prepare_cached("UPDATE devices SET name = ?2 WHERE key = ?1")?;
    statement.execute(params![key.as_bytes(), label])?;
    Ok(true)
}
