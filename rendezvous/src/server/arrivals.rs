//! Connections that come and go.

use std::net::SocketAddr;

use parlor_common::Blob;
use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{AccountChange, Event};
use rand::CryptoRng;

use super::bus::Notice;
use super::connections::{Connection, Identity, Standing};
use super::output::{Asker, CloseReason, ConnId};
use super::query::{Answer, KnownDevice, Query};
use super::{Pending, Server};

impl Server {
    /// A client connected and proved `device`. `exporter` is what both ends, and nobody else,
    /// derive from the TLS connection under the label `EXPORTER-parlor-login`.
    pub fn handle_connected(
        &mut self,
        conn: ConnId,
        device: DeviceKey,
        remote: SocketAddr,
        exporter: [u8; 32],
        now: Timestamp,
    ) {
        tracing::debug!(%conn, %remote, at = %now, "connected");
        let before = self.connections.insert(conn, Connection::new(device, remote, exporter));
        self.query(Query::DeviceOwner { device }, Pending::Arrival(conn));
        if let Some(before) = before {
            self.replace(before);
        }
        self.publish(Notice::Arrived { node: self.params.node, device });
    }

    /// Ends the connection of a device that has a newer one.
    pub(super) fn replace(&mut self, conn: ConnId) {
        self.tell(conn, &Event::Replaced {});
        self.close(conn, CloseReason::Replaced);
    }

    /// Ends connections of devices that belong to their account no more.
    pub(super) fn cut_off(&mut self, devices: &[DeviceKey], change: AccountChange) {
        for device in devices {
            if let Some(conn) = self.connections.of_device(device) {
                self.tell(conn, &Event::AccountChanged { change });
                self.close(conn, CloseReason::CutOff);
            }
        }
    }

    /// A connection is gone.
    pub fn handle_disconnected(&mut self, conn: ConnId, now: Timestamp) {
        tracing::debug!(%conn, at = %now, "disconnected");
        self.forget(conn);
    }

    /// Forgets a connection, and tells contacts if that was an account's last.
    pub(super) fn forget(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.remove(conn) else { return };
        if let Some(exchange) = connection.exchange {
            self.give_up(exchange);
        }
        if let Some(name) = connection.shown_as {
            self.publish_present(name, connection.device, false);
        }
    }

    /// The store knows whose device a new connection has: greets it and lets its requests in.
    pub(super) fn welcome(
        &mut self,
        conn: ConnId,
        answer: Answer,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) {
        let Answer::Device(known) = answer else {
            return self.close(conn, CloseReason::Unavailable);
        };
        if known.as_ref().is_some_and(|device| self.has_too_many(&device.name)) {
            return self.close(conn, CloseReason::TooMany);
        }
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let observed = connection.remote;
        let standing = std::mem::replace(&mut connection.standing, Standing::Stranger);
        let name = known.as_ref().map(|device| device.name.clone());
        let next_key_hash = Blob(self.params.next_key_hash.to_vec());
        self.tell(conn, &Event::Welcome { name, observed, now, next_key_hash });
        match known {
            Some(device) => self.recognise(conn, device),
            None => self.show(conn, None),
        }
        let Standing::Arriving(waiting) = standing else { return };
        for (stream, request) in waiting {
            self.admit(Asker { conn, stream }, request, now, rng);
        }
    }

    fn has_too_many(&self, name: &Username) -> bool {
        self.connections.of_account(name).len() >= self.params.limits.connections_per_account
    }

    fn recognise(&mut self, conn: ConnId, device: KnownDevice) {
        let KnownDevice { name, account_key, held } = device;
        self.sign_in(conn, Identity { name, account_key });
        if held {
            self.tell(conn, &Event::Held {});
        }
    }

    /// Makes a connection speak for an account, and tells contacts if that was not online.
    pub(super) fn sign_in(&mut self, conn: ConnId, identity: Identity) {
        let name = identity.name.clone();
        self.connections.sign_in(conn, identity);
        self.show(conn, Some(name));
    }

    /// Makes a connection speak for nobody.
    pub(super) fn sign_out(&mut self, conn: ConnId) {
        self.connections.sign_out(conn);
        self.show(conn, None);
    }

