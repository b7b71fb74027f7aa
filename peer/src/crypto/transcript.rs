//! What an agreement binds: the hash of everything public in it.

use parlor_common::Fields;
use parlor_common::id::SessionId;
use parlor_common::prekey::{DhPublicBytes, KemCiphertext, KemPublicBytes};
use sha2::{Digest, Sha256};

use super::agreement::Party;

const VERSION: &str = "parlor/v1";
const SUITE: &str = "pqxdh-ffdhe3072-mlkem768-hkdf-sha256-a128cbc-hs256";

/// The public keys of one agreement, besides the two sides' identity keys.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The initiator's ephemeral key.
    pub(super) ephemeral: DhPublicBytes,
    /// The responder's signed prekey, with its id.
    pub(super) signed: (u32, DhPublicBytes),
    /// The responder's one-time prekey, with its id.
    pub(super) one_time: Option<(u32, DhPublicBytes)>,
    /// The responder's KEM key that was used, and what was encapsulated for it.
    pub(super) kem: (KemPublicBytes, KemCiphertext),
}

/// The transcript hash: version, suite, and by role name, account key, device entry and keys.
pub(super) fn transcript_hash(
    initiator: &Party,
    responder: &Party,
    exchange: &Exchange,
) -> [u8; 32] {
    let fields = Fields::new().field(VERSION).field(SUITE);
    let fields = with_party(fields.field("initiator"), initiator);
    let fields = with_party(fields.field("responder"), responder);
    hash(&with_exchange(fields, exchange))
}

/// The hash of what surrounds the sealed sender of a first message: session, recipient and keys.
pub(super) fn sender_context(
    session: SessionId,
    responder: &Party,
    exchange: &Exchange,
) -> [u8; 32] {
    let fields = Fields::new().field("parlor/v1/sender").field(SUITE).field(session.0);
    hash(&with_exchange(with_party(fields, responder), exchange))
}

fn with_party(fields: Fields, party: &Party) -> Fields {
    let Party { name, account_key, device } = party;
    let fields = fields.field(name.as_str()).field(account_key.as_bytes());
    fields.field(device.fields().as_bytes())
}

fn with_exchange(fields: Fields, exchange: &Exchange) -> Fields {
    let Exchange { ephemeral, signed: (id, key), one_time, kem: (kem_key, ciphertext) } = exchange;
    let fields = fields.field(ephemeral).number(u64::from(*id)).field(key);
    let fields = match one_time {
        Some((id, key)) => fields.number(u64::from(*id)).field(key),
        None => fields.absent().absent(),
    };
    fields.field(kem_key).field(ciphertext)
}

fn hash(fields: &Fields) -> [u8; 32] {
    Sha256::digest(fields.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use parlor_common::time::Timestamp;

    use super::*;
    use crate::crypto::fixture::{ALICE, BOB, CAROL};

    fn exchange() -> Exchange {
        let key = |byte| DhPublicBytes(Box::new([byte; DhPublicBytes::LEN]));
        let kem_key = KemPublicBytes(Box::new([6; KemPublicBytes::LEN]));
        let ciphertext = KemCiphertext(Box::new([7; KemCiphertext::LEN]));
        Exchange {
            ephemeral: key(1),
            signed: (2, key(3)),
            one_time: Some((4, key(5))),
            kem: (kem_key, ciphertext),
        }
    }

    /// Every way in which two agreements can differ.
    fn variants() -> Vec<(Party, Party, Exchange)> {
        let (alice, bob) = (ALICE.party().clone(), BOB.party().clone());
        let mut all = vec![
            (alice.clone(), bob.clone(), exchange()),
            (bob.clone(), alice.clone(), exchange()),
        ];
        let other = CAROL.party();
        let changes: [fn(&mut Party, &Party); 6] = [
            |party, other| party.name = other.name.clone(),
            |party, other| party.account_key = other.account_key,
            |party, other| party.device.id = other.device.id,
            |party, other| party.device.key = other.device.key,
            |party, other| party.device.dh = other.device.dh.clone(),
            |party, _| party.device.added_at = Timestamp::from_millis(1),
        ];
        for change in changes {
            let (mut one, mut two) = (alice.clone(), bob.clone());
            change(&mut one, other);
            all.push((one, bob.clone(), exchange()));
            change(&mut two, other);
            all.push((alice.clone(), two, exchange()));
        }
        let changes: [fn(&mut Exchange); 8] = [
            |exchange| exchange.ephemeral = exchange.signed.1.clone(),
            |exchange| exchange.signed.0 = 9,
            |exchange| exchange.signed.1 = exchange.ephemeral.clone(),
            |exchange| exchange.one_time = None,
            |exchange| exchange.one_time.as_mut().unwrap().0 = 9,
            |exchange| exchange.one_time.as_mut().unwrap().1 = exchange.ephemeral.clone(),
            |exchange| exchange.kem.0.0[0] ^= 1,
            |exchange| exchange.kem.1.0[0] ^= 1,
        ];
        for change in changes {
            let mut exchange = exchange();
            change(&mut exchange);
            all.push((alice.clone(), bob.clone(), exchange));
        }
        all
    }

    #[test]
    fn agreements_that_differ_in_anything_public_have_different_transcripts() {
        let variants = variants();
        let mut hashes: Vec<_> =
            variants.iter().map(|(a, b, e)| transcript_hash(a, b, e)).collect();
        hashes.extend(variants.iter().map(|(_, b, e)| sender_context(SessionId([0; 16]), b, e)));
        // The context of a sealed sender does not name the sender: six variants are alike to it.
        let different = hashes.len() - 6;
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), different);
    }

    #[test]
    fn the_context_of_a_sealed_sender_names_the_session() {
        let context = |id| sender_context(SessionId([id; 16]), BOB.party(), &exchange());
        assert_ne!(context(1), context(2));
    }
}
