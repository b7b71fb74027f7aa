//! The one UDP socket: how it is bound, how connections start from it, and which addresses of
//! this machine lead to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use if_addrs::IfAddr;
use parlor_common::identity::{DeviceSecret, PublicKey};
use parlor_common::quic::{self, ALPN_PEER, ConfigError, SERVER_NAME, Transport};
use quinn::{Connecting, Endpoint, VarInt};
use thiserror::Error;
use tokio::time;

use crate::node::input::LocalAddress;

/// How long a closed socket stays for its goodbyes to leave. They are handed to the operating
/// system within microseconds; QUIC's own wait for answers (RFC 9000 §10.2) takes some 80 ms.
const GOODBYE_TIME: Duration = Duration::from_millis(5);

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system gave none.
    #[error("no UDP socket could be opened: {0}")]
    Socket(#[from] io::Error),
    /// QUIC could not be set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Why a connection could not even be tried.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// QUIC could not be set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be dialed from this socket.
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
}

/// A bound socket with QUIC on it, and the key that this side shows.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    endpoint: Endpoint,
    device: Arc<DeviceSecret>,
}

impl Socket {
    /// Binds for IPv6 and IPv4 at once, or for IPv4 alone where there is no IPv6.
    pub(super) fn bind(device: Arc<DeviceSecret>) -> Result<Self, OpenError> {
        let endpoint = Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()))?;
        Ok(Self { endpoint, device })
    }

    /// Takes connections of peers from now on.
    pub(super) fn listen(&self) -> Result<&Endpoint, ConfigError> {
        let transport = Transport::BETWEEN_PEERS.config();
        let config = quic::server_config(&self.device, ALPN_PEER, transport)?;
        self.endpoint.set_server_config(Some(config));
        Ok(&self.endpoint)
    }

    /// Starts a connection to `address`, where the key `expected` alone is accepted.
    pub(super) fn dial<R>(
        &self,
        address: SocketAddr,
        expected: &PublicKey<R>,
        alpn: &[u8],
        transport: Transport,
    ) -> Result<Connecting, DialError> {
        let config = quic::client_config(&self.device, expected, alpn, transport.config())?;
        Ok(self.endpoint.connect_with(config, address, SERVER_NAME)?)
    }

    /// Addresses of this machine's interfaces that lead to the socket; loopback ones if asked
    /// for. IPv6's link-local ones are of no use to others, who would need a scope for them.
    pub(super) fn local_addresses(&self, loopback: bool) -> Vec<LocalAddress> {
        let Ok(bound) = self.endpoint.local_addr() else { return Vec::new() };
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let usable = interfaces.iter().filter(|interface| {
            let ip = interface.ip();
            let reached = bound.is_ipv6() || ip.is_ipv4();
            let linklocal = ip.is_ipv6() && interface.is_link_local();
            reached && !linklocal && (loopback || !ip.is_loopback()) && !ip.is_unspecified()
        });
        let local = usable.map(|interface| LocalAddress {
            address: SocketAddr::new(interface.ip(), bound.port()),
            prefix_len: match &interface.addr {
                IfAddr::V4(v4) => v4.prefixlen,
                IfAddr::V6(v6) => v6.prefixlen,
            },
        });
        local.collect()
    }

    /// Closes all connections and lets the goodbyes leave.
    pub(super) async fn close(self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        // Idle sooner only if nothing was open.
        let _ = time::timeout(GOODBYE_TIME, self.endpoint.wait_idle()).await;
    }
}

/// The address as people know it: a socket for both families shows IPv4 mapped into IPv6
/// (RFC 4291 §2.5.5.2).
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address, // with its scope
    }
}

/// Whether a host, as it stands in a link, is this machine itself.
pub(super) fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let shown = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(shown("[::ffff:192.0.2.1]:9"), "192.0.2.1:9");
        assert_eq!(shown("192.0.2.1:9"), "192.0.2.1:9");
        assert_eq!(shown("[2001:db8::1]:9"), "[2001:db8::1]:9");
        assert_eq!(shown("[fe80::1%3]:9"), "[fe80::1%3]:9");
    }

    #[test]
    fn loopback_is_known_by_its_name_and_numbers() {
        assert!(["localhost", "127.0.0.1", "127.8.8.8", "::1"].into_iter().all(is_loopback));
        assert!(!["example.org", "192.0.2.1", "2001:db8::1"].into_iter().any(is_loopback));
    }

    #[tokio::test]
    async fn loopback_addresses_are_told_only_where_they_are_of_use() {
        let device = Arc::new(DeviceSecret::from_seed(&[1; 32]));
        let socket = Socket::bind(device).unwrap();
        let is_loopback = |local: &LocalAddress| local.address.ip().is_loopback();
        let with = socket.local_addresses(true);
        assert!(with.iter().any(is_loopback));
        assert!(with.iter().all(|local| local.address.port() != 0));
        assert!(!socket.local_addresses(false).iter().any(is_loopback));
    }
}
