//! Stateless resets (RFC 9000 §10.3) that survive a restart: a client of the server that was hears
//! from the server that is that its connection is gone, and need not wait for its timeout.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use parlor_common::identity::ServerSecret;
use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The endpoint's configuration, its keys derived from the server's.
pub(super) fn endpoint_config(secret: &ServerSecret) -> EndpointConfig {
    let reset = ResetKey(derive(secret, b"parlor/v1/stateless-reset"));
    let ids = derive(secret, b"parlor/v1/connection-id");
    let ids = ids.first_chunk().copied().map_or(0, u64::from_be_bytes);
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

fn derive(secret: &ServerSecret, label: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hmac(secret.expose_seed().as_slice(), label))
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().into())
        .unwrap_or_default()
}

/// HMAC-SHA-256 (RFC 2104) under a key of 32 bytes.
struct ResetKey(Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        let mac = hmac(self.0.as_slice(), data);
        signature.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        use subtle::ConstantTimeEq;
        let mac = hmac(self.0.as_slice(), data);
        if bool::from(mac.ct_eq(signature)) { Ok(()) } else { Err(CryptoError) }
    }
}
