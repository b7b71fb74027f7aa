//! The private halves of prekeys.

use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::{Prekey, PrekeyKind};
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::group::{KeyPair, Secret};
pub use super::stored::DecodeError;
use super::stored::Reader;

const VERSION: u8 = 1;
const SIGNED: u8 = 1;
const ONE_TIME: u8 = 2;

/// A prekey of this device, with its private half.
#[derive(Debug)]
pub struct LocalPrekey {
    /// The device's number for it, not 0 and never given twice.
    pub id: u32,
    /// What it is for.
    pub kind: PrekeyKind,
    /// The key pair.
    pub pair: KeyPair,
    /// When it was made.
    pub made_at: Timestamp,
}

impl LocalPrekey {
    /// The length of the stored form, in bytes.
    pub const STORED_LEN: usize = 1 + 1 + 4 + 8 + Secret::LEN;

    /// A new prekey.
    pub fn generate(
        id: u32,
        kind: PrekeyKind,
        made_at: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        Self { id, kind, pair: KeyPair::generate(rng), made_at }
    }

    /// The public half, signed by the device.
    pub fn sign(&self, device: &DeviceSecret) -> Prekey {
        let key = self.pair.public().to_bytes();
        Prekey::sign(device, self.kind, self.id, key, self.made_at)
    }

    /// The stored form: version, kind, id, time, secret.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut stored = Zeroizing::new(Vec::with_capacity(Self::STORED_LEN));
        let kind = match self.kind {
            PrekeyKind::Signed => SIGNED,
            PrekeyKind::OneTime => ONE_TIME,
        };
        stored.extend_from_slice(&[VERSION, kind]);
        stored.extend_from_slice(&self.id.to_be_bytes());
        stored.extend_from_slice(&self.made_at.as_millis().to_be_bytes());
        stored.extend_from_slice(self.pair.secret().expose_bytes());
        stored
    }

    /// Reads the stored form.
    pub fn decode(stored: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(stored, VERSION)?;
        let kind = match reader.byte()? {
            SIGNED => PrekeyKind::Signed,
            ONE_TIME => PrekeyKind::OneTime,
            _ => return Err(DecodeError::Malformed),
        };
        let id = reader.u32()?;
        let made_at = Timestamp::from_millis(reader.u64()?);
        let secret = Secret::from_bytes(reader.array()?).ok_or(DecodeError::Malformed)?;
        reader.end()?;
        Ok(Self { id, kind, pair: KeyPair::of(secret), made_at })
    }
}
