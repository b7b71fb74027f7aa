//! Who knows whom: contact requests and their answers, held until they are fetched.

use parlor_common::card::{Card, CardError};
use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Contacts, ErrorCode, ErrorReply, Event, HeldItems, MAX_HELD_AT_ONCE,
};

use super::bus::Audience;
use super::connections::Identity;
use super::output::Asker;
use super::query::{Answer, Answering, Asking, ContactAsked, Query};
use super::reply::{Handled, done, malformed, ok, refusal, too_fast, unavailable};
use super::{After, Server};

/// `held.ack` names at most this many items: each is a write, and `held.get` returns no more.
const MAX_IDS: usize = MAX_HELD_AT_ONCE;

impl Server {
    pub(super) fn contact_list(&mut self, asker: Asker) -> Handled {
        let of = self.name(asker)?;
        self.ask(asker, Query::Contacts { of }, After::ContactList)
    }

    pub(super) fn contact_listed(answer: Answer) -> Handled {
        let Answer::Contacts(contacts) = answer else { return Err(unavailable()) };
        ok(Contacts { contacts })
    }

    pub(super) fn contact_request(
        &mut self,
        asker: Asker,
        to: Username,
        card: Card,
        now: Timestamp,
    ) -> Handled {
        let from = self.checked_card(asker, &to, &card)?;
        let limits = self.params.limits.of_contacts();
        let after = After::ContactRequest { from: from.clone(), to: to.clone() };
        let request = ContactAsked { from, to, card, at: now, limits };
        self.ask(asker, Query::AskContact(Box::new(request)), after)
    }

    /// Done, whatever becomes of the request: whether somebody wants to know the asker is told by
    /// that somebody alone.
    pub(super) fn contact_requested(
        &mut self,
        from: &Username,
        to: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Asked(asking) = answer else { return Err(unavailable()) };
        match *asking {
            Asking::Accepted(versions) => {
                tracing::info!(%from, %to, "contacts");
                self.tell_held(from);
                self.tell_held(to);
                self.introduce(from, to, versions);
                done()
            }
            Asking::Held => {
                tracing::info!(%from, %to, "contact request");
                self.tell_held(to);
                done()
            }
            Asking::Nothing => done(),
            Asking::Blocked => {
                Err(refusal(ErrorCode::Blocked, "you have blocked them; unblock them first"))
            }
            Asking::RecipientFull => Err(refusal(
                ErrorCode::Unavailable,
                "too many requests wait for them already; try again another day",
            )),
            Asking::TooManyContacts => Err(too_many_contacts()),
            Asking::TooMany { until } => {
                Err(too_fast("that is enough contact requests for a day", until))
            }
        }
    }

    pub(super) fn contact_answer(
        &mut self,
        asker: Asker,
        name: Username,
        card: Option<Box<Card>>,
    ) -> Handled {
        let by = match &card {
            Some(card) => self.checked_card(asker, &name, card)?,
            None => self.name(asker)?,
        };
        let after = After::ContactAnswer { by: by.clone(), asker: name.clone() };
        let max_contacts = self.params.limits.contacts;
        self.ask(asker, Query::AnswerContact { asker: name, by, card, max_contacts }, after)
    }

    pub(super) fn contact_answered(
        &mut self,
        by: &Username,
        asker: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Answered(answering) = answer else { return Err(unavailable()) };
        match *answering {
            Answering::Accepted(versions) => {
                tracing::info!(%by, %asker, "contact request accepted");
                self.tell_held(asker);
                self.introduce(by, asker, versions);
                done()
            }
            Answering::Declined => {
                tracing::info!(%by, %asker, "contact request declined");
                self.tell_held(asker);
                done()
            }
            Answering::Nothing => done(),
            Answering::NoRequest => {
                Err(refusal(ErrorCode::UnknownUser, "there is no open request of that name"))
            }
            Answering::TooManyContacts => Err(too_many_contacts()),
        }
    }

    pub(super) fn contact_remove(&mut self, asker: Asker, contact: Username) -> Handled {
        let of = self.name(asker)?;
        let after = After::ContactRemove { of: of.clone(), contact: contact.clone() };
        self.ask(asker, Query::RemoveContact { of, contact }, after)
    }

