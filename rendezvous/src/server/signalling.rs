//! Offers of addresses, passed between contacts and kept nowhere.

use parlor_common::candidate::Offer;
use parlor_common::id::Username;
use parlor_common::wire::rendezvous::Event;

use super::bus::Audience;
use super::output::Asker;
use super::query::{Answer, Query};
use super::reply::{Handled, done, unavailable};
use super::{After, Server};

impl Server {
    pub(super) fn path_offer(&mut self, asker: Asker, to: Username, offer: Box<Offer>) -> Handled {
        let from = self.name(asker)?;
        let query = Query::AreMutual { one: from.clone(), other: to.clone() };
        self.ask(asker, query, After::PathOffer { from, to, offer })
    }

    /// Every connected device of the account gets the offer, and the one that it is for answers.
    /// Who is no contact, or not online, gets nothing, and the sender is not told.
    pub(super) fn pass_offer(
        &mut self,
        from: &Username,
        to: &Username,
        offer: Box<Offer>,
        answer: &Answer,
    ) -> Handled {
        let Answer::AreMutual(mutual) = answer else { return Err(unavailable()) };
        if *mutual {
            let event = Event::Offer { from: from.clone(), offer };
            self.publish_event(to.clone(), Audience::Everyone, event);
        }
        done()
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::candidate::{OfferBody, OfferId};
    use parlor_common::id::DeviceId;
    use parlor_common::wire::rendezvous::{Done, ErrorCode, Request};

    use super::super::testing::{World, name, secret};
    use super::*;

    fn offer(from: &str, device: u8, to: u8, world: &World) -> Box<Offer> {
        let body = OfferBody {
            id: OfferId(1),
            answers: None,
            from: name(from),
            to: DeviceId::of(&secret(to).public()),
            at: world.now,
            candidates: Vec::new(),
        };
        Box::new(Offer::sign(body, &secret(device)))
    }

    #[test]
    fn an_offer_reaches_a_contact_and_nobody_else() {
        let (mut world, alice, bob) = World::friends();
        let offer = offer("alice", 1, 2, &world);
        let request = Request::PathOffer { name: name("bob"), offer: offer.clone() };
        world.call::<Done>(alice, &request);
        assert_eq!(world.events(bob), [Event::Offer { from: name("alice"), offer }]);
        assert_eq!(world.events(alice), []);
    }

    #[test]
    fn an_offer_to_a_stranger_or_to_nobody_is_answered_alike_and_goes_nowhere() {
        let (mut world, alice, bob) = World::friends();
        let carol = world.register("carol", 3);
        let offer = offer("carol", 3, 2, &world);
        for to in ["alice", "bob", "ghost", "carol"] {
            let request = Request::PathOffer { name: name(to), offer: offer.clone() };
            world.call::<Done>(carol, &request);
        }
        for conn in [alice, bob, carol] {
            assert_eq!(world.events(conn), []);
        }
        let stranger = world.connect(9);
        let request = Request::PathOffer { name: name("bob"), offer };
        assert_eq!(world.refused(stranger, &request), ErrorCode::UnknownDevice);
    }

    #[test]
    fn an_offer_longer_than_an_event_is_dropped() {
        let (mut world, alice, bob) = World::friends();
        let mut json = serde_json::to_value(Request::PathOffer {
            name: name("bob"),
            offer: offer("alice", 1, 2, &world),
        })
        .unwrap();
        // Short in the request, longer when written again.
        let candidate = serde_json::json!({ "kind": "x", "address": "1.1.1.1:1" });
        let many: Vec<_> = std::iter::repeat_n(candidate, 1700).collect();
        json["offer"]["body"]["candidates"] = many.into();
        let stream = world.send(alice, json.to_string().as_bytes());
        world.settle();
        assert_eq!(world.reply::<Done>(alice, stream), Ok(Done {}));
        assert_eq!(world.events(bob), []);
    }
}
