//! Connections that come and go.

use std::net::SocketAddr;

use parlor_common::Blob;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::Event;
use rand::CryptoRng;

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
            self.tell(before, &Event::Replaced {});
            self.close(before, CloseReason::Replaced);
        }
    }

    /// A connection is gone.
    pub fn handle_disconnected(&mut self, conn: ConnId, now: Timestamp) {
        tracing::debug!(%conn, at = %now, "disconnected");
        self.forget(conn);
    }

    /// Forgets a connection, and tells contacts if that was an account's last.
    pub(super) fn forget(&mut self, conn: ConnId) {
        if let Some(name) = self.connections.remove(conn) {
            self.announce(name);
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
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let observed = connection.remote;
        let standing = std::mem::replace(&mut connection.standing, Standing::Stranger);
        let name = known.as_ref().map(|device| device.name.clone());
        let next_key_hash = Blob(self.params.next_key_hash.to_vec());
        self.tell(conn, &Event::Welcome { name, observed, now, next_key_hash });
        if let Some(device) = known {
            self.recognise(conn, device);
        }
        let Standing::Arriving(waiting) = standing else { return };
        for (stream, request) in waiting {
            self.admit(Asker { conn, stream }, request, now, rng);
        }
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
        if self.connections.sign_in(conn, identity) {
            self.announce(name);
        }
    }
}
