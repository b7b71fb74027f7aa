//! The copy of a database that is kept while a newer version of the program has not shown yet that
//! it can use the tables it made of the old ones: `profile.db.v1` beside `profile.db`, under the
//! same key.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, TransactionBehavior};

use super::{CopyError, HMAC, StoreKey, connect};
use crate::profile::private;

/// Copies a database whose tables are of this version. A copy of the same version that is there
/// already is replaced: the database has been in use since.
pub(super) fn make(database: &Path, key: &StoreKey, version: u32) -> Result<(), CopyError> {
    // Under another name until it is whole: what a process left that was ended midway is no copy.
    let (half, copy) = (beside(database, ".copy"), path(database, version));
    erase(&half)?;
    erase(&copy)?;
    let made = write(database, key, version, &half).and_then(|()| Ok(fs::rename(&half, &copy)?));
    if made.is_err() {
        // The first error is the one that counts.
        let _ = erase(&half);
    }
    made.and_then(|()| Ok(sync_folder_of(&copy)?))
}

/// The copies that are there of versions before `latest`.
pub(super) fn all(database: &Path, latest: u32) -> Vec<PathBuf> {
    (1..latest).map(|version| path(database, version)).filter(|copy| copy.exists()).collect()
}

/// Overwrites a file with zeros and removes it; none is none to erase.
pub(super) fn erase(file: &Path) -> io::Result<()> {
    let mut open = match OpenOptions::new().write(true).open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        open => open?,
    };
    let len = open.metadata()?.len();
    io::copy(&mut io::repeat(0).take(len), &mut open)?;
    open.sync_all()?;
    drop(open);
    fs::remove_file(file)?;
    sync_folder_of(file)
}

