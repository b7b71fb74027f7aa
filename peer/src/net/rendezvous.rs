//! The connection to the rendezvous: one attempt, then requests and events until it is lost.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use parlor_common::identity::ServerKey;
use parlor_common::link::ServerAddress;
use parlor_common::quic::{ALPN_RENDEZVOUS, Transport};
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{Event, MAX_EVENT, MAX_REPLY, Request, Ticket};
use quinn::{Connection, ConnectionError, ReadError, TransportErrorCode, VarInt, WriteError};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::select;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Report;
use super::frames::{FrameReader, ReadFrameError};
use super::socket::Socket;
use crate::node::input::{NetInput, RequestId, ServerDown};

/// A whole attempt: the look-up of the name and all its addresses. Its last packets leave after 2
/// and 4.5 seconds; a server that comes back later than that is met by the next attempt.
const CONNECT_TIME: Duration = Duration::from_secs(6);

/// An address that has not answered for this long gets company (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// Of a name's addresses so many are tried.
const MAX_ADDRESSES: usize = 8;

/// A request, from its first byte to the last of its reply.
pub(super) const REPLY_TIME: Duration = Duration::from_secs(10);

/// The same for a request that has a mail sent: the rendezvous gives that 20 seconds.
const MAIL_REPLY_TIME: Duration = Duration::from_secs(30);

/// A server that has ended its events closes the connection within this time.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// Requests on the way at once: as many as the server allows streams
/// ([`Transport::AT_RENDEZVOUS`]), so that none spends its time waiting for one.
const MAX_EXCHANGES: usize = 8;

/// The TLS alert `access_denied` (RFC 8446 §6): how rustls says that a verifier refused a key.
const ACCESS_DENIED: u8 = 49;

/// A request on its way to the rendezvous.
pub(super) type Asked = (RequestId, Box<Request>);

/// Why a request got no reply.
#[derive(Debug, Error)]
pub(super) enum ExchangeError {
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The request could not be sent.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The reply could not be read.
    #[error(transparent)]
    Read(#[from] ReadFrameError),
    /// The reply's stream ended without one.
    #[error("the reply's stream ended without a reply")]
    NoReply,
    /// It took too long.
    #[error("no reply in time")]
    TooLate,
}

/// Why events came to an end.
#[derive(Debug, Error)]
pub(super) enum EventsError {
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The stream could not be read.
    #[error(transparent)]
    Read(#[from] ReadFrameError),
    /// What came is no event.
    #[error("an event is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The server did not open its stream, or not close the connection after it.
    #[error("the server was silent for too long")]
    TooLate,
}

/// Tries to reach the rendezvous, on all addresses of its name.
pub(super) async fn connect(
    socket: &Socket,
    server: &ServerAddress,
) -> Result<Connection, ServerDown> {
    let Some(key) = server.key else {
        warn!("a rendezvous without a pinned key is not supported yet: take its full link");
        return Err(ServerDown::Unreachable);
    };
    let mut failure = ServerDown::Unreachable;
    let won = timeout(CONNECT_TIME, race(socket, server, key, &mut failure)).await;
    won.ok().flatten().ok_or(failure)
}

/// Starts an attempt for each address, one after another until one wins. `failure` becomes the
/// worst that was met.
async fn race(
    socket: &Socket,
    server: &ServerAddress,
    key: ServerKey,
    failure: &mut ServerDown,
) -> Option<Connection> {
    let found = lookup_host((server.at.host.as_str(), server.at.port)).await;
    let found = found.inspect_err(|error| debug!(%error, "the rendezvous' name is not known"));
    let mut addresses = found.ok()?.take(MAX_ADDRESSES).peekable();
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(attempt(socket.clone(), address, key));
        }
        let more = addresses.peek().is_some();
        select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(connection)) => return Some(connection),
                Ok(Err(why)) if *failure == ServerDown::Unreachable => *failure = why,
                Ok(Err(_)) | Err(_) => {}
            },
            () = sleep(STAGGER), if more => {}
            else => return None,
        }
    }
}

