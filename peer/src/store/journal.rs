//! The journal: what was committed and may not be in the database yet.
//!
//! A file beside the database, `profile.journal`. A commit is one record, appended by one write:
//! from then on it survives the end of the process. The database gets many commits in one
//! transaction, and remembers the number of the last one; what a killed process left in the
//! journal is applied at the next start.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `parlorj` and the version, 1 |
//! | 32 | the file's id, random: its key hangs on it |
//! | 16 | shows that id and profile's key are right |
//! | | then records: |
//! | 4 | the length of what is sealed, without its tag, big-endian |
//! | 8 | the record's number, big-endian: higher than that of any record before, in whatever file |
//! | … | what was committed, as `MessagePack`, under AES-256-GCM; its nonce is the number |
//! | 16 | the tag, over length and number too |
//!
//! What was committed holds keys that are erased some day. A file is used for a second at most: then
//! a new one is begun under another id, and the old one, `profile.journal.old`, is erased once the
//! database has what stands in it. Its head goes first, and with the id the key: see
//! `erasure.rs`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{Durability, JournalError, StoreKey};
use crate::crypto::kdf;
use crate::node::record::Change;
use crate::profile::private;

const MAGIC: [u8; 8] = *b"parlorj\x01";
const ID_LEN: usize = 32;
const CHECK_LEN: usize = 16;
const HEAD_LEN: usize = MAGIC.len() + ID_LEN + CHECK_LEN;

/// Length and number.
const RECORD_HEAD_LEN: usize = 4 + 8;
const TAG_LEN: usize = 16;

/// What is sealed in a record has at most this many bytes. A commit of that size does not go through
/// the journal.
const MAX_RECORD: usize = 16 * 1024 * 1024;

/// The buffer is kept from one commit to the next up to this size, in bytes.
const KEPT_BUFFER: usize = 256 * 1024;

/// A change, and the row of the message that it brings or is about, where the store knows it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) change: Change,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) row: Option<i64>,
}

/// What one commit left.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
}

/// The journal of a database, to be appended to.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    key: StoreKey,
    durability: Durability,
    file: Option<Writing>,
    /// The number of the last record.
    last: u64,
    buffer: Vec<u8>,
}

/// A file that records are appended to.
struct Writing {
    file: File,
    head: [u8; HEAD_LEN],
    key: LessSafeKey,
    /// How much of the file is whole records.
    len: u64,
    /// Whether something may stand behind them.
    is_torn: bool,
}

impl Journal {
    /// The journal of a database that has all records up to the number `last`. There must be no
    /// file of it; one is made when there is something to write.
    pub(super) fn new(database: &Path, key: &StoreKey, durability: Durability, last: u64) -> Self {
        let (path, key) = (path(database), key.clone());
        Self { path, key, durability, file: None, last, buffer: Vec::new() }
    }

    /// Appends a commit, and gives its number. Where that fails nothing of it stays.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<u64> {
        let writing = match &mut self.file {
            Some(writing) => writing,
            none => none.insert(Writing::begin(&self.path, &self.key, self.durability)?),
        };
        // A number that failed is not used again: it was somebody's nonce.
        self.last += 1;
        let number = self.last;
        let mut buffer = std::mem::take(&mut self.buffer);
        let sealed = writing.seal(number, entries, &mut buffer);
        let written = sealed.and_then(|()| writing.append(&buffer, self.durability));
        if buffer.capacity() <= KEPT_BUFFER {
            buffer.clear();
            self.buffer = buffer;
        }
        written.map(|()| number)
    }

    /// The file, to be synchronized elsewhere; none if nothing was written.
    pub(super) fn file(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(|writing| writing.file.try_clone()).transpose()
    }

    /// Whether there is a file that is written to.
    pub(super) const fn is_written(&self) -> bool {
        self.file.is_some()
    }

    /// Ends a file: the next record begins another. Where there is one already that was ended
    /// before, it stays with that.
    pub(super) fn retire(&mut self) -> io::Result<Option<Retired>> {
        let old = old(&self.path);
        if let Some(writing) = &mut self.file
            && !old.try_exists()?
        {
            writing.mend()?;
            fs::rename(&self.path, &old)?;
            self.file = None;
        }
        Ok(old.try_exists()?.then_some(Retired(old)))
    }
}

