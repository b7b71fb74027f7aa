//! The turns: all input that waits, then the store, then everything that is to be told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use quinn::Connection;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::close;
use super::mail::Mailer;
use super::{MAX_INPUTS, now};
use crate::admin::{AdminReply, AdminRequest};
use crate::email::{Mail, NotSent};
use crate::server::{AdminId, CloseReason, ConnId, Loopback, MailId, Output, Server, StreamId};
use crate::store::Store;
use crate::turn::settle;

/// The clock is looked at this often at least.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(10 * 60);

/// What connections hand over.
pub(super) enum Input {
    Connected {
        conn: ConnId,
        device: DeviceKey,
        remote: SocketAddr,
        exporter: [u8; 32],
        client: Client,
    },
    Request {
        conn: ConnId,
        stream: StreamId,
        payload: Vec<u8>,
        reply: oneshot::Sender<Vec<u8>>,
    },
    Malformed {
        conn: ConnId,
        stream: StreamId,
        reply: oneshot::Sender<Vec<u8>>,
    },
    Disconnected {
        conn: ConnId,
    },
    Mailed {
        id: MailId,
        result: Result<(), NotSent>,
    },
    /// Who runs the server asks something.
    Admin {
        request: AdminRequest,
        reply: oneshot::Sender<AdminReply>,
    },
}

/// A client, from here.
pub(super) struct Client {
    pub(super) connection: Connection,
    /// What it is to be told.
    pub(super) events: mpsc::Sender<Vec<u8>>,
    /// Why it is to be disconnected, once it has taken what was told before.
    pub(super) closing: oneshot::Sender<CloseReason>,
    /// How long a request of it may be.
    pub(super) longest: watch::Sender<Option<usize>>,
}

/// The owner of core and store.
pub(super) struct Turns {
    server: Server,
    store: Store,
    bus: Loopback,
    rng: StdRng,
    mailer: Option<Mailer>,
    clients: BTreeMap<ConnId, Client>,
    replies: BTreeMap<(ConnId, StreamId), oneshot::Sender<Vec<u8>>>,
    admins: BTreeMap<AdminId, oneshot::Sender<AdminReply>>,
    last_admin: u64,
}

impl Turns {
    pub(super) fn new(server: Server, store: Store, rng: StdRng, mailer: Option<Mailer>) -> Self {
        Self {
            server,
            store,
            bus: Loopback::default(),
            rng,
            mailer,
            clients: BTreeMap::new(),
            replies: BTreeMap::new(),
            admins: BTreeMap::new(),
            last_admin: 0,
        }
    }

    /// Takes turns until told to stop, then says goodbye and closes the database.
    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stopping: oneshot::Receiver<()>,
    ) {
        let mut waiting = Vec::new();
        // What has come due while nobody served comes before anybody.
        self.look_at_clock();
        loop {
            tokio::select! {
                _ = &mut stopping => break,
                _ = inputs.recv_many(&mut waiting, MAX_INPUTS) => {}
                () = tokio::time::sleep(self.idle()) => {}
            }
            let now = now();
            for input in waiting.drain(..) {
                self.handle(input, now);
            }
            self.server.handle_timeout(now);
            self.settle(now);
        }
        let now = now();
        self.server.handle_stopping(now);
        self.settle(now);
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the database did not close");
        }
    }

    fn look_at_clock(&mut self) {
        let now = now();
        self.server.handle_timeout(now);
        self.settle(now);
    }

    /// How long nothing is due. The clock may be put forward meanwhile, so not for too long.
    fn idle(&self) -> Duration {
        let due = self.server.poll_timeout();
        due.map_or(Duration::ZERO, |due| due.since(now()).min(LOOK_AT_CLOCK))
    }

    fn handle(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Connected { conn, device, remote, exporter, client } => {
                self.clients.insert(conn, client);
                self.server.handle_connected(conn, device, remote, exporter, now);
            }
            Input::Request { conn, stream, payload, reply } => {
                self.replies.insert((conn, stream), reply);
                self.server.handle_request(conn, stream, &payload, now, &mut self.rng);
            }
            Input::Malformed { conn, stream, reply } => {
                self.replies.insert((conn, stream), reply);
                self.server.handle_malformed(conn, stream);
            }
            Input::Disconnected { conn } => {
                self.forget(conn);
                self.server.handle_disconnected(conn, now);
            }
            Input::Mailed { id, result } => self.server.handle_mailed(id, result, now),
            Input::Admin { request, reply } => {
                self.last_admin += 1;
                let id = AdminId(self.last_admin);
                self.admins.insert(id, reply);
                self.server.handle_admin(id, request, now, &mut self.rng);
            }
        }
    }

    fn settle(&mut self, now: Timestamp) {
        let Self { server, store, bus, rng, .. } = self;
        for output in settle(server, store, bus, now, rng) {
            match output {
                Output::Reply { conn, stream, payload } => self.reply(conn, stream, payload),
                Output::Event { conn, payload } => self.tell(conn, payload),
                Output::Close { conn, reason } => {
                    self.disconnect(conn, reason);
                }
                Output::Mail { id, mail } => self.mail(id, mail),
                Output::Admin { id, reply } => {
                    // Who asked may have left meanwhile.
                    let _ = self.admins.remove(&id).map(|asker| asker.send(reply));
                }
                Output::Query(..) | Output::Publish(_) => {} // settled
            }
        }
    }

    fn mail(&self, id: MailId, mail: Mail) {
        // Without one the core lets nobody in by e-mail.
        if let Some(mailer) = &self.mailer {
            mailer.send(id, mail);
        }
    }

    fn reply(&mut self, conn: ConnId, stream: StreamId, payload: Vec<u8>) {
        self.allow(conn);
        if let Some(reply) = self.replies.remove(&(conn, stream)) {
            // A client that has gone meanwhile misses its reply.
            let _ = reply.send(payload);
        }
    }

    /// Hands an event over; a client that does not take its events is cut.
    fn tell(&mut self, conn: ConnId, event: Vec<u8>) {
        self.allow(conn);
        let Some(client) = self.clients.get(&conn) else { return };
        let is_open = client.connection.close_reason().is_none();
        if client.events.try_send(event).is_err() && is_open {
            tracing::debug!(%conn, "cut: the client does not take its events");
            close(&client.connection, CloseReason::TooSlow);
            self.server.note_cut(CloseReason::TooSlow);
        }
    }

    /// Lets a connection ask as much as it may now. It changes only where the client is told or
    /// replied to, before which this is done.
    fn allow(&self, conn: ConnId) {
        let Some(client) = self.clients.get(&conn) else { return };
        let longest = self.server.longest_request(conn);
        client.longest.send_if_modified(|known| std::mem::replace(known, longest) != longest);
    }

    fn disconnect(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(client) = self.clients.remove(&conn) {
            // It may have gone by itself.
            let _ = client.closing.send(reason);
        }
        self.forget(conn);
    }

    fn forget(&mut self, conn: ConnId) {
        self.clients.remove(&conn);
        let of_conn = (conn, StreamId(0))..=(conn, StreamId(u64::MAX));
        let streams: Vec<_> = self.replies.range(of_conn).map(|(key, _)| *key).collect();
        for stream in streams {
            self.replies.remove(&stream);
        }
    }
}
