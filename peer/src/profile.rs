//! The profile folder: the database, its key, and the lock by which one process owns them.
//!
//! ```text
//! profile.db      everything, in SQLCipher, 0600
//! profile.key     the database's key, as it is or behind a passphrase, 0600
//! profile.lock    locked by the process that uses the profile; says which
//! config.toml     what the person sets, if anything
//! profile.db.v1   the database before an update, 0600, until the new version has used it
//! ```
//! There is a profile if there is a `profile.db`. A new one is written under other names and gets
//! its own once the rendezvous has the account, so that no half of one is ever found.

mod export;
mod key;
mod lock;
mod prepared;
pub(crate) mod private;
mod sealed_key;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parlor_common::id::Username;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

pub use export::ExportError;
pub use lock::LockError;
pub use prepared::PreparedProfile;
pub use private::FolderError;

use self::key::KeyFile;
use self::prepared::NEW_KEY;
use self::sealed_key::{Cost, SealedKey, UnsealError};
use crate::account::Password;
use crate::config::{Config, ConfigError};
use crate::node::record::Identity;
use crate::store::{self, CommitError, Company, OpenError, ReadError, Reader, Store, StoreKey};

const DATABASE: &str = "profile.db";
/// The store's files of commits that are not in the database yet.
const JOURNAL: &str = "profile.journal";
const KEY: &str = "profile.key";
const LOCK: &str = "profile.lock";
const CONFIG: &str = "config.toml";

/// Why a profile could not be made or opened. The messages are for people and say what to do.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// What the person has set is not as it should be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database is not one, or not one under this key.
    #[error("{0} is damaged, or no profile of this key; parlor doctor says what can be done")]
    Damaged(PathBuf),
    /// There is a profile where a new one was wanted.
    #[error("this folder already holds {}; choose another --home", whose(.0.as_ref()))]
    Exists(Option<Username>),
    /// The system refused.
    #[error("{path} cannot be used: {source}")]
    Failed {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file can be used by others than its owner.
    #[error("others can read the key file {0}; run chmod 600 on it, then try again")]
    KeyOpenToOthers(PathBuf),
    /// The key is behind a passphrase, and there is nobody to ask for it.
    #[error("this profile's key is behind a passphrase")]
    Locked,
    /// The key file is missing or holds no key.
    #[error("{0} is missing or holds no key; restore it from a backup: nothing else opens it")]
    NoKey(PathBuf),
    /// There is no profile.
    #[error("no account here yet: parlor register NAME --server LINK")]
    NoProfile,
    /// The database could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The passphrase could not be had.
    #[error(transparent)]
    Passphrase(#[from] NoPassphrase),
    /// The database could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new database could not be written.
    #[error(transparent)]
    Write(#[from] CommitError),
    /// The passphrase does not open the key.
    #[error("wrong passphrase: it does not open the key of this profile")]
    WrongPassphrase,
}

/// The passphrase of a profile could not be had; the words say why and what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0}")]
pub struct NoPassphrase(pub String);

/// Asks whoever uses the program for the passphrase of the profile.
pub type AskPassphrase = fn() -> Result<Password, NoPassphrase>;

/// How the database's key is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyProtection {
    /// As it is: whoever reads the folder reads the database.
    PlainFile,
    /// Behind a passphrase.
    Passphrase,
}

fn whose(name: Option<&Username>) -> String {
    name.map_or_else(|| "a profile".to_owned(), |name| format!("{name}'s profile"))
}

/// The folder of a profile, whether there is one in it or not.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    ask: Option<AskPassphrase>,
    /// The key, once a passphrase has opened it: nobody is asked twice.
    unlocked: Arc<OnceLock<StoreKey>>,
}

