//! Links to peers: dialing, accepting, and frames both ways.
//!
//! A link's key is proved by its handshake; whether that key is anybody's is not known here.

use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::identity::DeviceKey;
use parlor_common::quic::{ALPN_PEER, Transport, raw_key};
use parlor_common::wire::peer::{Hello, MAX_PEER_FRAME, ParsePeerFrameError, PeerFrame};
use parlor_common::wire::{FrameTooLong, frame};
use quinn::rustls::pki_types::CertificateDer;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, SendStream, VarInt, WriteError};
use thiserror::Error;
use tokio::select;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, trace};

use super::Report;
use super::frames::{FrameReader, ReadFrameError};
use super::socket::{DialError, Socket, canonical};
use crate::node::input::{LinkId, NetInput};

/// From the first packet to the other side's hello.
const ATTEMPT_TIME: Duration = Duration::from_secs(5);

/// How long an address that has not answered is dialed. A `ClientHello` takes two datagrams and is
/// sent at 0, 0.3, 0.9 and 2.1 seconds; giving up takes one more. A silent address thus gets seven,
/// and eight are the most that it may get.
const SILENCE_TIME: Duration = Duration::from_secs(2);

/// What was sent on a link has this long to arrive before the link is closed.
pub(super) const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Strangers may have this many handshakes in progress; more are refused.
const MAX_GREETINGS: usize = 32;

/// From this many handshakes on, a stranger must first show that its address is its own
/// (RFC 9000 §8.1.2).
const BUSY_GREETINGS: usize = 8;

/// Frames are gathered into writes of about this many bytes: with one write a frame the sender
/// would be several times slower.
const GATHERED: usize = 64 * 1024;

/// The highest version of the peer protocol that is spoken here.
const VERSION: u32 = 1;

/// Why there is no link, or no longer.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The connection could not be tried.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke, or its handshake.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The stream to the other side broke.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The stream from the other side broke.
    #[error(transparent)]
    Read(#[from] ReadFrameError),
    /// The other side sent something that is no frame.
    #[error(transparent)]
    Malformed(#[from] ParsePeerFrameError),
    /// The first frame was not a hello.
    #[error("the other side said no hello")]
    NoHello,
    /// The other side proved no key.
    #[error("the other side has no key")]
    NoKey,
    /// Nothing came from the address at all.
    #[error("the address did not answer")]
    Silent,
    /// It took too long.
    #[error("no hello in time")]
    TooLate,
}

impl From<FrameTooLong> for LinkError {
    fn from(error: FrameTooLong) -> Self {
        Self::Read(error.into())
    }
}

/// A connection on which both sides have said hello.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    device: DeviceKey,
    dialed: bool,
    outgoing: SendStream,
    incoming: FrameReader,
}

/// Tries to reach `device` at `address`.
pub(super) async fn dial(
    socket: &Socket,
    device: DeviceKey,
    address: SocketAddr,
) -> Result<Link, LinkError> {
    let attempt = async {
        let mut connecting = socket.dial(address, &device, ALPN_PEER, Transport::BETWEEN_PEERS)?;
        let answer = timeout(SILENCE_TIME, connecting.handshake_data()).await;
        drop(answer.map_err(|_| LinkError::Silent)??);
        Link::greet(connecting.await?, true).await
    };
    timeout(ATTEMPT_TIME, attempt).await.map_err(|_| LinkError::TooLate)?
}

/// Takes connections until the endpoint closes, and reports those on which a hello arrives.
pub(super) async fn accept_all(endpoint: Endpoint, reports: Sender<Report>) {
    let mut greetings = JoinSet::new();
    loop {
        select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(incoming, &mut greetings, &reports),
                None => return,
            },
            Some(_) = greetings.join_next() => {}
        }
    }
}

fn admit(incoming: Incoming, greetings: &mut JoinSet<()>, reports: &Sender<Report>) {
    if greetings.len() >= MAX_GREETINGS {
        incoming.refuse();
    } else if greetings.len() >= BUSY_GREETINGS && !incoming.remote_address_validated() {
        // Fails only where the address is validated.
        let _ = incoming.retry();
    } else {
        greetings.spawn(accept(incoming, reports.clone()));
    }
}

async fn accept(incoming: Incoming, reports: Sender<Report>) {
    let address = canonical(incoming.remote_address());
    let attempt = async { Link::greet(incoming.await?, false).await };
    match timeout(ATTEMPT_TIME, attempt).await.unwrap_or(Err(LinkError::TooLate)) {
        // Fails only when the program ends.
        Ok(link) => drop(reports.send(Report::Link(Box::new(link))).await),
        Err(error) => debug!(%address, %error, "no link from"),
    }
}

