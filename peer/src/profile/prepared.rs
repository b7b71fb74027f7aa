//! A new profile, under other names than a profile's until the rendezvous has the account.

use std::fs::{self, File};

use super::key::KeyFile;
use super::{DATABASE, Home, JOURNAL, KEY, ProfileError, at, private};
use crate::node::record::Identity;
use crate::store::{Store, StoreKey};

pub(super) const NEW_DATABASE: &str = "profile.db.new";
pub(super) const NEW_KEY: &str = "profile.key.new";
/// What `SQLite` puts behind a database's name for its log and its shared memory.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// A new profile that is not in force yet. Dropped, it is removed. The
/// [`ProfileLock`](super::ProfileLock) that prepared it must be kept until then.
#[derive(Debug)]
pub struct PreparedProfile {
    home: Home,
}

impl PreparedProfile {
    /// Writes it, in place of what a process may have left that was ended midway.
    pub(super) fn write(
        home: Home,
        identity: &Identity,
        key: &StoreKey,
    ) -> Result<Self, ProfileError> {
        let prepared = Self { home };
        prepared.remove();
        // There is no profile: a journal that is there is none's.
        for name in [JOURNAL.to_owned(), format!("{JOURNAL}.old")] {
            drop(fs::remove_file(prepared.home.path.join(name)));
        }
        prepared.write_files(identity, key)?;
        Ok(prepared)
    }

    /// Puts the profile in force: to be called once the rendezvous has the account.
    pub fn keep(self) -> Result<Store, ProfileError> {
        // The key first: while there is no database, a key alone is no profile.
        self.rename(NEW_KEY, KEY)?;
        self.rename(NEW_DATABASE, DATABASE)?;
        let home = &self.home;
        private::sync_folder(&home.path).map_err(at(&home.path))?;
        let path = home.path.join(DATABASE);
        Store::open(&path, &home.key()?, home.config()?.durability)
            .map_err(|error| home.cannot_open(error))
    }

    fn write_files(&self, identity: &Identity, key: &StoreKey) -> Result<(), ProfileError> {
        let path = self.home.path.join(NEW_KEY);
        KeyFile::Plain(key.clone()).write(&path).map_err(at(&path))?;
        let path = self.home.path.join(NEW_DATABASE);
        private::create(&path).map_err(at(&path))?;
        Store::create(&path, key, identity)?.close()?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), ProfileError> {
        let to = self.home.path.join(to);
        fs::rename(self.home.path.join(from), &to).map_err(at(&to))
    }

    /// Removes what is there under the temporary names. What cannot be removed shows when it is
    /// written again.
    fn remove(&self) {
        let database = BESIDE.map(|suffix| format!("{NEW_DATABASE}{suffix}"));
        for name in database.iter().map(String::as_str).chain([NEW_KEY]) {
            drop(fs::remove_file(self.home.path.join(name)));
        }
    }
}

impl Drop for PreparedProfile {
    fn drop(&mut self) {
        self.remove();
    }
}
