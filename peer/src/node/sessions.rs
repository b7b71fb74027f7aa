//! The sessions with each device, and which of them seals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::time::Timestamp;
use rand::CryptoRng;

use super::input::Now;
use super::prekeys::UNDER_WAY;
use super::record::{Change, StoredSession};
use crate::crypto::aead::Plaintext;
use crate::crypto::session::{OpenError, SealError, Session, Step, Stride, Turned};

/// At most this many sessions are kept for a device, and can open.
const MAX_SESSIONS: usize = 5;

/// A session in whose place another one is used is kept for so long after a message was last opened
/// on it: what the other side has sealed on it may wait in a mailbox. What comes later is sealed
/// anew.
const RETIREMENT: Duration = UNDER_WAY;

/// At most this many ratchet steps are made ready ahead, in the whole process.
const MAX_PREPARED: usize = 16;

/// Names a session of a device.
type Place = (DeviceId, SessionId);

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_device: BTreeMap<DeviceId, Vec<Kept>>,
    /// Sessions that changed since they were last saved.
    dirty: BTreeSet<Place>,
    /// Counts uses, so that the latest can be told.
    uses: u64,
    /// Sessions whose next step is being made ready, or is ready.
    prepared: Vec<Place>,
    /// Steps to be made ready.
    strides: Vec<(Place, Stride)>,
}

#[derive(Debug)]
struct Kept {
    session: Session,
    /// When it was made, or a message was last opened on it, as a count.
    used: u64,
    /// When a message was last opened on it, or it was made, by the machine's date.
    opened_at: Timestamp,
}