impl Link {
    /// Says hello and waits for the other side's. A connection that is dropped is closed.
    async fn greet(connection: Connection, dialed: bool) -> Result<Self, LinkError> {
        let device = proved_key(&connection).ok_or(LinkError::NoKey)?;
        let mut outgoing = connection.open_uni().await?;
        let hello = PeerFrame::Hello(Hello { version: VERSION });
        outgoing.write_all(&frame(&hello.encode())).await?;
        let mut incoming = FrameReader::new(connection.accept_uni().await?, MAX_PEER_FRAME);
        let first = incoming.next().await?.ok_or(LinkError::NoHello)?;
        match PeerFrame::parse(&first)? {
            PeerFrame::Hello(Hello { version }) if version >= VERSION => {
                Ok(Self { connection, device, dialed, outgoing, incoming })
            }
            PeerFrame::Hello(_)
            | PeerFrame::BundleRequest
            | PeerFrame::Bundle(_)
            | PeerFrame::Envelope(_)
            | PeerFrame::Unknown(_) => Err(LinkError::NoHello),
        }
    }

    /// How the node is told of the link.
    pub(super) fn up(&self, link: LinkId) -> NetInput {
        NetInput::LinkUp {
            link,
            device: self.device,
            address: canonical(self.connection.remote_address()),
            dialed: self.dialed,
            rtt: self.connection.rtt(),
        }
    }

    /// Carries frames until either side ends the link: this one does by dropping the sender of
    /// `frames`. Reports the link's end once, last.
    pub(super) async fn run(
        mut self,
        link: LinkId,
        frames: UnboundedReceiver<PeerFrame>,
        reports: Sender<Report>,
    ) {
        let end = select! {
            end = read_all(&mut self.incoming, link, &reports) => end,
            end = write_all(&mut self.outgoing, frames) => end,
        };
        match end {
            Ok(()) => self.flush().await,
            Err(error) => debug!(link = link.0, %error, "link broke"),
        }
        self.connection.close(VarInt::from_u32(0), b"");
        // Fails only when the program ends.
        let _ = reports.send(Report::LinkDown(link)).await;
    }

    async fn flush(&mut self) {
        if self.outgoing.finish().is_ok() {
            // Whether all of it arrived is for acknowledgements inside envelopes to say.
            let _ = timeout(FLUSH_TIME, self.outgoing.stopped()).await;
        }
    }
}

fn proved_key(connection: &Connection) -> Option<DeviceKey> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    raw_key(&certificates)
}

