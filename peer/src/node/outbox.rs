//! Messages that were sent from here and that nobody has acknowledged yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parlor_common::id::{DeviceId, MessageId, SessionId, Username};
use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;

use super::content::IdRange;
use super::input::LinkId;
use super::record::{MessageState, OutboxMessage, Sealed};

/// At most this many messages to a contact are on their way at once: fewer than the gap that a
/// session can skip, so that an honest sender never meets that bound.
pub(super) const WINDOW: usize = 512;

/// What a mailbox has taken and nobody has acknowledged is posted again after this time: the
/// rendezvous may have been put back to an earlier state, or have given it up.
const POST_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What an earlier process has posted is posted again once this one has run for so long: the profile
/// may have been put back, to before it took a receipt that nobody gives again. Commands that only
/// send something do not run for so long.
const POST_AGAIN_AFTER_START: Duration = Duration::from_secs(30);

/// Waiting messages, in the order in which they were queued.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: BTreeMap<Username, Queue>,
    /// When what an earlier process has posted is posted again, by the timer's clock.
    post_again_at: Option<Timestamp>,
}

/// What waits for one contact.
#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<OutboxMessage>,
    /// The link that has taken the first `taken` messages. On another one all of them go again.
    link: Option<LinkId>,
    taken: usize,
    /// Behind the first so many none has ever left: none there can be acknowledged.
    reach: usize,
}

impl Queue {
    /// Everything is new again to links.
    fn restart(&mut self) {
        self.link = None;
        self.taken = 0;
    }

    fn find(&mut self, id: MessageId) -> Option<&mut OutboxMessage> {
        self.messages.iter_mut().find(|message| message.id == id)
    }

    fn remove(&mut self, place: usize) -> Option<OutboxMessage> {
        self.taken -= usize::from(place < self.taken);
        self.reach -= usize::from(place < self.reach);
        self.messages.remove(place)
    }
}

impl Outbox {
    /// Takes over what was stored.
    pub(super) fn new(messages: Vec<OutboxMessage>, now: Timestamp) -> Self {
        let mut outbox = Self::default();
        let has_posted = messages.iter().any(|message| message.posted.is_some());
        outbox.post_again_at = has_posted.then(|| now + POST_AGAIN_AFTER_START);
        for message in messages {
            outbox.push(message);
        }
        for queue in outbox.queues.values_mut() {
            queue.reach = queue.messages.len();
        }
        outbox
    }

    /// What was written for `contact` under another account key than `key` is set aside: it stays
    /// stored, and must not hold up what is written now.
    pub(super) fn set_aside(&mut self, contact: &Username, key: Option<AccountKey>) {
        let Some(queue) = self.queues.get_mut(contact) else { return };
        queue.messages.retain(|message| message.account_key == key);
        queue.restart();
        queue.reach = queue.messages.len();
        if queue.messages.is_empty() {
            self.queues.remove(contact);
        }
    }

    /// When [`Outbox::handle_timeout`] has something to do.
    pub(super) const fn poll_timeout(&self) -> Option<Timestamp> {
        self.post_again_at
    }

