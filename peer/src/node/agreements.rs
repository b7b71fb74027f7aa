//! Sessions in the making, and keys: bundles asked for, agreements and turns being computed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use parlor_common::envelope::Envelope;
use parlor_common::id::DeviceId;
use parlor_common::time::Timestamp;

use super::input::{LinkId, Source};
use super::prekeys::ROTATION;

/// Envelopes of one lane that wait for what is being computed: more than a sender's window and its
/// receipts, and more than come from the mailbox at once, so that an honest sender's all fit.
const MAX_WAITING: usize = 1024;
/// And those of all links, in bytes.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// The rendezvous is asked for a device's bundle at most this often: each may cost a one-time pair.
pub(super) const FETCH_INTERVAL: Duration = Duration::from_secs(30);
/// After one that was refused it is not asked before this time: the next would be as bad.
const REFUSED_INTERVAL: Duration = Duration::from_secs(600);
/// Bundles that one link is given in a minute: each may cost a one-time pair.
const MAX_BUNDLES: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);
/// A bundle that does not come in this time is asked for again.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Envelopes of one lane are opened in the order in which they came: what waits holds up what came
/// behind it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Lane {
    /// A link's.
    Link(LinkId),
    /// Those that waited at the rendezvous, whoever sent them.
    Mailbox,
}

impl From<Source> for Lane {
    fn from(source: Source) -> Self {
        match source {
            Source::Link(link) => Self::Link(link),
            Source::Mailbox(_) => Self::Mailbox,
        }
    }
}

/// An envelope that waits, and how it came.
type Waiting = (Source, Envelope);

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Agreements {
    /// Links on which a bundle was asked for, and until when it is awaited.
    asked: BTreeMap<LinkId, Timestamp>,
    /// Devices with which a session is being started.
    initiating: BTreeSet<DeviceId>,
    /// Devices whose bundles the rendezvous was asked for, and until when it is not asked again.
    fetched: BTreeMap<DeviceId, Timestamp>,
    /// When the newest signed prekey that was seen of a device was made.
    seen: BTreeMap<DeviceId, Timestamp>,
    /// The lane whose first message is being accepted: one at a time, in the whole process.
    accepting: Option<Lane>,
    /// Lanes whose envelope with a new ratchet key is being computed for.
    turning: BTreeSet<Lane>,
    /// What came behind such an envelope on its lane, and first messages of other lanes.
    waiting: BTreeMap<Lane, VecDeque<Waiting>>,
    /// When each link was given bundles, in the last minute.
    given: BTreeMap<LinkId, Vec<Timestamp>>,
}

impl Agreements {
    /// Takes over what was stored.
    pub(super) fn new(seen: Vec<(DeviceId, Timestamp)>) -> Self {
        Self { seen: seen.into_iter().collect(), ..Self::default() }
    }

    /// Whether a bundle is to be asked for on `link`, for a session with `device`.
    pub(super) fn ask(&mut self, link: LinkId, device: DeviceId, now: Timestamp) -> bool {
        let is_awaited = self.asked.get(&link).is_some_and(|until| *until > now);
        let ask = !is_awaited && !self.initiating.contains(&device);
        if ask {
            self.asked.insert(link, now + ANSWER_TIME);
        }
        ask
    }

    /// A bundle arrived on `link`. Returns whether it was asked for and a session with `device`
    /// is to be started now.
    pub(super) fn initiate(&mut self, link: LinkId, device: DeviceId) -> bool {
        self.asked.remove(&link).is_some() && self.initiating.insert(device)
    }

    /// Whether the rendezvous is to be asked for a bundle of `device`.
    pub(super) fn fetch(&mut self, device: DeviceId, now: Timestamp) -> bool {
        let is_asked = self.fetched.get(&device).is_some_and(|until| *until > now);
        let fetch = !is_asked && !self.initiating.contains(&device);
        if fetch {
            self.fetched.insert(device, now + FETCH_INTERVAL);
        }
        fetch
    }

