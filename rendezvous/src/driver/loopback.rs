//! The driver over real sockets: what only it can get wrong.

use std::net::{Ipv4Addr, SocketAddr};

use parlor_common::candidate::{Offer, OfferBody, OfferId};
use parlor_common::envelope::MAX_ENVELOPE;
use parlor_common::id::DeviceId;
use parlor_common::identity::ServerKey;
use parlor_common::wire::rendezvous::{
    AccountChange, Done, ErrorCode, ErrorReply, Event, LoggedIn, LoginStarted, MAX_POST,
    MAX_REQUEST, RegisterStarted, Registration as Registering, Request, Ticket,
};
use parlor_common::wire::{FrameDecoder, frame};
use quinn::{Connection, ConnectionError, RecvStream};
use rand::SeedableRng;
use serde::de::DeserializeOwned;

use super::*;
use crate::admin::{AdminAnswer, AdminReply, AdminRequest, UserChange};
use crate::config::{EmailSettings, Registration, Settings};
use crate::limits::Limits;
use crate::opaque::{Binding, client};
use crate::server::testing::{PASSWORD, card, first_list, name, parse_reply, secret};

/// Longer than anything here takes, shorter than a hung test is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device's connection to a server.
struct Client {
    /// Lives as long as the connection does.
    endpoint: Endpoint,
    connection: Connection,
    server: ServerKey,
    events: Option<(RecvStream, FrameDecoder)>,
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it should not take so long")
}

fn start(limits: Limits) -> Rendezvous {
    Rendezvous::start(&Config { limits, ..Config::in_memory() }).unwrap()
}

async fn try_connect(
    server: &Rendezvous,
    device: u8,
    transport: Transport,
) -> Result<Client, ConnectionError> {
    let server_key = server.link().server.key.unwrap();
    let (device, transport) = (secret(device), transport.config());
    let config = quic::client_config(&device, &server_key, ALPN_RENDEZVOUS, transport).unwrap();
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connecting = endpoint.connect_with(config, server.address(), quic::SERVER_NAME).unwrap();
    let connection = within(connecting).await?;
    Ok(Client { endpoint, connection, server: server_key, events: None })
}

async fn connect(server: &Rendezvous, device: u8) -> Client {
    try_connect(server, device, Transport::TO_RENDEZVOUS).await.unwrap()
}

impl Client {
    /// Sends bytes on a stream of their own and reads what comes back.
    async fn exchange(&self, bytes: &[u8], finish: bool) -> Result<Vec<u8>, quinn::ReadToEndError> {
        let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        if finish {
            send.finish().unwrap();
        }
        within(receive.read_to_end(usize::MAX)).await
    }

    async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ErrorReply> {
        self.call_bytes(&frame(&serde_json::to_vec(request).unwrap()), true).await
    }

    async fn call_bytes<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        finish: bool,
    ) -> Result<T, ErrorReply> {
        let reply = self.exchange(bytes, finish).await.unwrap();
        let mut decoder = FrameDecoder::new(MAX_REQUEST);
        decoder.push(&reply);
        let payload = decoder.next_frame().unwrap().expect("one whole frame");
        assert!(decoder.is_empty());
        parse_reply(&payload)
    }

    async fn event(&mut self) -> Event {
        if self.events.is_none() {
            let stream = within(self.connection.accept_uni()).await.unwrap();
            self.events = Some((stream, FrameDecoder::new(MAX_REQUEST)));
        }
        let (stream, decoder) = self.events.as_mut().unwrap();
        loop {
            if let Some(payload) = decoder.next_frame().unwrap() {
                return serde_json::from_slice(&payload).unwrap();
            }
            let chunk = within(stream.read_chunk(1024, true)).await.unwrap().expect("an event");
            decoder.push(&chunk.bytes);
        }
    }

    async fn welcome(&mut self) -> Option<String> {
        let event = self.event().await;
        let Event::Welcome { name, observed, .. } = event else { panic!("{event:?}") };
        let own = self.endpoint.local_addr().unwrap();
        assert_eq!(observed, SocketAddr::from((Ipv4Addr::LOCALHOST, own.port())));
        name.map(|name| name.to_string())
    }

    async fn register(&self, as_name: &str, device: u8) {
        let (rng, as_name) = (&mut StdRng::from_seed([1; 32]), name(as_name));
        let (message, state) = client::start_registration(PASSWORD, rng);
        let request =
            Request::RegisterStart { name: as_name.clone(), message: message.into(), ticket: None };
        let RegisterStarted { message, .. } = self.call(&request).await.unwrap();
        let (upload, _) = state.finish(PASSWORD, &message.0, &as_name, &self.server, rng);
        let registration = Registering {
            upload: upload.into(),
            devices: first_list(as_name.as_str(), device),
            account_box: vec![7].into(),
            recovery_box: vec![8].into(),
        };
        self.call::<Done>(&Request::RegisterFinish(Box::new(registration))).await.unwrap();
    }

    async fn login(&self, as_name: &str) -> Result<LoggedIn, ErrorReply> {
        let (rng, as_name) = (&mut StdRng::from_seed([2; 32]), name(as_name));
        let mut exporter = [0; 32];
        let label = b"EXPORTER-parlor-login";
        self.connection.export_keying_material(&mut exporter, label, b"").unwrap();
        let binding = Binding { name: &as_name, server: &self.server, exporter: &exporter };
        let (message, state) = client::start_login(PASSWORD, rng);
        let request = Request::LoginStart { name: as_name.clone(), message: message.into() };
        let LoginStarted { message, .. } = self.call(&request).await?;
        let (message, _) = state.finish(PASSWORD, &message.0, &binding, rng).unwrap();
        self.call(&Request::LoginFinish { message: message.into() }).await
    }
}

