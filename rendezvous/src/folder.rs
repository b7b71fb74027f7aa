//! The data folder: the owner's alone, one server at a time, secrets written whole or not at all.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::ServerKeys;
use crate::opaque::OpaqueSetup;
use crate::store;

/// How often, and for how long each time, a server waits for a command to end: a second.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

const LOCK: &str = "lock";
const SERVER_KEY: &str = "server.key";
const OPAQUE_KEY: &str = "opaque.key";

/// The data folder of a running server, which nobody else may open meanwhile.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Held as long as the value lives; the operating system lets go of it with the process.
    _lock: File,
}

/// The data folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Another server has it open.
    #[error("another parlor-rendezvous is running on {}: stop it, or give another --data", .0.display())]
    InUse(PathBuf),
    /// A server has it open and does not take requests.
    #[error(
        "the server that runs on {} is starting or stopping, or does not answer: try again", .0.display()
    )]
    Silent(PathBuf),
    /// The operating system refused.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// The database is there and one of its secrets is not.
    #[error(
        "{} is missing although there are accounts: put it back from a backup; \
         without it nobody can log in", .0.display()
    )]
    Missing(PathBuf),
    /// Others than the owner may read or change it.
    #[error(
        "{} is open to others (mode {mode:04o}), and what is in it is for its owner alone: \
         run `chmod {wanted:o} {}`, and think of who may have read it", .path.display(), .path.display()
    )]
    Open {
        /// The folder or file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The widest that is taken.
        wanted: u32,
    },
    /// It belongs to another user of the machine.
    #[error(
        "{} belongs to another user (number {owner}), who could change it: run parlor-rendezvous \
         as that user, or give it to this one with `chown -R`", .path.display()
    )]
    NotOwn {
        /// The folder or file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is a link, a device or a folder.
    #[error("{} is no ordinary file: put the file itself there, not a link to it", .0.display())]
    NotAFile(PathBuf),
    /// A secret's file is damaged.
    #[error("{} is damaged: put it back from a backup", .0.display())]
    Damaged(PathBuf),
}

impl DataFolder {
    /// Opens the folder, and makes it, readable by its owner only, where there is none. One that is
    /// there and empty is as good as none: it becomes the owner's alone.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        create_folder(path).map_err(|error| failed(path, error))?;
        adopt_empty(path).map_err(|error| failed(path, error))?;
        check_folder(path)?;
        let lock = path.join(LOCK);
        check_file(&lock)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = owner_only(&mut options).open(&lock).map_err(|error| failed(&lock, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(&lock, error)),
        }
    }

    /// Opens the folder as a server does: a command that has it open is waited for.
    pub fn open_for_server(path: &Path) -> Result<Self, FolderError> {
        for _ in 0..TRIES {
            match Self::open(path) {
                Err(FolderError::InUse(_)) => thread::sleep(PAUSE),
                opened => return opened,
            }
        }
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database's file, which is there and the owner's alone before `SQLite` opens it.
    pub fn database(&self) -> Result<PathBuf, FolderError> {
        let path = self.path.join(store::FILE);
        for suffix in ["", "-wal", "-shm"] {
            check_file(&self.path.join(format!("{}{suffix}", store::FILE)))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        owner_only(&mut options).open(&path).map_err(|error| failed(&path, error))?;
        Ok(path)
    }

    /// The server's keys; drawn at the first start.
    pub fn server_keys(&self, rng: &mut dyn CryptoRng) -> Result<ServerKeys, FolderError> {
        let path = self.path.join(SERVER_KEY);
        if let Some(text) = read(&path)? {
            return parse_keys(&path, &text);
        }
        self.check_new(&path)?;
        let keys = ServerKeys::generate(rng);
        write(&path, keys.expose_text().as_bytes())?;
        Ok(keys)
    }

    /// OPAQUE's secrets; drawn at the first start. They lie beside the database, not in it, so that
    /// a copy of that alone checks no password.
    pub fn opaque(&self, rng: &mut dyn CryptoRng) -> Result<OpaqueSetup, FolderError> {
        let path = self.path.join(OPAQUE_KEY);
        if let Some(bytes) = read(&path)? {
            return OpaqueSetup::from_bytes(&bytes).map_err(|_| FolderError::Damaged(path));
        }
        self.check_new(&path)?;
        let setup = OpaqueSetup::generate(rng);
        write(&path, &setup.expose_bytes())?;
        Ok(setup)
    }

    /// Refuses to draw a secret anew where there is a database that was made with another.
    fn check_new(&self, missing: &Path) -> Result<(), FolderError> {
        let database = self.path.join(store::FILE);
        if fs::metadata(&database).is_ok_and(|found| found.len() > 0) {
            return Err(FolderError::Missing(missing.to_owned()));
        }
        Ok(())
    }
}

/// Reads the keys of a server that may be running; absent if none has ever run there.
pub fn read_server_keys(folder: &Path) -> Result<Option<ServerKeys>, FolderError> {
    let path = folder.join(SERVER_KEY);
    read(&path)?.map(|text| parse_keys(&path, &text)).transpose()
}

fn parse_keys(path: &Path, bytes: &[u8]) -> Result<ServerKeys, FolderError> {
    let text = std::str::from_utf8(bytes).ok();
    let keys = text.and_then(|text| ServerKeys::parse(text).ok());
    keys.ok_or_else(|| FolderError::Damaged(path.to_owned()))
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FolderError> {
    check_file(path)?;
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// Writes a secret beside its place, and moves it there when it is on the disk.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        let mut file = owner_only(&mut options).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> FolderError {
    FolderError::Io { path: path.to_owned(), error }
}

/// Closes a folder to others in which there is nothing yet that they may have read.
fn adopt_empty(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if fs::read_dir(path)?.next().is_none() {
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        // Where that cannot be, the look at it that follows says why.
        let _ = fs::set_permissions(path, closed);
    }
    Ok(())
}

/// Refuses a folder that is not the owner's alone.
fn check_folder(path: &Path) -> Result<(), FolderError> {
    let found = fs::metadata(path).map_err(|error| failed(path, error))?;
    check_owner(path, &found, 0o700)
}

/// Refuses a file that is not an ordinary one and the owner's alone, if it is there.
fn check_file(path: &Path) -> Result<(), FolderError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(FolderError::NotAFile(path.to_owned())),
        Ok(found) => check_owner(path, &found, 0o600),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, error)),
    }
}

