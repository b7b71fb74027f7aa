//! Contacts' mailboxes at the rendezvous: what cannot go directly is left there, in groups, one
//! under way for a contact at a time, so that all of it comes in order.

use std::collections::BTreeMap;
use std::time::Duration;

use parlor_common::Blob;
use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, MessageId, SessionId, Username};
use parlor_common::time::Timestamp;
use parlor_common::wire::peer::PeerFrame;
use parlor_common::wire::rendezvous::{
    Done, ErrorCode, MAX_ENVELOPE_BYTES_AT_ONCE, MAX_ENVELOPES_AT_ONCE, Reply, Request,
};
use rand::CryptoRng;

use super::Node;
use super::agreements::Lane;
use super::input::{LinkId, Now};
use super::output::Event;
use super::record::{Carrier, Change, MessageState};
use super::server::Purpose;

/// After a refusal a mailbox is tried again so much later, and twice that after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A contact that is online fetches what was posted. If it has not acknowledged it so much later,
/// it is posted again; and twice that later again.
const FIRST_NUDGE: Duration = Duration::from_secs(30);
const LONGEST_NUDGE: Duration = Duration::from_secs(3600);

/// How something may go to a device now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// On this link.
    Link(LinkId),
    /// By its mailbox.
    Mailbox,
}

/// What is known of contacts' mailboxes.
#[derive(Debug, Default)]
pub(super) struct Posting {
    by_contact: BTreeMap<Username, Post>,
    /// Envelopes that are kept nowhere here, by the device that they are for.
    loose: BTreeMap<DeviceId, Vec<Envelope>>,
}

/// A contact's mailbox.
#[derive(Debug, Default)]
struct Post {
    /// Messages that were posted and not answered, and the sessions that sealed them.
    under_way: Vec<(MessageId, SessionId)>,
    /// How often it was refused since it last was not, and until when it is not tried again.
    refusals: u32,
    not_before: Timestamp,
    /// How often what is there was posted again, and when it is next.
    nudges: u32,
    nudge_at: Option<Timestamp>,
}

impl Posting {
    fn is_free(&self, contact: &Username, now: Timestamp) -> bool {
        let post = self.by_contact.get(contact);
        post.is_none_or(|post| post.under_way.is_empty() && post.not_before <= now)
    }

    /// Whether a message is on its way to a contact's mailbox.
    pub(super) fn has_under_way(&self, contact: &Username, id: MessageId) -> bool {
        let post = self.by_contact.get(contact);
        post.is_some_and(|post| post.under_way.iter().any(|(posted, _)| *posted == id))
    }

    fn answered(&mut self, contact: &Username) -> Vec<(MessageId, SessionId)> {
        let Some(post) = self.by_contact.get_mut(contact) else { return Vec::new() };
        std::mem::take(&mut post.under_way)
    }

    /// A mailbox was refused. Returns whether that is the first time in a row.
    fn refused(&mut self, contact: &Username, now: Timestamp) -> bool {
        let post = self.by_contact.entry(contact.clone()).or_default();
        let wait = FIRST_WAIT.saturating_mul(1 << post.refusals.min(16)).min(LONGEST_WAIT);
        post.not_before = now + wait;
        post.refusals = post.refusals.saturating_add(1);
        post.refusals == 1
    }

    fn taken(&mut self, contact: &Username) {
        if let Some(post) = self.by_contact.get_mut(contact) {
            (post.refusals, post.not_before) = (0, Timestamp::default());
        }
    }

    /// The contact has acknowledged something, or is forgotten: nothing is known any more.
    pub(super) fn forget(&mut self, contact: &Username) {
        if self.by_contact.get(contact).is_some_and(|post| post.under_way.is_empty()) {
            self.by_contact.remove(contact);
        }
    }

    /// The connection to the rendezvous is gone.
    pub(super) fn disconnected(&mut self) {
        *self = Self::default();
    }

    /// Whether what is in the mailbox of a contact, who is online, is to be posted again now.
    /// Returns for which time in a row.
    fn nudge(&mut self, contact: &Username, now: Timestamp) -> Option<u32> {
        let post = self.by_contact.entry(contact.clone()).or_default();
        let at = post.nudge_at.get_or_insert(now + FIRST_NUDGE);
        if *at > now {
            return None;
        }
        post.nudges = post.nudges.saturating_add(1);
        *at = now + FIRST_NUDGE.saturating_mul(1 << post.nudges.min(16)).min(LONGEST_NUDGE);
        Some(post.nudges)
    }