impl Home {
    /// The folder at `path`. Nothing is touched. A profile behind a passphrase does not open.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ask: None, unlocked: Arc::default() }
    }

    /// The same, where somebody can be asked for a passphrase.
    #[must_use]
    pub fn asking(self, ask: AskPassphrase) -> Self {
        Self { ask: Some(ask), ..self }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the person has set.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::read(&self.path.join(CONFIG))
    }

    /// Takes the profile for this process: makes the folder if it is not there, and locks it.
    /// `command` is what another process is told of this one, such as `parlor listen`.
    pub fn lock(&self, command: &str) -> Result<ProfileLock, LockError> {
        let own = |name: &str| {
            [DATABASE, JOURNAL, KEY, LOCK, CONFIG].iter().any(|own| name.starts_with(own))
        };
        private::folder(&self.path, own)?;
        let file = lock::take(&self.path.join(LOCK), command)?;
        Ok(ProfileLock { home: self.clone(), _file: file })
    }

    /// Opens the profile to read it, whoever has it. What was committed in the last 10 ms, while
    /// somebody has it, may be missing.
    pub fn open_read_only(&self) -> Result<Reader, ProfileError> {
        let key = self.key()?;
        self.catch_up()?;
        Reader::open(&self.path.join(DATABASE), &key).map_err(|error| self.cannot_open(error))
    }

    /// Brings into the database what a process that was killed left in the journal. Where somebody
    /// has the profile now, it does so by itself.
    fn catch_up(&self) -> Result<(), ProfileError> {
        if store::has_journal(&self.path.join(DATABASE))
            && let Ok(lock) = self.lock("parlor")
        {
            lock.open()?.close()?;
        }
        Ok(())
    }

    fn key(&self) -> Result<StoreKey, ProfileError> {
        if !exists(&self.path.join(DATABASE))? {
            return Err(ProfileError::NoProfile);
        }
        if let Some(key) = self.unlocked.get() {
            return Ok(key.clone());
        }
        match KeyFile::read(&self.path.join(KEY))? {
            KeyFile::Plain(key) => Ok(key),
            KeyFile::Sealed(sealed) => self.unlock(&sealed),
        }
    }

    fn unlock(&self, sealed: &SealedKey) -> Result<StoreKey, ProfileError> {
        let passphrase = self.ask.ok_or(ProfileError::Locked)?()?;
        let key = sealed.open(&passphrase).map_err(|error| match error {
            UnsealError::WrongPassphrase => ProfileError::WrongPassphrase,
            UnsealError::Malformed => ProfileError::NoKey(self.path.join(KEY)),
        })?;
        Ok(self.unlocked.get_or_init(|| key).clone())
    }

    /// What is wrong with the database; nothing if it is sound.
    pub fn faults(&self, company: Company) -> Result<Vec<String>, ProfileError> {
        let (key, path) = (self.key()?, self.path.join(DATABASE));
        store::faults(&path, &key, company).map_err(|error| self.cannot_open(error))
    }

    /// How the database's key is kept.
    pub fn key_protection(&self) -> Result<KeyProtection, ProfileError> {
        Ok(match KeyFile::read(&self.path.join(KEY))? {
            KeyFile::Plain(_) => KeyProtection::PlainFile,
            KeyFile::Sealed(_) => KeyProtection::Passphrase,
        })
    }

    fn cannot_open(&self, error: OpenError) -> ProfileError {
        match error {
            OpenError::Damaged => ProfileError::Damaged(self.path.join(DATABASE)),
            OpenError::Copy(_)
            | OpenError::Failed(_)
            | OpenError::Journal(_)
            | OpenError::Newer { .. } => ProfileError::Open(error),
        }
    }
}

/// A profile folder that this process has for itself, until this is dropped or the process ends.
#[derive(Debug)]
pub struct ProfileLock {
    home: Home,
    /// The lock ends when this is closed.
    _file: File,
}

impl ProfileLock {
    /// Opens the profile.
    pub fn open(&self) -> Result<Store, ProfileError> {
        let (key, path) = (self.home.key()?, self.home.path.join(DATABASE));
        private::close_to_others(&path).map_err(at(&path))?;
        let durability = self.home.config()?.durability;
        Store::open(&path, &key, durability).map_err(|error| self.home.cannot_open(error))
    }

    /// Refuses a folder that holds a profile: to be asked before anything is registered.
    pub fn refuse_existing(&self) -> Result<(), ProfileError> {
        if !exists(&self.home.path.join(DATABASE))? {
            return Ok(());
        }
        // Nobody is asked for a passphrase, only to be refused.
        let home = Home::new(&self.home.path);
        let identity = home.open_read_only().and_then(|reader| Ok(reader.identity()?));
        Err(ProfileError::Exists(identity.ok().map(|identity| identity.name)))
    }

