//! Blocks: what a blocked account sends ends here, and it is not told. It sees the blocker offline,
//! as it would see somebody who went.

use parlor_common::id::Username;
use parlor_common::wire::rendezvous::ErrorCode;

use super::devices::unknown_user;
use super::output::Asker;
use super::query::{Answer, Blocking, Query};
use super::reply::{Handled, done, refusal, unavailable};
use super::{After, Server};

impl Server {
    pub(super) fn contact_block(&mut self, asker: Asker, other: Username) -> Handled {
        let owner = self.name(asker)?;
        if owner == other {
            return Err(refusal(ErrorCode::Malformed, "that is your own name"));
        }
        let after = After::Blocked { owner: owner.clone(), other: other.clone() };
        self.ask(asker, Query::Block { owner, other }, after)
    }

    pub(super) fn contact_unblock(&mut self, asker: Asker, other: Username) -> Handled {
        let owner = self.name(asker)?;
        let after = After::Blocked { owner: owner.clone(), other: other.clone() };
        self.ask(asker, Query::Unblock { owner, other }, after)
    }

    /// Two contacts see each other go, or come back.
    pub(super) fn contact_blocked(
        &mut self,
        owner: &Username,
        other: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Blocked(blocking) = answer else { return Err(unavailable()) };
        match blocking {
            Blocking::Contacts(versions) => self.introduce(owner, other, *versions),
            Blocking::Strangers => {}
            Blocking::UnknownUser => return Err(unknown_user()),
        }
        done()
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::candidate::{Offer, OfferBody, OfferId};
    use parlor_common::id::DeviceId;
    use parlor_common::wire::rendezvous::{
        Bundles, Contacts, Done, Event, KnownContact, Present, Request, User,
    };

    use super::super::ConnId;
    use super::super::testing::{World, name, presence, secret};
    use super::*;

    fn watch(world: &mut World, conn: ConnId) -> Vec<(String, bool)> {
        let present = world.call::<Present>(conn, &Request::PresenceWatch {});
        world.events(conn);
        present.contacts.into_iter().map(|who| (who.name.to_string(), who.online)).collect()
    }

    fn block(world: &mut World, conn: ConnId, other: &str) {
        world.call::<Done>(conn, &Request::ContactBlock { name: name(other) });
    }

    fn unblock(world: &mut World, conn: ConnId, other: &str) {
        world.call::<Done>(conn, &Request::ContactUnblock { name: name(other) });
    }

    fn offer(world: &mut World, conn: ConnId, (from, device): (&str, u8), to: (&str, u8)) {
        let body = OfferBody {
            id: OfferId(1),
            answers: None,
            from: name(from),
            to: DeviceId::of(&secret(to.1).public()),
            at: world.now,
            candidates: Vec::new(),
        };
        let offer = Box::new(Offer::sign(body, &secret(device)));
        world.call::<Done>(conn, &Request::PathOffer { name: name(to.0), offer });
    }

    fn known(name: &str, mutual: bool, blocked: bool) -> KnownContact {
        KnownContact { name: name.parse().unwrap(), mutual, blocked }
    }

    #[test]
    fn a_blocked_contact_sees_the_blocker_go_and_reaches_nobody() {
        let (mut world, alice, bob) = World::friends();
        watch(&mut world, alice);
        watch(&mut world, bob);
        block(&mut world, alice, "bob");
        assert_eq!(world.events(bob), [presence("alice", false)]);
        assert_eq!(world.events(alice), [presence("bob", false)]);
        assert_eq!(watch(&mut world, bob), [("alice".to_owned(), false)]);
        offer(&mut world, bob, ("bob", 2), ("alice", 1));
        offer(&mut world, alice, ("alice", 1), ("bob", 2));
        world.disconnect(alice);
        let alice = world.connect(1);
        world.events(alice);
        assert_eq!((world.events(alice), world.events(bob)), (vec![], vec![]));
        // What bob can ask is answered as before.
        let contacts: Contacts = world.call(bob, &Request::ContactList {});
        assert_eq!(contacts.contacts, [known("alice", true, false)]);
        world.call::<User>(bob, &Request::UserGet { name: name("alice") });
        world.call::<Bundles>(bob, &Request::PrekeysGet { name: name("alice") });
        let contacts: Contacts = world.call(alice, &Request::ContactList {});
        assert_eq!(contacts.contacts, [known("bob", true, true)]);

        watch(&mut world, alice);
        unblock(&mut world, alice, "bob");
        assert_eq!(world.events(bob), [presence("alice", true)]);
        assert_eq!(world.events(alice), [presence("bob", true)]);
        offer(&mut world, bob, ("bob", 2), ("alice", 1));
        assert_eq!(world.events(alice).len(), 1);
    }

    #[test]
    fn requests_of_a_blocked_stranger_are_taken_and_held_for_nobody() {
        let mut world = World::new();
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        world.ask(bob, ("bob", 2), "alice");
        block(&mut world, alice, "bob");
        assert_eq!(world.held(alice), []);
        world.ask(bob, ("bob", 2), "alice");
        assert_eq!(world.held(alice), []);
        let contacts: Contacts = world.call(alice, &Request::ContactList {});
        assert_eq!(contacts.contacts, [known("bob", false, true)]);
        let card = Box::new(super::super::testing::card("alice", 1, "bob"));
        let ask = Request::ContactRequest { name: name("bob"), card };
        assert_eq!(world.refused(alice, &ask), ErrorCode::Blocked);

        unblock(&mut world, alice, "bob");
        assert_eq!(world.held(alice), []);
        world.ask(bob, ("bob", 2), "alice");
        assert_eq!(world.held(alice).len(), 1);
    }

    #[test]
    fn a_block_needs_somebody_else_and_is_done_twice_like_once() {
        let (mut world, alice, _) = World::friends();
        let to = |who: &str| Request::ContactBlock { name: name(who) };
        assert_eq!(world.refused(alice, &to("alice")), ErrorCode::Malformed);
        assert_eq!(world.refused(alice, &to("ghost")), ErrorCode::UnknownUser);
        block(&mut world, alice, "bob");
        block(&mut world, alice, "bob");
        unblock(&mut world, alice, "bob");
        unblock(&mut world, alice, "bob");
        let stranger = world.connect(9);
        assert_eq!(world.refused(stranger, &to("bob")), ErrorCode::UnknownDevice);
    }

    #[test]
    fn an_offer_to_a_blocked_contact_is_an_event_less() {
        let (mut world, alice, bob) = World::friends();
        offer(&mut world, alice, ("alice", 1), ("bob", 2));
        assert!(matches!(world.events(bob)[..], [Event::Offer { .. }]));
    }
}
