//! The private halves of prekeys.

use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::{PrekeyPair, PrekeyUse};
use parlor_common::time::Timestamp;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::group::{KeyPair, Secret};
use super::kem::KemSecret;
pub use super::stored::DecodeError;
use super::stored::Reader;

const VERSION: u8 = 2;
const SIGNED: u8 = 1;
const ONE_TIME: u8 = 2;

/// A pair of prekeys of this device: the private halves, from which the public ones are computed
/// when they are needed.
#[derive(Debug)]
pub struct LocalPrekeys {
    /// The device's number for the pair, not 0 and never given twice.
    pub id: u32,
    /// What it is for.
    pub used: PrekeyUse,
    /// When it was made.
    pub made_at: Timestamp,
    /// The Diffie–Hellman half.
    pub dh: Secret,
    /// The KEM half.
    pub kem: KemSecret,
}

impl LocalPrekeys {
    /// The length of the stored form, in bytes.
    pub const STORED_LEN: usize = 1 + 1 + 4 + 8 + Secret::LEN + KemSecret::LEN;

    /// A new pair.
    pub fn generate(id: u32, used: PrekeyUse, made_at: Timestamp, rng: &mut dyn CryptoRng) -> Self {
        let (dh, kem) = (Secret::generate(rng), KemSecret::generate(rng));
        Self { id, used, made_at, dh, kem }
    }

    /// The Diffie–Hellman half with its public value.
    pub fn dh_pair(&self) -> KeyPair {
        KeyPair::of(self.dh.copy())
    }

    /// The public halves, signed by the device.
    pub fn sign(&self, device: &DeviceSecret) -> PrekeyPair {
        let (dh, kem) = (self.dh_pair().public().to_bytes(), self.kem.public());
        PrekeyPair::sign(device, self.used, self.id, self.made_at, dh, kem)
    }

    /// The stored form: version, use, id, time, both secrets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut stored = Zeroizing::new(Vec::with_capacity(Self::STORED_LEN));
        let used = match self.used {
            PrekeyUse::Signed => SIGNED,
            PrekeyUse::OneTime => ONE_TIME,
        };
        stored.extend_from_slice(&[VERSION, used]);
        stored.extend_from_slice(&self.id.to_be_bytes());
        stored.extend_from_slice(&self.made_at.as_millis().to_be_bytes());
        stored.extend_from_slice(self.dh.expose_bytes());
        stored.extend_from_slice(self.kem.expose_bytes());
        stored
    }

    /// Reads the stored form.
    pub fn decode(stored: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(stored, VERSION)?;
        let used = match reader.byte()? {
            SIGNED => PrekeyUse::Signed,
            ONE_TIME => PrekeyUse::OneTime,
            _ => return Err(DecodeError::Malformed),
        };
        let id = reader.u32()?;
        let made_at = Timestamp::from_millis(reader.u64()?);
        let dh = Secret::from_bytes(reader.array()?).ok_or(DecodeError::Malformed)?;
        let kem = KemSecret::from_bytes(reader.array()?);
        reader.end()?;
        Ok(Self { id, used, made_at, dh, kem })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_pair_is_stored_and_read() {
        for used in [PrekeyUse::Signed, PrekeyUse::OneTime] {
            let made_at = Timestamp::from_millis(258);
            let pair = LocalPrekeys::generate(7, used, made_at, &mut StdRng::seed_from_u64(1));
            let stored = pair.encode();
            assert_eq!(stored.len(), LocalPrekeys::STORED_LEN);
            let read = LocalPrekeys::decode(&stored).unwrap();
            assert_eq!((read.id, read.used, read.made_at), (7, used, made_at));
            let device = DeviceSecret::from_seed(&[1; 32]);
            assert_eq!(read.sign(&device), pair.sign(&device));
            assert!(read.sign(&device).verify(&device.public(), used, made_at).is_ok());
        }
    }

    #[test]
    fn a_malformed_stored_form_is_refused() {
        let rng = &mut StdRng::seed_from_u64(1);
        let made_at = Timestamp::default();
        let stored = LocalPrekeys::generate(7, PrekeyUse::Signed, made_at, rng).encode();
        let decode = |bytes: &[u8]| LocalPrekeys::decode(bytes).map(drop);
        for len in 0..stored.len() {
            assert_eq!(decode(&stored[..len]), Err(DecodeError::Malformed));
        }
        assert_eq!(decode(&[&stored[..], &[0]].concat()), Err(DecodeError::Malformed));
        let mut newer = stored.to_vec();
        newer[0] = 3;
        assert_eq!(decode(&newer), Err(DecodeError::UnknownVersion(3)));
        let mut zero = stored.to_vec();
        zero[14..14 + Secret::LEN].fill(0);
        assert_eq!(decode(&zero), Err(DecodeError::Malformed));
    }
}
