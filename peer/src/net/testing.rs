//! Help for this room's tests: peers on loopback, and a rendezvous that says what it is told.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use parlor_common::identity::{DeviceSecret, ServerSecret};
use parlor_common::link::{HostPort, ServerAddress};
use parlor_common::quic::{ALPN_RENDEZVOUS, Transport, server_config};
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{MAX_REQUEST, Request};
use quinn::{Connection, Endpoint, SendStream};

use super::frames::FrameReader;
use super::{Net, NetConfig};
use crate::node::input::{LinkId, NetInput};
use crate::node::output::Transmit;

const WELCOME: &[u8] = br#"{"event":"welcome","name":null,"observed":"127.0.0.1:1",
    "now":0,"next_key_hash":""}"#;

pub(super) fn secret(seed: u8) -> Arc<DeviceSecret> {
    Arc::new(DeviceSecret::from_seed(&[seed; 32]))
}

fn server_secret(seed: u8) -> ServerSecret {
    ServerSecret::from_seed(&[seed; 32])
}

/// The address of a rendezvous on loopback where none is.
pub(super) fn nobody() -> ServerAddress {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = HostPort::from(socket.local_addr().unwrap());
    ServerAddress { key: Some(server_secret(1).public()), at }
}

/// A network on loopback, with the device key of a seed.
pub(super) struct Peer {
    pub(super) net: Net,
    pub(super) address: SocketAddr,
    seed: u8,
}

impl Peer {
    pub(super) fn open(seed: u8) -> Self {
        let config = NetConfig { device: secret(seed), server: nobody() };
        let mut net = Net::open(config).unwrap();
        let Some(NetInput::LocalAddresses(local)) = net.try_next() else { panic!("no addresses") };
        let mut addresses = local.iter().map(|local| local.address);
        let address = addresses.find(|address| address.ip() == Ipv4Addr::LOCALHOST).unwrap();
        Self { net, address, seed }
    }

    /// Links to another, and tells the numbers that the link has here and there.
    pub(super) async fn dial(&mut self, other: &mut Self) -> (LinkId, LinkId) {
        let device = secret(other.seed).public();
        self.net.execute(Transmit::Dial { device, address: other.address });
        (up(&mut self.net).await, up(&mut other.net).await)
    }
}

async fn up(net: &mut Net) -> LinkId {
    let up = net.next().await;
    let NetInput::LinkUp { link, .. } = up else { panic!("{up:?}") };
    link
}

/// A rendezvous' QUIC, without a rendezvous.
pub(super) struct FakeServer {
    endpoint: Endpoint,
    secret: ServerSecret,
}

impl FakeServer {
    pub(super) fn start(seed: u8) -> Self {
        let secret = server_secret(seed);
        let transport = Transport::AT_RENDEZVOUS.config();
        let config = server_config(&secret, ALPN_RENDEZVOUS, transport).unwrap();
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { endpoint, secret }
    }

    pub(super) fn address(&self) -> ServerAddress {
        let at = HostPort::from(self.endpoint.local_addr().unwrap());
        ServerAddress { key: Some(self.secret.public()), at }
    }

    /// Takes a client and welcomes it.
    pub(super) async fn welcome(&self) -> AtServer {
        let connection = self.endpoint.accept().await.unwrap().await.unwrap();
        let events = connection.open_uni().await.unwrap();
        let mut at_server = AtServer { connection, events };
        at_server.tell(WELCOME).await;
        at_server
    }

    /// Takes a client that refuses the server.
    pub(super) async fn refused(&self) {
        self.endpoint.accept().await.unwrap().await.unwrap_err();
    }
}

/// A client's connection, at the server.
pub(super) struct AtServer {
    connection: Connection,
    events: SendStream,
}

impl AtServer {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends an event.
    pub(super) async fn tell(&mut self, event: &[u8]) {
        self.tell_bytes(&frame(event)).await;
    }

    pub(super) async fn tell_bytes(&mut self, bytes: &[u8]) {
        self.events.write_all(bytes).await.unwrap();
    }

    /// Takes a request and replies to it.
    pub(super) async fn reply(&self, payload: &[u8]) -> Request {
        self.reply_bytes(&frame(payload)).await
    }

    /// Takes a request and sends these bytes on its stream, and the stream's end.
    pub(super) async fn reply_bytes(&self, bytes: &[u8]) -> Request {
        let (mut outgoing, incoming) = self.connection.accept_bi().await.unwrap();
        let request = FrameReader::new(incoming, MAX_REQUEST).next().await.unwrap().unwrap();
        outgoing.write_all(bytes).await.unwrap();
        outgoing.finish().unwrap();
        serde_json::from_slice(&request).unwrap()
    }
}
