//! Folders and files that are nobody else's business: modes 0700 and 0600 where the system has
//! modes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Every permission of group and others.
const OTHERS: u32 = 0o077;
/// The permission of group and others to write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a folder cannot hold a profile.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It cannot be made, or not be written.
    #[error("the folder {path} cannot be used: {source}")]
    Failed {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else than a folder.
    #[error("{0} is not a folder")]
    NotAFolder(PathBuf),
    /// Others may put files into it, and it holds files that are not the profile's, so that it
    /// was not taken from them by changing its mode.
    #[error("others can write to the folder {0}; run chmod 700 on it, or give parlor its own")]
    OpenToOthers(PathBuf),
}

/// Makes a folder that only its owner enters, or checks one that is there. One that is empty, or
/// holds nothing but files that `is_own` knows by name, is closed to others.
pub(super) fn folder(path: &Path, is_own: fn(&str) -> bool) -> Result<(), FolderError> {
    let failed = |source| FolderError::Failed { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(FolderError::NotAFolder(path.to_owned())),
        Ok(found) if !others_may(OTHERS, &found) => Ok(()),
        Ok(_) if holds_only(path, is_own).map_err(failed)? => set_mode(path, 0o700).map_err(failed),
        Ok(found) if !others_may(OTHERS_WRITE, &found) => Ok(()),
        Ok(_) => Err(FolderError::OpenToOthers(path.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => make_folder(path).map_err(failed),
        Err(e) => Err(failed(e)),
    }
}

fn holds_only(path: &Path, is_own: fn(&str) -> bool) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if !entry?.file_name().to_str().is_some_and(is_own) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Options for a file that, if it is made, only its owner reads.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a file that is not there yet.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

/// Whether somebody else than the owner may do something with the file.
pub(super) fn is_open_to_others(path: &Path) -> io::Result<bool> {
    Ok(others_may(OTHERS, &fs::metadata(path)?))
}

/// Takes a file from everybody but its owner.
pub(super) fn close_to_others(path: &Path) -> io::Result<()> {
    if is_open_to_others(path)? { set_mode(path, 0o600) } else { Ok(()) }
}

/// Makes sure that the names in a folder are on the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Whether anybody but the owner has any of these permissions.
#[cfg(unix)]
fn others_may(permissions: u32, found: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & permissions != 0
}

#[cfg(not(unix))]
fn others_may(_: u32, _: &fs::Metadata) -> bool {
    false
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}
