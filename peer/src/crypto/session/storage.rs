//! A session's stored form.

use parlor_common::envelope::{FirstHeader, MAX_SEALED_SENDER};
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::prekey::{DhPublicBytes, KemCiphertext};
use zeroize::Zeroizing;

use super::{Role, Session};
use crate::crypto::ratchet::Ratchet;
use crate::crypto::stored::{DecodeError, Reader};

const VERSION: u8 = 2;

/// The length of a greeting without its sealed sender.
const GREETING_LEN: usize = DhPublicBytes::LEN + 4 + 4 + KemCiphertext::LEN + 2;

impl Session {
    /// The stored form: version, role, id, transcript, peer, ratchet, and the greeting if it is
    /// still sent. Some 1,000 bytes, 3.7 KiB with the greeting.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let greeting =
            self.greeting.as_ref().map_or(0, |first| GREETING_LEN + first.sealed_sender.len());
        let len = 1 + 1 + 16 + 32 + 16 + self.ratchet.encoded_len() + 1 + greeting;
        let mut stored = Zeroizing::new(Vec::with_capacity(len));
        let role = match self.role {
            Role::Initiator => 1,
            Role::Responder => 2,
        };
        stored.extend_from_slice(&[VERSION, role]);
        stored.extend_from_slice(&self.id.0);
        stored.extend_from_slice(&self.transcript);
        stored.extend_from_slice(&self.peer.0);
        self.ratchet.encode(&mut stored);
        stored.push(u8::from(self.greeting.is_some()));
        if let Some(first) = &self.greeting {
            encode_greeting(first, &mut stored);
        }
        stored
    }

    /// Reads the stored form.
    pub fn decode(stored: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(stored, VERSION)?;
        let role = match reader.byte()? {
            1 => Role::Initiator,
            2 => Role::Responder,
            _ => return Err(DecodeError::Malformed),
        };
        let id = SessionId(*reader.array()?);
        let transcript = *reader.array()?;
        let peer = DeviceId(*reader.array()?);
        let ratchet = Box::new(Ratchet::decode(&mut reader)?);
        let greeting = match reader.byte()? {
            0 => None,
            1 => Some(decode_greeting(&mut reader)?),
            _ => return Err(DecodeError::Malformed),
        };
        reader.end()?;
        Ok(Self { id, transcript, role, peer, greeting, ratchet })
    }
}

fn encode_greeting(first: &FirstHeader, stored: &mut Vec<u8>) {
    stored.extend_from_slice(first.ephemeral.as_ref());
    stored.extend_from_slice(&first.signed_prekey.to_be_bytes());
    stored.extend_from_slice(&first.one_time_prekey.unwrap_or_default().to_be_bytes());
    stored.extend_from_slice(first.kem.as_ref());
    let len = u16::try_from(first.sealed_sender.len()).unwrap_or_default();
    stored.extend_from_slice(&len.to_be_bytes());
    stored.extend_from_slice(&first.sealed_sender);
}

fn decode_greeting(reader: &mut Reader<'_>) -> Result<FirstHeader, DecodeError> {
    let ephemeral = DhPublicBytes(Box::new(*reader.array()?));
    let signed_prekey = reader.u32()?;
    let one_time_prekey = Some(reader.u32()?).filter(|id| *id != 0);
    let kem = KemCiphertext(Box::new(*reader.array()?));
    let len = usize::from(reader.u16()?);
    if len > MAX_SEALED_SENDER {
        return Err(DecodeError::Malformed);
    }
    let sealed_sender = reader.slice(len)?.to_vec();
    Ok(FirstHeader { ephemeral, signed_prekey, one_time_prekey, kem, sealed_sender })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::fixture::{FIRST, acquainted};

    #[test]
    fn the_stored_form_is_short_and_refused_where_it_is_malformed() {
        let (alice, _) = acquainted();
        let whole = alice.encode();
        assert_eq!(whole.len(), whole.capacity());
        assert!(whole.len() < 1000);
        for stored in [whole.as_slice(), &FIRST.alice, &FIRST.bob] {
            assert_eq!(*Session::decode(stored).unwrap().encode(), stored);
            for len in 0..stored.len() {
                let cut = Session::decode(&stored[..len]).map(drop);
                assert_eq!(cut, Err(DecodeError::Malformed));
            }
            let longer = [stored, &[0]].concat();
            assert_eq!(Session::decode(&longer).map(drop), Err(DecodeError::Malformed));
        }
        let mut newer = whole.to_vec();
        newer[0] = 3;
        assert_eq!(Session::decode(&newer).map(drop), Err(DecodeError::UnknownVersion(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_session_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            if let [version, role, ..] = bytes.as_mut_slice() {
                *version = 2;
                *role = *role % 2 + 1;
            }
            if let Ok(session) = Session::decode(&bytes) {
                prop_assert_eq!(&*session.encode(), &bytes);
            }
        }
    }
}