impl Writing {
    fn begin(path: &Path, key: &StoreKey, durability: Durability) -> io::Result<Self> {
        let mut id = [0; ID_LEN];
        SysRng.try_fill_bytes(&mut id).map_err(io::Error::other)?;
        let file = private::options().append(true).create_new(true).open(path)?;
        if durability == Durability::Power {
            path.parent().map_or(Ok(()), private::sync_folder)?;
        }
        let (key, check) = keys(key, &id)?;
        let mut head = [0; HEAD_LEN];
        let bytes = MAGIC.into_iter().chain(id).chain(check);
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(Self { file, head, key, len: 0, is_torn: false })
    }

    /// Writes a record into the buffer, behind the file's head where it is the first.
    fn seal(&self, number: u64, entries: &[Entry], buffer: &mut Vec<u8>) -> io::Result<()> {
        if self.len == 0 {
            buffer.extend(self.head);
        }
        let at = buffer.len();
        buffer.extend([0; RECORD_HEAD_LEN]);
        let sealed_at = buffer.len();
        rmp_serde::encode::write_named(buffer, entries).map_err(io::Error::other)?;
        let len = buffer.len() - sealed_at;
        let Some(short) = u32::try_from(len).ok().filter(|_| len <= MAX_RECORD) else {
            buffer.zeroize();
            return Err(ErrorKind::InvalidInput.into());
        };
        let head = record_head(short, number);
        buffer.iter_mut().skip(at).zip(head).for_each(|(to, from)| *to = from);
        let text = buffer.get_mut(sealed_at..).unwrap_or_default();
        let tag = self.key.seal_in_place_separate_tag(nonce(number), Aad::from(head), text);
        buffer.extend(tag.map_err(io::Error::other)?.as_ref());
        Ok(())
    }

    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        self.mend()?;
        let synced = || match durability {
            Durability::Process => Ok(()),
            Durability::Power => self.file.sync_data(),
        };
        if let Err(error) = (&self.file).write_all(bytes).and_then(|()| synced()) {
            self.is_torn = true;
            // The first error is the one that counts. It is tried again before the next record.
            let _ = self.mend();
            return Err(error);
        }
        self.len += u64::try_from(bytes.len()).unwrap_or_default();
        Ok(())
    }

    /// Cuts off what a failed write left.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.len)?;
            self.is_torn = false;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writing").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A file that no more is written to.
#[derive(Debug)]
pub(super) struct Retired(PathBuf);

impl Retired {
    /// Erases the file: what stands in it must be in the database, and on the disk.
    pub(super) fn erase(self) -> io::Result<()> {
        erase(&self.0)
    }
}

/// Whether something may stand in the journal of a database.
pub(super) fn exists(database: &Path) -> bool {
    let path = path(database);
    [old(&path), path].iter().any(|path| path.exists())
}

/// What stands in the journal of a database, in order. A record that a process was writing when it
/// ended was told to nobody, and is left out.
pub(super) fn read(database: &Path, key: &StoreKey) -> Result<Vec<Record>, JournalError> {
    let path = path(database);
    let mut records = read_file(&old(&path), key)?;
    records.extend(read_file(&path, key)?);
    let mut pairs = records.iter().zip(records.iter().skip(1));
    match pairs.find(|(one, next)| one.number >= next.number) {
        Some((last, _)) => Err(JournalError::Damaged { after: last.number }),
        None => Ok(records),
    }
}

/// Erases the journal of a database. What stands in it must be in the database.
pub(super) fn remove(database: &Path) -> io::Result<()> {
    let path = path(database);
    erase(&old(&path))?;
    erase(&path)
}

/// Overwrites the head, without which nobody has the key of the rest, and then removes the file.
fn erase(path: &Path) -> io::Result<()> {
    let mut file = match private::options().write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let len = file.metadata()?.len().min(HEAD_LEN.try_into().unwrap_or(u64::MAX));
    // What is cut off first need not go to the disk any more.
    file.set_len(len)?;
    file.rewind()?;
    file.write_all([0; HEAD_LEN].get(..usize::try_from(len).unwrap_or_default()).unwrap_or(&[]))?;
    file.sync_data()?;
    drop(file);
    fs::remove_file(path)
}

fn read_file(path: &Path, key: &StoreKey) -> Result<Vec<Record>, JournalError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let Some((head, mut rest)) = bytes.split_first_chunk::<HEAD_LEN>() else {
        return Ok(Vec::new());
    };
    let Some(key) = key_of(head, key)? else { return Ok(Vec::new()) };
    let mut records: Vec<Record> = Vec::new();
    while let Some((number, text, behind)) = open_record(&key, rest) {
        let entries = rmp_serde::from_slice(&text).map_err(|_| JournalError::Unknown)?;
        records.push(Record { number, entries });
        rest = behind;
    }
    let last = records.last().map_or(0, |record| record.number);
    if stands_in(&key, last, rest) {
        return Err(JournalError::Damaged { after: last });
    }
    Ok(records)
}