    /// The rendezvous gave a bundle of `device`. Returns whether it was asked for, and a session is
    /// to be started now.
    pub(super) fn initiate_fetched(&mut self, device: DeviceId) -> bool {
        self.fetched.contains_key(&device) && self.initiating.insert(device)
    }

    /// When the newest signed prekey that was seen of a device was made, as far as that tells
    /// anything.
    pub(super) fn seen(&self, device: DeviceId, now: Timestamp) -> Option<Timestamp> {
        self.seen.get(&device).and_then(|seen| believed(*seen, now))
    }

    /// A bundle of a device was accepted. Returns when its signed prekey was made, if it is news.
    pub(super) fn saw(
        &mut self,
        device: DeviceId,
        made_at: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let known = self.seen(device, now);
        let newest = believed(made_at, now).max(known)?;
        let stored = self.seen.insert(device, newest);
        (stored != Some(newest)).then_some(newest)
    }

    /// The start of a session with `device` is over.
    pub(super) fn initiated(&mut self, device: DeviceId) {
        self.initiating.remove(&device);
    }

    /// A bundle of `device` was refused.
    pub(super) fn bundle_refused(&mut self, device: DeviceId, now: Timestamp) {
        self.initiating.remove(&device);
        self.fetched.insert(device, now + REFUSED_INTERVAL);
    }

    /// The rendezvous did not answer when it was asked for a bundle of `device`.
    pub(super) fn fetch_unanswered(&mut self, device: DeviceId) {
        self.fetched.remove(&device);
    }

    /// When a bundle of `device` may be asked for again at the rendezvous.
    pub(super) fn fetch_again_at(&self, device: DeviceId) -> Option<Timestamp> {
        self.fetched.get(&device).copied()
    }

    /// Whether something of `lane` is being computed, or waits for that: what comes behind it
    /// waits too, so that messages are saved in the order in which they were sent, whatever sessions
    /// they are of.
    pub(super) fn holds_back(&self, lane: Lane) -> bool {
        self.is_busy(lane) || self.waiting.contains_key(&lane)
    }

    fn is_busy(&self, lane: Lane) -> bool {
        self.accepting == Some(lane) || self.turning.contains(&lane)
    }

    /// Whether a first message of `lane` can be accepted now: then no other can.
    pub(super) fn accept(&mut self, lane: Lane) -> bool {
        let free = self.accepting.is_none();
        if free {
            self.accepting = Some(lane);
        }
        free
    }

    /// An envelope of `lane` needs an exponentiation.
    pub(super) fn turn(&mut self, lane: Lane) {
        self.turning.insert(lane);
    }

    /// Lets an envelope wait. Returns whether there was room: if not, it is dropped, and has to be
    /// sent again.
    pub(super) fn wait(&mut self, source: Source, envelope: Envelope) -> bool {
        let bytes = |(_, envelope): &Waiting| envelope.as_bytes().len();
        let waiting = self.waiting.values().flatten().map(bytes).sum::<usize>();
        let lane = source.into();
        let of_lane = self.waiting.get(&lane).map_or(0, VecDeque::len);
        let item = (source, envelope);
        let room = of_lane < MAX_WAITING && waiting + bytes(&item) <= MAX_WAITING_BYTES;
        if room {
            self.waiting.entry(lane).or_default().push_back(item);
        }
        room
    }

    /// The acceptance of a first message is over. Returns what waited and need not any more, in
    /// order by lane, to be looked at again.
    pub(super) fn accepted(&mut self) -> BTreeMap<Lane, VecDeque<Waiting>> {
        self.accepting = None;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (still, free) = waiting.partition(|(lane, _)| self.turning.contains(lane));
        self.waiting = still;
        free
    }

    /// The exponentiation for an envelope of `lane` is done. Returns what waited behind it.
    pub(super) fn turned(&mut self, lane: Lane) -> VecDeque<Waiting> {
        self.turning.remove(&lane);
        self.waiting.remove(&lane).unwrap_or_default()
    }

