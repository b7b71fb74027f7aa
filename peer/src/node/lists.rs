//! Peers tell each other, inside envelopes, which device lists they have: their own, and the newest
//! of the other side that they have seen. So a rendezvous that shows the two different lists, or
//! keeps one back, is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parlor_common::device_list::{ListHash, ListMark};
use parlor_common::id::Username;
use parlor_common::time::Timestamp;

use super::Node;
use super::content::Lists;
use super::input::Now;
use super::output::{Event, ListFault};
use super::server::Lookup;

/// A contact that goes on with an old list of ours for so long has not been shown the newest: who is
/// shown it looks at once.
const GRACE: Duration = Duration::from_secs(60);
/// A contact's word makes us look a list up at most so often.
const LOOK_UP_WAIT: Duration = Duration::from_secs(60);

/// What contacts' words about lists have led to.
#[derive(Debug, Default)]
pub(super) struct ListWatch {
    /// Since when a contact goes on with an old list of ours; and our version at that time.
    behind: BTreeMap<Username, (u64, Timestamp)>,
    /// When a list was last looked up for a contact's word: whose, and for whom.
    looked_up: BTreeMap<(Username, Username), Timestamp>,
    /// What was told: whose list, what is wrong, and by whose word. Nobody can have it told again
    /// and again.
    told: BTreeSet<(Username, ListFault, Option<Username>)>,
    /// The last own list that the rendezvous served and that was refused.
    pub(super) refused_own: Option<ListHash>,
}

impl ListWatch {
    /// Forgets a contact.
    pub(super) fn forget(&mut self, name: &Username) {
        self.behind.remove(name);
        self.looked_up.retain(|(of, by), _| of != name && by != name);
        self.told.retain(|(of, _, by)| of != name && by.as_ref() != Some(name));
    }

    /// Whether a list may be looked up now for a contact's word.
    fn may_look_up(&mut self, of: &Username, by: &Username, now: Timestamp) -> bool {
        let key = (of.clone(), by.clone());
        let due = self.looked_up.get(&key).is_none_or(|at| now.since(*at) >= LOOK_UP_WAIT);
        if due {
            self.looked_up.insert(key, now);
        }
        due
    }

    /// Whether a contact that has seen an older list than our `version` has done so for too long.
    fn is_behind(&mut self, by: &Username, version: u64, now: Timestamp) -> bool {
        let (since_version, since) = self.behind.entry(by.clone()).or_insert((version, now));
        if *since_version != version {
            (*since_version, *since) = (version, now);
        }
        now.since(*since) >= GRACE
    }
}

impl Node {
    /// What an envelope to `contact` says of device lists.
    pub(super) fn lists_for(&self, contact: &Username) -> Lists {
        Lists { own: self.me.devices.mark(), seen: self.contacts.list(contact) }
    }

    /// What an envelope of `contact` says that was opened.
    pub(super) fn handle_lists(&mut self, contact: &Username, lists: Option<Lists>, now: Now) {
        let Some(Lists { own, seen }) = lists else { return };
        self.compare_theirs(contact, own, now.timer);
        if let Some(seen) = seen {
            self.compare_ours(contact, seen, now.timer);
        }
    }

    /// A contact names its own list.
    fn compare_theirs(&mut self, contact: &Username, theirs: ListMark, now: Timestamp) {
        let Some(known) = self.contacts.list(contact) else { return };
        if theirs.version > known.version {
            self.look_up_claimed(contact, contact, theirs.version, now);
        } else if theirs.version == known.version && theirs.hash != known.hash {
            self.tell_fault(contact.clone(), ListFault::Forked, Some(contact));
        }
    }

    /// A contact names the newest list of ours that it has seen.
    fn compare_ours(&mut self, contact: &Username, seen: ListMark, now: Timestamp) {
        let (me, ours) = (self.me.name.clone(), self.me.devices.mark());
        if seen.version < ours.version {
            if self.lists.is_behind(contact, ours.version, now) {
                self.tell_fault(me, ListFault::NotShown, Some(contact));
            }
            return;
        }
        self.lists.behind.remove(contact);
        if seen.version > ours.version {
            self.look_up_claimed(&me, contact, seen.version, now);
        } else if seen.hash != ours.hash {
            self.tell_fault(me, ListFault::Forked, Some(contact));
        }
    }

    fn look_up_claimed(&mut self, of: &Username, by: &Username, version: u64, now: Timestamp) {
        if self.rendezvous.is_signed_in() && self.lists.may_look_up(of, by, now) {
            self.look_up(of.clone(), Lookup::Claimed(version));
        }
    }

    /// A contact seems to have a device that is not known here.
    pub(super) fn look_up_newer(&mut self, of: &Username, now: Now) {
        if self.rendezvous.is_signed_in() && self.lists.may_look_up(of, of, now.timer) {
            self.look_up(of.clone(), Lookup::Refresh);
        }
    }

    /// A list was looked up because somebody has seen `version` of it.
    pub(super) fn check_claim(&mut self, of: &Username, version: u64) {
        let known =
            if *of == self.me.name { Some(self.me.devices.mark()) } else { self.contacts.list(of) };
        if known.is_some_and(|known| known.version < version) {
            self.tell_fault(of.clone(), ListFault::Withheld, None);
        }
    }

    fn tell_fault(&mut self, of: Username, fault: ListFault, by: Option<&Username>) {
        let by = by.cloned();
        if self.lists.told.insert((of.clone(), fault, by.clone())) {
            tracing::warn!(%of, ?fault, "a device list is not as a contact has it");
            self.events.push_back(Event::ListFault { of, fault, by });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Username {
        name.parse().unwrap()
    }

    #[test]
    fn a_contact_is_behind_after_a_minute_with_the_same_newest_list() {
        let mut watch = ListWatch::default();
        let (bob, start) = (name("bob"), Timestamp::from_millis(0));
        assert!(!watch.is_behind(&bob, 2, start));
        assert!(!watch.is_behind(&bob, 2, start + GRACE - Duration::from_millis(1)));
        assert!(watch.is_behind(&bob, 2, start + GRACE));
        assert!(!watch.is_behind(&bob, 3, start + GRACE), "a newer list has its own minute");
        assert!(!watch.is_behind(&name("carol"), 3, start + GRACE));
    }

    #[test]
    fn a_contacts_word_makes_us_look_once_a_minute() {
        let mut watch = ListWatch::default();
        let (bob, me, start) = (name("bob"), name("alice"), Timestamp::from_millis(0));
        assert!(watch.may_look_up(&bob, &bob, start));
        assert!(!watch.may_look_up(&bob, &bob, start));
        assert!(watch.may_look_up(&me, &bob, start));
        assert!(watch.may_look_up(&bob, &bob, start + LOOK_UP_WAIT));
        watch.forget(&bob);
        assert!(watch.looked_up.is_empty());
    }
}