/// The key of the file with this head; none of one that was erased.
fn key_of(head: &[u8; HEAD_LEN], key: &StoreKey) -> Result<Option<LessSafeKey>, JournalError> {
    if head == &[0; HEAD_LEN] {
        return Ok(None);
    }
    let damaged = JournalError::Damaged { after: 0 };
    let Some((magic, rest)) = head.split_first_chunk::<{ MAGIC.len() }>() else {
        return Err(damaged);
    };
    let Some((id, check)) = rest.split_first_chunk::<ID_LEN>() else { return Err(damaged) };
    let (key, expected) = keys(key, id)?;
    match (check == expected, *magic == MAGIC) {
        (true, true) => Ok(Some(key)),
        (true, false) => Err(JournalError::Unknown),
        (false, _) => Err(damaged),
    }
}

/// Whether a whole record stands anywhere in these bytes, later than the number `last`.
fn stands_in(key: &LessSafeKey, last: u64, bytes: &[u8]) -> bool {
    let later = |at: &usize| {
        let head = bytes.get(*at..).unwrap_or_default();
        let number = head.get(4..).unwrap_or_default().first_chunk().copied();
        let number = number.map(u64::from_be_bytes);
        number.is_some_and(|number| number > last && number - last < u64::from(u32::MAX))
    };
    let starts = (0..bytes.len()).filter(later);
    starts.into_iter().any(|at| open_record(key, bytes.get(at..).unwrap_or_default()).is_some())
}

/// The number of a record, what was sealed in it, and what stands behind it.
type Opened<'a> = (u64, zeroize::Zeroizing<Vec<u8>>, &'a [u8]);

/// The record at the start of these bytes.
fn open_record<'a>(key: &LessSafeKey, bytes: &'a [u8]) -> Option<Opened<'a>> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD_LEN>()?;
    let (len, number) = head.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|len| *len <= MAX_RECORD)?;
    let number = u64::from_be_bytes(*number.first_chunk()?);
    let (sealed, behind) = rest.split_at_checked(len + TAG_LEN)?;
    let mut text = zeroize::Zeroizing::new(sealed.to_vec());
    let len = key.open_in_place(nonce(number), Aad::from(head), &mut text).ok()?.len();
    text.truncate(len);
    Some((number, text, behind))
}

fn record_head(len: u32, number: u64) -> [u8; RECORD_HEAD_LEN] {
    let mut head = [0; RECORD_HEAD_LEN];
    let bytes = len.to_be_bytes().into_iter().chain(number.to_be_bytes());
    head.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    head
}

/// A number is used once with a key.
fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().skip(4).zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}

fn keys(key: &StoreKey, id: &[u8; ID_LEN]) -> io::Result<(LessSafeKey, [u8; CHECK_LEN])> {
    let (key, check) = kdf::journal_keys(key.expose_bytes(), id);
    let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(io::Error::other)?;
    Ok((LessSafeKey::new(key), check))
}

/// `profile.journal` beside `profile.db`.
fn path(database: &Path) -> PathBuf {
    database.with_extension("journal")
}

