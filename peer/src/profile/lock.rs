//! One process owns a profile: the lock on `profile.lock`, which ends with the process however it
//! ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use parlor_common::visible::Visible;
use thiserror::Error;

use super::private::{self, FolderError};

/// Why a profile was not locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// The lock file cannot be made or locked.
    #[error("{path} cannot be locked: {source}")]
    Failed {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The profile's folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another process has it.
    #[error("this profile is in use by {by}")]
    Held {
        /// Which, as it says: `parlor listen, process 1234`.
        by: String,
    },
}

/// Of the holder's words no more than this is read, in bytes.
const MAX_HOLDER: u64 = 200;

/// Locks the file at `path` and writes into it who holds it.
pub(super) fn take(path: &Path, command: &str) -> Result<File, LockError> {
    let failed = |source| LockError::Failed { path: path.to_owned(), source };
    let mut options = private::options();
    let mut file = options.read(true).write(true).create(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::Held { by: holder(&mut file) }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    write_holder(&mut file, command).map_err(failed)?;
    Ok(file)
}

fn write_holder(file: &mut File, command: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{command}, process {}", process::id())
}

fn holder(file: &mut File) -> String {
    let mut words = Vec::new();
    // Best effort: the words are for people, the lock itself is what counts.
    let read = file.take(MAX_HOLDER).read_to_end(&mut words);
    let words = String::from_utf8_lossy(&words);
    match (read, words.trim()) {
        (Ok(_), words) if !words.is_empty() => Visible(words).to_string(),
        (Ok(_) | Err(_), _) => "another process".to_owned(),
    }
}