fn look_up() -> Request {
    Request::UserGet { name: name("alice") }
}

#[tokio::test]
async fn a_client_is_welcomed_registers_and_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataPlace::Folder(folder.path().to_owned());
    let config = Config { data, ..Config::in_memory() };
    let server = Rendezvous::start(&config).unwrap();
    let mut alice = connect(&server, 1).await;
    assert_eq!(alice.welcome().await, None);
    alice.register("alice", 1).await;
    assert!(alice.call::<serde_json::Value>(&look_up()).await.is_ok());
    let other = connect(&server, 2).await;
    assert_eq!(other.login("alice").await.unwrap().account_box.0, [7]);

    let link = server.link().clone();
    within(server.stop()).await;
    assert_eq!(alice.event().await, Event::Stopping {});
    let closed = within(alice.connection.closed()).await;
    let ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.error_code, VarInt::from_u32(CloseReason::Stopping.code()));

    let listen = (Ipv4Addr::LOCALHOST, link.server.at.port).into();
    let server = Rendezvous::start(&Config { listen, ..config }).unwrap();
    assert_eq!(*server.link(), link);
    let mut alice = connect(&server, 1).await;
    assert_eq!(alice.welcome().await, Some("alice".to_owned()));
    within(server.stop()).await;
}

/// Asks over the socket of the server that runs on a folder.
#[cfg(unix)]
async fn admin(folder: &Path, request: &AdminRequest) -> AdminReply {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::UnixStream::connect(folder.join("admin.sock")).await.unwrap();
    let line = format!("{}\n", serde_json::to_string(request).unwrap());
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    within(stream.read_to_end(&mut reply)).await.unwrap();
    serde_json::from_slice(&reply).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn what_an_admin_does_to_a_user_holds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataPlace::Folder(folder.path().to_owned());
    let server = Rendezvous::start(&Config { data, ..Config::in_memory() }).unwrap();
    let mut alice = connect(&server, 1).await;
    alice.welcome().await;
    alice.register("alice", 1).await;
    let change = |change| AdminRequest::UserChange { name: name("alice"), change };
    let done = AdminReply::Ok(AdminAnswer::Done);
    assert_eq!(admin(folder.path(), &change(UserChange::Disable)).await, done);
    let disabled = Event::AccountChanged { change: AccountChange::Disabled };
    assert_eq!(alice.event().await, disabled);
    let closed = within(alice.connection.closed()).await;
    let ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.error_code, VarInt::from_u32(CloseReason::CutOff.code()));
    assert_eq!(connect(&server, 1).await.welcome().await, None);
    assert_eq!(admin(folder.path(), &change(UserChange::Enable)).await, done);
    assert_eq!(connect(&server, 1).await.welcome().await, Some("alice".to_owned()));
    within(server.stop()).await;
}