    /// Whether `link` may be given another bundle.
    pub(super) fn give(&mut self, link: LinkId, now: Timestamp) -> bool {
        let given = self.given.entry(link).or_default();
        given.retain(|at| now.since(*at) < MINUTE);
        let give = given.len() < MAX_BUNDLES;
        if give {
            given.push(now);
        }
        give
    }

    /// What waits of a link is not worth the work.
    pub(super) fn drop_waiting(&mut self, link: LinkId) {
        self.waiting.remove(&Lane::Link(link));
    }

    /// A link is gone.
    pub(super) fn link_down(&mut self, link: LinkId) {
        self.asked.remove(&link);
        self.given.remove(&link);
        self.turning.remove(&Lane::Link(link));
        self.waiting.remove(&Lane::Link(link));
    }
}

/// What a date at which a prekey was made is worth. One in the future counts as now. One that is
/// further ahead than a device uses its prekeys counts for nothing: somebody's clock was wrong, and
/// a device whose clock is set right goes back to older prekeys, which must not be refused then.
fn believed(made_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (made_at.since(now) < ROTATION).then(|| made_at.min(now))
}

#[cfg(test)]
mod tests {
    use parlor_common::envelope::Header;
    use parlor_common::id::SessionId;
    use parlor_common::prekey::DhPublicBytes;

    use super::*;

    const LINK: LinkId = LinkId(1);
    const LANE: Lane = Lane::Link(LINK);
    const DEVICE: DeviceId = DeviceId([1; 16]);
    const NOW: Timestamp = Timestamp::from_millis(1000);

    fn envelope(number: u32) -> Envelope {
        let ratchet = DhPublicBytes(Box::new([1; DhPublicBytes::LEN]));
        let session = SessionId([1; 16]);
        let header = Header { session, first: None, ratchet, previous: 0, number };
        let bytes = header.encode();
        Envelope::new(header, &bytes, &[0; 16], &[0; 32])
    }

    #[test]
    fn one_bundle_is_asked_for_and_one_session_started_at_a_time() {
        let mut agreements = Agreements::default();
        assert!(!agreements.initiate(LINK, DEVICE), "a bundle that nobody asked for");
        assert!(agreements.ask(LINK, DEVICE, NOW));
        assert!(!agreements.ask(LINK, DEVICE, NOW));
        assert!(agreements.initiate(LINK, DEVICE));
        assert!(!agreements.ask(LINK, DEVICE, NOW));
        agreements.initiated(DEVICE);
        assert!(agreements.ask(LINK, DEVICE, NOW) && !agreements.ask(LINK, DEVICE, NOW));
        assert!(agreements.ask(LINK, DEVICE, NOW + ANSWER_TIME), "the answer did not come");
    }

    #[test]
    fn one_first_message_is_accepted_at_a_time_and_what_is_behind_it_waits() {
        let mut agreements = Agreements::default();
        let other = Lane::Mailbox;
        let (of_link, of_other) = (Source::Link(LINK), Source::Mailbox(7));
        assert!(!agreements.holds_back(LANE));
        assert!(agreements.accept(LANE));
        assert!(agreements.holds_back(LANE) && !agreements.holds_back(other));
        assert!(!agreements.accept(other));
        assert!(agreements.wait(of_other, envelope(1)) && agreements.wait(of_link, envelope(2)));
        assert!(agreements.holds_back(other));
        let waited: Vec<_> = agreements.accepted().into_keys().collect();
        assert_eq!(waited, [LANE, other]);
        assert!(!agreements.holds_back(LANE) && !agreements.holds_back(other));
        assert!(agreements.accept(other));
    }

    #[test]
    fn what_is_behind_a_new_ratchet_key_waits_for_that_alone() {
        let mut agreements = Agreements::default();
        let other = Lane::Mailbox;
        agreements.turn(LANE);
        assert!(agreements.holds_back(LANE) && !agreements.holds_back(other));
        assert!(agreements.wait(Source::Link(LINK), envelope(1)));
        assert!(agreements.accept(other) && agreements.wait(Source::Mailbox(7), envelope(2)));
        let waited: Vec<_> = agreements.accepted().into_keys().collect();
        assert_eq!(waited, [other], "what waits for a turn goes on waiting");
        assert_eq!(agreements.turned(LANE), [(Source::Link(LINK), envelope(1))]);
        assert!(!agreements.holds_back(LANE));
    }

