//! What was committed and is still to be done with it: into the database, onto the disk, and what
//! it erased out of the files.
//!
//! That is done on a thread of its own, a job at a time, so that no commit waits for it. A store in
//! memory does it at once.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;

use super::erasure;
use super::group::Group;
use super::journal::{Entry, Journal, Record, Retired};
use super::search::{self, Indexing, Progress};
use super::worker::Worker;
use super::{CommitError, Database};

/// How long after the first commit of a group all of them go into the database.
const GROUP_TIME: Duration = Duration::from_millis(10);

/// A group of this size goes at once, in bytes.
const FULL_GROUP: usize = 2 * 1024 * 1024;

/// A commit waits for the database while so much has not got there, in bytes, and as much is on its
/// way there.
const MAX_PENDING: usize = 16 * 1024 * 1024;

/// How long after a commit the journal is written to the disk: 100 ms, with the work itself.
const SYNC_TIME: Duration = Duration::from_millis(90);

/// How long after a commit what it erased may still be found: a second, with the work itself.
pub(super) const ERASURE_TIME: Duration = Duration::from_millis(900);

/// How long after something failed it is tried again.
const RETRY_TIME: Duration = Duration::from_millis(500);

/// How often it is looked whether a job is done.
const LOOK_TIME: Duration = Duration::from_millis(5);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Backlog {
    journal: Option<Journal>,
    worker: Worker,
    pending: Group,
    /// Whether the database has refused the last group.
    is_refused: bool,
    /// The number of the last commit.
    last: u64,
    grouping: Timer,
    syncing: Timer,
    erasing: Timer,
    indexing: Indexing,
    /// Whether rows may have moved since the tables of keys were written anew.
    rows_moved: bool,
    looked: Timestamp,
}

/// When something is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Timer {
    Idle,
    /// It is not known yet from when on the time counts.
    Wanted,
    Due(Timestamp),
}

impl Timer {
    fn want(&mut self) {
        if *self == Self::Idle {
            *self = Self::Wanted;
        }
    }

    /// Whether it is due at `now`; the time counts from the first call.
    fn is_due(&mut self, now: Timestamp, time: Duration) -> bool {
        match *self {
            Self::Idle => false,
            Self::Wanted => {
                *self = Self::Due(now + time);
                false
            }
            Self::Due(due) => due <= now,
        }
    }
}

/// Things to do, in this order.
#[derive(Debug)]
pub(super) struct Job {
    own: AccountKey,
    group: Group,
    sync: Option<File>,
    index: Index,
    erase: Option<Erase>,
}

/// Whether the search is brought further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Index {
    Not,
    Some,
}

/// What was committed is to be erased where it was replaced.
#[derive(Debug)]
struct Erase {
    rows_moved: bool,
    retired: Option<Retired>,
    /// How long readers are waited for.
    patience: Duration,
}

/// What came of a job.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What did not get into the database.
    left: Option<Group>,
    /// Where something was to be erased: whether all of it was.
    erased: Option<bool>,
    /// Where the search was brought further: how far.
    indexed: Option<Progress>,
    error: Option<CommitError>,
}

impl Outcome {
    /// Of a job of which nothing more is known than why.
    pub(super) fn failed(error: CommitError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

impl Backlog {
    /// Of a database in which everything is up to the commit `last`. Without a journal it is one in
    /// memory.
    pub(super) fn new(database: &Arc<Database>, journal: Option<Journal>, last: u64) -> Self {
        let worker = if journal.is_some() {
            Worker::beside(Arc::clone(database))
        } else {
            Worker::at_once(Arc::clone(database))
        };
        Self {
            journal,
            worker,
            pending: Group::default(),
            is_refused: false,
            last,
            grouping: Timer::Idle,
            syncing: Timer::Idle,
            erasing: Timer::Wanted,
            indexing: Indexing::new(),
            rows_moved: true,
            looked: Timestamp::default(),
        }
    }

    /// Commits: from here on the changes survive the end of the process.
    pub(super) fn commit(
        &mut self,
        entries: Vec<Entry>,
        own: AccountKey,
    ) -> Result<(), CommitError> {
        if self.pending.size() >= MAX_PENDING {
            self.make_room(own)?;
        } else if self.pending.size() >= FULL_GROUP {
            self.look()?;
        }
        let number = match &mut self.journal {
            Some(journal) => journal.append(&entries)?,
            None => self.last + 1,
        };
        self.last = number;
        self.pending.push(Record { number, entries });
        self.grouping.want();
        self.syncing.want();
        self.written();
        if self.pending.size() >= FULL_GROUP && !self.worker.is_busy() {
            self.start(own, None, Index::Not, None);
        }
        Ok(())
    }

    /// Waits until the database takes what waits: or until it has, where it has refused the last.
    fn make_room(&mut self, own: AccountKey) -> Result<(), CommitError> {
        self.wait()?;
        if self.is_refused {
            return self.flush(own);
        }
        self.start(own, None, Index::Not, None);
        Ok(())
    }

    /// Something was written that may have erased something.
    pub(super) fn written(&mut self) {
        self.rows_moved = true;
        self.erasing.want();
        self.indexing.written();
    }

    /// Brings everything into the database, and waits until it is there.
    pub(super) fn flush(&mut self, own: AccountKey) -> Result<(), CommitError> {
        self.wait()?;
        if !self.pending.is_empty() {
            self.start(own, None, Index::Not, None);
            self.wait()?;
        }
        Ok(())
    }

    /// Does what is due by now, or has it done.
    pub(super) fn handle_timeout(
        &mut self,
        now: Timestamp,
        own: AccountKey,
    ) -> Result<(), CommitError> {
        self.looked = now;
        self.look()?;
        let is_due = [
            self.grouping.is_due(now, GROUP_TIME),
            self.syncing.is_due(now, SYNC_TIME),
            self.erasing.is_due(now, ERASURE_TIME),
            self.indexing.is_due(now),
        ];
        if self.worker.is_busy() || is_due == [false; 4] {
            return Ok(());
        }
        let [_, sync, erase, index] = is_due;
        let index = if index { Index::Some } else { Index::Not };
        // Readers may keep the log from being emptied: then what is in it is on the disk at least.
        let sync = if sync || erase { self.file()? } else { None };
        let erase = if erase { Some(self.erase(Duration::ZERO)?) } else { None };
        self.start(own, sync, index, erase);
        self.look()
    }

    /// When [`Backlog::handle_timeout`] next has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        if self.worker.is_busy() {
            return Some(self.looked + LOOK_TIME);
        }
        self.saving_timeout().into_iter().chain(self.indexing.poll_timeout()).min()
    }