#[tokio::test]
async fn the_same_device_again_ends_the_connection_before() {
    let server = start(Limits::default());
    let mut first = connect(&server, 1).await;
    first.welcome().await;
    let mut second = connect(&server, 1).await;
    second.welcome().await;
    assert_eq!(first.event().await, Event::Replaced {});
    let closed = within(first.connection.closed()).await;
    let ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.error_code, VarInt::from_u32(CloseReason::Replaced.code()));
}

#[tokio::test]
async fn frames_that_are_too_long_or_end_early_are_malformed_and_the_connection_stays() {
    let server = start(Limits::default());
    let client = connect(&server, 1).await;
    let too_long = u32::try_from(MAX_REQUEST + 1).unwrap().to_be_bytes();
    let early = [&[0, 0, 0, 9][..], b"{\"req"].concat();
    for (bytes, finish) in [(&too_long[..], false), (&early, true), (&[0, 0], true), (&[], true)] {
        let refused = client.call_bytes::<Done>(bytes, finish).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed);
    }
    let longest = frame(&vec![b' '; MAX_REQUEST]);
    let refused = client.call_bytes::<Done>(&longest, true).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Malformed);
    let refused = client.call::<Done>(&look_up()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownDevice);
}

#[tokio::test]
async fn a_post_is_as_long_as_an_envelope_and_only_of_who_has_an_account() {
    let server = start(Limits::default());
    let (alice, stranger) = (connect(&server, 1).await, connect(&server, 3).await);
    let device = DeviceId::of(&secret(2).public());
    let envelopes = vec![vec![7; MAX_ENVELOPE].into()];
    let post = Request::EnvelopePost { name: name("bob"), device, envelopes };
    // Refused by its length alone: what follows is not read.
    let len = u32::try_from(serde_json::to_vec(&post).unwrap().len()).unwrap().to_be_bytes();
    for client in [&stranger, &alice] {
        let refused = client.call_bytes::<Done>(&len, false).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed);
    }
    // Once she has an account, on the same connection and on one that is not greeted yet.
    alice.register("alice", 1).await;
    assert_eq!(alice.call::<Done>(&post).await.unwrap_err().code, ErrorCode::NoContact);
    let again = connect(&server, 1).await;
    assert_eq!(again.call::<Done>(&post).await.unwrap_err().code, ErrorCode::NoContact);
    let too_long = u32::try_from(MAX_POST + 1).unwrap().to_be_bytes();
    let refused = again.call_bytes::<Done>(&too_long, false).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Malformed);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_and_the_connection_stays() {
    let server = start(Limits { request_timeout_ms: 50, ..Limits::default() });
    let client = connect(&server, 1).await;
    let stalled = client.exchange(&[0, 0, 0, 9, b'{'], false).await.unwrap_err();
    let quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) = stalled else {
        panic!("{stalled:?}");
    };
    assert_eq!(code, VarInt::from_u32(1));
    assert!(client.call::<Done>(&look_up()).await.is_err());
}

#[tokio::test]
async fn a_source_with_too_many_connections_is_refused_until_one_ends() {
    let server = start(Limits { connections_per_source: 1, ..Limits::default() });
    let first = connect(&server, 1).await;
    let second = || try_connect(&server, 2, Transport::TO_RENDEZVOUS);
    assert!(second().await.is_err());
    first.connection.close(VarInt::from_u32(0), b"");
    within(async { while second().await.is_err() {} }).await;
}

/// The first packet of a client, which will never hear an answer.
async fn first_flight(server: &Rendezvous) -> Vec<u8> {
    let (key, transport) = (server.link().server.key.unwrap(), Transport::TO_RENDEZVOUS.config());
    let config = quic::client_config(&secret(9), &key, ALPN_RENDEZVOUS, transport).unwrap();
    let deaf = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let at = deaf.local_addr().unwrap();
    let _connecting = endpoint.connect_with(config, at, quic::SERVER_NAME).unwrap();
    let mut packet = vec![0; 2048];
    let len = within(deaf.recv(&mut packet)).await.unwrap();
    packet.truncate(len);
    packet
}

/// Sends it to the server, which answers.
async fn begin_handshake(server: &Rendezvous, flight: &[u8]) -> Vec<u8> {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(flight, server.address()).await.unwrap();
    let mut answer = vec![0; 2048];
    let len = within(socket.recv(&mut answer)).await.unwrap();
    answer.truncate(len);
    answer
}