    #[test]
    fn the_rendezvous_is_asked_for_a_bundle_now_and_then() {
        let mut agreements = Agreements::default();
        let now = Timestamp::from_millis(1);
        assert!(!agreements.initiate_fetched(DEVICE), "nobody asked for it");
        assert!(agreements.fetch(DEVICE, now) && !agreements.fetch(DEVICE, now));
        assert!(agreements.initiate_fetched(DEVICE) && !agreements.initiate_fetched(DEVICE));
        assert!(!agreements.fetch(DEVICE, now + FETCH_INTERVAL), "it is being used");
        agreements.initiated(DEVICE);
        assert!(agreements.fetch(DEVICE, now + FETCH_INTERVAL));
        agreements.fetch_unanswered(DEVICE);
        assert!(agreements.fetch(DEVICE, now + FETCH_INTERVAL), "it never was");
        assert!(agreements.initiate_fetched(DEVICE));
        agreements.bundle_refused(DEVICE, now);
        assert!(!agreements.fetch(DEVICE, now + FETCH_INTERVAL));
        assert!(agreements.fetch(DEVICE, now + REFUSED_INTERVAL));
    }

    #[test]
    fn the_newest_signed_prekey_is_remembered_and_one_of_the_future_is_of_now() {
        let mut agreements = Agreements::default();
        let at = Timestamp::from_millis;
        assert_eq!(agreements.saw(DEVICE, at(5), at(9)), Some(at(5)));
        assert_eq!(agreements.saw(DEVICE, at(5), at(9)), None);
        assert_eq!(agreements.saw(DEVICE, at(500), at(9)), Some(at(9)));
        assert_eq!(agreements.seen(DEVICE, at(10)), Some(at(9)));
        // A clock that was set back lowers nothing, and is not locked out by what it saw ahead.
        assert_eq!(agreements.saw(DEVICE, at(4), at(20)), None);
        assert_eq!(agreements.seen(DEVICE, at(6)), Some(at(6)));
        assert_eq!(agreements.saw(DEVICE, at(6), at(6)), Some(at(6)));
    }

    #[test]
    fn a_clock_that_was_far_ahead_locks_nobody_out_when_it_is_set_right() {
        let (mut agreements, ahead) = (Agreements::default(), NOW + ROTATION);
        assert_eq!(agreements.saw(DEVICE, ahead, NOW), None, "theirs was");
        assert_eq!(agreements.seen(DEVICE, NOW), None);
        assert_eq!(agreements.saw(DEVICE, ahead, ahead), Some(ahead), "both were");
        assert_eq!(agreements.seen(DEVICE, NOW), None);
        assert_eq!(agreements.saw(DEVICE, NOW, NOW), Some(NOW));
    }

    #[test]
    fn envelopes_wait_in_order_and_in_bounds() {
        let mut agreements = Agreements::default();
        assert!(agreements.accept(LANE));
        let source = Source::Link(LINK);
        let held = (0..2000).filter(|number| agreements.wait(source, envelope(*number))).count();
        assert_eq!(held, MAX_WAITING);
        let waited = agreements.accepted().remove(&LANE).unwrap();
        assert_eq!((&waited[0].1, &waited[1].1), (&envelope(0), &envelope(1)));
        assert!(agreements.wait(source, envelope(0)));
        agreements.link_down(LINK);
        assert!(agreements.accepted().is_empty());
    }

    #[test]
    fn a_link_is_given_a_few_bundles_a_minute() {
        let mut agreements = Agreements::default();
        let given = (0..100).filter(|_| agreements.give(LINK, NOW)).count();
        assert_eq!(given, 8);
        assert!(agreements.give(LINK, NOW + MINUTE));
        agreements.link_down(LINK);
        assert!(agreements.give(LINK, NOW));
    }
}
