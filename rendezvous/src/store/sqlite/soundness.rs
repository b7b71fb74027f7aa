//! Whether a database is as `SQLite` left it: looked at before anything is believed of it.

use std::collections::BTreeSet;

use rusqlite::{Connection, ErrorCode};

use super::{OpenError, schema};

/// Whether an error says that the file is damaged, not that it cannot be had now.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Refuses a database whose pages do not hang together.
pub(super) fn check_pages(db: &Connection) -> Result<(), OpenError> {
    let found: String = db.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(OpenError::Damaged(found)) }
}

/// Refuses a database that lacks a table of its version.
pub(super) fn check_tables(db: &Connection) -> Result<(), OpenError> {
    let mut fresh = Connection::open_in_memory()?;
    schema::migrate(&mut fresh)?;
    let found = tables(db)?;
    match tables(&fresh)?.into_iter().find(|table| !found.contains(table)) {
        Some(missing) => Err(OpenError::Damaged(format!("its table {missing} is missing"))),
        None => Ok(()),
    }
}

fn tables(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::store::Store;
    use crate::store::sqlite::tests::{account, ask};

    fn filled(folder: &Path) -> PathBuf {
        let path = folder.join("db");
        let mut store = Store::open(&path).unwrap();
        for device in 0..100 {
            ask(&mut store, account(&format!("user{device}"), device));
        }
        store.close().unwrap();
        path
    }

    fn is_refused(path: &Path) -> bool {
        match Store::open(path) {
            Ok(_) => false,
            Err(OpenError::Damaged(_)) => true,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_truncated_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = filled(folder.path());
        assert!(!is_refused(&path));
        let whole = fs::read(&path).unwrap();
        for keep in [whole.len() - 4096, whole.len() / 2, 4096, 1000, 100, 50] {
            fs::write(&path, &whole[..keep]).unwrap();
            assert!(is_refused(&path), "{keep} bytes");
        }
    }

    #[test]
    fn a_database_with_a_flipped_bit_where_it_hangs_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = filled(folder.path());
        let whole = fs::read(&path).unwrap();
        // The kind of each page that is a tree's; the first page's comes after the file's header.
        let kinds = (0..whole.len()).step_by(4096).map(|page| if page == 0 { 100 } else { page });
        let mut trees = 0;
        for at in kinds.filter(|at| matches!(whole[*at], 2 | 5 | 10 | 13)) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            fs::write(&path, &flipped).unwrap();
            assert!(is_refused(&path), "byte {at}");
            trees += 1;
        }
        assert!(trees > 10);
        fs::write(&path, b"this is no database at all, but it is long enough to be one").unwrap();
        assert!(is_refused(&path));
        let text = Store::open(&path).unwrap_err().to_string();
        assert!(text.contains("backup"), "{text}");
    }

    #[test]
    fn a_database_without_one_of_its_tables_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = filled(folder.path());
        Connection::open(&path).unwrap().execute_batch("DROP TABLE tries").unwrap();
        let refused = Store::open(&path).unwrap_err().to_string();
        assert!(refused.contains("tries"), "{refused}");
    }
}