    /// Shows a connection's device online for an account, or for none.
    fn show(&mut self, conn: ConnId, name: Option<Username>) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let device = connection.device;
        let before = std::mem::replace(&mut connection.shown_as, name.clone());
        if before == name {
            return;
        }
        if let Some(name) = before {
            self.publish_present(name, device, false);
        }
        if let Some(name) = name {
            self.publish_present(name, device, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, ErrorCode, Presence, Present, Request, User};

    use super::super::testing::{
        PASSWORD, World, account, entry, first_list, name, presence, secret, verified,
    };
    use super::super::{MAX_MALFORMED, MAX_WAITING};
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn the_first_event_says_who_one_is_and_from_where() {
        let mut world = World::new();
        world.register("alice", 1);
        for (device, expected) in [(1, Some(name("alice"))), (2, None)] {
            let conn = world.connect(device);
            let events = world.events(conn);
            let [Event::Welcome { name, observed, now, next_key_hash }] = &events[..] else {
                panic!("{events:?}");
            };
            assert_eq!((name, *now), (&expected, world.now));
            assert_eq!(observed.to_string(), "192.0.2.7:5000");
            assert_eq!(next_key_hash.0, [8; 32]);
        }
    }

    #[test]
    fn requests_that_come_before_the_device_is_known_wait() {
        let mut world = World::new();
        world.register("alice", 1);
        let conn = world.begin_connect(1);
        let request = serde_json::to_vec(&Request::UserGet { name: name("alice") }).unwrap();
        let streams: Vec<_> = (0..=MAX_WAITING).map(|_| world.send(conn, &request)).collect();
        world.settle();
        for stream in &streams[..MAX_WAITING] {
            assert!(world.reply::<User>(conn, *stream).is_ok());
        }
        let refused = world.reply::<User>(conn, streams[MAX_WAITING]).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooFast);
    }

    #[test]
    fn the_newest_connection_of_a_device_wins() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Present>(bob, &Request::PresenceWatch {});
        let newer = world.connect(1);
        assert_eq!(world.events(alice), [Event::Replaced {}]);
        assert_eq!(world.closed(alice), Some(CloseReason::Replaced));
        // The late news that the old one is gone does the new one no harm.
        world.disconnect(alice);
        let user = Request::UserGet { name: name("bob") };
        assert!(world.try_call::<User>(newer, &user).is_ok());
        let last = world.events(bob).pop();
        assert!(last.is_none() || last == Some(presence("alice", true)));
        let present: Present = world.call(bob, &Request::PresenceWatch {});
        let expected = Presence { name: name("alice"), online: true, list_version: 1 };
        assert_eq!(present.contacts, [expected]);
    }

    #[test]
    fn an_account_has_so_many_connections_and_the_newcomer_goes() {
        let mut world = World::limited(Limits { connections_per_account: 1, ..Limits::default() });
        let alice = world.register("alice", 1);
        let bob = world.register("bob", 3);
        let second = world.connect(2);
        world.login(second, "alice", PASSWORD).unwrap();
        let devices = verified("alice", first_list("alice", 1)).with_device(entry(2), world.now);
        let devices = devices.sign(&account("alice"), Some(&secret(1)));
        world.call::<Done>(second, &Request::DeviceAdd { devices });
        world.disconnect(second);
        let second = world.connect(2);
        assert_eq!(world.closed(second), Some(CloseReason::TooMany));
        assert_eq!(world.events(second), []);
        assert!(world.try_call::<User>(alice, &Request::UserGet { name: name("bob") }).is_ok());
        assert_eq!(world.closed(bob), None);
        // The same device again takes its own place.
        let again = world.connect(1);
        assert_eq!(world.closed(again), None);
        world.disconnect(again);
        let second = world.connect(2);
        assert_eq!(world.closed(second), None);
    }

    #[test]
    fn an_account_is_online_until_its_last_connection_goes() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Present>(bob, &Request::PresenceWatch {});
        let stranger = world.connect(7);
        world.disconnect(stranger);
        assert_eq!(world.events(bob), []);
        world.disconnect(alice);
        assert_eq!(world.events(bob), [presence("alice", false)]);
    }

    #[test]
    fn malformed_requests_are_answered_and_many_of_them_end_the_connection() {
        let mut world = World::new();
        let conn = world.connect(1);
        for junk in [&b""[..], b"{", b"[]", b"\xff\xfe", b"{\"request\":\"user.get\"}"] {
            let stream = world.send(conn, junk);
            world.settle();
            let refused = world.reply::<User>(conn, stream).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Malformed);
        }
        for _ in 5..MAX_MALFORMED {
            assert_eq!(world.closed(conn), None);
            world.send(conn, b"junk");
            world.settle();
        }
        assert_eq!(world.closed(conn), Some(CloseReason::Misbehaved));
    }

    #[test]
    fn a_request_of_a_later_version_is_unsupported_and_no_misbehaviour() {
        let mut world = World::new();
        let conn = world.connect(1);
        for _ in 0..=MAX_MALFORMED {
            let stream = world.send(conn, b"{\"request\":\"relay.allocate\",\"x\":1}");
            world.settle();
            let refused = world.reply::<User>(conn, stream).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Unsupported);
        }
        assert_eq!(world.closed(conn), None);
    }

    #[test]
    fn a_stopping_server_says_so() {
        let (mut world, alice, bob) = World::friends();
        world.server.handle_stopping(world.now);
        world.settle();
        for conn in [alice, bob] {
            assert_eq!(world.events(conn), [Event::Stopping {}]);
            assert_eq!(world.closed(conn), Some(CloseReason::Stopping));
        }
    }
}