    /// A contact that was removed sees the remover go offline, and nothing more.
    pub(super) fn contact_removed(
        &mut self,
        of: &Username,
        contact: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Removed(was_mutual) = answer else { return Err(unavailable()) };
        if let Some(list_version) = was_mutual {
            self.tell_gone(contact, of, *list_version);
        }
        done()
    }

    pub(super) fn held_get(&mut self, asker: Asker) -> Handled {
        let of = self.name(asker)?;
        self.ask(asker, Query::Held { of }, After::HeldGet)
    }

    pub(super) fn held_got(answer: Answer) -> Handled {
        let Answer::Held(items) = answer else { return Err(unavailable()) };
        ok(HeldItems { items })
    }

    pub(super) fn held_ack(&mut self, asker: Asker, ids: Vec<u64>) -> Handled {
        let of = self.name(asker)?;
        if ids.len() > MAX_IDS {
            return Err(malformed("acknowledge fewer items at once"));
        }
        self.ask(asker, Query::ForgetHeld { of, ids }, After::HeldAck)
    }

    pub(super) fn held_acked(answer: &Answer) -> Handled {
        let Answer::Forgotten = answer else { return Err(unavailable()) };
        done()
    }

    /// Checks that a card is the asker's own, for `to`; returns the asker's name.
    fn checked_card(
        &self,
        asker: Asker,
        to: &Username,
        card: &Card,
    ) -> Result<Username, ErrorReply> {
        let Identity { name, account_key } = self.identity(asker)?;
        if name == to {
            return Err(refusal(ErrorCode::BadCard, "that is your own name"));
        }
        card.clone().verify(name, to, account_key).map_err(bad_card)?;
        Ok(name.clone())
    }

    fn tell_held(&mut self, name: &Username) {
        self.publish_event(name.clone(), Audience::Everyone, Event::Held {});
    }
}

fn bad_card(error: CardError) -> ErrorReply {
    refusal(ErrorCode::BadCard, &error.to_string())
}

