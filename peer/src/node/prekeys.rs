//! This device's own prekeys: made when somebody asks for a bundle, kept while they may be used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::{PrekeyBundle, PrekeyKind};
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::record::Change;
use crate::crypto::prekey::LocalPrekey;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A signed prekey is replaced after a week.
const ROTATION: Duration = DAY.saturating_mul(7);
/// A replaced signed prekey is kept for as long as a first message may be under way: the
/// mailbox's age limit of 30 days, and two weeks more.
const RETENTION: Duration = DAY.saturating_mul(44);
/// One-time prekeys that were handed out and not used: the oldest go when there are more.
const MAX_ONE_TIME: usize = 128;

/// Prekeys by id.
#[derive(Debug, Default)]
pub(super) struct Prekeys {
    by_id: BTreeMap<u32, Arc<LocalPrekey>>,
}

impl Prekeys {
    /// Takes over what was stored.
    pub(super) fn new(stored: &[(u32, Zeroizing<Vec<u8>>)]) -> Self {
        let mut prekeys = Self::default();
        for (id, state) in stored {
            match LocalPrekey::decode(state) {
                Ok(prekey) => {
                    prekeys.by_id.insert(*id, Arc::new(prekey));
                }
                Err(error) => tracing::warn!(id, %error, "a stored prekey is unreadable"),
            }
        }
        prekeys
    }

    /// The prekey with this id, if it is of this kind.
    pub(super) fn get(&self, id: u32, kind: PrekeyKind) -> Option<Arc<LocalPrekey>> {
        self.by_id.get(&id).filter(|prekey| prekey.kind == kind).map(Arc::clone)
    }

    /// A bundle for somebody, with a one-time prekey that nobody else gets.
    pub(super) fn bundle(
        &mut self,
        device: &DeviceSecret,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> PrekeyBundle {
        self.expire(now, changes);
        let signed = self.signed(now, changes, rng);
        let one_time = self.make(PrekeyKind::OneTime, now, changes, rng);
        PrekeyBundle {
            device: device.public(),
            signed_prekey: signed.sign(device),
            one_time_prekey: Some(one_time.sign(device)),
        }
    }

    /// A one-time prekey was used: its secret half is erased.
    pub(super) fn used(&mut self, id: u32, changes: &mut Vec<Change>) {
        if self.by_id.remove(&id).is_some() {
            changes.push(Change::RemovePrekey(id));
        }
    }

    fn signed(
        &mut self,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> Arc<LocalPrekey> {
        let signed = self.of_kind(PrekeyKind::Signed);
        let newest = signed.max_by_key(|prekey| prekey.made_at).map(Arc::clone);
        // A clock that was set back must not keep a prekey for ever: one from the future is old.
        let fresh = newest.filter(|prekey| now.distance(prekey.made_at) < ROTATION);
        fresh.unwrap_or_else(|| self.make(PrekeyKind::Signed, now, changes, rng))
    }

    fn make(
        &mut self,
        kind: PrekeyKind,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> Arc<LocalPrekey> {
        // Random ids: a profile that was restored must not give an id to another key.
        let mut id = rng.next_u32();
        while id == 0 || self.by_id.contains_key(&id) {
            id = rng.next_u32();
        }
        let prekey = Arc::new(LocalPrekey::generate(id, kind, now, rng));
        changes.push(Change::PutPrekey(id, prekey.encode()));
        self.by_id.insert(id, Arc::clone(&prekey));
        prekey
    }

    fn expire(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        let old = |prekey: &&Arc<LocalPrekey>| now.since(prekey.made_at) > RETENTION;
        let mut gone: Vec<u32> = self.by_id.values().filter(old).map(|prekey| prekey.id).collect();
        let one_time = self.of_kind(PrekeyKind::OneTime);
        let mut one_time: Vec<_> = one_time.map(|prekey| (prekey.made_at, prekey.id)).collect();
        one_time.sort_unstable();
        let surplus = (one_time.len() + 1).saturating_sub(MAX_ONE_TIME);
        gone.extend(one_time.into_iter().take(surplus).map(|(_, id)| id));
        for id in gone {
            self.used(id, changes);
        }
    }

    fn of_kind(&self, kind: PrekeyKind) -> impl Iterator<Item = &Arc<LocalPrekey>> {
        self.by_id.values().filter(move |prekey| prekey.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    struct Maker {
        prekeys: Prekeys,
        device: DeviceSecret,
        rng: StdRng,
        changes: Vec<Change>,
    }

    impl Maker {
        fn new() -> Self {
            Self {
                prekeys: Prekeys::default(),
                device: DeviceSecret::from_seed(&[1; 32]),
                rng: StdRng::seed_from_u64(7),
                changes: Vec::new(),
            }
        }

        fn bundle(&mut self, now: Timestamp) -> PrekeyBundle {
            self.prekeys.bundle(&self.device, now, &mut self.changes, &mut self.rng)
        }
    }

    #[test]
    fn the_signed_prekey_is_replaced_weekly_and_kept_for_a_while() {
        let mut maker = Maker::new();
        let start = Timestamp::from_millis(1_000_000_000_000);
        let first = maker.bundle(start).signed_prekey.id;
        assert_eq!(maker.bundle(start + DAY * 6).signed_prekey.id, first);
        let second = maker.bundle(start + DAY * 7).signed_prekey.id;
        assert_ne!(second, first);
        assert!(maker.prekeys.get(first, PrekeyKind::Signed).is_some());
        maker.bundle(start + DAY * 45);
        assert!(maker.prekeys.get(first, PrekeyKind::Signed).is_none());
        assert!(maker.changes.contains(&Change::RemovePrekey(first)));
    }

    #[test]
    fn a_one_time_prekey_is_given_once_and_gone_when_used() {
        let mut maker = Maker::new();
        let now = Timestamp::from_millis(1_000_000_000_000);
        let one = maker.bundle(now).one_time_prekey.unwrap().id;
        let two = maker.bundle(now).one_time_prekey.unwrap().id;
        assert_ne!(one, two);
        maker.prekeys.used(one, &mut maker.changes);
        assert!(maker.prekeys.get(one, PrekeyKind::OneTime).is_none());
        assert!(maker.prekeys.get(two, PrekeyKind::OneTime).is_some());
        // A one-time prekey does not pass for a signed one.
        assert!(maker.prekeys.get(two, PrekeyKind::Signed).is_none());
    }

    #[test]
    fn unused_one_time_prekeys_are_bounded() {
        let mut maker = Maker::new();
        let start = Timestamp::from_millis(1_000_000_000_000);
        for i in 0..=u32::try_from(MAX_ONE_TIME).unwrap() {
            maker.bundle(start + Duration::from_millis(1) * i);
        }
        assert_eq!(maker.prekeys.of_kind(PrekeyKind::OneTime).count(), MAX_ONE_TIME);
    }

    #[test]
    fn stored_prekeys_are_taken_over() {
        let mut maker = Maker::new();
        let now = Timestamp::from_millis(1_000_000_000_000);
        let id = maker.bundle(now).signed_prekey.id;
        let stored: Vec<_> =
            maker.prekeys.by_id.iter().map(|(id, prekey)| (*id, prekey.encode())).collect();
        maker.prekeys = Prekeys::new(&stored);
        assert_eq!(maker.bundle(now).signed_prekey.id, id);
    }
}
