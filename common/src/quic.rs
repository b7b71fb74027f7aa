//! QUIC (RFC 9000) over TLS 1.3 with raw public keys (RFC 7250) on both sides.
//!
//! Only configuration: `quinn-proto` and `rustls` do no I/O, and quinn takes these very types.
//! The key exchange is X25519MLKEM768 and nothing else; there is no resumption, no early data and
//! no ticket, so that every connection proves both keys.

mod verifier;

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

use self::verifier::{RawKeyVerifier, SPKI_PREFIX};
use crate::identity::{DeviceSecret, PublicKey, SecretKey};

/// The application protocol between a client and a rendezvous.
pub const ALPN_RENDEZVOUS: &[u8] = b"parlor-rendezvous/1";
/// The application protocol between two peers.
pub const ALPN_PEER: &[u8] = b"parlor-peer/1";

/// The TLS server name that clients must give and nobody looks at: keys are pinned.
pub const SERVER_NAME: &str = "parlor.invalid";

/// So many packets may come without an acknowledgement of their own, for 25 ms at most: what is said
/// in answer carries one. By default every other packet costs a datagram back. QUIC's extension for
/// it (draft-ietf-quic-ack-frequency) is used where the other side has it.
const PACKETS_AN_ACK: u32 = 8;

/// PKCS #8 (RFC 8410 §7) before the 32 bytes of an Ed25519 seed.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A QUIC or TLS configuration could not be made: a bug, or a broken TLS library.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The cipher suites or versions do not fit QUIC.
    #[error("TLS has no cipher suite for QUIC")]
    NoInitialCipherSuite,
    /// rustls refused.
    #[error("TLS set-up failed: {0}")]
    Tls(#[from] rustls::Error),
}

/// Configures the accepting side, which shows `secret`'s key and takes any client that proves an
/// Ed25519 key: who that is the program looks up afterwards, by [`raw_key`].
pub fn server_config<R>(
    secret: &SecretKey<R>,
    alpn: &[u8],
    transport: TransportConfig,
) -> Result<ServerConfig, ConfigError> {
    let provider = provider();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(RawKeyVerifier::any(Arc::clone(&provider))))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(
            secret, &provider,
        )?)));
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| ConfigError::NoInitialCipherSuite)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Configures the connecting side, which shows `secret`'s key and accepts `expected`'s alone.
pub fn client_config<R>(
    secret: &DeviceSecret,
    expected: &PublicKey<R>,
    alpn: &[u8],
    transport: TransportConfig,
) -> Result<ClientConfig, ConfigError> {
    let provider = provider();
    let verifier = RawKeyVerifier::only(*expected.as_bytes(), Arc::clone(&provider));
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(
            secret, &provider,
        )?)));
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| ConfigError::NoInitialCipherSuite)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The key that the other side of a connection proved, from its chain of certificates: with raw
/// public keys that is one `SubjectPublicKeyInfo` (RFC 7250 §3).
pub fn raw_key<R>(certificates: &[CertificateDer<'_>]) -> Option<PublicKey<R>> {
    let [spki] = certificates else { return None };
    let key = spki.as_ref().strip_prefix(&SPKI_PREFIX)?;
    key.try_into().ok().map(PublicKey::from_bytes)
}

/// Times and limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// How often an idle connection is kept alive; absent where the other side does it.
    pub keep_alive: Option<Duration>,
    /// After this long without a packet the connection is lost.
    pub max_idle: Duration,
    /// Bidirectional streams that the other side may have open at once.
    pub bidirectional: u32,
    /// Unidirectional streams that the other side may have open at once.
    pub unidirectional: u32,
    /// Bytes in flight on one stream.
    pub stream_window: u32,
}

impl Transport {
    /// A peer's connection to its rendezvous, at the peer: the death of the server is noticed
    /// within 15 seconds.
    pub const TO_RENDEZVOUS: Self = Self {
        keep_alive: Some(Duration::from_secs(6)),
        max_idle: Duration::from_secs(15),
        bidirectional: 0,
        unidirectional: 1,
        stream_window: 1024 * 1024,
    };

    /// The same at the rendezvous: it lets clients keep the connection alive. Few streams keep an
    /// idle connection small.
    pub const AT_RENDEZVOUS: Self = Self {
        keep_alive: None,
        max_idle: Duration::from_secs(20),
        bidirectional: 8,
        unidirectional: 0,
        stream_window: 128 * 1024,
    };

    /// Between two peers.
    pub const BETWEEN_PEERS: Self = Self {
        keep_alive: Some(Duration::from_secs(4)),
        max_idle: Duration::from_secs(12),
        bidirectional: 0,
        unidirectional: 1,
        stream_window: 4 * 1024 * 1024,
    };

    /// The configuration for QUIC.
    pub fn config(&self) -> TransportConfig {
        let mut config = TransportConfig::default();
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_AN_ACK));
        let millis = u32::try_from(self.max_idle.as_millis()).unwrap_or(u32::MAX);
        config
            .keep_alive_interval(self.keep_alive)
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(millis))))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.bidirectional))
            .max_concurrent_uni_streams(VarInt::from_u32(self.unidirectional))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .datagram_receive_buffer_size(None)
            .ack_frequency_config(Some(acks))
            // A lost first flight waits three times this: the default of 333 ms makes one second.
            .initial_rtt(Duration::from_millis(100));
        config
    }
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    Arc::new(provider)
}

fn certified<R>(
    secret: &SecretKey<R>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, ConfigError> {
    let mut der = Zeroizing::new(PKCS8_PREFIX.to_vec());
    der.extend_from_slice(secret.expose_seed().as_slice());
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice())).clone_key();
    let key = provider.key_provider.load_private_key(der)?;
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(secret.public().as_bytes());
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{DeviceKey, ServerSecret};

    #[test]
    fn configurations_can_be_made() {
        let server = ServerSecret::from_seed(&[1; 32]);
        let device = DeviceSecret::from_seed(&[2; 32]);
        let transport = Transport::AT_RENDEZVOUS.config();
        assert!(server_config(&server, ALPN_RENDEZVOUS, transport).is_ok());
        let transport = Transport::TO_RENDEZVOUS.config();
        assert!(client_config(&device, &server.public(), ALPN_RENDEZVOUS, transport).is_ok());
    }

    #[test]
    fn a_raw_key_is_one_ed25519_key_and_nothing_else() {
        let mut spki = SPKI_PREFIX.to_vec();
        spki.extend_from_slice(&[5; 32]);
        let certificate = CertificateDer::from(spki.clone());
        let key = raw_key(std::slice::from_ref(&certificate));
        assert_eq!(key, Some(DeviceKey::from_bytes([5; 32])));
        let twice = [certificate.clone(), certificate];
        assert_eq!(raw_key::<crate::identity::Device>(&twice), None);
        spki.push(0);
        let long = [CertificateDer::from(spki)];
        assert_eq!(raw_key::<crate::identity::Device>(&long), None);
    }
}
