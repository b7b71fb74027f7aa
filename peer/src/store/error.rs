//! What can go wrong, by what somebody can do about it.

use std::io::{self, ErrorKind};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why a database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The tables are of an older version, and were left so, because the copy that is kept while
    /// they change could not be made.
    #[error(
        "the database is to be updated, and the copy before that cannot be made: {0}; nothing was \
         changed, start again when that is mended"
    )]
    Copy(#[from] CopyError),
    /// The file is no database under this key: the key is wrong, or the file is damaged.
    #[error(
        "the database is damaged, or its key is another one; parlor doctor says what can be done"
    )]
    Damaged,
    /// `SQLite` could not do it.
    #[error("the database cannot be opened: {0}")]
    Failed(#[source] rusqlite::Error),
    /// What was committed last cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A newer program has written it.
    #[error("the database has version {found}, and this program knows {known}: update parlor")]
    Newer {
        /// The version of its tables.
        found: u32,
        /// The latest version that this program knows.
        known: u32,
    },
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) { Self::Damaged } else { Self::Failed(error) }
    }
}

/// Why the journal could not be read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// What stands in it was changed, or its key is another one.
    #[error(
        "the journal is damaged behind its record {after}; restore the profile from a backup, or \
         move profile.journal away to go on without what was committed last"
    )]
    Damaged {
        /// The last record that is whole; 0 for none.
        after: u64,
    },
    /// The system refused.
    #[error("the journal cannot be used: {0}")]
    File(#[from] io::Error),
    /// A newer program has written it.
    #[error("the journal was written by a newer program: update parlor")]
    Unknown,
}

/// Why a copy of the database could not be made.
#[derive(Debug, Error)]
pub enum CopyError {
    /// `SQLite` could not do it; a full disk is one of its reasons.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// The system refused.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Why changes could not be saved. None of them was.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Another process holds the database.
    #[error("the database is in use by another process")]
    Busy,
    /// The file is damaged.
    #[error("the database is damaged; parlor doctor says what can be done")]
    Damaged,
    /// `SQLite` could not do it.
    #[error("the database cannot be written: {0}")]
    Failed(#[source] rusqlite::Error),
    /// The system refused.
    #[error("the journal cannot be written: {0}")]
    File(#[source] io::Error),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
}

impl From<io::Error> for CommitError {
    fn from(error: io::Error) -> Self {
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
        if full.contains(&error.kind()) { Self::Full } else { Self::File(error) }
    }
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ if is_damage(&error) => Self::Damaged,
            _ => Self::Failed(error),
        }
    }
}

/// Why something could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Another process holds the database.
    #[error("the database is in use by another process")]
    Busy,
    /// The file is damaged, or holds what this program never writes.
    #[error("the database is damaged; parlor doctor says what can be done")]
    Damaged,
    /// `SQLite` could not do it.
    #[error("the database cannot be read: {0}")]
    Failed(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ if is_damage(&error) => Self::Damaged,
            _ => Self::Failed(error),
        }
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    let damaged = matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    let unreadable = matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::QueryReturnedNoRows
    );
    damaged || unreadable
}