#[cfg(unix)]
fn check_owner(path: &Path, found: &Metadata, wanted: u32) -> Result<(), FolderError> {
    use std::os::unix::fs::MetadataExt;

    let (path, mode, owner) = (path.to_owned(), found.mode() & 0o7777, found.uid());
    if owner != rustix::process::geteuid().as_raw() {
        return Err(FolderError::NotOwn { path, owner });
    }
    if mode & 0o077 != 0 {
        return Err(FolderError::Open { path, mode, wanted });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_: &Path, _: &Metadata, _: u32) -> Result<(), FolderError> {
    Ok(())
}

/// Makes a folder of mode 0700 with its parents; one that is there is left as it is.
fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Files are of mode 0600.
fn owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_folder_is_for_one_server_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        assert!(matches!(DataFolder::open(temporary.path()), Err(FolderError::InUse(_))));
        drop(folder);
        DataFolder::open(temporary.path()).unwrap();
    }

    #[test]
    fn secrets_are_drawn_once_and_not_again_beside_a_database() {
        let temporary = tempfile::tempdir().unwrap();
        let mut rng = StdRng::from_seed([1; 32]);
        let folder = DataFolder::open(temporary.path()).unwrap();
        let keys = folder.server_keys(&mut rng).unwrap();
        let opaque = folder.opaque(&mut rng).unwrap();
        assert_eq!(folder.server_keys(&mut rng).unwrap().public(), keys.public());
        assert_eq!(folder.opaque(&mut rng).unwrap().expose_bytes(), opaque.expose_bytes());

        fs::write(folder.database().unwrap(), b"accounts").unwrap();
        fs::remove_file(temporary.path().join(OPAQUE_KEY)).unwrap();
        assert!(matches!(folder.opaque(&mut rng), Err(FolderError::Missing(_))));
        fs::write(temporary.path().join(SERVER_KEY), b"scribble").unwrap();
        assert!(matches!(folder.server_keys(&mut rng), Err(FolderError::Damaged(_))));
    }

    #[cfg(unix)]
    #[test]
    fn everything_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;

        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/data");
        let folder = DataFolder::open(&path).unwrap();
        let mut rng = StdRng::from_seed([1; 32]);
        folder.server_keys(&mut rng).unwrap();
        folder.opaque(&mut rng).unwrap();
        let store = store::Store::open(&folder.database().unwrap()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        store.close().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_is_open_to_others_is_refused_with_what_to_do() {
        use std::os::unix::fs::PermissionsExt;

        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let open = |path: &Path| -> Result<(), FolderError> {
            let mut rng = StdRng::from_seed([1; 32]);
            let folder = DataFolder::open(path)?;
            folder.server_keys(&mut rng)?;
            folder.opaque(&mut rng)?;
            folder.database().map(|_| ())
        };
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        open(&path).unwrap();
        for mode in [0o755, 0o750, 0o701, 0o702] {
            chmod(&path, mode);
            let refused = open(&path).unwrap_err();
            assert!(matches!(refused, FolderError::Open { wanted: 0o700, .. }), "{refused}");
            assert!(refused.to_string().contains("chmod 700"), "{refused}");
            assert!(read_server_keys(&path).is_ok());
        }
        chmod(&path, 0o700);
        for name in [LOCK, SERVER_KEY, OPAQUE_KEY, store::FILE] {
            let file = path.join(name);
            for mode in [0o640, 0o604, 0o620] {
                chmod(&file, mode);
                let refused = open(&path).unwrap_err().to_string();
                assert!(refused.contains("chmod 600") && refused.contains(name), "{refused}");
            }
            chmod(&file, 0o600);
            open(&path).unwrap();
        }
        let wal = path.join(format!("{}-wal", store::FILE));
        fs::write(&wal, b"").unwrap();
        chmod(&wal, 0o644);
        assert!(matches!(open(&path), Err(FolderError::Open { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_in_place_of_files_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (temporary.path().join("data"), temporary.path().join("else"));
        let mut rng = StdRng::from_seed([1; 32]);
        let folder = DataFolder::open(&path).unwrap();
        folder.server_keys(&mut rng).unwrap();
        fs::rename(path.join(SERVER_KEY), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join(SERVER_KEY)).unwrap();
        assert!(matches!(folder.server_keys(&mut rng), Err(FolderError::NotAFile(_))));
        assert!(matches!(read_server_keys(&path), Err(FolderError::NotAFile(_))));
        std::os::unix::fs::symlink(temporary.path().join("db"), path.join(store::FILE)).unwrap();
        assert!(matches!(folder.database(), Err(FolderError::NotAFile(_))));
    }

    /// Only root can make a file another's.
    #[cfg(unix)]
    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let folder = DataFolder::open(&path).unwrap();
        let database = folder.database().unwrap();
        std::os::unix::fs::chown(&database, Some(12_345), None).unwrap();
        let refused = folder.database().unwrap_err();
        assert!(matches!(refused, FolderError::NotOwn { owner: 12_345, .. }), "{refused}");
        drop(folder);
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(FolderError::NotOwn { .. })));
    }
}
