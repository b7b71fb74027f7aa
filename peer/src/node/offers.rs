//! Attempts to find a way to a contact, and how many of the contact's own are followed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parlor_common::candidate::{Offer, OfferId};
use parlor_common::id::Username;
use parlor_common::time::Timestamp;

/// At most this many offers of a contact are followed in a [`WINDOW`] without a link.
const FOLLOWED: usize = 6;
/// See [`FOLLOWED`].
const WINDOW: Duration = Duration::from_secs(60);

/// Waits between our own offers to a contact that is online: fewer than [`FOLLOWED`] a window,
/// because the answers to the contact's offers count there too.
const WAITS: [Duration; 3] =
    [Duration::from_secs(4), Duration::from_secs(15), Duration::from_secs(30)];

/// For so long an envelope waits for a link before another carrier takes it.
const YOUTH: Duration = Duration::from_secs(1);
/// A link that is cut sooner than this was cut as soon as it was up.
const BRIEF: Duration = Duration::from_secs(5);
/// So many of them in a row are followed by another at once: the other side may have restarted.
const TOLERATED: u32 = 3;
/// Our attempts and their offers, by contact.
#[derive(Debug, Default)]
pub(super) struct Offers {
    attempts: BTreeMap<Username, Attempt>,
    followed: BTreeMap<Username, VecDeque<Timestamp>>,
    /// Links that were cut as soon as they were up, in a row, and until when there is no other.
    brief: BTreeMap<Username, (u32, Timestamp)>,
    deferred: BTreeMap<Username, Offer>,
}

#[derive(Debug)]
struct Attempt {
    id: OfferId,
    tries: usize,
    next: Timestamp,
    /// Until when an envelope waits for a link, if it still does.
    young_until: Option<Timestamp>,
}

impl Offers {
    /// Whether an offer to `contact` is due: the first one, or one after a wait.
    pub(super) fn is_due(&self, contact: &Username, now: Timestamp) -> bool {
        self.attempts.get(contact).is_none_or(|attempt| attempt.next <= now)
    }

    /// An offer with this id goes to `contact`.
    pub(super) fn sent(&mut self, contact: &Username, id: OfferId, now: Timestamp) {
        let before = self.attempts.get(contact);
        let young_until = before.map_or(Some(now + YOUTH), |before| before.young_until);
        let tries = before.map_or(0, |before| before.tries);
        let wait = WAITS.get(tries).or(WAITS.last()).copied().unwrap_or(WINDOW);
        let attempt = Attempt { id, tries: tries + 1, next: now + wait, young_until };
        self.attempts.insert(contact.clone(), attempt);
    }

    /// Whether an attempt at a link to `contact` is young: what waits had better wait for it.
    pub(super) fn is_young(&self, contact: &Username, now: Timestamp) -> bool {
        let attempt = self.attempts.get(contact);
        attempt.and_then(|attempt| attempt.young_until).is_some_and(|until| now < until)
    }

    /// Attempts that are young no more are not waited for.
    pub(super) fn outgrown(&mut self, now: Timestamp) {
        for attempt in self.attempts.values_mut() {
            attempt.young_until.take_if(|until| *until <= now);
        }
    }

    /// Whether `id` is the offer that was last sent to `contact`.
    pub(super) fn is_ours(&self, contact: &Username, id: OfferId) -> bool {
        self.attempts.get(contact).is_some_and(|attempt| attempt.id == id)
    }