    /// When something is next to be posted again, or may be.
    pub(super) fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.by_contact.values().flat_map(|post| [Some(post.not_before), post.nudge_at]);
        due.flatten().filter(|at| *at > now).min()
    }
}

impl Node {
    /// Whether what waits for `contact` may go to its mailbox now: it is known not to be online, or
    /// attempts at a link are not young any more.
    pub(super) fn may_post(&self, contact: &Username, now: Now) -> bool {
        let knows_presence = self.rendezvous.is_signed_in() && self.sign_in.knows_presence();
        let online = self.contacts.get(contact).is_some_and(|known| known.online);
        knows_presence && !(online && self.offers.is_young(contact, now.timer))
    }

    /// Posts what waits for `contact` and its mailbox has not taken.
    pub(super) fn post(
        &mut self,
        contact: &Username,
        device: DeviceId,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        self.nudge(contact, device, now);
        if !self.posting.is_free(contact, now.timer) {
            return;
        }
        let (mut envelopes, mut under_way, mut bytes, mut place) = (Vec::new(), Vec::new(), 0, 0);
        while envelopes.len() < MAX_ENVELOPES_AT_ONCE
            && let Some((found, id, envelope)) = self.next_to_post(contact, device, place, now, rng)
        {
            bytes += envelope.as_bytes().len();
            if bytes > MAX_ENVELOPE_BYTES_AT_ONCE && !envelopes.is_empty() {
                break;
            }
            under_way.push((id, envelope.header().session));
            envelopes.push(Blob(envelope.as_bytes().to_vec()));
            place = found + 1;
        }
        if envelopes.is_empty() {
            return;
        }
        self.posting.by_contact.entry(contact.clone()).or_default().under_way = under_way;
        let request = Request::EnvelopePost { name: contact.clone(), device, envelopes };
        self.ask(request, Purpose::Posted(contact.clone()));
    }

    /// What a contact that is online has not acknowledged is posted again: the mailbox may have
    /// lost it. The next time a new session is started, too: the contact may have lost that.
    fn nudge(&mut self, contact: &Username, device: DeviceId, now: Now) {
        let online = self.contacts.get(contact).is_some_and(|known| known.online);
        if online
            && self.outbox.has_posted(contact)
            && let Some(nudges) = self.posting.nudge(contact, now.timer)
        {
            self.outbox.start_again(contact);
            if nudges > 1 {
                self.repairs.want(device);
            }
        }
    }

    /// The mailbox of a contact has answered what was posted.
    pub(super) fn handle_posted(&mut self, contact: &Username, payload: &[u8], now: Now) {
        let posted = self.posting.answered(contact);
        self.ready.insert(contact.clone());
        let refused = match serde_json::from_slice::<Reply<Done>>(payload) {
            Ok(Reply::Ok(Done {})) => {
                self.posting.taken(contact);
                return self.posted(contact, &posted, now);
            }
            Ok(Reply::Error(refused)) => refused.code,
            Err(_) => ErrorCode::Unknown,
        };
        tracing::debug!(%contact, code = %refused, "a mailbox was refused");
        let first = self.posting.refused(contact, now.timer);
        if refused == ErrorCode::MailboxFull && first {
            self.events.push_back(Event::MailboxFull { contact: contact.clone() });
        }
        if refused == ErrorCode::NoDevice {
            self.look_up_newer(contact, now);
        }
    }

    fn posted(&mut self, contact: &Username, posted: &[(MessageId, SessionId)], now: Now) {
        let (state, carrier) = (MessageState::Sent, Some(Carrier::Mailbox));
        for (id, before) in self.outbox.posted(contact, posted, now.date) {
            self.changes.push(Change::SetMessageState(id, state, carrier));
            self.changes.push(Change::Posted(id, now.date));
            if before == MessageState::Queued {
                let to = contact.clone();
                self.events.push_back(Event::Receipt { id, to, state, carrier, reason: None });
            }
        }
    }

