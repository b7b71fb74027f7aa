//! Room in memory for requests that are in progress: bounded in all, and for each source to a
//! quarter of it, so that nobody alone can take it from everybody.

use std::sync::Arc;

use parlor_common::wire::rendezvous::MAX_POST;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of up to this many bytes are not counted: almost all are shorter, and wait for nobody.
/// What is below it QUIC's own windows bound.
const SMALL: usize = 4 * 1024;

/// What is counted in.
const KIB: usize = 1024;

/// The longest request has room, however little there is.
const LEAST: usize = MAX_POST.div_ceil(KIB);

/// One source has this part of all.
const SHARE: usize = 4;

/// All room that there is.
#[derive(Debug)]
pub(super) struct AllRoom {
    kib: usize,
    free: Arc<Semaphore>,
}

/// The room of a source.
#[derive(Clone, Debug)]
pub(super) struct Room {
    share: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Room that is taken, and given back when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _permits: Option<[OwnedSemaphorePermit; 2]>,
}

impl AllRoom {
    /// So many MiB, but never less than lets a request of full size through.
    pub(super) fn new(mib: usize) -> Self {
        let kib = mib.saturating_mul(1024).clamp(LEAST, Semaphore::MAX_PERMITS);
        Self { kib, free: Arc::new(Semaphore::new(kib)) }
    }

    /// Room for one more source.
    pub(super) fn for_source(&self) -> Room {
        let share = (self.kib / SHARE).max(LEAST);
        Room { share: Arc::new(Semaphore::new(share)), all: Arc::clone(&self.free) }
    }
}

impl Room {
    /// Waits until there is room for a request of `len` bytes.
    pub(super) async fn take(&self, len: usize) -> Taken {
        if len <= SMALL {
            return Taken { _permits: None };
        }
        let kib = u32::try_from(len.div_ceil(KIB)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.share).acquire_many_owned(kib).await;
        let all = Arc::clone(&self.all).acquire_many_owned(kib).await;
        // Nobody closes them.
        Taken { _permits: share.ok().zip(all.ok()).map(|(share, all)| [share, all]) }
    }
}