async fn attempt(
    socket: Socket,
    address: SocketAddr,
    key: ServerKey,
) -> Result<Connection, ServerDown> {
    let transport = Transport::TO_RENDEZVOUS;
    let connecting = socket.dial(address, &key, ALPN_RENDEZVOUS, transport).map_err(|error| {
        debug!(%address, %error, "the rendezvous cannot be dialed");
        ServerDown::Unreachable
    })?;
    connecting.await.map_err(|error| {
        debug!(%address, %error, "the rendezvous cannot be reached");
        if is_wrong_key(&error) { ServerDown::WrongKey } else { ServerDown::Unreachable }
    })
}

/// Whether this side refused the key that the other showed.
fn is_wrong_key(error: &ConnectionError) -> bool {
    let refused = TransportErrorCode::crypto(ACCESS_DENIED);
    matches!(error, ConnectionError::TransportError(error) if error.code == refused)
}

/// One attempt to connect, and then the connection until it is lost. Every request gets its
/// answer or failure; [`Report::ServerDown`] comes once, last.
pub(super) async fn run(
    socket: Socket,
    server: ServerAddress,
    mut requests: UnboundedReceiver<Asked>,
    reports: Sender<Report>,
) {
    let why = match connect(&socket, &server).await {
        Ok(connection) => serve(&connection, &mut requests, &reports).await,
        Err(why) => why,
    };
    requests.close();
    while let Some((id, _)) = requests.recv().await {
        say(&reports, NetInput::RequestFailed { id }).await;
    }
    // Fails only when the program ends.
    let _ = reports.send(Report::ServerDown(why)).await;
}

async fn serve(
    connection: &Connection,
    requests: &mut UnboundedReceiver<Asked>,
    reports: &Sender<Report>,
) -> ServerDown {
    say(reports, NetInput::ServerUp).await;
    let mut exchanges = JoinSet::new();
    let mut events = pin!(watch(connection, reports));
    let why = loop {
        select! {
            why = &mut events => break why,
            Some(_) = exchanges.join_next() => {}
            Some((id, request)) = requests.recv(), if exchanges.len() < MAX_EXCHANGES => {
                exchanges.spawn(answer(connection.clone(), id, request, reports.clone()));
            }
        }
    };
    connection.close(VarInt::from_u32(0), b"");
    while exchanges.join_next().await.is_some() {}
    why
}

async fn answer(
    connection: Connection,
    id: RequestId,
    request: Box<Request>,
    reports: Sender<Report>,
) {
    let input = match exchange(&connection, &request).await {
        Ok(payload) => NetInput::ServerReply { id, payload },
        Err(error) => {
            debug!(request = id.0, %error, "request failed");
            NetInput::RequestFailed { id }
        }
    };
    say(&reports, input).await;
}

/// Sends a request and waits for its reply's payload.
pub(super) async fn exchange(
    connection: &Connection,
    request: &Request,
) -> Result<Vec<u8>, ExchangeError> {
    // Our own types serialize: they have no maps with odd keys and no failing serializers.
    let payload = serde_json::to_vec(request).unwrap_or_default();
    let exchange = async {
        let (mut outgoing, incoming) = connection.open_bi().await?;
        outgoing.write_all(&frame(&payload)).await?;
        // Fails only where the stream is gone, and then the reading says so.
        let _ = outgoing.finish();
        let reply = FrameReader::new(incoming, MAX_REPLY).next().await?;
        reply.ok_or(ExchangeError::NoReply)
    };
    timeout(reply_time(request), exchange).await.map_err(|_| ExchangeError::TooLate)?
}

fn reply_time(request: &Request) -> Duration {
    let Request::RegisterStart { ticket: Some(Ticket::Email { code: None, .. }), .. } = request
    else {
        return REPLY_TIME;
    };
    MAIL_REPLY_TIME
}