    /// It is not known whether a mailbox has taken what was posted.
    pub(super) fn post_unanswered(&mut self, contact: &Username) {
        self.posting.answered(contact);
    }

    /// How something goes to a contact's device now: on the link of `lane`, on another, or by its
    /// mailbox.
    pub(super) fn way_to(&self, device: DeviceId, lane: Option<Lane>) -> Option<Way> {
        let came_on = match lane {
            Some(Lane::Link(link)) => self.paths.get(link).map(|_| link),
            Some(Lane::Mailbox) | None => None,
        };
        let key = self.contacts.key_of(device)?;
        let link = came_on.or_else(|| self.paths.active(&key)).map(Way::Link);
        let mailbox = self.contacts.owner(&key).filter(|_| self.rendezvous.is_signed_in());
        link.or_else(|| mailbox.map(|_| Way::Mailbox))
    }

    /// Sends an envelope that is kept nowhere here.
    pub(super) fn carry(&mut self, device: DeviceId, way: Way, envelope: Envelope) {
        match way {
            Way::Link(link) => self.transmit(link, PeerFrame::Envelope(envelope)),
            Way::Mailbox => self.posting.loose.entry(device).or_default().push(envelope),
        }
    }

    /// Posts the envelopes of this turn that are kept nowhere.
    pub(super) fn post_loose(&mut self) {
        for (device, envelopes) in std::mem::take(&mut self.posting.loose) {
            let Some(name) = self.contacts.name_of(device) else { continue };
            for envelopes in in_groups(&envelopes) {
                let name = name.clone();
                let request = Request::EnvelopePost { name, device, envelopes };
                self.ask(request, Purpose::Nothing);
            }
        }
    }

    /// Posts envelopes that are kept nowhere, so few that one request takes them; its answer counts.
    pub(super) fn post_at_once(
        &mut self,
        (device, name): (DeviceId, Username),
        envelopes: &[Envelope],
        purpose: Purpose,
    ) {
        let envelopes = in_groups(envelopes).into_iter().next().unwrap_or_default();
        self.ask(Request::EnvelopePost { name, device, envelopes }, purpose);
    }
}

/// Envelopes in groups that a mailbox takes at once.
fn in_groups(envelopes: &[Envelope]) -> Vec<Vec<Blob>> {
    let mut groups: Vec<Vec<Blob>> = Vec::new();
    let mut bytes = 0;
    for envelope in envelopes {
        let blob = Blob(envelope.as_bytes().to_vec());
        bytes += blob.0.len();
        match groups.last_mut() {
            Some(group)
                if bytes <= MAX_ENVELOPE_BYTES_AT_ONCE && group.len() < MAX_ENVELOPES_AT_ONCE =>
            {
                group.push(blob);
            }
            _ => {
                bytes = blob.0.len();
                groups.push(vec![blob]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn bob() -> Username {
        "bob".parse().unwrap()
    }

    #[test]
    fn a_full_mailbox_is_told_once_and_tried_ever_less_often() {
        let (mut posting, mut now) = (Posting::default(), NOW);
        assert!(posting.is_free(&bob(), now));
        for (time, seconds) in [10, 20, 40, 80, 160, 320, 600, 600].into_iter().enumerate() {
            assert_eq!(posting.refused(&bob(), now), time == 0);
            let due = now + Duration::from_secs(seconds);
            assert_eq!(posting.poll_timeout(now), Some(due));
            assert!(!posting.is_free(&bob(), due - Duration::from_millis(1)));
            now = due;
            assert!(posting.is_free(&bob(), now));
        }
        posting.taken(&bob());
        assert!(posting.refused(&bob(), now), "it had room meanwhile");
    }

    #[test]
    fn what_is_not_acknowledged_is_posted_again_ever_less_often() {
        let (mut posting, mut now) = (Posting::default(), NOW);
        assert_eq!(posting.nudge(&bob(), now), None);
        for (time, seconds) in [(1, 30), (2, 60), (3, 120)] {
            now = now + Duration::from_secs(seconds);
            assert_eq!(posting.nudge(&bob(), now - Duration::from_millis(1)), None);
            assert_eq!(posting.nudge(&bob(), now), Some(time));
        }
        posting.forget(&bob());
        assert_eq!(posting.nudge(&bob(), now), None);
    }
}