fn old(path: &Path) -> PathBuf {
    let mut old = OsString::from(path);
    old.push(".old");
    old.into()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::node::record::StoredSession;
    use crate::store::fixture::{contact, id, name, put, queue, queued, receive, received, sealed};
    use parlor_common::id::{DeviceId, SessionId};
    use parlor_common::time::Timestamp;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn database(&self) -> PathBuf {
            self.0.path().join("profile.db")
        }

        fn file(&self) -> PathBuf {
            path(&self.database())
        }

        fn journal(&self) -> Journal {
            Journal::new(&self.database(), &key(1), Durability::Process, 0)
        }

        fn read(&self) -> Result<Vec<Record>, JournalError> {
            read(&self.database(), &key(1))
        }

        fn numbers(&self) -> Vec<u64> {
            self.read().unwrap().iter().map(|record| record.number).collect()
        }
    }

    fn key(byte: u8) -> StoreKey {
        StoreKey::new(Zeroizing::new([byte; 32]))
    }

    fn entries(changes: impl IntoIterator<Item = Change>) -> Vec<Entry> {
        changes.into_iter().map(|change| Entry { change, row: Some(7) }).collect()
    }

    fn short(number: u32) -> Vec<Entry> {
        entries([receive(received(number))])
    }

    fn session() -> StoredSession {
        let (device, id) = (DeviceId([8; 16]), SessionId([7; 16]));
        let state = Zeroizing::new((0..=255).collect());
        StoredSession { device, id, used: u64::MAX, opened_at: Timestamp::from_millis(3), state }
    }

    /// Every change that goes through a journal.
    fn changes() -> Vec<Change> {
        use crate::node::record::{Carrier, EphemeralHash, FailReason, MessageState};
        use crate::store::fixture::device_list;
        let mut on_its_way = queued(1);
        on_its_way.sealed = Some(sealed(200));
        let list = Box::new(device_list("alice", 6));
        vec![
            put(contact("bob")),
            Change::RemoveContact(name("bob")),
            Change::SetOnline(name("bob"), true),
            Change::PutOwnDevices(list.clone()),
            Change::PutRekeying(list),
            Change::ForgetRekeying,
            queue(queued(2)),
            queue(on_its_way),
            Change::SealMessage(id(1, 2), sealed(255)),
            Change::SetMessageState(id(1, 2), MessageState::Sent, Some(Carrier::Mailbox)),
            Change::SetMessageState(id(1, 2), MessageState::Read, None),
            receive(received(1)),
            Change::MarkPrinted(vec![1, i64::MAX]),
            Change::PutSession(session()),
            Change::RemoveSession(DeviceId([8; 16]), SessionId([7; 16])),
            Change::PutPrekey(u32::MAX, Zeroizing::new(vec![255; 900])),
            Change::RemovePrekey(1),
            Change::RememberEphemeral(EphemeralHash([9; 16]), Timestamp::from_millis(u64::MAX)),
            Change::ForgetEphemeral(EphemeralHash([9; 16])),
            Change::SawPrekey(DeviceId([8; 16]), Timestamp::from_millis(1)),
            Change::PutStarts(u64::MAX),
            Change::Fail(id(1, 2), FailReason::KeyChanged),
            Change::TakeBack(id(1, 2)),
            Change::Edit(id(1, 2), "better".to_owned()),
            Change::RememberOpened(received(1).envelope),
        ]
    }

    #[test]
    fn whatever_is_appended_is_read_again() {
        let folder = Folder::new();
        let mut journal = folder.journal();
        assert_eq!(folder.numbers(), [0; 0]);
        assert!(!exists(&folder.database()));
        for change in changes() {
            journal.append(&entries([change])).unwrap();
        }
        journal.append(&entries(changes())).unwrap();
        assert!(exists(&folder.database()));
        let read = folder.read().unwrap().into_iter().flat_map(|record| record.entries);
        let (read, rows): (Vec<_>, Vec<_>) = read.map(|entry| (entry.change, entry.row)).unzip();
        assert_eq!(read, [changes(), changes()].concat());
        assert!(rows.iter().all(|row| *row == Some(7)));
    }

    #[test]
    fn a_file_that_was_ended_is_read_before_the_next() {
        let folder = Folder::new();
        let mut journal = folder.journal();
        assert!(journal.retire().unwrap().is_none());
        journal.append(&short(1)).unwrap();
        let first = journal.retire().unwrap().unwrap();
        journal.append(&short(2)).unwrap();
        assert_eq!(folder.numbers(), [1, 2]);
        // While the first one is there, none is ended.
        drop(journal.retire().unwrap().unwrap());
        assert!(journal.is_written());
        first.erase().unwrap();
        assert_eq!(folder.numbers(), [2]);
        journal.append(&short(3)).unwrap();
        assert_eq!(folder.numbers(), [2, 3]);
        remove(&folder.database()).unwrap();
        assert!(!exists(&folder.database()));
    }

    #[test]
    fn what_was_written_when_the_process_ended_is_left_out() {
        let folder = Folder::new();
        let mut journal = folder.journal();
        journal.append(&short(1)).unwrap();
        let whole = fs::read(folder.file()).unwrap().len();
        journal.append(&short(2)).unwrap();
        let bytes = fs::read(folder.file()).unwrap();
        for len in 0..bytes.len() {
            fs::write(folder.file(), &bytes[..len]).unwrap();
            let expected: &[u64] = if len < whole { &[] } else { &[1] };
            assert_eq!(folder.numbers(), expected, "{len} bytes");
        }
        // The last record, or what stands in its place.
        for at in whole..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(folder.file(), &changed).unwrap();
            assert_eq!(folder.numbers(), [1], "byte {at}");
        }
        fs::write(folder.file(), [&bytes[..whole], &[0; 5000]].concat()).unwrap();
        assert_eq!(folder.numbers(), [1]);
    }

    #[test]
    fn a_change_before_the_last_record_is_damage() {
        let folder = Folder::new();
        let mut journal = folder.journal();
        journal.append(&short(1)).unwrap();
        journal.append(&short(2)).unwrap();
        let last = fs::read(folder.file()).unwrap().len();
        journal.append(&short(3)).unwrap();
        let bytes = fs::read(folder.file()).unwrap();
        for at in 0..last {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            fs::write(folder.file(), &changed).unwrap();
            let refused = folder.read().map(|records| records.len());
            let is_refused = match refused {
                Err(JournalError::Damaged { .. }) => true,
                Err(JournalError::Unknown) => at < MAGIC.len(),
                _ => false,
            };
            assert!(is_refused, "byte {at}");
        }
    }

    #[test]
    fn a_missing_record_is_damage_where_others_stand_behind_it() {
        let folder = Folder::new();
        let mut journal = folder.journal();
        journal.append(&short(1)).unwrap();
        let whole = fs::read(folder.file()).unwrap().len();
        journal.append(&short(2)).unwrap();
        let first = fs::read(folder.file()).unwrap();
        let swapped = [&first[..HEAD_LEN], &first[whole..], &first[HEAD_LEN..whole]].concat();
        fs::write(folder.file(), swapped).unwrap();
        assert!(matches!(folder.read(), Err(JournalError::Damaged { after: 2 })));
    }

    #[test]
    fn another_key_or_version_reads_nothing() {
        let folder = Folder::new();
        folder.journal().append(&short(1)).unwrap();
        let refused = read(&folder.database(), &key(2));
        assert!(matches!(refused, Err(JournalError::Damaged { after: 0 })));
        let mut newer = fs::read(folder.file()).unwrap();
        newer[7] = 2;
        fs::write(folder.file(), &newer).unwrap();
        assert!(matches!(folder.read(), Err(JournalError::Unknown)));
    }

    #[test]
    fn every_file_has_a_key_of_its_own_and_shows_nothing() {
        let folder = Folder::new();
        let mut bodies = Vec::new();
        for _ in 0..2 {
            folder.journal().append(&short(1)).unwrap();
            let bytes = fs::read(folder.file()).unwrap();
            assert!(!bytes.windows(4).any(|window| window == b"in 1"));
            bodies.push(bytes[HEAD_LEN..].to_vec());
            remove(&folder.database()).unwrap();
        }
        assert_ne!(bodies[0], bodies[1]);
    }

    #[test]
    fn without_its_head_nobody_has_the_key_of_an_erased_file() {
        let folder = Folder::new();
        folder.journal().append(&short(1)).unwrap();
        let link = folder.0.path().join("link");
        fs::hard_link(folder.file(), &link).unwrap();
        remove(&folder.database()).unwrap();
        assert_eq!(fs::read(&link).unwrap(), [0; HEAD_LEN]);
        fs::rename(&link, folder.file()).unwrap();
        assert_eq!(folder.numbers(), [0; 0]);
    }

    #[test]
    fn a_failed_append_leaves_nothing_and_the_next_one_works() {
        let folder = Folder::new();
        let mut journal = folder.journal();
        journal.append(&short(1)).unwrap();
        // Half of the next record got to the disk before it was full.
        let half = [7; 100];
        let writing = journal.file.as_mut().unwrap();
        (&writing.file).write_all(&half).unwrap();
        writing.is_torn = true;
        journal.append(&short(2)).unwrap();
        assert_eq!(folder.numbers(), [1, 2]);
        // A file that is open for reading only takes no record, and none of it stays.
        let reading = File::open(folder.file()).unwrap();
        let file = std::mem::replace(&mut journal.file.as_mut().unwrap().file, reading);
        journal.append(&short(3)).unwrap_err();
        assert_eq!(folder.numbers(), [1, 2]);
        journal.file.as_mut().unwrap().file = file;
        assert_eq!(journal.append(&short(4)).unwrap(), 4);
        assert_eq!(folder.numbers(), [1, 2, 4]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_its_owner_s_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new();
        folder.journal().append(&short(1)).unwrap();
        let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
