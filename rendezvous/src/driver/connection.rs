//! One connection: its handshake, its requests, its events.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use parlor_common::identity::DeviceKey;
use parlor_common::quic::raw_key;
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{MAX_POST, MAX_REQUEST};
use quinn::rustls::pki_types::CertificateDer;
use quinn::{Connecting, Connection, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::admission::Slot;
use super::room::{Room, Taken};
use super::turns::{Client, Input};
use crate::limits::Limits;
use crate::server::{CloseReason, ConnId, StreamId};

/// A client that is being disconnected has this long to take its last events.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Events that may wait for a client before it counts as too slow.
const MAX_EVENTS: usize = 1024;

/// The application error code of a stream that was cut because it stalled.
const STALLED: VarInt = VarInt::from_u32(1);

/// Binds a login to its TLS connection (RFC 8446 §7.5).
const EXPORTER: &[u8] = b"EXPORTER-parlor-login";

/// How long a request of a connection may be, in bytes, once it is known whose its device is.
type Longest = watch::Receiver<Option<usize>>;

/// What a connection needs to reach the turns.
#[derive(Clone)]
pub(super) struct ToTurns {
    pub(super) inputs: mpsc::Sender<Input>,
    /// A handshake has ended within this time.
    pub(super) handshake_timeout: Duration,
    /// A request has arrived whole, and its reply been taken, within this time.
    pub(super) request_timeout: Duration,
}

impl ToTurns {
    pub(super) fn new(inputs: mpsc::Sender<Input>, limits: &Limits) -> Self {
        Self {
            inputs,
            handshake_timeout: Duration::from_millis(limits.handshake_timeout_ms),
            request_timeout: Duration::from_millis(limits.request_timeout_ms),
        }
    }
}

/// Serves a connection from its first packet to its end.
pub(super) async fn serve(id: ConnId, connecting: Connecting, mut slot: Slot, turns: ToTurns) {
    let Ok(Ok(connection)) = timeout(turns.handshake_timeout, connecting).await else { return };
    slot.established();
    let Some((device, exporter)) = identify(&connection) else { return };
    let remote = connection.remote_address();
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let (events, waiting) = mpsc::channel(MAX_EVENTS);
    let (closing, is_closing) = oneshot::channel();
    let (allow, longest) = watch::channel(None);
    let client = Client { connection: connection.clone(), events, closing, longest: allow };
    let connected = Input::Connected { conn: id, device, remote, exporter, client };
    if turns.inputs.send(connected).await.is_err() {
        return;
    }
    tokio::select! {
        () = accept_requests(id, &connection, (slot.room(), &longest), &turns) => {}
        () = tell(&connection, waiting, is_closing) => {}
        _ = connection.closed() => {}
    }
    // The receiver is gone only when the server is.
    let _ = turns.inputs.send(Input::Disconnected { conn: id }).await;
}

/// The key that the client proved, and 32 bytes that only the two ends of this connection know.
fn identify(connection: &Connection) -> Option<(DeviceKey, [u8; 32])> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER, b"").ok()?;
    Some((raw_key(&certificates)?, exporter))
}

async fn accept_requests(
    id: ConnId,
    connection: &Connection,
    (room, longest): (&Room, &Longest),
    turns: &ToTurns,
) {
    let mut last = 0;
    while let Ok((send, receive)) = connection.accept_bi().await {
        last += 1;
        let context = (room.clone(), longest.clone(), turns.clone());
        tokio::spawn(serve_request((id, StreamId(last)), (send, receive), context));
    }
}

/// Reads one request, hands it over, and writes its reply.
async fn serve_request(
    (conn, stream): (ConnId, StreamId),
    (mut send, mut receive): (SendStream, RecvStream),
    (room, longest, turns): (Room, Longest, ToTurns),
) {
    let reading = read_request(&mut receive, &room, longest);
    let Ok(received) = timeout(turns.request_timeout, reading).await else {
        tracing::debug!(%conn, "a request stalled");
        return cut(&mut send);
    };
    let (reply, replied) = oneshot::channel();
    let (input, taken) = match received {
        Ok((payload, taken)) => (Input::Request { conn, stream, payload, reply }, Some(taken)),
        Err(ReadError::Malformed) => (Input::Malformed { conn, stream, reply }, None),
        Err(ReadError::Gone) => return,
    };
    if turns.inputs.send(input).await.is_err() {
        return;
    }
    let Ok(payload) = replied.await else { return };
    drop(taken);
    let bytes = frame(&payload);
    if timeout(turns.request_timeout, send.write_all(&bytes)).await.is_err() {
        return cut(&mut send);
    }
    // A stream that is closed already has nobody at its other end.
    let _ = send.finish();
}

fn cut(send: &mut SendStream) {
    // A stream that is closed already needs no cut; the receiving half is stopped when dropped.
    let _ = send.reset(STALLED);
}

/// No request came.
enum ReadError {
    /// The frame is too long, or was not finished.
    Malformed,
    /// Nobody waits for a reply.
    Gone,
}

impl From<ReadExactError> for ReadError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Malformed,
            ReadExactError::ReadError(_) => Self::Gone,
        }
    }
}

/// Reads one frame; its length is judged, and there is room for it, before anything is allocated.
async fn read_request(
    receive: &mut RecvStream,
    room: &Room,
    longest: Longest,
) -> Result<(Vec<u8>, Taken), ReadError> {
    let mut header = [0; 4];
    receive.read_exact(&mut header).await?;
    let len = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if len > MAX_POST || len > MAX_REQUEST && len > known(longest).await {
        return Err(ReadError::Malformed);
    }
    let taken = room.take(len).await;
    let mut payload = vec![0; len];
    receive.read_exact(&mut payload).await?;
    Ok((payload, taken))
}

/// Waits until it is known whose device the connection's is.
async fn known(mut longest: Longest) -> usize {
    let longest = longest.wait_for(Option::is_some).await;
    longest.ok().and_then(|longest| *longest).unwrap_or(MAX_REQUEST)
}

/// Tells a client its events until the server disconnects it, or it is gone.
async fn tell(
    connection: &Connection,
    waiting: mpsc::Receiver<Vec<u8>>,
    is_closing: oneshot::Receiver<CloseReason>,
) {
    let mut telling = pin!(write_events(connection, waiting));
    tokio::select! {
        biased;
        reason = is_closing => {
            // A client that does not take its last events is closed without.
            let _ = timeout(CLOSE_TIMEOUT, telling).await;
            if let Ok(reason) = reason {
                close(connection, reason);
            }
        }
        () = &mut telling => {}
    }
}

/// Writes events until there will be no more, and the client has them all.
async fn write_events(connection: &Connection, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let Ok(mut stream) = connection.open_uni().await else { return };
    while let Some(payload) = waiting.recv().await {
        if stream.write_all(&frame(&payload)).await.is_err() {
            return;
        }
    }
    // A stream that is closed already has nobody at its other end.
    let _ = stream.finish();
    let _ = stream.stopped().await;
}

/// Closes a connection at once.
pub(super) fn close(connection: &Connection, reason: CloseReason) {
    connection.close(VarInt::from_u32(reason.code()), reason.as_str().as_bytes());
}