/// Whether it is a Retry packet (RFC 9000 §17.2.5).
fn is_retry(packet: &[u8]) -> bool {
    packet[0] & 0xf0 == 0xf0
}

#[tokio::test]
async fn under_load_an_address_is_proved_by_a_retry_and_an_honest_client_comes_in() {
    let server = start(Limits { handshakes_before_retry: 1, ..Limits::default() });
    let flight = first_flight(&server).await;
    assert!(!is_retry(&begin_handshake(&server, &flight).await));
    assert!(is_retry(&begin_handshake(&server, &first_flight(&server).await).await));
    let mut client = connect(&server, 1).await;
    assert_eq!(client.welcome().await, None);
}

#[tokio::test]
async fn a_source_that_begins_too_many_handshakes_proves_its_address_and_then_is_refused() {
    let server = start(Limits {
        unproved_handshakes_at_once: 2,
        unproved_handshakes_per_minute: 1,
        handshakes_at_once: 2,
        handshakes_per_minute: 1,
        ..Limits::default()
    });
    for _ in 0..2 {
        assert!(!is_retry(&begin_handshake(&server, &first_flight(&server).await).await));
    }
    assert!(is_retry(&begin_handshake(&server, &first_flight(&server).await).await));
    for device in 1..=2 {
        let mut client = connect(&server, device).await;
        assert_eq!(client.welcome().await, None);
    }
    assert!(try_connect(&server, 3, Transport::TO_RENDEZVOUS).await.is_err());
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_and_makes_room() {
    let limits = Limits { handshakes: 1, handshake_timeout_ms: 200, ..Limits::default() };
    let server = start(limits);
    let flight = first_flight(&server).await;
    begin_handshake(&server, &flight).await;
    assert!(try_connect(&server, 1, Transport::TO_RENDEZVOUS).await.is_err());
    let connect = || try_connect(&server, 1, Transport::TO_RENDEZVOUS);
    within(async { while connect().await.is_err() {} }).await;
}

#[tokio::test]
async fn there_are_so_many_connections_and_no_more() {
    let server = start(Limits { connections: 1, ..Limits::default() });
    let first = connect(&server, 1).await;
    let second = || try_connect(&server, 2, Transport::TO_RENDEZVOUS);
    assert!(second().await.is_err());
    first.connection.close(VarInt::from_u32(0), b"");
    within(async { while second().await.is_err() {} }).await;
}

#[tokio::test]
async fn large_requests_wait_for_room_and_small_ones_do_not() {
    let server = start(Limits { request_memory_mib: 1, ..Limits::default() });
    let client = connect(&server, 1).await;
    client.register("alice", 1).await;
    // A quarter of a MiB would be for one source, and the longest post has room in any case.
    let (mut send, _receive) = client.connection.open_bi().await.unwrap();
    let header = u32::try_from(MAX_POST).unwrap().to_be_bytes();
    send.write_all(&[&header[..], b"{"].concat()).await.unwrap();
    // It has been read once this is answered: it came first.
    assert!(client.call::<serde_json::Value>(&look_up()).await.is_ok());
    let other = connect(&server, 2).await;
    let large = frame(&vec![b' '; 5 * 1024]);
    let waiting = other.call_bytes::<Done>(&large, true);
    tokio::pin!(waiting);
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(waited.is_err());
    assert!(other.call::<Done>(&look_up()).await.is_err());
    send.finish().unwrap();
    assert_eq!(within(waiting).await.unwrap_err().code, ErrorCode::Malformed);
}

#[tokio::test]
async fn a_reply_that_nobody_takes_is_cut_and_the_connection_stays() {
    let server = start(Limits { request_timeout_ms: 100, ..Limits::default() });
    let alice = connect(&server, 1).await;
    alice.register("alice", 1).await;
    let narrow = Transport { stream_window: 64, ..Transport::TO_RENDEZVOUS };
    let client = try_connect(&server, 1, narrow).await.unwrap();
    let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
    send.write_all(&frame(&serde_json::to_vec(&look_up()).unwrap())).await.unwrap();
    let cut = within(receive.received_reset()).await.unwrap();
    assert_eq!(cut, Some(VarInt::from_u32(1)));
    assert!(client.call::<serde_json::Value>(&look_up()).await.is_ok());
}

#[tokio::test]
async fn a_client_that_does_not_take_its_last_events_is_closed_without() {
    let server = start(Limits::default());
    let narrow = Transport { stream_window: 64, ..Transport::TO_RENDEZVOUS };
    let first = try_connect(&server, 1, narrow).await.unwrap();
    let _second = connect(&server, 1).await;
    let closed = within(first.connection.closed()).await;
    let ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.error_code, VarInt::from_u32(CloseReason::Replaced.code()));
}

