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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_prekey_is_stored_and_read() {
        for kind in [PrekeyKind::Signed, PrekeyKind::OneTime] {
            let made_at = Timestamp::from_millis(258);
            let prekey = LocalPrekey::generate(7, kind, made_at, &mut StdRng::seed_from_u64(1));
            let stored = prekey.encode();
            assert_eq!(stored.len(), LocalPrekey::STORED_LEN);
            let read = LocalPrekey::decode(&stored).unwrap();
            assert_eq!((read.id, read.kind, read.made_at), (7, kind, made_at));
            assert_eq!(read.pair.public(), prekey.pair.public());
            let device = DeviceSecret::from_seed(&[1; 32]);
            assert_eq!(read.sign(&device), prekey.sign(&device));
        }
    }

    #[test]
    fn a_malformed_stored_form_is_refused() {
        let rng = &mut StdRng::seed_from_u64(1);
        let stored =
            LocalPrekey::generate(7, PrekeyKind::Signed, Timestamp::default(), rng).encode();
        let decode = |bytes: &[u8]| LocalPrekey::decode(bytes).map(drop);
        for len in 0..stored.len() {
            assert_eq!(decode(&stored[..len]), Err(DecodeError::Malformed));
        }
        assert_eq!(decode(&[&stored[..], &[0]].concat()), Err(DecodeError::Malformed));
        let mut newer = stored.to_vec();
        newer[0] = 2;
        assert_eq!(decode(&newer), Err(DecodeError::UnknownVersion(2)));
        let mut zero = stored.to_vec();
        zero[14..].fill(0);
        assert_eq!(decode(&zero), Err(DecodeError::Malformed));
    }
}
