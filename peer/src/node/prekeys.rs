//! This device's own prekeys: made when somebody asks for a bundle or the rendezvous runs short,
//! kept while they may be used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::{MAX_PREKEY_AGE, PrekeyBundle, PrekeyUse};
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::record::Change;
use crate::crypto::prekey::LocalPrekeys;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A signed pair is replaced after a week.
pub(super) const ROTATION: Duration = DAY.saturating_mul(7);
/// A first message may be under way for so long: the mailbox's age limit of 30 days, and two weeks
/// more. So long a replaced signed pair is kept, and a one-time pair after the last day on which
/// somebody may have taken it.
pub(super) const UNDER_WAY: Duration = DAY.saturating_mul(44);
/// So many one-time pairs are kept: the oldest go when there are more. A rendezvous is given some
/// 500 in the time for which a pair is kept, and contacts get the rest.
const MAX_ONE_TIME: usize = 1000;
/// One contact gets so many one-time pairs from us in a day; then bundles come without.
const MAX_A_DAY: usize = 16;

/// Prekeys by id.
#[derive(Debug, Default)]
pub(super) struct Prekeys {
    by_id: BTreeMap<u32, Arc<LocalPrekeys>>,
    /// When each contact was last given one-time pairs.
    given: BTreeMap<Username, Vec<Timestamp>>,
}

impl Prekeys {
    /// Takes over what was stored.
    pub(super) fn new(stored: &[(u32, Zeroizing<Vec<u8>>)]) -> Self {
        let mut prekeys = Self::default();
        for (id, state) in stored {
            match LocalPrekeys::decode(state) {
                Ok(pair) => {
                    prekeys.by_id.insert(*id, Arc::new(pair));
                }
                Err(error) => tracing::warn!(id, %error, "a stored prekey is unreadable"),
            }
        }
        prekeys
    }

    /// The pair with this id, if it is for this use.
    pub(super) fn get(&self, id: u32, used: PrekeyUse) -> Option<Arc<LocalPrekeys>> {
        self.by_id.get(&id).filter(|pair| pair.used == used).map(Arc::clone)
    }

