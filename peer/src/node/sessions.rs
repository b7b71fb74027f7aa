//! The sessions with each device, and which of them seals.

use std::collections::{BTreeMap, BTreeSet};

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, SessionId};
use rand::CryptoRng;

use super::record::{Change, StoredSession};
use crate::crypto::aead::Plaintext;
use crate::crypto::session::{OpenError, SealError, Session};

/// At most this many sessions are kept for a device, and can open.
const MAX_SESSIONS: usize = 5;

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_device: BTreeMap<DeviceId, Vec<Kept>>,
    /// Sessions that changed since they were last saved.
    dirty: BTreeSet<(DeviceId, SessionId)>,
    /// Counts uses, so that the latest can be told.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    session: Session,
    /// 0 until a message was opened on it; then when that last was, as a count.
    used: u64,
}

/// What was sealed.
#[derive(Debug)]
pub(super) struct SealedBy {
    /// The session.
    pub(super) session: SessionId,
    /// The envelope.
    pub(super) envelope: Envelope,
}

impl Sessions {
    /// Takes over what was stored. A state that cannot be read is left out: the other side will
    /// be answered by a new session.
    pub(super) fn new(stored: Vec<StoredSession>) -> Self {
        let mut sessions = Self::default();
        for StoredSession { device, id, used, state } in stored {
            sessions.uses = sessions.uses.max(used);
            match Session::decode(&state) {
                Ok(session) => {
                    sessions.by_device.entry(device).or_default().push(Kept { session, used });
                }
                Err(error) => {
                    tracing::warn!(session = %id, %error, "a stored session is unreadable");
                }
            }
        }
        sessions
    }

    /// Whether `device` has this session.
    pub(super) fn contains(&self, device: DeviceId, session: SessionId) -> bool {
        let mut kept = self.by_device.get(&device).into_iter().flatten();
        kept.any(|kept| kept.session.id() == session)
    }

    /// Whether there is a session to seal with for `device`.
    pub(super) fn can_seal(&self, device: DeviceId) -> bool {
        self.by_device.get(&device).is_some_and(|kept| !kept.is_empty())
    }

    /// Whether what is sealed for `device` now is one of a session's first messages.
    pub(super) fn begins(&self, device: DeviceId) -> bool {
        let kept = self.by_device.get(&device);
        kept.is_none_or(|kept| kept.iter().all(|kept| !kept.session.has_heard()))
    }

    /// Keeps a new session. Returns the one that has to go for it.
    pub(super) fn insert(&mut self, device: DeviceId, session: Session) -> Option<SessionId> {
        let id = session.id();
        self.uses += u64::from(session.has_heard());
        let used = if session.has_heard() { self.uses } else { 0 };
        let kept = self.by_device.entry(device).or_default();
        kept.push(Kept { session, used });
        self.dirty.insert((device, id));
        if kept.len() <= MAX_SESSIONS {
            return None;
        }
        let oldest = kept.iter().enumerate().filter(|(_, kept)| kept.session.id() != id);
        let (place, _) = oldest.min_by_key(|(_, kept)| kept.used)?;
        let gone = kept.remove(place).session.id();
        self.dirty.remove(&(device, gone));
        Some(gone)
    }

    /// Forgets all sessions with `device`, and returns them.
    pub(super) fn remove_device(&mut self, device: DeviceId) -> Vec<SessionId> {
        let gone = self.by_device.remove(&device).unwrap_or_default();
        self.dirty.retain(|(of, _)| *of != device);
        gone.iter().map(|kept| kept.session.id()).collect()
    }

    /// Seals for `device`, on the session on which a message was last opened; before that on the
    /// one with the smallest transcript hash, which is the same for both sides.
    pub(super) fn seal(
        &mut self,
        device: DeviceId,
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Option<Result<SealedBy, SealError>> {
        let kept = self.by_device.get_mut(&device)?;
        let best = kept.iter_mut().max_by(|a, b| {
            let transcripts = || b.session.transcript().cmp(a.session.transcript());
            a.used.cmp(&b.used).then_with(transcripts)
        })?;
        let session = best.session.id();
        self.dirty.insert((device, session));
        let sealed = best.session.seal(plaintext, rng);
        Some(sealed.map(|envelope| SealedBy { session, envelope }))
    }

    /// Opens an envelope of `device` on the session that it names. `None` if there is none.
    pub(super) fn open(
        &mut self,
        device: DeviceId,
        envelope: &Envelope,
    ) -> Option<Result<Plaintext, OpenError>> {
        let session = envelope.header().session;
        let kept = self.by_device.get_mut(&device)?;
        let kept = kept.iter_mut().find(|kept| kept.session.id() == session)?;
        let opened = kept.session.open(envelope);
        if opened.is_ok() {
            self.uses += 1;
            kept.used = self.uses;
            self.dirty.insert((device, session));
        }
        Some(opened)
    }

    /// The states that changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let dirty = std::mem::take(&mut self.dirty);
        let find = |(device, id): (DeviceId, SessionId)| {
            let kept = self.by_device.get(&device)?.iter().find(|kept| kept.session.id() == id)?;
            let state = kept.session.encode();
            Some(Change::PutSession(StoredSession { device, id, used: kept.used, state }))
        };
        dirty.into_iter().filter_map(find).collect()
    }
}
