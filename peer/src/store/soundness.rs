//! Whether a database is sound, without changing it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{OpenError, Reader, StoreKey, check_version, connect, schema};

/// No more faults than these are told: one bad page is followed by many.
const MAX_FAULTS: usize = 5;

/// Who else may write meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Company {
    /// Nobody: pages are looked at as they lie in the file, also those that hold nothing now.
    Alone,
    /// Another process: only what a reader sees.
    Shared,
}

/// Looks at everything. Gives what is wrong, in the words of `SQLite` and `SQLCipher`; nothing for a
/// database that is sound. Takes seconds for a million messages.
pub fn faults(path: &Path, key: &StoreKey, company: Company) -> Result<Vec<String>, OpenError> {
    let open = || -> Result<Connection, OpenError> {
        let db = connect(path, key, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check_version(&db, schema::latest())?;
        Ok(db)
    };
    let mut faults = Vec::new();
    if company == Company::Alone {
        // Every page is authenticated: a row for each one that is not as it was written.
        faults.extend(words(&open()?, "PRAGMA cipher_integrity_check"));
    }
    faults.extend(words(&open()?, "PRAGMA integrity_check"));
    let lost = words(&open()?, "PRAGMA foreign_key_check");
    faults
        .extend(lost.iter().map(|table| format!("{table}: a row names another that is not there")));
    let reader = Reader { db: open()? };
    faults.extend(reader.identity().err().map(|error| format!("this device's keys: {error}")));
    faults.extend(reader.contacts().err().map(|error| format!("the contacts: {error}")));
    faults.truncate(MAX_FAULTS);
    Ok(faults)
}

fn words(db: &Connection, check: &str) -> Vec<String> {
    let rows = || -> rusqlite::Result<Vec<String>> {
        let mut query = db.prepare(check)?;
        query.query_map([], |row| row.get::<_, String>(0))?.take(MAX_FAULTS).collect()
    };
    let mut words = rows().unwrap_or_else(|error| vec![error.to_string()]);
    words.retain(|word| word != "ok");
    words
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::store::fixture::{identity, receive, received};
    use crate::store::{Durability, Store};

    const PAGE: usize = 4096;

    fn key() -> StoreKey {
        StoreKey::new(Zeroizing::new([1; 32]))
    }

    fn database() -> (TempDir, std::path::PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("profile.db");
        let mut store = Store::create(&path, &key(), &identity()).unwrap();
        let messages: Vec<_> = (1..=200).map(|number| receive(received(number))).collect();
        store.commit(messages).unwrap();
        store.close().unwrap();
        (folder, path)
    }

    #[test]
    fn a_sound_database_has_no_faults_also_while_it_is_written() {
        let (_folder, path) = database();
        assert_eq!(faults(&path, &key(), Company::Alone).unwrap(), Vec::<String>::new());
        let mut store = Store::open(&path, &key(), Durability::Process).unwrap();
        store.commit([receive(received(201))]).unwrap();
        assert_eq!(faults(&path, &key(), Company::Shared).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_page_that_was_changed_is_found_and_a_file_that_was_cut_off() {
        let (_folder, path) = database();
        let whole = fs::read(&path).unwrap();
        let is_sound = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            faults(&path, &key(), Company::Alone).is_ok_and(|faults| faults.is_empty())
        };
        for at in (1000..whole.len()).step_by(PAGE) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(!is_sound(&changed), "byte {at}");
        }
        for len in [0, 100, PAGE, whole.len() / 2, whole.len() - PAGE, whole.len() - 1] {
            assert!(!is_sound(&whole[..len]), "{len} bytes");
        }
        assert!(is_sound(&whole));
    }

    #[test]
    fn a_row_that_names_one_that_is_not_there_is_a_fault() {
        let (_folder, path) = database();
        let store = Store::open(&path, &key(), Durability::Process).unwrap();
        let sql = "PRAGMA foreign_keys = OFF; DELETE FROM messages WHERE id = 7";
        store.database.lock().db.execute_batch(sql).unwrap();
        drop(store);
        let found = faults(&path, &key(), Company::Shared).unwrap();
        assert!(found.iter().any(|fault| fault.starts_with("unprinted: a row names")), "{found:?}");
    }

    #[test]
    fn contents_that_this_program_never_writes_are_a_fault() {
        let (_folder, path) = database();
        let store = Store::open(&path, &key(), Durability::Process).unwrap();
        store.database.lock().db.execute("UPDATE identity SET device_seed = x'01'", []).unwrap();
        drop(store);
        let found = faults(&path, &key(), Company::Shared).unwrap();
        assert!(found[0].contains("this device's keys"), "{found:?}");
    }
}