    /// Puts the database's key behind a passphrase, or takes it out. The key stays the same. A
    /// process that is ended midway leaves the key as it was or as it shall be.
    pub fn protect_key(
        &self,
        passphrase: Option<&Password>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), ProfileError> {
        // Only a key that opens the database is worth keeping.
        drop(self.home.open_read_only()?);
        let key = self.home.key()?;
        let path = self.home.path.join(KEY);
        let file = match passphrase {
            None => KeyFile::Plain(key),
            Some(passphrase) => {
                let sealed = SealedKey::seal(&key, passphrase, Cost::STANDARD, rng);
                KeyFile::Sealed(sealed.map_err(|_| ProfileError::NoKey(path.clone()))?)
            }
        };
        file.replace(&path, &self.home.path.join(NEW_KEY)).map_err(at(&path))
    }

    /// Writes a new profile completely, under other names than a profile's.
    pub fn prepare(
        &self,
        identity: &Identity,
        rng: &mut dyn CryptoRng,
    ) -> Result<PreparedProfile, ProfileError> {
        self.refuse_existing()?;
        let mut key = Zeroizing::new([0; StoreKey::LEN]);
        rng.fill_bytes(key.as_mut_slice());
        PreparedProfile::write(self.home.clone(), identity, &StoreKey::new(key))
    }
}

fn exists(path: &Path) -> Result<bool, ProfileError> {
    path.try_exists().map_err(at(path))
}