    /// Takes one offer of `contact` out of the budget, if there is one left.
    pub(super) fn follow(&mut self, contact: &Username, now: Timestamp) -> bool {
        let followed = self.followed.entry(contact.clone()).or_default();
        while followed.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            followed.pop_front();
        }
        let left = followed.len() < FOLLOWED;
        if left {
            followed.push_back(now);
        }
        left
    }

    /// A link to `contact` is up: the attempt is over, and an offer is given back.
    pub(super) fn link_up(&mut self, contact: &Username) {
        self.attempts.remove(contact);
        if let Some(followed) = self.followed.get_mut(contact) {
            followed.pop_back();
        }
    }

    /// The contact's situation is new (it came online, a link was lost): offer at once.
    pub(super) fn restart(&mut self, contact: &Username) {
        self.attempts.remove(contact);
    }

    /// A link to `contact` was cut that came up `since` then. Returns whether another one is worth a
    /// try at once: not where the last ones were cut as soon as they were up.
    pub(super) fn link_cut(
        &mut self,
        contact: &Username,
        since: Timestamp,
        now: Timestamp,
    ) -> bool {
        if now.since(since) >= BRIEF {
            self.brief.remove(contact);
            return true;
        }
        let (count, until) = self.brief.entry(contact.clone()).or_default();
        *count = count.saturating_add(1);
        if *count <= TOLERATED {
            return true;
        }
        *until = now + BRIEF.saturating_mul(1 << (*count - TOLERATED).min(5));
        false
    }

    /// Until when there is no other link to `contact`, because the last ones were cut at once.
    pub(super) fn rests_until(&self, contact: &Username, now: Timestamp) -> Option<Timestamp> {
        self.brief.get(contact).map(|(_, until)| *until).filter(|until| *until > now)
    }

    /// Keeps an offer of a device that is not known yet, until the contact's list has come.
    pub(super) fn defer(&mut self, contact: &Username, offer: Offer) {
        self.deferred.insert(contact.clone(), offer);
    }

    /// The offer that waited for the contact's list.
    pub(super) fn take_deferred(&mut self, contact: &Username) -> Option<Offer> {
        self.deferred.remove(contact)
    }

    /// Forgets a contact.
    pub(super) fn forget(&mut self, contact: &Username) {
        self.attempts.remove(contact);
        self.followed.remove(contact);
        self.brief.remove(contact);
        self.deferred.remove(contact);
    }

    /// When the next offer to one of `contacts` is due.
    pub(super) fn poll_timeout<'a>(
        &self,
        contacts: impl Iterator<Item = &'a Username>,
    ) -> Option<Timestamp> {
        let due = |contact| {
            let attempt = self.attempts.get(contact)?;
            let rests = self.brief.get(contact).map(|(_, until)| *until).unwrap_or_default();
            let young = attempt.young_until.unwrap_or(attempt.next);
            Some(young.min(attempt.next.max(rests)))
        };
        contacts.filter_map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> Username {
        "bob".parse().unwrap()
    }

    #[test]
    fn six_offers_a_minute_are_followed_and_a_link_gives_one_back() {
        let mut offers = Offers::default();
        let start = Timestamp::from_millis(0);
        let followed = (0..10).filter(|_| offers.follow(&bob(), start)).count();
        assert_eq!(followed, FOLLOWED);
        offers.link_up(&bob());
        assert!(offers.follow(&bob(), start));
        assert!(!offers.follow(&bob(), start + WINDOW - Duration::from_millis(1)));
        assert!(offers.follow(&bob(), start + WINDOW));
    }

    #[test]
    fn our_own_offers_are_spaced_and_stay_within_what_others_follow() {
        let mut offers = Offers::default();
        let start = Timestamp::from_millis(0);
        let mut sent = 0;
        for millis in (0..60_000).step_by(100) {
            let now = start + Duration::from_millis(millis);
            if offers.is_due(&bob(), now) {
                offers.sent(&bob(), OfferId(millis), now);
                sent += 1;
            }
        }
        assert_eq!(sent, 4);
        assert!(offers.is_ours(&bob(), OfferId(49_000)));
        offers.restart(&bob());
        assert!(offers.is_due(&bob(), start));
    }

    #[test]
    fn an_attempt_is_young_for_a_second_and_young_again_in_a_new_situation() {
        let (mut offers, now) = (Offers::default(), Timestamp::from_millis(0));
        assert!(!offers.is_young(&bob(), now), "nothing was tried");
        offers.sent(&bob(), OfferId(1), now);
        assert!(offers.is_young(&bob(), now));
        let grown = offers.poll_timeout([bob()].iter()).unwrap();
        assert_eq!(grown, now + Duration::from_secs(1));
        offers.outgrown(grown);
        assert!(!offers.is_young(&bob(), grown));
        let again = offers.poll_timeout([bob()].iter()).unwrap();
        offers.sent(&bob(), OfferId(2), again);
        assert!(!offers.is_young(&bob(), again));
        offers.restart(&bob());
        offers.sent(&bob(), OfferId(3), again);
        assert!(offers.is_young(&bob(), again));
    }

    #[test]
    fn links_that_are_cut_at_once_are_tried_ever_less_often() {
        let (mut offers, mut now) = (Offers::default(), Timestamp::from_millis(1_000_000));
        for _ in 0..TOLERATED {
            assert!(offers.link_cut(&bob(), now, now));
        }
        assert_eq!(offers.rests_until(&bob(), now), None);
        for seconds in [10, 20, 40, 80, 160, 160] {
            assert!(!offers.link_cut(&bob(), now, now + Duration::from_secs(1)));
            now = now + Duration::from_secs(1);
            let until = now + Duration::from_secs(seconds);
            assert_eq!(offers.rests_until(&bob(), now), Some(until));
            now = until;
        }
        assert!(offers.link_cut(&bob(), now, now + BRIEF));
        assert!(offers.link_cut(&bob(), now, now), "it was a good one");
    }
}
