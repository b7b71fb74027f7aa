//! Does a job at a time, beside or at once.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::Database;
use super::backlog::{Job, Outcome};

/// See the [module](self). Dropped, it first ends what it does.
#[derive(Debug)]
pub(super) struct Worker {
    database: Arc<Database>,
    beside: Option<Beside>,
    /// What came of the last job, if it is done and nobody has asked yet.
    done: Option<Outcome>,
    is_busy: bool,
}

/// A thread that works.
#[derive(Debug)]
struct Beside {
    /// Absent only when it is to end.
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// One that works on a thread of its own; where there can be none, at once.
    pub(super) fn beside(database: Arc<Database>) -> Self {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let (done, outcomes) = mpsc::channel();
        let shared = Arc::clone(&database);
        let work = move || {
            for job in waiting {
                // Fails only where nobody wants to know.
                let _ = done.send(job.run(&shared));
            }
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(work);
        let beside =
            thread.ok().map(|thread| Beside { jobs: Some(jobs), outcomes, thread: Some(thread) });
        Self { database, beside, done: None, is_busy: false }
    }

    /// One that works when it is told to.
    pub(super) const fn at_once(database: Arc<Database>) -> Self {
        Self { database, beside: None, done: None, is_busy: false }
    }

    /// Starts a job. It must not be busy, nor have an outcome that nobody has taken.
    pub(super) fn start(&mut self, job: Job) {
        match self.beside.as_ref().and_then(|beside| beside.jobs.as_ref()) {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => self.is_busy = true,
                // The thread has ended, which only a bug makes it do.
                Err(mpsc::SendError(job)) => self.done = Some(job.run(&self.database)),
            },
            None => self.done = Some(job.run(&self.database)),
        }
    }

    /// Whether a job is being done, or its outcome has not been taken.
    pub(super) const fn is_busy(&self) -> bool {
        self.is_busy || self.done.is_some()
    }

    /// What came of a job that is done.
    pub(super) fn look(&mut self) -> Option<Outcome> {
        if self.is_busy {
            match self.beside.as_ref()?.outcomes.try_recv() {
                Ok(outcome) => self.done = Some(outcome),
                Err(mpsc::TryRecvError::Empty) => return None,
                Err(mpsc::TryRecvError::Disconnected) => self.done = Some(Outcome::lost()),
            }
            self.is_busy = false;
        }
        self.done.take()
    }

    /// Waits for what comes of the job that is being done, if there is one.
    pub(super) fn wait(&mut self) -> Option<Outcome> {
        if self.is_busy {
            let outcome = self.beside.as_ref()?.outcomes.recv();
            self.done = Some(outcome.unwrap_or_else(|_| Outcome::lost()));
            self.is_busy = false;
        }
        self.done.take()
    }
}

impl Outcome {
    /// Of a job whose thread has ended midway. What it was to do stands in the journal.
    fn lost() -> Self {
        Self::failed(io::Error::other("the store's thread has ended").into())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic was told where it happened.
            let _ = thread.join();
        }
    }
}
