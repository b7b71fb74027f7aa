//! Sessions in the making: bundles asked for, agreements being computed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use parlor_common::envelope::Envelope;
use parlor_common::id::DeviceId;

use super::input::LinkId;

/// Envelopes that wait for a first message to be accepted: more than a sender's window, so that an
/// honest sender's messages all fit.
const MAX_WAITING: usize = 1024;
/// Bundles that one link is given: each costs a one-time prekey.
const MAX_BUNDLES: u32 = 8;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Agreements {
    /// Links on which a bundle was asked for.
    asked: BTreeSet<LinkId>,
    /// Devices with which a session is being started.
    initiating: BTreeSet<DeviceId>,
    /// The link whose first message is being accepted: one at a time, in the whole process.
    accepting: Option<LinkId>,
    /// What came behind a first message on its link, and first messages of other links.
    waiting: BTreeMap<LinkId, VecDeque<Envelope>>,
    given: BTreeMap<LinkId, u32>,
}

impl Agreements {
    /// Whether a bundle is to be asked for on `link`, for a session with `device`.
    pub(super) fn ask(&mut self, link: LinkId, device: DeviceId) -> bool {
        !self.initiating.contains(&device) && self.asked.insert(link)
    }

    /// A bundle arrived on `link`. Returns whether it was asked for and a session with `device`
    /// is to be started now.
    pub(super) fn initiate(&mut self, link: LinkId, device: DeviceId) -> bool {
        self.asked.remove(&link) && self.initiating.insert(device)
    }

    /// The start of a session with `device` is over.
    pub(super) fn initiated(&mut self, device: DeviceId) {
        self.initiating.remove(&device);
    }

    /// Whether a first message of `link` is being accepted, or waits for that: what comes behind it
    /// waits too, so that messages are saved in the order in which they were sent, whatever sessions
    /// they are of.
    pub(super) fn holds_back(&self, link: LinkId) -> bool {
        self.accepting == Some(link) || self.waiting.contains_key(&link)
    }

    /// Whether a first message of `link` can be accepted now: then no other can.
    pub(super) fn accept(&mut self, link: LinkId) -> bool {
        let free = self.accepting.is_none();
        if free {
            self.accepting = Some(link);
        }
        free
    }

    /// Lets an envelope wait. Returns whether there was room: if not, it is dropped, and its link
    /// must be closed, so that its sender sends it again.
    pub(super) fn wait(&mut self, link: LinkId, envelope: Envelope) -> bool {
        let room = self.waiting.values().map(VecDeque::len).sum::<usize>() < MAX_WAITING;
        if room {
            self.waiting.entry(link).or_default().push_back(envelope);
        }
        room
    }

    /// The acceptance of a first message is over. Returns what waited, in order by link, to be
    /// looked at again.
    pub(super) fn accepted(&mut self) -> BTreeMap<LinkId, VecDeque<Envelope>> {
        self.accepting = None;
        mem::take(&mut self.waiting)
    }

    /// Whether `link` may be given another bundle.
    pub(super) fn give(&mut self, link: LinkId) -> bool {
        let given = self.given.entry(link).or_default();
        *given += 1;
        *given <= MAX_BUNDLES
    }

    /// A link is gone.
    pub(super) fn link_down(&mut self, link: LinkId) {
        self.asked.remove(&link);
        self.given.remove(&link);
        self.waiting.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::envelope::Header;
    use parlor_common::id::SessionId;

    use super::*;

    const LINK: LinkId = LinkId(1);
    const DEVICE: DeviceId = DeviceId([1; 16]);

    fn envelope(number: u32) -> Envelope {
        let header = Header { session: SessionId([1; 16]), first: None, number };
        let bytes = header.encode();
        Envelope::new(header, &bytes, &[0; 16], &[0; 32])
    }

    #[test]
    fn one_bundle_is_asked_for_and_one_session_started_at_a_time() {
        let mut agreements = Agreements::default();
        assert!(!agreements.initiate(LINK, DEVICE), "a bundle that nobody asked for");
        assert!(agreements.ask(LINK, DEVICE));
        assert!(!agreements.ask(LINK, DEVICE));
        assert!(agreements.initiate(LINK, DEVICE));
        assert!(!agreements.ask(LINK, DEVICE));
        agreements.initiated(DEVICE);
        assert!(agreements.ask(LINK, DEVICE));
    }

    #[test]
    fn one_first_message_is_accepted_at_a_time_and_what_is_behind_it_waits() {
        let mut agreements = Agreements::default();
        let other = LinkId(2);
        assert!(!agreements.holds_back(LINK));
        assert!(agreements.accept(LINK));
        assert!(agreements.holds_back(LINK) && !agreements.holds_back(other));
        assert!(!agreements.accept(other));
        assert!(agreements.wait(other, envelope(1)) && agreements.wait(LINK, envelope(2)));
        assert!(agreements.holds_back(other));
        let waited: Vec<_> = agreements.accepted().into_keys().collect();
        assert_eq!(waited, [LINK, other]);
        assert!(!agreements.holds_back(LINK) && !agreements.holds_back(other));
        assert!(agreements.accept(other));
    }

    #[test]
    fn envelopes_wait_in_order_and_in_bounds() {
        let mut agreements = Agreements::default();
        assert!(agreements.accept(LINK));
        let held = (0..2000).filter(|number| agreements.wait(LINK, envelope(*number))).count();
        assert_eq!(held, MAX_WAITING);
        let waited = agreements.accepted().remove(&LINK).unwrap();
        assert_eq!((&waited[0], &waited[1]), (&envelope(0), &envelope(1)));
        assert!(agreements.wait(LINK, envelope(0)));
        agreements.link_down(LINK);
        assert!(agreements.accepted().is_empty());
    }

    #[test]
    fn a_link_is_given_a_few_bundles() {
        let mut agreements = Agreements::default();
        let given = (0..100).filter(|_| agreements.give(LINK)).count();
        assert_eq!(given, 8);
        agreements.link_down(LINK);
        assert!(agreements.give(LINK));
    }
}