    /// Has what an earlier process posted posted again, when that is due.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.post_again_at.take_if(|at| *at <= now).is_some() {
            let messages = self.queues.values_mut().flat_map(|queue| &mut queue.messages);
            messages.for_each(|message| message.posted = None);
        }
    }

    /// Appends a message.
    pub(super) fn push(&mut self, message: OutboxMessage) {
        self.queues.entry(message.to.clone()).or_default().messages.push_back(message);
    }

    /// Whether anything waits for `contact`.
    pub(super) fn is_waiting(&self, contact: &Username) -> bool {
        self.queues.contains_key(contact)
    }

    /// Everybody whom something waits for.
    pub(super) fn contacts(&self) -> Vec<Username> {
        self.queues.keys().cloned().collect()
    }

    /// How many messages to `contact` are on their way on `link`.
    pub(super) fn in_flight(&self, contact: &Username, link: LinkId) -> usize {
        let on_link = self.queues.get(contact).filter(|queue| queue.link == Some(link));
        on_link.map_or(0, |queue| queue.taken)
    }

    /// The next message for `contact` that `link` has not taken, if its window has room. On a
    /// link that is new to the queue that is the first of all that wait.
    pub(super) fn next(&mut self, contact: &Username, link: LinkId) -> Option<&mut OutboxMessage> {
        let queue = self.queues.get_mut(contact)?;
        if queue.link != Some(link) {
            queue.link = Some(link);
            queue.taken = 0;
        }
        if queue.taken < WINDOW { queue.messages.get_mut(queue.taken) } else { None }
    }

    /// The message that [`Outbox::next`] gave has been taken by its link. Returns whether that
    /// changed the message's state.
    pub(super) fn taken(&mut self, contact: &Username) -> bool {
        let Some(queue) = self.queues.get_mut(contact) else { return false };
        let Some(message) = queue.messages.get_mut(queue.taken) else { return false };
        queue.taken += 1;
        queue.reach = queue.reach.max(queue.taken);
        std::mem::replace(&mut message.state, MessageState::Sent) == MessageState::Queued
    }

    /// The first message for `contact` from `place` on that its mailbox has not taken, or may have
    /// lost since, and its place.
    pub(super) fn unposted(
        &mut self,
        contact: &Username,
        place: usize,
        date: Timestamp,
    ) -> Option<(usize, &mut OutboxMessage)> {
        let queue = self.queues.get_mut(contact)?;
        let mut messages = queue.messages.iter_mut().enumerate().skip(place);
        let found = messages.find(|(_, message)| !is_held(message, date))?;
        queue.reach = queue.reach.max(found.0 + 1);
        Some(found)
    }

    /// A contact's mailbox has taken messages as these sessions sealed them. Returns those whose
    /// state that changed, and those whose carrier it did.
    pub(super) fn posted(
        &mut self,
        contact: &Username,
        taken: &[(MessageId, SessionId)],
        date: Timestamp,
    ) -> Vec<(MessageId, MessageState)> {
        let Some(queue) = self.queues.get_mut(contact) else { return Vec::new() };
        let mut before = Vec::new();
        for (id, session) in taken {
            if let Some(message) = queue.find(*id) {
                let sealed = message.sealed.as_ref();
                message.posted =
                    sealed.is_some_and(|sealed| sealed.session == *session).then_some(date);
                before.push((*id, std::mem::replace(&mut message.state, MessageState::Sent)));
            }
        }
        before
    }

    /// Whether a contact's mailbox holds something that is not acknowledged.
    pub(super) fn has_posted(&self, contact: &Username) -> bool {
        let queue = self.queues.get(contact);
        queue.is_some_and(|queue| queue.messages.iter().any(|message| message.posted.is_some()))
    }

    /// A message that has not left.
    pub(super) fn queued(&mut self, id: MessageId) -> Option<&mut OutboxMessage> {
        let found = self.queues.values_mut().find_map(|queue| queue.find(id))?;
        (found.state == MessageState::Queued).then_some(found)
    }

    /// Takes a message out.
    pub(super) fn take_back(&mut self, contact: &Username, id: MessageId) {
        let Some(queue) = self.queues.get_mut(contact) else { return };
        let place = queue.messages.iter().position(|message| message.id == id);
        place.and_then(|place| queue.remove(place));
        if queue.messages.is_empty() {
            self.queues.remove(contact);
        }
    }

    /// What was sealed for a session that is not there any more is sealed anew.
    pub(super) fn unseal_unless(&mut self, is_there: impl Fn(DeviceId, SessionId) -> bool) {
        let messages = self.queues.values_mut().flat_map(|queue| &mut queue.messages);
        for message in messages {
            if message.sealed.as_ref().is_some_and(|by| !is_there(by.device, by.session)) {
                message.unseal();
            }
        }
    }

    /// A session is gone: what it sealed is sealed anew.
    pub(super) fn session_gone(&mut self, session: SessionId) {
        let sealed_by = |message: &&mut OutboxMessage| {
            message.sealed.as_ref().is_some_and(|sealed| sealed.session == session)
        };
        let messages = self.queues.values_mut().flat_map(|queue| &mut queue.messages);
        messages.filter(sealed_by).for_each(OutboxMessage::unseal);
    }

    /// What was sealed for a contact's `device`, but on `session`, cannot be opened there: it is
    /// sealed anew, and goes again.
    pub(super) fn reseal(&mut self, contact: &Username, device: DeviceId, session: SessionId) {
        let Some(queue) = self.queues.get_mut(contact) else { return };
        let is_lost = |sealed: &Sealed| sealed.device == device && sealed.session != session;
        let mut lost = 0;
        for message in &mut queue.messages {
            if message.sealed.as_ref().is_some_and(is_lost) {
                message.unseal();
                lost += 1;
            }
        }
        if lost > 0 {
            queue.restart();
        }
    }

    /// Everything that waits for a contact goes again, from the first: receipts may have been lost.
    pub(super) fn start_again(&mut self, contact: &Username) {
        if let Some(queue) = self.queues.get_mut(contact) {
            queue.restart();
            queue.messages.iter_mut().for_each(|message| message.posted = None);
        }
    }

    /// Removes what `contact` has acknowledged, and returns its ids.
    pub(super) fn acknowledge(&mut self, contact: &Username, ranges: &[IdRange]) -> Vec<MessageId> {
        let Some(queue) = self.queues.get_mut(contact) else { return Vec::new() };
        let mut acknowledged = Vec::new();
        let mut place = 0;
        while place < queue.reach {
            let Some(id) = queue.messages.get(place).map(|message| message.id) else { break };
            if ranges.iter().any(|range| range.contains(id)) {
                queue.remove(place);
                acknowledged.push(id);
            } else {
                place += 1;
            }
        }
        if queue.messages.is_empty() {
            self.queues.remove(contact);
        }
        acknowledged
    }

    /// Removes everything for `contact`, and returns its ids.
    pub(super) fn abandon(&mut self, contact: &Username) -> Vec<MessageId> {
        let queue = self.queues.remove(contact).unwrap_or_default();
        queue.messages.into_iter().map(|message| message.id).collect()
    }
}

