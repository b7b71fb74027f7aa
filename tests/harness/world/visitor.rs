//! Raw clients of the rendezvous: for registration and login, and for what nobody should do.

use std::collections::BTreeMap;

use parlor::account::{AccountError, LoggingIn, NewDevice, Password, Registering};
use parlor_common::identity::DeviceKey;
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{
    Done, ErrorReply, Event, LoggedIn, LoginStarted, RegisterStarted, Reply, Request,
};
use parlor_rendezvous::server::{CloseReason, ConnId, StreamId};
use serde::de::DeserializeOwned;

use super::World;
use crate::stage::password_of;

/// A connection to the rendezvous that asks one thing after another.
pub struct Visitor {
    conn: ConnId,
    exporter: [u8; 32],
    last_stream: u64,
}

/// What visitors were told.
#[derive(Default)]
pub(super) struct Callers {
    replies: BTreeMap<(ConnId, StreamId), Vec<u8>>,
    events: BTreeMap<ConnId, Vec<Event>>,
    closed: BTreeMap<ConnId, CloseReason>,
}

impl Callers {
    pub(super) fn reply(&mut self, conn: ConnId, stream: StreamId, payload: Vec<u8>) {
        self.replies.insert((conn, stream), payload);
    }

    pub(super) fn event(&mut self, conn: ConnId, payload: &[u8]) {
        let event = serde_json::from_slice(payload).unwrap();
        self.events.entry(conn).or_default().push(event);
    }

    pub(super) fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.closed.insert(conn, reason);
    }

    pub(super) fn all_closed(&mut self) {
        for conn in self.events.keys() {
            self.closed.entry(*conn).or_insert(CloseReason::Stopping);
        }
    }
}

/// Why somebody did not get in.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// By the rendezvous.
    Server(ErrorReply),
    /// By the client's own half of the protocol.
    Client(AccountError),
}

impl From<ErrorReply> for Refused {
    fn from(error: ErrorReply) -> Self {
        Self::Server(error)
    }
}

impl From<AccountError> for Refused {
    fn from(error: AccountError) -> Self {
        Self::Client(error)
    }
}

impl World {
    /// Connects as whoever holds this device key.
    pub fn visit(&mut self, device: DeviceKey) -> Visitor {
        let conn = self.server.new_conn();
        let address = ([192, 0, 2, 66], 6666).into();
        let exporter = self.client_connects(conn, device, address);
        Visitor { conn, exporter, last_stream: 0 }
    }

    /// Asks, and is answered at once.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        visitor: &mut Visitor,
        request: &Request,
    ) -> Result<T, ErrorReply> {
        let payload = serde_json::to_vec(request).unwrap();
        let reply = self.ask_bytes(visitor, &payload).expect("the rendezvous answers");
        match serde_json::from_slice(&reply).unwrap() {
            Reply::Ok(reply) => Ok(reply),
            Reply::Error(error) => Err(error),
        }
    }

    /// Sends any bytes as a request; the reply's bytes, if there is one.
    pub fn ask_bytes(&mut self, visitor: &mut Visitor, payload: &[u8]) -> Option<Vec<u8>> {
        visitor.last_stream += 1;
        let (conn, stream) = (visitor.conn, StreamId(visitor.last_stream));
        self.wire.record(&frame(payload));
        let date = self.date();
        self.with_core(|core, rng| core.handle_request(conn, stream, payload, date, rng));
        self.server.callers.replies.remove(&(conn, stream))
    }

    /// What the rendezvous has told a visitor.
    pub fn heard(&self, visitor: &Visitor) -> &[Event] {
        self.server.callers.events.get(&visitor.conn).map_or(&[], Vec::as_slice)
    }

    /// Why the rendezvous has closed a visitor's connection, if it has.
    pub fn closed(&self, visitor: &Visitor) -> Option<CloseReason> {
        self.server.callers.closed.get(&visitor.conn).copied()
    }

    /// A visitor goes.
    pub fn leave(&mut self, visitor: Visitor) {
        self.client_gone(visitor.conn);
    }

    /// Draws the keys of a device.
    pub fn new_device(&mut self) -> NewDevice {
        NewDevice::generate(&mut self.rng)
    }

    /// Registers an account, whose first device becomes a running peer called like it.
    pub fn try_register(&mut self, name: &str, password: &str) -> Result<(), Refused> {
        let device = self.new_device();
        let mut visitor = self.visit(device.key().public());
        let (name, server, password) = (name.parse().unwrap(), self.server(), secret(password));
        let (registering, request) =
            Registering::start(name, server, device, &password, &mut self.rng)?;
        let started: RegisterStarted = self.ask(&mut visitor, &request)?;
        let date = self.date();
        let (request, account) = registering.finish(&started, date, &mut self.rng)?;
        let Done {} = self.ask(&mut visitor, &request)?;
        self.leave(visitor);
        let home = account.identity.name.to_string();
        self.move_in(&home, account.identity);
        Ok(())
    }

    /// Logs in to an account on a new device, which becomes a running peer called `home`.
    pub fn try_login(&mut self, name: &str, password: &str, home: &str) -> Result<(), Refused> {
        let device = self.new_device();
        let mut visitor = self.visit(device.key().public());
        let (name, server, password) = (name.parse().unwrap(), self.server(), secret(password));
        let (logging_in, request) = LoggingIn::start(name, server, &password, &mut self.rng)?;
        let started: LoginStarted = self.ask(&mut visitor, &request)?;
        let (request, pending) = logging_in.finish(&started, &visitor.exporter, &mut self.rng)?;
        let logged_in: LoggedIn = self.ask(&mut visitor, &request)?;
        let date = self.date();
        let (account, _) = pending.open(logged_in)?;
        let (request, identity) = account.add_device(device, date)?;
        let Done {} = self.ask(&mut visitor, &request)?;
        self.leave(visitor);
        self.move_in(home, identity);
        Ok(())
    }

    /// Logs in with the right password on a new device called `home`.
    pub fn login(&mut self, name: &str, home: &str) {
        self.try_login(name, &password_of(name), home).unwrap();
    }
}

impl Visitor {
    /// What both ends of this connection derived from it.
    pub fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }
}

pub(super) fn secret(password: &str) -> Password {
    Password::new(password.as_bytes().to_vec().into()).unwrap()
}