fn too_many_contacts() -> ErrorReply {
    refusal(ErrorCode::TooFast, "an account holds no more contacts; remove one first")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlor_common::wire::rendezvous::{Done, Held, HeldKind, KnownContact, Request};

    use super::super::ConnId;
    use super::super::testing::{World, card, name};
    use super::*;
    use crate::limits::Limits;

    fn two() -> (World, ConnId, ConnId) {
        let mut world = World::new();
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        (world, alice, bob)
    }

    fn contacts(world: &mut World, conn: ConnId) -> Vec<(String, bool)> {
        let known = world.call::<Contacts>(conn, &Request::ContactList {}).contacts.into_iter();
        known.map(|KnownContact { name, mutual, .. }| (name.to_string(), mutual)).collect()
    }

    fn kinds(items: &[Held]) -> Vec<(&str, &str)> {
        let kind = |item: &HeldKind| match item {
            HeldKind::Request { .. } => "request",
            HeldKind::Accepted { .. } => "accepted",
            HeldKind::Declined {} => "declined",
            HeldKind::Unknown => "unknown",
        };
        items.iter().map(|item| (item.from.as_str(), kind(&item.what))).collect()
    }

    #[test]
    fn a_request_is_held_until_it_is_acknowledged() {
        let (mut world, alice, bob) = two();
        world.ask(alice, ("alice", 1), "bob");
        assert_eq!(world.events(bob), [Event::Held {}]);
        assert_eq!(contacts(&mut world, alice), [("bob".to_owned(), false)]);
        assert_eq!(contacts(&mut world, bob), []);

        let items = world.held(bob);
        assert_eq!(kinds(&items), [("alice", "request")]);
        assert_eq!(items, world.held(bob));
        // Somebody else's acknowledgement forgets nothing.
        let ids: Vec<u64> = items.iter().map(|item| item.id).collect();
        world.call::<Done>(alice, &Request::HeldAck { ids: ids.clone() });
        assert_eq!(items, world.held(bob));
        world.call::<Done>(bob, &Request::HeldAck { ids });
        assert_eq!(world.held(bob), []);
        let many = Request::HeldAck { ids: (0..17).collect() };
        assert_eq!(world.refused(bob, &many), ErrorCode::Malformed);
    }

    #[test]
    fn a_card_reaches_the_other_side_as_it_was_signed() {
        let (mut world, alice, bob) = two();
        world.ask(alice, ("alice", 1), "bob");
        let [Held { what: HeldKind::Request { card: shown }, .. }] = &world.held(bob)[..] else {
            panic!("one request");
        };
        assert_eq!(**shown, card("alice", 1, "bob"));
    }

    #[test]
    fn both_may_be_offline_in_turn() {
        let (mut world, alice, bob) = two();
        world.disconnect(bob);
        world.ask(alice, ("alice", 1), "bob");
        world.disconnect(alice);
        let bob = world.connect(2);
        assert!(world.events(bob).contains(&Event::Held {}));
        world.accept(bob, ("bob", 2), "alice");
        world.disconnect(bob);
        let alice = world.connect(1);
        assert!(world.events(alice).contains(&Event::Held {}));
        assert_eq!(kinds(&world.held(alice)), [("bob", "accepted")]);
        assert_eq!(contacts(&mut world, alice), [("bob".to_owned(), true)]);
    }

    #[test]
    fn an_acceptance_may_be_said_twice_and_a_request_is_not_held_after_it() {
        let (mut world, alice, bob) = two();
        world.ask(alice, ("alice", 1), "bob");
        world.accept(bob, ("bob", 2), "alice");
        world.accept(bob, ("bob", 2), "alice");
        assert_eq!(world.held(bob), []);
        assert_eq!(kinds(&world.held(alice)), [("bob", "accepted")]);
        // Neither is there anything left to ask.
        world.ask(alice, ("alice", 1), "bob");
        assert_eq!(world.held(bob), []);
    }

    #[test]
    fn asking_somebody_who_has_asked_accepts() {
        for acknowledged in [false, true] {
            let (mut world, alice, bob) = two();
            world.ask(alice, ("alice", 1), "bob");
            if acknowledged {
                let ids = world.held(bob).iter().map(|item| item.id).collect();
                world.call::<Done>(bob, &Request::HeldAck { ids });
            }
            world.ask(bob, ("bob", 2), "alice");
            assert_eq!(kinds(&world.held(alice)), [("bob", "accepted")]);
            let items = world.held(bob);
            assert_eq!(kinds(&items), [("alice", "accepted")]);
            let HeldKind::Accepted { card: shown } = &items[0].what else { panic!() };
            assert_eq!(**shown, card("alice", 1, "bob"));
            assert_eq!(contacts(&mut world, alice), [("bob".to_owned(), true)]);
            assert_eq!(contacts(&mut world, bob), [("alice".to_owned(), true)]);
        }
    }

    #[test]
    fn a_declined_asker_hears_of_it_and_may_ask_again() {
        let (mut world, alice, bob) = two();
        let decline = Request::ContactAnswer { name: name("alice"), card: None };
        world.ask(alice, ("alice", 1), "bob");
        world.call::<Done>(bob, &decline);
        assert_eq!(world.events(alice), [Event::Held {}]);
        assert_eq!(kinds(&world.held(alice)), [("bob", "declined")]);
        assert_eq!(world.held(bob), []);
        assert_eq!(contacts(&mut world, alice), []);
        assert_eq!(world.refused(bob, &decline), ErrorCode::UnknownUser);
        world.ask(alice, ("alice", 1), "bob");
        assert_eq!(kinds(&world.held(bob)), [("alice", "request")]);
    }

    #[test]
    fn nobody_accepts_what_was_not_asked() {
        let (mut world, _, bob) = two();
        for asker in ["alice", "ghost"] {
            let card = Some(Box::new(card("bob", 2, asker)));
            let accept = Request::ContactAnswer { name: name(asker), card };
            assert_eq!(world.refused(bob, &accept), ErrorCode::UnknownUser);
        }
    }

    #[test]
    fn a_contact_who_was_removed_is_asked_anew() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Done>(bob, &Request::ContactRemove { name: name("alice") });
        assert_eq!(contacts(&mut world, alice), [("bob".to_owned(), false)]);
        assert_eq!(contacts(&mut world, bob), []);
        world.ask(bob, ("bob", 2), "alice");
        assert_eq!(kinds(&world.held(alice)), [("bob", "request")]);
        assert_eq!(contacts(&mut world, alice), [("bob".to_owned(), false)]);
        world.accept(alice, ("alice", 1), "bob");
        assert_eq!(contacts(&mut world, alice), [("bob".to_owned(), true)]);
    }

    #[test]
    fn a_request_can_be_taken_back() {
        let (mut world, alice, bob) = two();
        world.ask(alice, ("alice", 1), "bob");
        world.call::<Done>(alice, &Request::ContactRemove { name: name("bob") });
        assert_eq!(world.held(bob), []);
        let card = Some(Box::new(card("bob", 2, "alice")));
        let accept = Request::ContactAnswer { name: name("alice"), card };
        assert_eq!(world.refused(bob, &accept), ErrorCode::UnknownUser);
    }

    #[test]
    fn a_card_must_be_the_askers_own_and_for_whom_it_asks() {
        let (mut world, alice, _) = two();
        for (to, card) in [
            ("bob", card("alice", 1, "carol")),
            ("bob", card("bob", 2, "bob")),
            ("bob", card("mallory", 1, "bob")),
            ("alice", card("alice", 1, "alice")),
        ] {
            let request = Request::ContactRequest { name: name(to), card: Box::new(card) };
            assert_eq!(world.refused(alice, &request), ErrorCode::BadCard);
        }
    }

    #[test]
    fn asking_nobody_is_answered_like_asking_somebody() {
        let (mut world, alice, _) = two();
        world.ask(alice, ("alice", 1), "ghost");
        assert_eq!(contacts(&mut world, alice), []);
    }

    #[test]
    fn one_request_is_open_for_a_pair_and_so_many_are_new_in_a_day() {
        let limits = Limits { contact_requests_per_day: 2, ..Limits::default() };
        let mut world = World::limited(limits);
        let alice = world.register("alice", 1);
        let bob = world.register("bob", 2);
        world.register("carol", 3);
        world.register("dave", 4);
        world.ask(alice, ("alice", 1), "bob");
        world.ask(alice, ("alice", 1), "bob");
        assert_eq!(world.held(bob).len(), 1);
        world.wait(Duration::from_secs(60));
        world.ask(alice, ("alice", 1), "carol");

        let card = Box::new(card("alice", 1, "dave"));
        let third = Request::ContactRequest { name: name("dave"), card };
        let refused = world.try_call::<Done>(alice, &third).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooFast);
        // Taking one back does not make room for another.
        world.call::<Done>(alice, &Request::ContactRemove { name: name("bob") });
        assert_eq!(world.refused(alice, &third), ErrorCode::TooFast);
        world.now = refused.until.unwrap();
        world.call::<Done>(alice, &third);
    }

    #[test]
    fn contacts_and_what_is_held_have_bounds() {
        let limits = Limits { contacts: 1, held_requests: 1, ..Limits::default() };
        let mut world = World::limited(limits);
        let alice = world.register("alice", 1);
        let bob = world.register("bob", 2);
        world.register("carol", 3);
        world.ask(alice, ("alice", 1), "carol");
        let request = |from, device, to| Request::ContactRequest {
            name: name(to),
            card: Box::new(card(from, device, to)),
        };
        assert_eq!(world.refused(alice, &request("alice", 1, "bob")), ErrorCode::TooFast);
        let full = world.refused(bob, &request("bob", 2, "carol"));
        assert_eq!(full, ErrorCode::Unavailable);
        world.ask(bob, ("bob", 2), "alice");
        let answer = Some(Box::new(card("alice", 1, "bob")));
        let accept = Request::ContactAnswer { name: name("bob"), card: answer };
        assert_eq!(world.refused(alice, &accept), ErrorCode::TooFast);
    }

    #[test]
    fn strangers_ask_nobody() {
        let mut world = World::new();
        world.register("alice", 1);
        let stranger = world.connect(2);
        for request in [
            Request::ContactList {},
            Request::HeldGet {},
            Request::HeldAck { ids: vec![1] },
            Request::ContactRemove { name: name("alice") },
            Request::ContactAnswer { name: name("alice"), card: None },
            Request::ContactRequest {
                name: name("alice"),
                card: Box::new(card("bob", 2, "alice")),
            },
        ] {
            assert_eq!(world.refused(stranger, &request), ErrorCode::UnknownDevice);
        }
    }
}