/// Reports frames in batches, as they arrive, until the other side finishes its stream. Waits
/// when the node lags: QUIC's flow control then makes the other side wait.
async fn read_all(
    incoming: &mut FrameReader,
    link: LinkId,
    reports: &Sender<Report>,
) -> Result<(), LinkError> {
    while let Some(batch) = read_batch(incoming).await? {
        if reports.send(Report::Frames(link, batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn read_batch(incoming: &mut FrameReader) -> Result<Option<Vec<PeerFrame>>, LinkError> {
    let mut payload = incoming.next().await?;
    if payload.is_none() {
        return Ok(None);
    }
    let mut batch = Vec::new();
    while let Some(bytes) = payload {
        let frame = PeerFrame::parse(&bytes)?;
        if let PeerFrame::Unknown(kind) = frame {
            trace!(kind, "frame of an unknown type ignored");
        } else {
            batch.push(frame);
        }
        payload = incoming.next_waiting()?;
    }
    Ok(Some(batch))
}

/// Writes frames, all that wait at once, until their sender is dropped.
async fn write_all(
    outgoing: &mut SendStream,
    mut frames: UnboundedReceiver<PeerFrame>,
) -> Result<(), LinkError> {
    let mut gathered = Vec::new();
    while let Some(first) = frames.recv().await {
        gathered.clear();
        gathered.extend(frame(&first.encode()));
        while gathered.len() < GATHERED
            && let Ok(next) = frames.try_recv()
        {
            gathered.extend(frame(&next.encode()));
        }
        outgoing.write_all(&gathered).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::net::UdpSocket;
    use tokio::runtime;

    use super::super::testing::{Peer, secret};
    use super::*;
    use crate::node::output::Transmit;

    /// Connects to the peer at `address` as a device of its own, and says no hello.
    async fn connect(address: SocketAddr, transport: Transport) -> (Socket, Connection) {
        let socket = Socket::bind(secret(9)).unwrap();
        let key = secret(2).public();
        let connecting = socket.dial(address, &key, ALPN_PEER, transport).unwrap();
        (socket, connecting.await.unwrap())
    }

    async fn say_hello(connection: &Connection) -> SendStream {
        let mut stream = connection.open_uni().await.unwrap();
        let hello = PeerFrame::Hello(Hello { version: VERSION });
        stream.write_all(&frame(&hello.encode())).await.unwrap();
        stream
    }

    async fn up(peer: &mut Peer) -> LinkId {
        let up = peer.net.next().await;
        let NetInput::LinkUp { link, dialed: false, .. } = up else { panic!("{up:?}") };
        link
    }

    #[tokio::test]
    async fn a_silent_address_gets_at_most_eight_datagrams() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let mut peer = Peer::open(1);
        let device = secret(2).public();
        peer.net.execute(Transmit::Dial { device, address });
        assert_eq!(peer.net.next().await, NetInput::DialFailed { device, address });
        peer.net.close().await;
        let mut datagrams = 0;
        while silent.try_recv(&mut [0; 2048]).is_ok() {
            datagrams += 1;
        }
        assert!((2..=8).contains(&datagrams), "{datagrams}");
    }

    #[tokio::test]
    async fn a_client_that_says_no_hello_is_dropped_and_never_told() {
        let mut peer = Peer::open(2);
        let (_socket, connection) = connect(peer.address, Transport::BETWEEN_PEERS).await;
        connection.closed().await;
        assert_eq!(peer.net.try_next(), None);
    }

    #[tokio::test]
    async fn a_client_that_says_something_else_first_is_dropped_and_never_told() {
        let mut peer = Peer::open(2);
        let (_socket, connection) = connect(peer.address, Transport::BETWEEN_PEERS).await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&frame(&PeerFrame::BundleRequest.encode())).await.unwrap();
        connection.closed().await;
        assert_eq!(peer.net.try_next(), None);
    }

    #[tokio::test]
    async fn too_long_or_malformed_frames_end_the_link() {
        let mut peer = Peer::open(2);
        let too_long = u32::try_from(MAX_PEER_FRAME + 1).unwrap().to_be_bytes().to_vec();
        for bytes in [too_long, frame(&[]), frame(b"\x02{")] {
            let (_socket, connection) = connect(peer.address, Transport::BETWEEN_PEERS).await;
            let mut stream = say_hello(&connection).await;
            let link = up(&mut peer).await;
            stream.write_all(&bytes).await.unwrap();
            assert_eq!(peer.net.next().await, NetInput::LinkDown { link });
            connection.closed().await;
        }
        assert_eq!(peer.net.try_next(), None);
    }

    #[tokio::test]
    async fn frames_of_unknown_types_are_ignored() {
        let mut peer = Peer::open(2);
        let (_socket, connection) = connect(peer.address, Transport::BETWEEN_PEERS).await;
        let mut stream = say_hello(&connection).await;
        let link = up(&mut peer).await;
        stream.write_all(&frame(b"\xc8later")).await.unwrap();
        stream.write_all(&frame(&PeerFrame::BundleRequest.encode())).await.unwrap();
        let known = NetInput::LinkFrame { link, frame: PeerFrame::BundleRequest };
        assert_eq!(peer.net.next().await, known);
    }

    #[tokio::test]
    async fn each_side_asks_the_other_for_fewer_acknowledgements() {
        let mut peer = Peer::open(2);
        let (_socket, connection) = connect(peer.address, Transport::BETWEEN_PEERS).await;
        let mut stream = say_hello(&connection).await;
        let link = up(&mut peer).await;
        stream.write_all(&frame(&PeerFrame::BundleRequest.encode())).await.unwrap();
        let known = NetInput::LinkFrame { link, frame: PeerFrame::BundleRequest };
        assert_eq!(peer.net.next().await, known);
        let stats = connection.stats();
        assert!(stats.frame_tx.ack_frequency > 0, "{stats:?}");
        assert!(stats.frame_rx.ack_frequency > 0, "{stats:?}");
    }

    #[tokio::test]
    async fn a_peer_that_disappears_is_noticed() {
        let mut peer = Peer::open(2);
        let address = peer.address;
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let handles = runtime.block_on(async {
                // The smaller of both sides' idle times holds (RFC 9000 §10.1).
                let max_idle = Duration::from_millis(500);
                let hasty = Transport { max_idle, ..Transport::BETWEEN_PEERS };
                let (socket, connection) = connect(address, hasty).await;
                let stream = say_hello(&connection).await;
                connection.accept_uni().await.unwrap();
                (socket, connection, stream)
            });
            // Nothing runs any more that could say goodbye.
            drop(runtime);
            drop(handles);
        });
        let link = up(&mut peer).await;
        assert_eq!(peer.net.next().await, NetInput::LinkDown { link });
    }
}