    /// A bundle for `to`, with a one-time pair that nobody else gets.
    pub(super) fn bundle(
        &mut self,
        device: &DeviceSecret,
        to: &Username,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> PrekeyBundle {
        let signed = self.signed(now, changes, rng).sign(device);
        let one_time = self.may_give(to, now).then(|| self.one_time(now, changes, rng));
        let one_time = one_time.map(|pair| pair.sign(device));
        PrekeyBundle { device: device.public(), signed, one_time }
    }

    fn may_give(&mut self, to: &Username, now: Timestamp) -> bool {
        let given = self.given.entry(to.clone()).or_default();
        given.retain(|at| now.distance(*at) < DAY);
        let may = given.len() < MAX_A_DAY;
        if may {
            given.push(now);
        }
        may
    }

    /// A one-time pair was used: its secret halves are erased.
    pub(super) fn used(&mut self, id: u32, changes: &mut Vec<Change>) {
        if self.by_id.remove(&id).is_some() {
            changes.push(Change::RemovePrekey(id));
        }
    }

    /// Erases all of them: somebody may have used what this copy of the profile takes for new.
    pub(super) fn renounce(&mut self, changes: &mut Vec<Change>) {
        for id in std::mem::take(&mut self.by_id).into_keys() {
            changes.push(Change::RemovePrekey(id));
        }
    }

    /// The signed pair of this week.
    pub(super) fn signed(
        &mut self,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> Arc<LocalPrekeys> {
        self.expire(now, changes);
        // A clock that was set right must not keep a pair for ever: one from the future is old.
        let is_fresh = |pair: &&Arc<LocalPrekeys>| now.distance(pair.made_at) < ROTATION;
        let fresh = self.of(PrekeyUse::Signed).filter(is_fresh);
        let newest = fresh.max_by_key(|pair| pair.made_at).map(Arc::clone);
        newest.unwrap_or_else(|| self.make(PrekeyUse::Signed, now, changes, rng))
    }

    /// A new one-time pair.
    pub(super) fn one_time(
        &mut self,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> Arc<LocalPrekeys> {
        let mut one_time: Vec<_> =
            self.of(PrekeyUse::OneTime).map(|pair| (pair.made_at, pair.id)).collect();
        one_time.sort_unstable();
        let surplus = (one_time.len() + 1).saturating_sub(MAX_ONE_TIME);
        for (_, id) in one_time.into_iter().take(surplus) {
            self.used(id, changes);
        }
        self.make(PrekeyUse::OneTime, now, changes, rng)
    }

    fn make(
        &mut self,
        used: PrekeyUse,
        now: Timestamp,
        changes: &mut Vec<Change>,
        rng: &mut dyn CryptoRng,
    ) -> Arc<LocalPrekeys> {
        // Random ids: a profile that was restored must not give an id to another key.
        let mut id = rng.next_u32();
        while id == 0 || self.by_id.contains_key(&id) {
            id = rng.next_u32();
        }
        let pair = Arc::new(LocalPrekeys::generate(id, used, now, rng));
        changes.push(Change::PutPrekey(id, pair.encode()));
        self.by_id.insert(id, Arc::clone(&pair));
        pair
    }

    fn expire(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        let mut signed: Vec<_> = self.of(PrekeyUse::Signed).map(|pair| pair.made_at).collect();
        signed.sort_unstable();
        // Replaced when the next one was made; one from the future, when the clock was set right.
        let is_replaced_long = |pair: &LocalPrekeys| {
            let next = signed.iter().find(|made_at| **made_at > pair.made_at);
            let is_of_the_future = pair.made_at.since(now) > UNDER_WAY;
            is_of_the_future || next.is_some_and(|next| now.since(*next) > UNDER_WAY)
        };
        let is_old = |pair: &&Arc<LocalPrekeys>| match pair.used {
            PrekeyUse::Signed => is_replaced_long(pair),
            PrekeyUse::OneTime => now.since(pair.made_at) > MAX_PREKEY_AGE + UNDER_WAY,
        };
        let gone: Vec<u32> = self.by_id.values().filter(is_old).map(|pair| pair.id).collect();
        for id in gone {
            self.used(id, changes);
        }
    }

    fn of(&self, used: PrekeyUse) -> impl Iterator<Item = &Arc<LocalPrekeys>> {
        self.by_id.values().filter(move |pair| pair.used == used)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);

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
            let Self { prekeys, device, rng, changes } = self;
            prekeys.bundle(device, &"alice".parse().unwrap(), now, changes, rng)
        }

        fn has(&self, id: u32, used: PrekeyUse) -> bool {
            self.prekeys.get(id, used).is_some()
        }
    }

    #[test]
    fn the_signed_pair_is_replaced_weekly_and_kept_for_44_days_more() {
        let mut maker = Maker::new();
        let first = maker.bundle(NOW).signed.id;
        assert_eq!(maker.bundle(NOW + DAY * 6).signed.id, first);
        assert_ne!(maker.bundle(NOW + DAY * 7).signed.id, first);
        maker.bundle(NOW + DAY * (7 + 44));
        assert!(maker.has(first, PrekeyUse::Signed));
        maker.bundle(NOW + DAY * (7 + 44) + Duration::from_millis(1));
        assert!(!maker.has(first, PrekeyUse::Signed));
        assert!(maker.changes.contains(&Change::RemovePrekey(first)));
    }

    #[test]
    fn a_one_time_pair_is_given_once_and_gone_when_used() {
        let mut maker = Maker::new();
        let one = maker.bundle(NOW).one_time.unwrap().id;
        let two = maker.bundle(NOW).one_time.unwrap().id;
        assert_ne!(one, two);
        maker.prekeys.used(one, &mut maker.changes);
        assert!(!maker.has(one, PrekeyUse::OneTime));
        assert!(maker.has(two, PrekeyUse::OneTime));
        // A one-time pair does not pass for a signed one.
        assert!(!maker.has(two, PrekeyUse::Signed));
    }

    #[test]
    fn an_unused_one_time_pair_is_kept_while_a_first_message_may_be_under_way() {
        let mut maker = Maker::new();
        let id = maker.bundle(NOW).one_time.unwrap().id;
        maker.bundle(NOW + DAY * (21 + 44));
        assert!(maker.has(id, PrekeyUse::OneTime));
        maker.bundle(NOW + DAY * (21 + 44) + Duration::from_millis(1));
        assert!(!maker.has(id, PrekeyUse::OneTime));
    }

    #[test]
    fn whatever_the_clock_does_one_signed_pair_serves() {
        let mut maker = Maker::new();
        for at in [NOW + DAY * 400, NOW, NOW - DAY * 10, NOW + DAY * 3] {
            let id = maker.bundle(at).signed.id;
            assert_eq!(maker.bundle(at).signed.id, id);
            assert_eq!(maker.bundle(at + DAY).signed.id, id);
        }
        let kept = maker.prekeys.of(PrekeyUse::Signed).map(|pair| pair.made_at);
        assert!(kept.max() < Some(NOW + DAY * 60), "the one of the far future is gone");
    }

    #[test]
    fn one_contact_gets_a_few_one_time_pairs_a_day() {
        let mut maker = Maker::new();
        let given = (0..100).filter(|_| maker.bundle(NOW).one_time.is_some()).count();
        assert_eq!(given, MAX_A_DAY);
        assert!(maker.bundle(NOW + DAY).one_time.is_some());
    }

    #[test]
    fn unused_one_time_pairs_are_bounded() {
        let mut maker = Maker::new();
        for i in 0..=u32::try_from(MAX_ONE_TIME).unwrap() {
            let at = NOW + Duration::from_millis(1) * i;
            maker.prekeys.one_time(at, &mut maker.changes, &mut maker.rng);
        }
        assert_eq!(maker.prekeys.of(PrekeyUse::OneTime).count(), MAX_ONE_TIME);
    }

    #[test]
    fn stored_prekeys_are_taken_over_and_can_be_renounced() {
        let mut maker = Maker::new();
        let id = maker.bundle(NOW).signed.id;
        let stored: Vec<_> =
            maker.prekeys.by_id.iter().map(|(id, pair)| (*id, pair.encode())).collect();
        maker.prekeys = Prekeys::new(&stored);
        assert_eq!(maker.bundle(NOW).signed.id, id);
        maker.prekeys.renounce(&mut maker.changes);
        assert!(maker.changes.contains(&Change::RemovePrekey(id)));
        assert_ne!(maker.bundle(NOW).signed.id, id);
    }
}