/// Passes events on until they end, and judges why they did.
async fn watch(connection: &Connection, reports: &Sender<Report>) -> ServerDown {
    let mut stopping = false;
    let Err(error) = pass_events(connection, reports, &mut stopping).await;
    debug!(%error, stopping, "the connection to the rendezvous ends");
    if stopping || is_closed(&error) { ServerDown::Closed } else { ServerDown::Unreachable }
}

/// Whether the server closed the connection in order.
fn is_closed(error: &EventsError) -> bool {
    matches!(
        error,
        EventsError::Connection(ConnectionError::ApplicationClosed(_))
            | EventsError::Read(ReadFrameError::Read(ReadError::ConnectionLost(
                ConnectionError::ApplicationClosed(_)
            )))
    )
}

async fn pass_events(
    connection: &Connection,
    reports: &Sender<Report>,
    stopping: &mut bool,
) -> Result<Infallible, EventsError> {
    let mut events = open_events(connection).await?;
    while let Some(event) = next_event(&mut events).await? {
        *stopping |= event == Event::Stopping {};
        say(reports, NetInput::ServerEvent(Box::new(event))).await;
    }
    // Replies may still be on their way.
    let end = timeout(CLOSING_TIME, connection.closed()).await;
    Err(end.map_err(|_| EventsError::TooLate)?.into())
}

/// Waits for the stream of the server's events.
pub(super) async fn open_events(connection: &Connection) -> Result<FrameReader, EventsError> {
    let stream = timeout(REPLY_TIME, connection.accept_uni()).await;
    Ok(FrameReader::new(stream.map_err(|_| EventsError::TooLate)??, MAX_EVENT))
}

/// The next event; none when the server has ended them.
pub(super) async fn next_event(events: &mut FrameReader) -> Result<Option<Event>, EventsError> {
    let Some(payload) = events.next().await? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&payload)?))
}

async fn say(reports: &Sender<Report>, input: NetInput) {
    // Fails only when the program ends.
    let _ = reports.send(Report::Said(input)).await;
}

#[cfg(test)]
mod tests {
    use parlor_common::identity::ServerSecret;

    use super::super::testing::{AtServer, FakeServer, nobody, secret};
    use super::super::{Net, NetConfig};
    use super::*;
    use crate::node::output::Transmit;

    async fn net(server: ServerAddress) -> Net {
        let mut net = Net::open(NetConfig { device: secret(2), server }).unwrap();
        assert!(matches!(net.next().await, NetInput::LocalAddresses(_)));
        net.execute(Transmit::ConnectServer);
        net
    }

    /// A connection that has been welcomed.
    async fn connected(server: &FakeServer) -> (Net, AtServer) {
        let mut net = net(server.address()).await;
        let at_server = server.welcome().await;
        assert_eq!(net.next().await, NetInput::ServerUp);
        let welcome = net.next().await;
        let NetInput::ServerEvent(event) = welcome else { panic!("{welcome:?}") };
        assert!(matches!(*event, Event::Welcome { .. }));
        (net, at_server)
    }

    fn ask(net: &mut Net, id: u64) {
        let request = Box::new(Request::HeldGet {});
        net.execute(Transmit::Request { id: RequestId(id), request });
    }