/// Whether the mailbox holds a message, as far as is known.
fn is_held(message: &OutboxMessage, date: Timestamp) -> bool {
    message.posted.is_some_and(|at| at.distance(date) < POST_AGAIN)
}

#[cfg(test)]
mod tests {
    use parlor_common::id::Incarnation;

    use super::*;
    fn id(number: u64) -> MessageId {
        MessageId::new(Incarnation([1; 8]), number)
    }

    fn bob() -> Username {
        "bob".parse().unwrap()
    }

    fn outbox(messages: u64) -> Outbox {
        let message = |number| OutboxMessage {
            id: id(number),
            to: bob(),
            account_key: None,
            text: "hi".to_owned(),
            sent_at: Timestamp::default(),
            after: None,
            disappears: None,
            sealed: None,
            posted: None,
            state: MessageState::Queued,
        };
        Outbox::new((1..=messages).map(message).collect(), Timestamp::default())
    }

    fn take_all(outbox: &mut Outbox, link: LinkId) -> Vec<u64> {
        let mut taken = Vec::new();
        while let Some(id) = outbox.next(&bob(), link).map(|message| message.id) {
            outbox.taken(&bob());
            taken.push(id.number());
        }
        taken
    }

    #[test]
    fn a_lost_link_s_messages_go_again_in_order() {
        let mut outbox = outbox(3);
        assert_eq!(take_all(&mut outbox, LinkId(1)), [1, 2, 3]);
        assert_eq!(take_all(&mut outbox, LinkId(1)), [0; 0]);
        assert_eq!(take_all(&mut outbox, LinkId(2)), [1, 2, 3]);
    }

    #[test]
    fn acknowledged_messages_leave_and_the_rest_stays() {
        let mut outbox = outbox(3);
        take_all(&mut outbox, LinkId(1));
        let ranges = IdRange::cover(&[id(1), id(3)].into());
        assert_eq!(outbox.acknowledge(&bob(), &ranges), [id(1), id(3)]);
        assert_eq!(outbox.acknowledge(&bob(), &ranges), []);
        assert_eq!(outbox.in_flight(&bob(), LinkId(1)), 1);
        outbox.acknowledge(&bob(), &IdRange::cover(&[id(2)].into()));
        assert!(!outbox.is_waiting(&bob()));
    }

    #[test]
    fn what_was_written_for_another_key_holds_nothing_up() {
        let mut outbox = outbox(2);
        let key = Some(AccountKey::from_bytes([9; 32]));
        let mut message = outbox.next(&bob(), LinkId(1)).unwrap().clone();
        message.account_key = key;
        outbox.push(message);
        outbox.set_aside(&bob(), key);
        assert_eq!(outbox.next(&bob(), LinkId(1)).unwrap().account_key, key);
        assert_eq!(take_all(&mut outbox, LinkId(1)), [1]);
        outbox.set_aside(&bob(), None);
        assert!(!outbox.is_waiting(&bob()));
    }

    #[test]
    fn the_window_bounds_what_is_on_its_way() {
        let mut outbox = outbox(2000);
        assert_eq!(take_all(&mut outbox, LinkId(1)).len(), WINDOW);
        outbox.acknowledge(&bob(), &IdRange::cover(&[id(1), id(2)].into()));
        let next = u64::try_from(WINDOW).unwrap();
        assert_eq!(take_all(&mut outbox, LinkId(1)), [next + 1, next + 2]);
    }

