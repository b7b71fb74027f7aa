//! Who is online, for those who hold each other as contacts. A stranger learns nothing.
//!
//! Whether somebody is online is read when the store has answered who may know, never before: what
//! is told is true when it is told, in whatever order connections came and went.

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::wire::rendezvous::{Event, Presence, Present};

use super::bus::{Audience, NodeId};
use super::output::Asker;
use super::query::{Answer, ListVersions, MutualContact, MutualContacts, Query};
use super::reply::{Handled, ok, unavailable};
use super::{After, Pending, Server};

impl Server {
    pub(super) fn presence_watch(&mut self, asker: Asker) -> Handled {
        let of = self.name(asker)?;
        if let Some(connection) = self.connections.get_mut(asker.conn) {
            connection.watching = true;
        }
        self.ask(asker, Query::MutualContacts { of }, After::PresenceWatch)
    }

    pub(super) fn presence_now(&self, answer: Answer) -> Handled {
        let Answer::Mutual(mutual) = answer else { return Err(unavailable()) };
        let contacts = mutual.contacts.into_iter();
        let contacts = contacts.map(|contact| self.presence_of(contact)).collect();
        ok(Present { contacts })
    }

    /// Takes note of what a node says of an account, and lets contacts know of a change.
    pub(super) fn note_present(&mut self, name: Username, at: (NodeId, DeviceKey), online: bool) {
        if self.present.note(&name, at, online) {
            self.announce(name);
        }
    }

    /// Lets the mutual contacts of an account that are connected here know how it stands now.
    pub(super) fn announce(&mut self, name: Username) {
        let query = Query::MutualContacts { of: name.clone() };
        self.query(query, Pending::Announcement(name));
    }

    pub(super) fn tell_contacts(&mut self, name: &Username, answer: Answer) {
        let Answer::Mutual(MutualContacts { list_version, contacts }) = answer else {
            tracing::warn!(%name, "contacts could not be told of presence");
            return;
        };
        let (name, hidden) = (name.clone(), false);
        let presence = self.presence_of(MutualContact { name, list_version, hidden });
        for contact in contacts.iter().filter(|contact| !contact.hidden) {
            for conn in self.connections.watching(&contact.name) {
                self.tell(conn, &Event::Presence(presence.clone()));
            }
        }
    }

    /// Lets two that have become contacts know of each other.
    pub(super) fn introduce(&mut self, own: &Username, other: &Username, versions: ListVersions) {
        let ListVersions { own: own_version, other: other_version, hidden } = versions;
        for (of, list_version, to) in [(own, own_version, other), (other, other_version, own)] {
            let contact = MutualContact { name: of.clone(), list_version, hidden };
            self.publish_presence(to, self.presence_of(contact));
        }
    }

    /// Shows `name` as gone to one who was its contact.
    pub(super) fn tell_gone(&mut self, contact: &Username, name: &Username, list_version: u64) {
        let presence = Presence { name: name.clone(), online: false, list_version };
        self.publish_presence(contact, presence);
    }

    fn publish_presence(&mut self, to: &Username, presence: Presence) {
        self.publish_event(to.clone(), Audience::Watching, Event::Presence(presence));
    }

    /// How a contact stands for an account that may see it.
    fn presence_of(&self, contact: MutualContact) -> Presence {
        let MutualContact { name, list_version, hidden } = contact;
        Presence { online: !hidden && self.present.is_online(&name), name, list_version }
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, ErrorCode, Request};

    use super::super::ConnId;
    use super::super::testing::{World, name, presence};
    use super::*;

    fn watch(world: &mut World, conn: ConnId) -> Vec<(String, bool)> {
        let present = world.call::<Present>(conn, &Request::PresenceWatch {});
        present.contacts.into_iter().map(|who| (who.name.to_string(), who.online)).collect()
    }

    #[test]
    fn contacts_see_each_other_come_and_go() {
        let (mut world, alice, bob) = World::friends();
        assert_eq!(watch(&mut world, alice), [("bob".to_owned(), true)]);
        world.disconnect(bob);
        assert_eq!(world.events(alice), [presence("bob", false)]);
        let bob = world.connect(2);
        assert_eq!(world.events(alice), [presence("bob", true)]);
        // Bob does not watch, and is told nothing.
        world.events(bob);
        world.disconnect(alice);
        assert_eq!(world.events(bob), []);
        assert_eq!(watch(&mut world, bob), [("alice".to_owned(), false)]);
    }

    #[test]
    fn who_is_no_contact_or_not_yet_sees_nothing() {
        let mut world = World::new();
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        assert_eq!(watch(&mut world, alice), []);
        world.ask(alice, ("alice", 1), "bob");
        assert_eq!(watch(&mut world, alice), []);
        world.disconnect(bob);
        let bob = world.connect(2);
        assert_eq!(world.events(alice), []);
        // From the moment of the acceptance on, both know.
        watch(&mut world, bob);
        world.events(bob);
        world.accept(bob, ("bob", 2), "alice");
        assert_eq!(world.events(alice), [Event::Held {}, presence("bob", true)]);
        assert_eq!(world.events(bob), [presence("alice", true)]);
    }

    #[test]
    fn a_contact_that_was_removed_sees_the_other_go_and_never_come_back() {
        let (mut world, alice, bob) = World::friends();
        watch(&mut world, alice);
        world.call::<Done>(bob, &Request::ContactRemove { name: name("alice") });
        assert_eq!(world.events(alice), [presence("bob", false)]);
        world.disconnect(bob);
        world.connect(2);
        assert_eq!(world.events(alice), []);
        assert_eq!(watch(&mut world, alice), []);
    }

    #[test]
    fn a_stranger_watches_nobody() {
        let mut world = World::new();
        let stranger = world.connect(1);
        let refused = world.refused(stranger, &Request::PresenceWatch {});
        assert_eq!(refused, ErrorCode::UnknownDevice);
    }
}