    #[tokio::test]
    async fn requests_are_answered_and_events_passed_on() {
        let server = FakeServer::start(1);
        let (mut net, mut at_server) = connected(&server).await;
        for id in 0..30 {
            ask(&mut net, id);
        }
        for id in 0..30 {
            assert_eq!(at_server.reply(b"{}").await, Request::HeldGet {});
            let answer = NetInput::ServerReply { id: RequestId(id), payload: b"{}".to_vec() };
            assert_eq!(net.next().await, answer);
        }
        at_server.tell(br#"{"event":"held"}"#).await;
        let event = NetInput::ServerEvent(Box::new(Event::Held {}));
        assert_eq!(net.next().await, event);
    }

    #[tokio::test]
    async fn a_request_that_gets_no_reply_fails_and_the_connection_stands() {
        let server = FakeServer::start(1);
        let (mut net, at_server) = connected(&server).await;
        ask(&mut net, 1);
        at_server.reply_bytes(b"").await;
        assert_eq!(net.next().await, NetInput::RequestFailed { id: RequestId(1) });
        ask(&mut net, 2);
        at_server.reply_bytes(&u32::MAX.to_be_bytes()).await;
        assert_eq!(net.next().await, NetInput::RequestFailed { id: RequestId(2) });
        ask(&mut net, 3);
        at_server.reply(b"{}").await;
        let answer = NetInput::ServerReply { id: RequestId(3), payload: b"{}".to_vec() };
        assert_eq!(net.next().await, answer);
    }

    #[tokio::test]
    async fn when_the_server_closes_every_request_fails_before_it_is_told() {
        let server = FakeServer::start(1);
        let (mut net, at_server) = connected(&server).await;
        for id in 0..20 {
            ask(&mut net, id);
        }
        at_server.connection().close(VarInt::from_u32(0), b"");
        let mut failed = Vec::new();
        let why = loop {
            let input = net.next().await;
            let NetInput::RequestFailed { id } = input else { break input };
            failed.push(id.0);
        };
        assert_eq!(why, NetInput::ServerDown(ServerDown::Closed));
        failed.sort_unstable();
        assert_eq!(failed, (0..20).collect::<Vec<_>>());
        ask(&mut net, 20);
        assert_eq!(net.next().await, NetInput::RequestFailed { id: RequestId(20) });
    }

    #[tokio::test]
    async fn after_a_lost_connection_there_can_be_another() {
        let server = FakeServer::start(1);
        let (mut net, mut at_server) = connected(&server).await;
        at_server.tell(br#"{"event":"stopping"}"#).await;
        let event = NetInput::ServerEvent(Box::new(Event::Stopping {}));
        assert_eq!(net.next().await, event);
        drop(at_server);
        assert_eq!(net.next().await, NetInput::ServerDown(ServerDown::Closed));
        net.execute(Transmit::ConnectServer);
        let _at_server = server.welcome().await;
        assert_eq!(net.next().await, NetInput::ServerUp);
    }

    #[tokio::test]
    async fn a_server_that_sends_no_events_but_something_else_is_left() {
        let server = FakeServer::start(1);
        let (mut net, mut at_server) = connected(&server).await;
        at_server.tell(b"hello").await;
        assert_eq!(net.next().await, NetInput::ServerDown(ServerDown::Unreachable));
        at_server.connection().closed().await;
        let (mut net, mut at_server) = connected(&server).await;
        at_server.tell_bytes(&u32::MAX.to_be_bytes()).await;
        assert_eq!(net.next().await, NetInput::ServerDown(ServerDown::Unreachable));
    }

    #[tokio::test]
    async fn a_server_with_another_key_is_told_apart_from_none() {
        let server = FakeServer::start(1);
        let key = Some(ServerSecret::from_seed(&[3; 32]).public());
        let mut net = net(ServerAddress { key, ..server.address() }).await;
        server.refused().await;
        assert_eq!(net.next().await, NetInput::ServerDown(ServerDown::WrongKey));
    }

    #[tokio::test]
    async fn where_nothing_answers_the_attempt_ends() {
        let mut net = net(nobody()).await;
        ask(&mut net, 1);
        assert_eq!(net.next().await, NetInput::RequestFailed { id: RequestId(1) });
        assert_eq!(net.next().await, NetInput::ServerDown(ServerDown::Unreachable));
    }

    #[tokio::test]
    async fn a_server_is_found_by_its_name() {
        let server = FakeServer::start(1);
        let mut address = server.address();
        "localhost".clone_into(&mut address.at.host);
        let mut net = net(address).await;
        let _at_server = server.welcome().await;
        assert_eq!(net.next().await, NetInput::ServerUp);
    }
}
