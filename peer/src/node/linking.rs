//! How two peers find a way to each other: offers through the rendezvous, dials, links.

use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::candidate::{
    Candidate, CandidateKind, MAX_CANDIDATES, Offer, OfferBody, OfferId,
};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::wire::rendezvous::Request;
use rand::CryptoRng;

use super::Node;
use super::dialing::is_dialable;
use super::input::{LinkId, Now};
use super::output::{Event, Transmit};
use super::paths::Link;
use super::record::{Carrier, Policy};
use super::server::{Lookup, Purpose};

/// A link that the network says is up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    pub(super) link: LinkId,
    pub(super) device: DeviceKey,
    pub(super) address: SocketAddr,
    pub(super) dialed: bool,
    pub(super) rtt: Duration,
}

impl Node {
    /// Whether an offer to `contact` makes sense: it is mutual, online, and has no link.
    pub(super) fn may_offer(&self, contact: &Username) -> bool {
        let online = self.contacts.get(contact).is_some_and(|known| known.online);
        let recipient = self.contacts.recipient(contact);
        let unlinked = recipient.is_some_and(|device| self.paths.active(&device.key).is_none());
        online && unlinked && self.rendezvous.is_signed_in()
    }

    /// Offers our addresses to a contact that something waits for, if that is due.
    pub(super) fn seek(&mut self, contact: &Username, now: Now, rng: &mut dyn CryptoRng) {
        if !self.may_offer(contact) {
            return self.rendezvous.hurry(now.timer);
        }
        let rests = self.offers.rests_until(contact, now.timer).is_some();
        if !rests && self.offers.is_due(contact, now.timer) {
            let id = OfferId(rng.next_u64());
            self.offers.sent(contact, id, now.timer);
            self.offer(contact, id, None, now);
        }
    }

    fn offer(&mut self, contact: &Username, id: OfferId, answers: Option<OfferId>, now: Now) {
        let Some(device) = self.contacts.recipient(contact) else { return };
        let body = OfferBody {
            id,
            answers,
            from: self.me.name.clone(),
            to: device.id,
            at: now.date,
            candidates: self.candidates(),
        };
        let offer = Box::new(Offer::sign(body, &self.me.device));
        self.ask(Request::PathOffer { name: contact.clone(), offer }, Purpose::Nothing);
    }

    /// Where this device may be reached: its own addresses, and the one that the rendezvous saw.
    fn candidates(&self) -> Vec<Candidate> {
        let host = self.local.iter().map(|own| (CandidateKind::Host, own.address));
        let reflexive = self.observed.map(|address| (CandidateKind::ServerReflexive, address));
        let mut candidates: Vec<Candidate> = Vec::new();
        for (kind, address) in host.chain(reflexive) {
            if candidates.iter().all(|known| known.address != address) {
                candidates.push(Candidate { kind, address });
            }
        }
        candidates.truncate(MAX_CANDIDATES);
        candidates
    }

    /// A contact offers addresses. They are dialed if the offer is one of its devices', for this
    /// device, of this minute, and within what a contact may cause.
    pub(super) fn handle_offer(
        &mut self,
        from: &Username,
        offer: Offer,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        let signer = offer.claimed_signer();
        let Some(known) = self.contacts.get(from) else { return };
        let Policy::Direct = known.record.policy;
        if self.contacts.owner(&signer).is_none_or(|(known, _)| known.record.name != *from) {
            return self.offer_of_unknown_device(from, offer);
        }
        let body = match offer.verify(self.me.device_id, now.date) {
            Ok(body) if body.from == *from => body,
            Ok(_) => return tracing::debug!("an offer in another name was not followed"),
            Err(error) => return tracing::debug!(%error, "an offer was not followed"),
        };
        if self.offers.rests_until(from, now.timer).is_some() {
            return tracing::debug!(
                "links of a contact were cut at once; there is none for a while"
            );
        }
        if !self.patience.tolerates(&signer, now.timer) {
            return tracing::debug!("a device that caused too much trouble offers in vain");
        }
        if !self.offers.follow(from, now.timer) {
            return tracing::debug!("a contact offers too often");
        }
        for candidate in body.candidates {
            self.dial(signer, candidate.address, now);
        }
        let answered = body.answers.is_some_and(|id| self.offers.is_ours(from, id));
        if !answered && body.answers.is_none() {
            self.offer(from, OfferId(rng.next_u64()), Some(body.id), now);
        }
    }

    /// The contact may have a newer device than we know: look, once, and come back to the offer.
    fn offer_of_unknown_device(&mut self, from: &Username, offer: Offer) {
        let held = self.contacts.name_of(DeviceId::of(&offer.claimed_signer())).is_some();
        let listed = self.contacts.recipient(from).is_some() && !held;
        if listed && self.offers.take_deferred(from).is_none() {
            self.offers.defer(from, offer);
            self.look_up(from.clone(), Lookup::Refresh);
        }
    }

    fn dial(&mut self, device: DeviceKey, address: SocketAddr, now: Now) {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let allowed = is_dialable(address, &self.local, self.me.server_is_on_loopback());
        if allowed && self.dials.take(address, now.timer) {
            self.transmits.push_back(Transmit::Dial { device, address });
        }
    }

    pub(super) fn handle_link_up(&mut self, up: Up, now: Now) {
        let Up { link, device, address, dialed, rtt } = up;
        let contact = self.contacts.owner(&device).map(|(known, _)| known.record.name.clone());
        let tolerated = self.patience.tolerates(&device, now.timer);
        let Some(contact) = contact.filter(|_| tolerated) else {
            tracing::debug!(%device, "a link of no contact's device is closed");
            return self.transmits.push_back(Transmit::CloseLink { link });
        };
        self.dials.give_back(address);
        self.offers.link_up(&contact);
        self.say_again();
        self.ready.insert(contact.clone());
        let since = now.timer;
        let first =
            self.paths.up(link, Link { contact: contact.clone(), device, address, dialed, since });
        if first {
            let carrier = Carrier::Direct;
            self.events.push_back(Event::Path { contact, carrier, address, rtt });
        }
    }

    pub(super) fn handle_link_down(&mut self, link: LinkId, now: Now) {
        self.agreements.link_down(link);
        let Some(down) = self.paths.down(link) else { return };
        self.repairs.failed(DeviceId::of(&down.device));
        let is_last = self.paths.active(&down.device).is_none();
        let worth_it = is_last && self.offers.link_cut(&down.contact, down.since, now.timer);
        if worth_it {
            self.offers.restart(&down.contact);
        }
        if worth_it && self.outbox.is_waiting(&down.contact) {
            // It may only have been a moment, and the rendezvous may be away.
            self.dial(down.device, down.address, now);
        }
        self.ready.insert(down.contact);
    }
}