    /// The same, but for the search.
    pub(super) fn saving_timeout(&self) -> Option<Timestamp> {
        let due = |timer: &Timer| match timer {
            Timer::Due(due) => Some(*due),
            Timer::Idle | Timer::Wanted => None,
        };
        [self.grouping, self.syncing, self.erasing].iter().filter_map(due).min()
    }

    /// Erases now what was replaced, waiting so long for readers. Returns whether nothing of it
    /// stays.
    pub(super) fn erase_now(
        &mut self,
        own: AccountKey,
        patience: Duration,
    ) -> Result<bool, CommitError> {
        self.flush(own)?;
        let erase = self.erase(patience)?;
        self.start(own, None, Index::Not, Some(erase));
        self.wait()?;
        Ok(self.erasing == Timer::Idle)
    }

    /// Waits until what is being done is done.
    pub(super) fn wait(&mut self) -> Result<(), CommitError> {
        self.worker.wait().map_or(Ok(()), |outcome| self.take(outcome))
    }

    fn look(&mut self) -> Result<(), CommitError> {
        self.worker.look().map_or(Ok(()), |outcome| self.take(outcome))
    }

    fn file(&mut self) -> io::Result<Option<File>> {
        self.syncing = Timer::Idle;
        self.journal.as_ref().map_or(Ok(None), Journal::file)
    }

    fn erase(&mut self, patience: Duration) -> io::Result<Erase> {
        let retired = self.journal.as_mut().map_or(Ok(None), Journal::retire)?;
        let is_left = self.journal.as_ref().is_some_and(Journal::is_written);
        self.erasing = if is_left { Timer::Wanted } else { Timer::Idle };
        Ok(Erase { rows_moved: std::mem::take(&mut self.rows_moved), retired, patience })
    }

    fn start(&mut self, own: AccountKey, sync: Option<File>, index: Index, erase: Option<Erase>) {
        self.grouping = Timer::Idle;
        let group = std::mem::take(&mut self.pending);
        self.worker.start(Job { own, group, sync, index, erase });
    }

    /// Takes over what came of a job.
    fn take(&mut self, outcome: Outcome) -> Result<(), CommitError> {
        let Outcome { left, erased, indexed, error } = outcome;
        if let Some(progress) = indexed {
            self.indexing.indexed(self.looked, progress);
        }
        self.is_refused = left.is_some();
        if let Some(mut left) = left {
            left.append(std::mem::take(&mut self.pending));
            self.pending = left;
            self.grouping = Timer::Due(self.looked + RETRY_TIME);
        }
        if erased == Some(false) {
            self.rows_moved |= error.is_some();
            self.erasing = Timer::Due(self.looked + ERASURE_TIME);
        }
        error.map_or(Ok(()), Err)
    }
}

impl Job {
    /// Does it.
    pub(super) fn run(self, database: &Database) -> Outcome {
        let Self { own, group, sync, index, erase } = self;
        if !group.is_empty()
            && let Err(error) = group.apply(&mut database.lock().db, own)
        {
            let erased = erase.map(|_| false);
            let error = Some(error.into());
            return Outcome { left: Some(group), erased, error, ..Outcome::default() };
        }
        // Nobody has to wait for the disk.
        let synced = sync.map_or(Ok(()), |file| file.sync_data()).map_err(CommitError::from);
        let indexed = (index == Index::Some).then(|| index_some(database));
        let erased = erase.map(|erase| erase.run(database)).transpose();
        let is_erased = *erased.as_ref().unwrap_or(&Some(false));
        let error = synced.err().or_else(|| erased.err());
        Outcome { left: None, erased: is_erased, indexed, error }
    }
}

/// Messages are found without the index, too: where it cannot be made, that is told and left.
fn index_some(database: &Database) -> Progress {
    search::index_some(&mut database.lock().db).unwrap_or_else(|error| {
        tracing::warn!(%error, "the search is not brought up to date");
        Progress::UpToDate
    })
}

impl Erase {
    fn run(self, database: &Database) -> Result<bool, CommitError> {
        let db = &mut database.lock().db;
        let emptied = erasure::erase(db, self.rows_moved, self.patience)?;
        // Before that its records may not be on the disk otherwise.
        if emptied {
            self.retired.map_or(Ok(()), Retired::erase)?;
        }
        Ok(emptied)
    }
}