    #[test]
    fn a_gone_session_s_messages_are_sealed_anew() {
        let mut outbox = outbox(1);
        let session = SessionId([5; 16]);
        let sealed = Sealed { device: DeviceId([1; 16]), session, envelope: vec![1] };
        outbox.next(&bob(), LinkId(1)).unwrap().sealed = Some(sealed);
        assert!(outbox.taken(&bob()), "it was queued and is sent now");
        outbox.next(&bob(), LinkId(2));
        assert!(!outbox.taken(&bob()), "it was sent before");
        outbox.session_gone(SessionId([6; 16]));
        assert!(outbox.next(&bob(), LinkId(3)).unwrap().sealed.is_some());
        outbox.session_gone(session);
        assert!(outbox.next(&bob(), LinkId(3)).unwrap().sealed.is_none());
    }

    const DATE: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn seal(outbox: &mut Outbox, session: SessionId) {
        let sealed = Sealed { device: DeviceId([1; 16]), session, envelope: vec![1] };
        let mut place = 0;
        while let Some((found, message)) = outbox.unposted(&bob(), place, DATE) {
            message.sealed = Some(sealed.clone());
            place = found + 1;
        }
    }

    #[test]
    fn what_a_mailbox_has_taken_is_not_posted_again_until_it_is_sealed_anew() {
        let (mut outbox, session) = (outbox(2), SessionId([5; 16]));
        seal(&mut outbox, session);
        let taken = [(id(1), session), (id(2), session), (id(9), session)];
        let queued = MessageState::Queued;
        assert_eq!(outbox.posted(&bob(), &taken, DATE), [(id(1), queued), (id(2), queued)]);
        assert!(outbox.unposted(&bob(), 0, DATE).is_none() && outbox.has_posted(&bob()));
        assert_eq!(outbox.posted(&bob(), &taken[..1], DATE), [(id(1), MessageState::Sent)]);
        assert_eq!(take_all(&mut outbox, LinkId(1)), [1, 2], "a link carries it all the same");
        outbox.session_gone(session);
        assert_eq!(outbox.unposted(&bob(), 0, DATE).unwrap().0, 0);
        // The answer came after that: the other form is there, this one is not.
        outbox.posted(&bob(), &taken, DATE);
        assert!(!outbox.has_posted(&bob()));
    }

    #[test]
    fn what_nobody_acknowledges_is_posted_again_after_a_day() {
        let (mut outbox, session) = (outbox(1), SessionId([5; 16]));
        seal(&mut outbox, session);
        outbox.posted(&bob(), &[(id(1), session)], DATE);
        assert!(outbox.unposted(&bob(), 0, DATE + POST_AGAIN / 2).is_none());
        assert!(outbox.unposted(&bob(), 0, DATE + POST_AGAIN).is_some());
        assert!(outbox.unposted(&bob(), 0, DATE - POST_AGAIN).is_some(), "the clock was put back");
    }

    #[test]
    fn what_an_earlier_process_posted_is_posted_again_once() {
        let (mut outbox, session, start) = (outbox(1), SessionId([5; 16]), DATE);
        seal(&mut outbox, session);
        assert_eq!(outbox.poll_timeout(), None, "nothing was posted before");
        let message = outbox.next(&bob(), LinkId(1)).unwrap();
        message.posted = Some(DATE);
        let mut outbox = Outbox::new(vec![message.clone()], start);
        let due = start + POST_AGAIN_AFTER_START;
        assert_eq!(outbox.poll_timeout(), Some(due));
        outbox.handle_timeout(due - Duration::from_millis(1));
        assert!(outbox.unposted(&bob(), 0, DATE).is_none());
        outbox.handle_timeout(due);
        assert!(outbox.unposted(&bob(), 0, DATE).is_some());
        outbox.posted(&bob(), &[(id(1), session)], DATE);
        outbox.handle_timeout(due + POST_AGAIN_AFTER_START);
        assert!(outbox.unposted(&bob(), 0, DATE).is_none() && outbox.poll_timeout().is_none());
    }

    #[test]
    fn a_mailbox_takes_more_than_a_window_and_all_of_it_can_be_acknowledged() {
        let (mut outbox, session) = (outbox(2000), SessionId([5; 16]));
        seal(&mut outbox, session);
        let all = IdRange::cover(&(1..=2000).map(id).collect());
        assert_eq!(outbox.acknowledge(&bob(), &all).len(), 2000);
    }

    #[test]
    fn only_what_has_not_left_can_be_taken_back() {
        let mut outbox = outbox(3);
        outbox.next(&bob(), LinkId(1));
        outbox.taken(&bob());
        assert!(outbox.queued(id(1)).is_none() && outbox.queued(id(2)).is_some());
        outbox.take_back(&bob(), id(2));
        assert_eq!(take_all(&mut outbox, LinkId(1)), [3]);
        outbox.take_back(&bob(), id(1));
        outbox.take_back(&bob(), id(3));
        assert!(!outbox.is_waiting(&bob()));
    }
}
