//! What an agreement binds: the hash of everything public in it.

use parlor_common::Fields;
use parlor_common::id::SessionId;
use parlor_common::prekey::DhPublicBytes;
use sha2::{Digest, Sha256};

use super::agreement::Party;

const VERSION: &str = "parlor/v1";
const SUITE: &str = "x3dh-ffdhe3072-hkdf-sha256-a128cbc-hs256";

/// The public keys of one agreement, besides the two sides' identity keys.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The initiator's ephemeral key.
    pub(super) ephemeral: DhPublicBytes,
    /// The responder's signed prekey, with its id.
    pub(super) signed: (u32, DhPublicBytes),
    /// The responder's one-time prekey, with its id.
    pub(super) one_time: Option<(u32, DhPublicBytes)>,
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
    let Exchange { ephemeral, signed: (id, key), one_time } = exchange;
    let fields = fields.field(ephemeral).number(u64::from(*id)).field(key);
    match one_time {
        Some((id, key)) => fields.number(u64::from(*id)).field(key),
        None => fields.absent().absent(),
    }
}

fn hash(fields: &Fields) -> [u8; 32] {
    Sha256::digest(fields.as_bytes()).into()
}