/// Says at which path the system refused.
fn at(path: &Path) -> impl Fn(io::Error) -> ProfileError {
    let path = path.to_owned();
    move |source| ProfileError::Failed { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use tempfile::TempDir;

    use super::prepared::NEW_DATABASE;
    use super::*;
    use crate::store::fixture::{identity, name, receive, received};

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn home(&self) -> Home {
            Home::new(self.0.path().join("home"))
        }

        fn file(&self, name: &str) -> PathBuf {
            self.home().path().join(name)
        }

        /// The names in the home folder, but for the lock file.
        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(self.home().path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| name != LOCK).collect();
            names.sort();
            names
        }

        fn lock(&self) -> ProfileLock {
            self.home().lock("parlor test").unwrap()
        }

        /// A folder with alice's profile.
        fn registered() -> Self {
            let folder = Self::new();
            let lock = folder.lock();
            prepare(&lock).unwrap().keep().unwrap().close().unwrap();
            folder
        }
    }

    fn prepare(lock: &ProfileLock) -> Result<PreparedProfile, ProfileError> {
        lock.prepare(&identity(), &mut StdRng::seed_from_u64(1))
    }

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_profile_that_was_kept_opens_again() {
        let folder = Folder::registered();
        assert_eq!(folder.files(), [DATABASE, KEY]);
        let lock = folder.lock();
        let mut store = lock.open().unwrap();
        store.commit(&[receive(received(1))]).unwrap();
        let reader = folder.home().open_read_only().unwrap();
        assert_eq!(reader.identity().unwrap().name, name("alice"));
        assert_eq!(reader.history(&name("bob"), 50, None).unwrap().len(), 1);
    }

    #[test]
    fn what_a_killed_process_committed_is_there_for_who_only_reads() {
        let (folder, killed) = (Folder::registered(), Folder::new());
        let lock = folder.lock();
        let mut store = lock.open().unwrap();
        for number in 1..=3 {
            store.commit(&[receive(received(number))]).unwrap();
        }
        fs::create_dir(killed.home().path()).unwrap();
        for name in folder.files().iter().filter(|name| !name.ends_with("-shm")) {
            fs::copy(folder.file(name), killed.file(name)).unwrap();
        }
        let history = |folder: &Folder| {
            let reader = folder.home().open_read_only().unwrap();
            reader.history(&name("bob"), 50, None).unwrap().len()
        };
        assert_eq!(history(&killed), 3);
        assert!(killed.files().iter().all(|name| !name.starts_with(JOURNAL)));
        // Who has the profile is not waited for.
        assert!(folder.files().iter().any(|name| name == JOURNAL));
        assert_eq!(history(&folder), 1);
        store.flush().unwrap();
        assert_eq!(history(&folder), 3);
    }

    #[test]
    fn a_profile_that_was_not_kept_leaves_nothing() {
        let folder = Folder::new();
        let lock = folder.lock();
        let prepared = prepare(&lock).unwrap();
        assert_eq!(folder.files(), [NEW_DATABASE, NEW_KEY]);
        assert!(matches!(lock.open(), Err(ProfileError::NoProfile)));
        drop(prepared);
        assert_eq!(folder.files(), Vec::<String>::new());
    }

    #[test]
    fn what_a_process_left_that_was_ended_midway_is_replaced() {
        let folder = Folder::new();
        let lock = folder.lock();
        for name in [NEW_DATABASE, "profile.db.new-wal", NEW_KEY, KEY] {
            fs::write(folder.file(name), "half").unwrap();
        }
        assert!(matches!(lock.open(), Err(ProfileError::NoProfile)));
        let store = prepare(&lock).unwrap().keep().unwrap();
        assert_eq!(store.reader().identity().unwrap().name, name("alice"));
    }

    #[test]
    fn a_folder_takes_one_profile() {
        let folder = Folder::registered();
        let lock = folder.lock();
        let refused = prepare(&lock).unwrap_err();
        let words = "this folder already holds alice's profile; choose another --home";
        assert_eq!(refused.to_string(), words);
        fs::remove_file(folder.file(KEY)).unwrap();
        assert!(matches!(lock.refuse_existing(), Err(ProfileError::Exists(None))));
        assert!(prepare(&lock).is_err());
        assert!(!folder.file(KEY).exists());
    }

    #[test]
    fn a_second_holder_is_told_who_is_the_first() {
        let folder = Folder::new();
        let lock = folder.home().lock("parlor listen").unwrap();
        let refused = folder.home().lock("parlor chat").unwrap_err();
        let words = format!("in use by parlor listen, process {}", std::process::id());
        assert!(refused.to_string().ends_with(&words), "{refused}");
        drop(lock);
        folder.home().lock("parlor chat").unwrap();
    }

    #[test]
    fn without_a_profile_the_words_say_how_to_get_one() {
        let folder = Folder::new();
        let refused = folder.home().open_read_only().unwrap_err();
        let words = "no account here yet: parlor register NAME --server LINK";
        assert_eq!(refused.to_string(), words);
        assert!(!folder.home().path().exists());
        assert!(matches!(folder.lock().open(), Err(ProfileError::NoProfile)));
    }

    #[test]
    fn a_home_that_is_no_folder_is_refused() {
        let folder = Folder::new();
        fs::write(folder.home().path(), "a file").unwrap();
        let refused = folder.home().lock("parlor test");
        assert!(matches!(refused, Err(LockError::Folder(FolderError::NotAFolder(_)))));
        let inside = Home::new(folder.home().path().join("deeper"));
        let refused = inside.lock("parlor test");
        assert!(matches!(refused, Err(LockError::Folder(FolderError::Failed { .. }))));
        assert!(inside.open_read_only().is_err());
    }

    #[test]
    fn a_key_that_is_none_or_another_opens_nothing() {
        let folder = Folder::registered();
        let (lock, key) = (folder.lock(), folder.file(KEY));
        let whole = fs::read_to_string(&key).unwrap();
        assert_eq!(whole.len(), 65);
        for text in ["", "\n", "short", &"zz".repeat(32), &"a".repeat(1000)] {
            fs::write(&key, text).unwrap();
            assert!(matches!(lock.open(), Err(ProfileError::NoKey(_))), "{text}");
        }
        fs::write(&key, "07".repeat(32)).unwrap();
        assert!(matches!(lock.open(), Err(ProfileError::Damaged(_))));
        fs::write(&key, format!("{}\r\n", whole.trim())).unwrap();
        lock.open().unwrap();
        fs::remove_file(&key).unwrap();
        assert!(matches!(lock.open(), Err(ProfileError::NoKey(_))));
    }

    #[test]
    fn a_passphrase_is_put_before_the_key_changed_and_taken_away() {
        fn passphrase(text: &str) -> Password {
            Password::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
        }
        let folder = Folder::registered();
        let plain = fs::read(folder.file(KEY)).unwrap();
        let rng = &mut StdRng::seed_from_u64(1);
        let protect = |passphrase: Option<&Password>, ask: AskPassphrase, rng: &mut StdRng| {
            let lock = folder.home().asking(ask).lock("parlor test").unwrap();
            lock.protect_key(passphrase, rng)
        };
        // What a process left that was ended midway.
        fs::write(folder.file(NEW_KEY), "half").unwrap();
        protect(Some(&passphrase("one")), || Err(NoPassphrase("there was none".to_owned())), rng)
            .unwrap();
        assert_eq!(folder.home().key_protection().unwrap(), KeyProtection::Passphrase);
        assert!(!folder.file(NEW_KEY).exists());
        let digits = plain.trim_ascii_end();
        let sealed = fs::read(folder.file(KEY)).unwrap();
        assert!(!sealed.windows(digits.len()).any(|window| window == digits));

        assert!(matches!(folder.home().open_read_only(), Err(ProfileError::Locked)));
        assert!(matches!(folder.lock().refuse_existing(), Err(ProfileError::Exists(None))));
        let wrong = folder.home().asking(|| Ok(passphrase("two"))).open_read_only();
        assert!(matches!(wrong, Err(ProfileError::WrongPassphrase)));
        let nobody = folder.home().asking(|| Err(NoPassphrase("no".to_owned()))).open_read_only();
        assert!(matches!(nobody, Err(ProfileError::Passphrase(_))));
        assert!(protect(None, || Ok(passphrase("two")), rng).is_err());
        assert_eq!(fs::read(folder.file(KEY)).unwrap(), sealed, "nothing was changed");

        protect(Some(&passphrase("two")), || Ok(passphrase("one")), rng).unwrap();
        let home = folder.home().asking(|| Ok(passphrase("two")));
        assert_eq!(home.open_read_only().unwrap().identity().unwrap().name, name("alice"));
        home.lock("parlor test").unwrap().open().unwrap();
        protect(None, || Ok(passphrase("two")), rng).unwrap();
        assert_eq!(fs::read(folder.file(KEY)).unwrap(), plain, "the key is the same");
        folder.lock().open().unwrap();
    }

    #[test]
    fn nobody_is_asked_twice() {
        use std::sync::atomic::{AtomicU32, Ordering};
        static ASKED: AtomicU32 = AtomicU32::new(0);
        fn ask() -> Result<Password, NoPassphrase> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let one = Password::new(Zeroizing::new(b"one".to_vec()));
            one.map_err(|error| NoPassphrase(error.to_string()))
        }
        let folder = Folder::registered();
        let passphrase = ask().unwrap();
        folder.lock().protect_key(Some(&passphrase), &mut StdRng::seed_from_u64(1)).unwrap();
        let home = folder.home().asking(ask);
        let lock = home.lock("parlor test").unwrap();
        drop((home.open_read_only().unwrap(), lock.open().unwrap()));
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_database_that_is_none_is_refused() {
        let folder = Folder::registered();
        fs::write(folder.file(DATABASE), "not a database, and long enough for one".repeat(500))
            .unwrap();
        assert!(matches!(folder.lock().open(), Err(ProfileError::Damaged(_))));
        assert!(matches!(folder.home().open_read_only(), Err(ProfileError::Damaged(_))));
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_files_are_their_owners_only() {
        let folder = Folder::registered();
        let _store = folder.lock().open().unwrap();
        assert_eq!(mode(folder.home().path()), 0o700);
        for name in [DATABASE, "profile.db-wal", "profile.db-shm", KEY, LOCK] {
            assert_eq!(mode(&folder.file(name)), 0o600, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn wider_modes_are_tightened_but_for_the_keys() {
        let folder = Folder::registered();
        set_mode(folder.home().path(), 0o755);
        set_mode(&folder.file(DATABASE), 0o644);
        let lock = folder.lock();
        drop(lock.open().unwrap());
        assert_eq!((mode(folder.home().path()), mode(&folder.file(DATABASE))), (0o700, 0o600));

        set_mode(&folder.file(KEY), 0o640);
        assert!(matches!(lock.open(), Err(ProfileError::KeyOpenToOthers(_))));
        let refused = folder.home().open_read_only();
        assert!(matches!(refused, Err(ProfileError::KeyOpenToOthers(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_with_other_files_keeps_its_mode_and_must_not_be_open_to_writers() {
        let folder = Folder::new();
        fs::create_dir(folder.home().path()).unwrap();
        fs::write(folder.file("password"), "x").unwrap();
        set_mode(folder.home().path(), 0o755);
        drop(folder.lock());
        assert_eq!(mode(folder.home().path()), 0o755);
        set_mode(folder.home().path(), 0o775);
        let refused = folder.home().lock("parlor test");
        assert!(matches!(refused, Err(LockError::Folder(FolderError::OpenToOthers(_)))));
    }
}
