//! Clients that keep to QUIC and TLS and to nothing else.

use std::net::{Ipv4Addr, SocketAddr};

use parlor_common::identity::{DeviceSecret, PublicKey};
use parlor_common::link::ServerAddress;
use parlor_common::quic::{ALPN_PEER, ALPN_RENDEZVOUS, SERVER_NAME, Transport, client_config};
use parlor_common::wire::frame;
use quinn::{Connection, Endpoint, RecvStream, SendStream};

/// A connection, and the socket that it starts from.
pub struct Raw {
    endpoint: Endpoint,
    connection: Connection,
}

impl Raw {
    /// Connects to a rendezvous as whoever holds `device`.
    pub async fn at_server(server: &ServerAddress, device: &DeviceSecret) -> Self {
        let address = format!("{}:{}", server.at.host, server.at.port).parse().unwrap();
        Self::connect(address, &server.key.unwrap(), device, ALPN_RENDEZVOUS).await
    }

    /// Connects to the peer at an address, which must hold `key`, as whoever holds `device`.
    pub async fn at_peer<R>(
        address: SocketAddr,
        key: &PublicKey<R>,
        device: &DeviceSecret,
    ) -> Self {
        Self::connect(address, key, device, ALPN_PEER).await
    }

    async fn connect<R>(
        address: SocketAddr,
        key: &PublicKey<R>,
        device: &DeviceSecret,
        alpn: &[u8],
    ) -> Self {
        let endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let transport = Transport { bidirectional: 0, ..Transport::BETWEEN_PEERS };
        let config = client_config(device, key, alpn, transport.config()).unwrap();
        let connecting = endpoint.connect_with(config, address, SERVER_NAME).unwrap();
        let connection = connecting.await.unwrap();
        Self { endpoint, connection }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens a request's stream and sends any bytes on it, and its end if that is wanted.
    pub async fn request(&self, bytes: &[u8], is_finished: bool) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        if is_finished {
            send.finish().unwrap();
        }
        (send, receive)
    }

    /// Sends any bytes as a request, with a frame around them, and reads the reply's payload.
    pub async fn ask(&self, payload: &[u8]) -> Vec<u8> {
        let (_send, mut receive) = self.request(&frame(payload), true).await;
        reply(&mut receive).await
    }

    /// Sends any bytes to a peer; the stream stays open while it is held.
    pub async fn say(&self, bytes: &[u8]) -> SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        // Fails where the other side has closed the connection already.
        let _ = stream.write_all(bytes).await;
        stream
    }

    /// Goes without a word.
    pub async fn leave(self) {
        self.connection.close(0_u8.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

/// The payload of a reply, without its frame.
pub async fn reply(receive: &mut RecvStream) -> Vec<u8> {
    let bytes = receive.read_to_end(2 * 1024 * 1024).await.unwrap();
    bytes.split_at(4).1.to_vec()
}
