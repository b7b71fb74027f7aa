//! A connection to the rendezvous without a node: for registration and login.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlor_common::identity::DeviceSecret;
use parlor_common::link::ServerAddress;
use parlor_common::wire::rendezvous::{ErrorReply, Event, Reply, Request};
use quinn::Connection;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use super::frames::FrameReader;
use super::rendezvous::{connect, exchange, next_event, open_events};
use super::socket::{OpenError, Socket};
use crate::node::input::ServerDown;

/// From the look-up of the server's name to its welcome.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// The label of the exported secret (RFC 8446 §7.5) that a login is bound to.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-parlor-login";

/// A connection that has been welcomed.
#[derive(Debug)]
pub struct ServerSession {
    socket: Socket,
    connection: Connection,
    welcome: Event,
    exporter: [u8; 32],
    /// Kept open: the server holds a client that refuses its events for broken.
    _events: FrameReader,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no socket to connect from.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The link names no key to expect.
    #[error(
        "the link has no server key, and servers with a certificate are not supported yet; \
         take the link that `parlor-rendezvous link` shows"
    )]
    NoKey,
    /// Nothing answers there, or what answers is no rendezvous.
    #[error("the rendezvous cannot be reached; is it running, and is this machine online?")]
    Unreachable,
    /// Another key than the pinned one.
    #[error("the rendezvous has another key than the one in its link; nothing was sent")]
    WrongKey,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CallError {
    /// The server refused.
    #[error("the rendezvous refused: {0}")]
    Refused(ErrorReply),
    /// The connection was lost, or no reply came in time.
    #[error("the connection to the rendezvous was lost")]
    Lost,
    /// The reply is not as the protocol says.
    #[error("the rendezvous sent a reply that makes no sense")]
    Malformed,
}

impl ServerSession {
    /// Connects from a socket of its own, as `device`, and waits for the welcome: 10 seconds in
    /// all. Needs a tokio runtime.
    pub async fn connect(
        device: Arc<DeviceSecret>,
        server: &ServerAddress,
    ) -> Result<Self, ConnectError> {
        if server.key.is_none() {
            return Err(ConnectError::NoKey);
        }
        let socket = Socket::bind(device)?;
        let opened = timeout(OPEN_TIME, Self::open(socket, server)).await;
        opened.unwrap_or(Err(ConnectError::Unreachable))
    }

    async fn open(socket: Socket, server: &ServerAddress) -> Result<Self, ConnectError> {
        let connection = connect(&socket, server).await?;
        let mut events = open_events(&connection).await.map_err(|_| ConnectError::Unreachable)?;
        let first = next_event(&mut events).await.ok().flatten();
        let welcome = first.filter(|event| matches!(event, Event::Welcome { .. }));
        let welcome = welcome.ok_or(ConnectError::Unreachable)?;
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
            .map_err(|_| ConnectError::Unreachable)?;
        Ok(Self { socket, connection, welcome, exporter, _events: events })
    }

    /// The server's first event, an [`Event::Welcome`].
    pub fn welcome(&self) -> &Event {
        &self.welcome
    }

    /// The addresses of this machine that lead to the connection's socket.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.socket.local_addresses(true).into_iter().map(|local| local.address).collect()
    }

    /// 32 bytes that this connection alone has at both its ends: the TLS exporter
    /// (RFC 8446 §7.5) with the label `EXPORTER-parlor-login` and an empty context.
    pub fn exporter(&self) -> [u8; 32] {
        self.exporter
    }

    /// Asks, and waits for the reply for at most 10 seconds.
    pub async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, CallError> {
        let payload = exchange(&self.connection, request).await.map_err(|_| CallError::Lost)?;
        match serde_json::from_slice(&payload) {
            Ok(Reply::Ok(reply)) => Ok(reply),
            Ok(Reply::Error(error)) => Err(CallError::Refused(error)),
            Err(_) => Err(CallError::Malformed),
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

impl From<ServerDown> for ConnectError {
    fn from(why: ServerDown) -> Self {
        if why == ServerDown::WrongKey { Self::WrongKey } else { Self::Unreachable }
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, ErrorCode, Present};

    use super::super::testing::{FakeServer, secret};
    use super::*;

    const WATCH: Request = Request::PresenceWatch {};

    #[tokio::test]
    async fn a_session_is_welcomed_and_bound_to_its_connection() {
        let server = FakeServer::start(1);
        let address = server.address();
        let (session, at_server) =
            tokio::join!(ServerSession::connect(secret(2), &address), server.welcome());
        let session = session.unwrap();
        assert!(matches!(session.welcome(), Event::Welcome { .. }));
        let mut exporter = [0; 32];
        let connection = at_server.connection();
        connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").unwrap();
        assert_eq!(session.exporter(), exporter);
        session.close().await;
        assert!(matches!(connection.closed().await, quinn::ConnectionError::ApplicationClosed(_)));
    }

    #[tokio::test]
    async fn a_call_gives_a_reply_or_says_why_not() {
        let server = FakeServer::start(1);
        let address = server.address();
        let (session, at_server) =
            tokio::join!(ServerSession::connect(secret(2), &address), server.welcome());
        let session = session.unwrap();
        let (reply, _) = tokio::join!(session.call(&WATCH), at_server.reply(br#"{"ok":{}}"#));
        assert_eq!(reply, Ok(Done {}));
        let error = br#"{"error":{"code":"too_fast","message":"slowly"}}"#;
        let (reply, _) = tokio::join!(session.call::<Done>(&WATCH), at_server.reply(error));
        let Err(CallError::Refused(refused)) = reply else { panic!("{reply:?}") };
        assert_eq!(refused.code, ErrorCode::TooFast);
        let (reply, _) =
            tokio::join!(session.call::<Present>(&WATCH), at_server.reply(br#"{"ok":{}}"#));
        assert_eq!(reply, Err(CallError::Malformed));
        at_server.connection().close(quinn::VarInt::from_u32(0), b"");
        assert_eq!(session.call::<Done>(&WATCH).await, Err(CallError::Lost));
    }

    #[tokio::test]
    async fn only_the_pinned_server_will_do() {
        let server = FakeServer::start(1);
        let address = FakeServer::start(3).address();
        let other = ServerAddress { key: address.key, ..server.address() };
        let (session, ()) =
            tokio::join!(ServerSession::connect(secret(2), &other), server.refused());
        assert!(matches!(session.unwrap_err(), ConnectError::WrongKey));
        let unpinned = ServerAddress { key: None, ..server.address() };
        let session = ServerSession::connect(secret(2), &unpinned).await;
        assert!(matches!(session.unwrap_err(), ConnectError::NoKey));
    }
}