/// A copy by `SQLCipher` itself: of one moment, with what stands in the log.
fn write(database: &Path, key: &StoreKey, version: u32, file: &Path) -> Result<(), CopyError> {
    private::create(file)?;
    let mut db = connect(database, key, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let name = ToSqlOutput::Borrowed(ValueRef::Text(file.as_os_str().as_encoded_bytes()));
    db.execute("ATTACH ?1 AS copy KEY ?2", (name, key.pragma_value().as_str()))?;
    db.pragma_update(Some("copy"), "cipher_hmac_algorithm", HMAC)?;
    // What is not completed is thrown away.
    db.pragma_update(Some("copy"), "journal_mode", "OFF")?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.query_one("SELECT sqlcipher_export('copy')", [], |_| Ok(()))?;
    transaction.pragma_update(Some("copy"), "user_version", version)?;
    transaction.commit()?;
    drop(db);
    Ok(File::open(file)?.sync_all()?)
}

fn path(database: &Path, version: u32) -> PathBuf {
    beside(database, &format!(".v{version}"))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    name.into()
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), private::sync_folder)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::node::record::{Change, StoredSession};
    use crate::store::fixture::{id, identity, receive, received};
    use crate::store::{Durability, OpenError, Reader, Store, schema};
    use parlor_common::id::{DeviceId, SessionId};
    use parlor_common::time::Timestamp;

    const MORE: &str = "CREATE TABLE more (x INTEGER) STRICT";

    /// A folder with a database of today's version that holds a message.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(TempDir::new().unwrap());
            let mut store = Store::create(&folder.database(), &key(), &identity()).unwrap();
            store.commit(&[receive(received(1))]).unwrap();
            store.close().unwrap();
            folder
        }

        fn database(&self) -> PathBuf {
            self.0.path().join("profile.db")
        }

        fn copy(&self) -> PathBuf {
            path(&self.database(), schema::latest())
        }

        /// Opens the database as a later program would that knows these steps more.
        fn open_later(&self, steps: &[&str]) -> Result<Store, OpenError> {
            let migrations = [schema::migrations(), steps].concat();
            Store::open_with(&self.database(), &key(), Durability::Process, &migrations)
        }

        fn assert_copy_is_whole(&self) {
            let reader = Reader::open(&self.copy(), &key()).unwrap();
            assert!(reader.message(id(2, 1)).unwrap().is_some());
            assert_eq!(schema::version(&reader.db).unwrap(), schema::latest());
        }

        /// What stands in the folder, but for what belongs to an open database.
        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let of_open =
                |name: &String| ["-wal", "-shm", ".journal"].iter().any(|end| name.ends_with(end));
            let mut names: Vec<_> = names.filter(|name| !of_open(name)).collect();
            names.sort();
            names
        }
    }

    fn key() -> StoreKey {
        StoreKey::new(Zeroizing::new([1; 32]))
    }

    fn session() -> Change {
        let (device, id) = (DeviceId([8; 16]), SessionId([7; 16]));
        Change::PutSession(StoredSession {
            device,
            id,
            used: 1,
            opened_at: Timestamp::default(),
            state: vec![1; 99].into(),
        })
    }

    fn is_whole(store: &Store) -> bool {
        store.reader().message(id(2, 1)).unwrap().is_some()
    }

    #[test]
    fn a_copy_is_kept_until_a_session_is_saved() {
        let folder = Folder::new();
        let mut store = folder.open_later(&[MORE]).unwrap();
        assert!(is_whole(&store));
        folder.assert_copy_is_whole();
        store.commit(&[receive(received(2))]).unwrap();
        folder.assert_copy_is_whole();
        store.commit(&[receive(received(3)), session()]).unwrap();
        assert_eq!(folder.files(), ["profile.db"]);
        store.close().unwrap();
        assert_eq!(folder.files(), ["profile.db"]);
        assert!(is_whole(&folder.open_later(&[MORE]).unwrap()));
        assert_eq!(folder.files(), ["profile.db"]);
    }

    #[test]
    fn a_copy_stays_over_starts_that_use_no_session() {
        let folder = Folder::new();
        for _ in 0..3 {
            folder.open_later(&[MORE]).unwrap().close().unwrap();
            folder.assert_copy_is_whole();
        }
        let mut store = folder.open_later(&[MORE]).unwrap();
        store.forget_old_copy().unwrap();
        assert_eq!(folder.files(), ["profile.db"]);
        store.forget_old_copy().unwrap();
    }

    #[test]
    fn an_update_that_fails_leaves_database_and_copy_as_they_were() {
        let folder = Folder::new();
        for _ in 0..2 {
            assert!(matches!(folder.open_later(&["nonsense"]), Err(OpenError::Failed(_))));
            folder.assert_copy_is_whole();
            assert!(is_whole(
                &Store::open(&folder.database(), &key(), Durability::Process).unwrap()
            ));
        }
        let mut store = folder.open_later(&[MORE]).unwrap();
        store.commit(&[session()]).unwrap();
        assert_eq!(folder.files(), ["profile.db"]);
    }

    #[test]
    fn a_copy_holds_what_was_committed_before_a_process_was_killed() {
        let folder = Folder::new();
        let mut store = Store::open(&folder.database(), &key(), Durability::Process).unwrap();
        store.commit(&[receive(received(2))]).unwrap();
        let killed = Folder(TempDir::new().unwrap());
        for name in ["profile.db", "profile.db-wal"] {
            fs::copy(folder.0.path().join(name), killed.0.path().join(name)).unwrap();
        }
        killed.open_later(&[MORE]).unwrap();
        let reader = Reader::open(&killed.copy(), &key()).unwrap();
        assert!(reader.message(id(2, 2)).unwrap().is_some());
    }

    #[test]
    fn copies_of_several_versions_go_together() {
        let folder = Folder::new();
        folder.open_later(&[MORE]).unwrap().close().unwrap();
        let mut store = folder.open_later(&[MORE, "CREATE TABLE most (x)"]).unwrap();
        assert_eq!(folder.files().len(), 3);
        store.commit(&[session()]).unwrap();
        assert_eq!(folder.files(), ["profile.db"]);
    }

    #[test]
    fn half_a_copy_is_none() {
        let folder = Folder::new();
        fs::write(folder.0.path().join("profile.db.copy"), "half").unwrap();
        folder.open_later(&[MORE]).unwrap();
        folder.assert_copy_is_whole();
        assert_eq!(folder.files().len(), 2);
    }

    #[test]
    fn without_a_copy_nothing_is_changed() {
        let folder = Folder::new();
        // A folder can be no copy.
        fs::create_dir(folder.copy()).unwrap();
        let refused = folder.open_later(&[MORE]).unwrap_err();
        assert!(matches!(refused, OpenError::Copy(CopyError::File(_))), "{refused}");
        let store = Store::open(&folder.database(), &key(), Durability::Process).unwrap();
        assert_eq!(schema::version(&store.reader().db).unwrap(), schema::latest());
        assert!(is_whole(&store));
    }

    #[cfg(unix)]
    #[test]
    fn a_copy_is_its_owners_only_and_encrypted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new();
        let _store = folder.open_later(&[MORE]).unwrap();
        let mode = fs::metadata(folder.copy()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bytes = fs::read(folder.copy()).unwrap();
        for word in ["in 1", "alice", "SQLite format", "messages"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()));
        }
        let other = StoreKey::new(Zeroizing::new([2; 32]));
        assert!(matches!(Reader::open(&folder.copy(), &other), Err(OpenError::Damaged)));
    }

    #[test]
    fn a_file_is_overwritten_before_it_is_removed() {
        let folder = TempDir::new().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, vec![7; 100_000]).unwrap();
        fs::hard_link(&file, &link).unwrap();
        erase(&file).unwrap();
        assert!(!file.exists());
        assert_eq!(fs::read(&link).unwrap(), vec![0; 100_000]);
        erase(&file).unwrap();
    }
}