#[tokio::test]
async fn nobody_opens_a_server_to_strangers_by_leaving_a_line_out() {
    let beyond = Settings { listen: Some("[::]:4433".parse().unwrap()), ..Settings::default() };
    let registration = beyond.into_config().unwrap().registration;
    let server = Rendezvous::start(&Config { registration, ..Config::in_memory() }).unwrap();
    let client = connect(&server, 1).await;
    let refused = client.call::<RegisterStarted>(&register_start(None)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvitationNeeded);
}

#[tokio::test]
async fn who_waits_for_a_mail_hears_that_it_did_not_leave() {
    // Nobody listens there once the socket is gone.
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let smtp = format!("smtp://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let email = EmailSettings {
        smtp: Some(smtp.parse().unwrap()),
        from: Some("p@chat.example".parse().unwrap()),
        ..EmailSettings::default()
    };
    let (registration, email) = (Registration::Email, Some(email.into_email().unwrap()));
    let config = Config { registration, email, ..Config::in_memory() };
    let server = Rendezvous::start(&config).unwrap();
    let client = connect(&server, 1).await;
    let ticket = Ticket::Email { address: "x@isb.nu.edu.pk".to_owned(), code: None };
    let request = register_start(Some(ticket));
    let refused = client.call::<RegisterStarted>(&request).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MailFailed);
}

fn register_start(ticket: Option<Ticket>) -> Request {
    Request::RegisterStart { name: name("alice"), message: vec![].into(), ticket }
}

#[tokio::test]
async fn a_connection_has_so_many_requests_at_once_and_no_more() {
    let server = start(Limits::default());
    let mut client = connect(&server, 1).await;
    client.welcome().await;
    let mut open = Vec::new();
    for _ in 0..Transport::AT_RENDEZVOUS.bidirectional {
        open.push(client.connection.open_bi().await.unwrap());
    }
    let waited = tokio::time::timeout(Duration::from_millis(50), client.connection.open_bi());
    assert!(waited.await.is_err());
    // Those that are answered make room for others.
    for (mut send, mut receive) in open {
        send.finish().unwrap();
        within(receive.read_to_end(usize::MAX)).await.unwrap();
    }
    within(client.connection.open_bi()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_take_its_events_is_cut_and_the_others_are_served() {
    let server = start(Limits::default());
    let (alice, narrow) =
        (connect(&server, 1).await, Transport { stream_window: 1024, ..Transport::TO_RENDEZVOUS });
    let bob = try_connect(&server, 2, narrow).await.unwrap();
    alice.register("alice", 1).await;
    bob.register("bob", 2).await;
    for (client, from, device, to) in [(&alice, "alice", 1, "bob"), (&bob, "bob", 2, "alice")] {
        let card = Box::new(card(from, device, to));
        client.call::<Done>(&Request::ContactRequest { name: name(to), card }).await.unwrap();
    }
    let body = OfferBody {
        id: OfferId(1),
        answers: None,
        from: name("alice"),
        to: DeviceId::of(&secret(2).public()),
        at: Timestamp::default(),
        candidates: Vec::new(),
    };
    let offer = Box::new(Offer::sign(body, &secret(1)));
    let offer = Request::PathOffer { name: name("bob"), offer };
    let closed = bob.connection.closed();
    tokio::pin!(closed);
    let closed = loop {
        tokio::select! {
            biased;
            closed = &mut closed => break closed,
            reply = alice.call::<Done>(&offer) => assert_eq!(reply, Ok(Done {})),
        }
    };
    let ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.error_code, VarInt::from_u32(CloseReason::TooSlow.code()));
    assert!(alice.call::<serde_json::Value>(&look_up()).await.is_ok());
}
