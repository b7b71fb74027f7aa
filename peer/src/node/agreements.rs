//! Sessions in the making: bundles asked for, agreements being computed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parlor_common::envelope::Envelope;
use parlor_common::id::DeviceId;

use super::input::LinkId;

/// First messages that wait for their turn: more than a sender's window, so that an honest
/// sender's messages all fit.
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
    /// Whether a first message is being accepted: one at a time, in the whole process.
    accepting: bool,
    waiting: VecDeque<(LinkId, Envelope)>,
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

    /// A first message is to be accepted. Returns it if that can start now; else it waits, or is
    /// dropped if too many wait: its sender sends it again.
    pub(super) fn accept(&mut self, link: LinkId, envelope: Envelope) -> Option<Envelope> {
        if !self.accepting {
            self.accepting = true;
            return Some(envelope);
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((link, envelope));
        }
        None
    }

    /// The acceptance of a first message is over. Returns what waited, to be looked at again.
    pub(super) fn accepted(&mut self) -> VecDeque<(LinkId, Envelope)> {
        self.accepting = false;
        std::mem::take(&mut self.waiting)
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
        self.waiting.retain(|(of, _)| *of != link);
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
    fn first_messages_are_accepted_one_at_a_time_and_wait_in_bounds() {
        let mut agreements = Agreements::default();
        assert!(agreements.accept(LINK, envelope(0)).is_some());
        for number in 0..2000 {
            assert!(agreements.accept(LINK, envelope(number)).is_none());
        }
        let waited = agreements.accepted();
        assert_eq!(waited.len(), MAX_WAITING);
        assert_eq!(waited[1].1, envelope(1));
        assert!(agreements.accept(LINK, envelope(1)).is_some());
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