impl Kept {
    /// When a message was last opened on it, as a count; 0 until then.
    fn heard(&self) -> u64 {
        if self.session.has_heard() { self.used } else { 0 }
    }
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
        for StoredSession { device, id, used, opened_at, state } in stored {
            sessions.uses = sessions.uses.max(used);
            match Session::decode(&state) {
                Ok(session) => {
                    let kept = Kept { session, used, opened_at };
                    sessions.by_device.entry(device).or_default().push(kept);
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

    /// The device that has this session.
    pub(super) fn device_of(&self, session: SessionId) -> Option<DeviceId> {
        let mut all = self.by_device.iter();
        let has = |kept: &Kept| kept.session.id() == session;
        all.find(|(_, kept)| kept.iter().any(has)).map(|(device, _)| *device)
    }

    /// Whether there is a session to seal with for `device`.
    pub(super) fn can_seal(&self, device: DeviceId) -> bool {
        self.by_device.get(&device).is_some_and(|kept| !kept.is_empty())
    }

    /// Keeps a new session. Returns the one that has to go for it.
    pub(super) fn insert(
        &mut self,
        device: DeviceId,
        session: Session,
        date: Timestamp,
    ) -> Option<SessionId> {
        let id = session.id();
        self.uses += 1;
        let kept = self.by_device.entry(device).or_default();
        kept.push(Kept { session, used: self.uses, opened_at: date });
        self.dirty.insert((device, id));
        self.look_ahead((device, id));
        let kept = self.by_device.entry(device).or_default();
        if kept.len() <= MAX_SESSIONS {
            return None;
        }
        // Never one that was just made, though nothing was opened on it yet: the other side may have
        // made one at the same moment, and seals on the one that comes to it.
        let (place, _) = kept.iter().enumerate().min_by_key(|(_, kept)| kept.used)?;
        let gone = kept.remove(place).session.id();
        self.forget((device, gone));
        Some(gone)
    }

    /// Forgets all sessions with `device`, and returns them.
    pub(super) fn remove_device(&mut self, device: DeviceId) -> Vec<SessionId> {
        let gone = self.by_device.remove(&device).unwrap_or_default();
        let gone: Vec<_> = gone.iter().map(|kept| kept.session.id()).collect();
        for session in &gone {
            self.forget((device, *session));
        }
        gone
    }

    /// Gives up keys of overtaken messages that were kept for too long, and forgets the sessions
    /// that have retired. Returns those.
    pub(super) fn expire(&mut self, date: Timestamp) -> Vec<Place> {
        let mut retired = Vec::new();
        for device in self.devices() {
            let best = self.best(device).map(|best| best.session.id());
            let Some(kept) = self.by_device.get_mut(&device) else { continue };
            for Kept { session, opened_at, .. } in kept {
                let place = (device, session.id());
                if Some(place.1) != best && date.distance(*opened_at) > RETIREMENT {
                    retired.push(place);
                } else if session.expire(date) {
                    self.dirty.insert(place);
                }
            }
        }
        for place in &retired {
            self.forget(*place);
            if let Some(kept) = self.by_device.get_mut(&place.0) {
                kept.retain(|kept| kept.session.id() != place.1);
            }
        }
        retired
    }

    /// All devices with which there are sessions.
    pub(super) fn devices(&self) -> Vec<DeviceId> {
        self.by_device.keys().copied().collect()
    }

    fn forget(&mut self, place: Place) {
        self.dirty.remove(&place);
        self.prepared.retain(|prepared| *prepared != place);
    }

    /// Seals for `device`, on the session on which a message was last opened; before that on the
    /// one with the smallest transcript hash, which is the same for both sides.
    pub(super) fn seal(
        &mut self,
        device: DeviceId,
        plaintext: &[u8],
        timer: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<Result<SealedBy, SealError>> {
        let session = self.best(device)?.session.id();
        self.seal_on((device, session), plaintext, timer, rng)
    }

    /// Seals on one session. `None` if there is none.
    pub(super) fn seal_on(
        &mut self,
        place: Place,
        plaintext: &[u8],
        timer: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<Result<SealedBy, SealError>> {
        let is_full = self.prepared.len() >= MAX_PREPARED && !self.prepared.contains(&place);
        let kept = self.find(place)?;
        if is_full
            && kept.session.misses_step(timer)
            && let Some(stride) = kept.session.stride()
        {
            // Others' steps are made ready: this one takes its time here, once a second.
            kept.session.prepare(stride.run(rng));
        }
        let was_prepared = kept.session.is_prepared();
        let sealed = kept.session.seal(plaintext, timer, rng);
        // One that is still being made ready is not ordered again with every message.
        if was_prepared && !kept.session.is_prepared() {
            self.prepared.retain(|prepared| *prepared != place);
        }
        self.dirty.insert(place);
        self.look_ahead(place);
        Some(sealed.map(|envelope| SealedBy { session: place.1, envelope }))
    }

    /// Whether what is sealed for `device` now is a first message.
    pub(super) fn greets(&self, device: DeviceId) -> bool {
        self.best(device).is_some_and(|best| best.session.greets())
    }

    /// Whether what is sealed for `device` at `timer` had better wait a moment: a step of the
    /// ratchet is due, and is being made ready.
    pub(super) fn is_stepping(&self, device: DeviceId, timer: Timestamp) -> bool {
        self.best(device).is_some_and(|best| {
            let place = (device, best.session.id());
            best.session.misses_step(timer) && self.prepared.contains(&place)
        })
    }

    fn best(&self, device: DeviceId) -> Option<&Kept> {
        self.by_device.get(&device)?.iter().max_by(|a, b| {
            let transcripts = || b.session.transcript().cmp(a.session.transcript());
            a.heard().cmp(&b.heard()).then_with(transcripts)
        })
    }

    fn find(&mut self, (device, session): Place) -> Option<&mut Kept> {
        let kept = self.by_device.get_mut(&device)?;
        kept.iter_mut().find(|kept| kept.session.id() == session)
    }

    /// Opens an envelope of `device` on the session that it names. `None` if there is none.
    pub(super) fn open(
        &mut self,
        device: DeviceId,
        envelope: &Envelope,
        turned: Option<Turned>,
        now: Now,
    ) -> Option<Result<Plaintext, OpenError>> {
        let place = (device, envelope.header().session);
        let next_use = self.uses + 1;
        let kept = self.find(place)?;
        let opened = kept.session.open(envelope, turned, now.date);
        if opened.is_ok() {
            kept.used = next_use;
            kept.opened_at = now.date;
            self.uses = next_use;
            self.dirty.insert(place);
            self.look_ahead(place);
        }
        Some(opened)
    }

    /// Has the next step of a session made ready, if one will be due.
    fn look_ahead(&mut self, place: Place) {
        if self.prepared.contains(&place) {
            return;
        }
        let Some(session) = self.find(place).map(|kept| &kept.session) else { return };
        let is_prepared = session.is_prepared();
        match session.stride() {
            Some(stride) if self.prepared.len() < MAX_PREPARED => {
                self.prepared.push(place);
                self.strides.push((place, stride));
            }
            None if is_prepared => self.prepared.push(place),
            Some(_) | None => {}
        }
    }

    /// The steps that are to be made ready, since the last call.
    pub(super) fn take_strides(&mut self) -> Vec<(Place, Stride)> {
        std::mem::take(&mut self.strides)
    }

    /// A step was made ready.
    pub(super) fn prepare(&mut self, place: Place, step: Step) {
        if !self.prepared.contains(&place) {
            return;
        }
        if let Some(kept) = self.find(place) {
            kept.session.prepare(step);
            if kept.session.is_prepared() {
                return;
            }
        }
        self.prepared.retain(|prepared| *prepared != place);
    }

    /// The states that changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let dirty = std::mem::take(&mut self.dirty);
        let find = |(device, id): Place| {
            let kept = self.by_device.get(&device)?.iter().find(|kept| kept.session.id() == id)?;
            let state = kept.session.encode();
            let Kept { used, opened_at, .. } = *kept;
            Some(Change::PutSession(StoredSession { device, id, used, opened_at, state }))
        };
        dirty.into_iter().filter_map(find).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::crypto::fixture::{acquainted, greeted};

    /// Of two who start sessions with each other at the same moment, each seals on the other's: it
    /// must not have gone for the one that came.
    #[test]
    fn of_six_sessions_the_one_goes_that_was_made_or_used_longest_ago() {
        let (mut sessions, device) = (Sessions::default(), DeviceId([8; 16]));
        let mut ids = Vec::new();
        let mut keep = |session: Session| {
            ids.push(session.id());
            sessions.insert(device, session, Timestamp::default())
        };
        for number in 0..5 {
            assert_eq!(keep(greeted(number).1), None);
        }
        let (own, _) = greeted(5);
        let made = own.id();
        let gone = [keep(own), keep(greeted(6).1), keep(greeted(7).1)];
        assert_eq!(gone.map(Option::unwrap), ids[..3]);
        assert!(sessions.contains(device, made));
        let best = sessions.best(device).unwrap().session.id();
        assert_eq!(best, ids[7], "nothing was opened on the own one");
    }

    #[test]
    fn a_step_is_made_ready_once_however_much_is_sealed_meanwhile() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut sessions, device) = (Sessions::default(), DeviceId([8; 16]));
        let (alice, _) = acquainted();
        sessions.insert(device, alice, Timestamp::default());
        let mut ordered = sessions.take_strides();
        assert_eq!(ordered.len(), 1);
        let timer = Timestamp::from_millis(5000);
        for _ in 0..50 {
            sessions.seal(device, b"text", timer, &mut rng).unwrap().unwrap();
        }
        assert_eq!(sessions.take_strides().len(), 0);
        // Once it is there it is used, for the next text that is due for one.
        let (place, stride) = ordered.remove(0);
        sessions.prepare(place, stride.run(&mut rng));
        assert!(!sessions.is_stepping(device, timer + Duration::from_secs(2)));
    }
}
