//! A ratchet's stored form.
//!
//! ```text
//! root key                                 32
//! sending: 0 none, 1 without its pair's secret, 2 with it
//!   public value 384, secret 35 (2 only), length of the chain before 4, next number 4, key 32
//! receiving: 0 none, 1
//!   public value 384, next number 4, key 32
//! past chains: count 1, of each its id 8
//! chains of which keys were given up: count 1, of each its id 8
//! skipped keys: count 2, of each chain id 8, number 4, since 8, key 32
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use parlor_common::prekey::DhPublicBytes;
use parlor_common::time::Timestamp;

use super::{ChainId, MAX_PAST, Ratchet, Receiving, Sending};
use crate::crypto::chain::{ChainKey, MessageKey, RemoteChainKey};
use crate::crypto::group::{KeyPair, PublicValue, Secret};
use crate::crypto::kdf::Key;
use crate::crypto::skipped::{Skipped, SkippedKey};
use crate::crypto::stored::{DecodeError, Reader};

const NONE: u8 = 0;
const WITHOUT_SECRET: u8 = 1;
const WITH_SECRET: u8 = 2;

const SKIPPED_LEN: usize = ChainId::LEN + 4 + 8 + 32;

impl Ratchet {
    /// The length of what [`Self::encode`] appends, in bytes.
    pub(in crate::crypto) fn encoded_len(&self) -> usize {
        let sending = self.sending.as_ref().map_or(0, |sending| {
            let secret = sending.pair.as_ref().map_or(0, |_| Secret::LEN);
            DhPublicBytes::LEN + secret + 4 + 4 + 32
        });
        let receiving = self.receiving.as_ref().map_or(0, |_| DhPublicBytes::LEN + 4 + 32);
        let chains = ChainId::LEN * (self.past.len() + self.skipped.given_up().len());
        32 + 1 + sending + 1 + receiving + 1 + 1 + chains + 2 + SKIPPED_LEN * self.skipped.len()
    }

    /// Appends the stored form.
    pub(in crate::crypto) fn encode(&self, stored: &mut Vec<u8>) {
        stored.extend_from_slice(self.root.as_slice());
        encode_sending(self.sending.as_ref(), stored);
        encode_receiving(self.receiving.as_ref(), stored);
        encode_chains(&self.past, stored);
        encode_chains(self.skipped.given_up(), stored);
        let count = u16::try_from(self.skipped.len()).unwrap_or_default();
        stored.extend_from_slice(&count.to_be_bytes());
        for SkippedKey { chain, number, since, key } in self.skipped.keys() {
            stored.extend_from_slice(&chain.0);
            stored.extend_from_slice(&number.to_be_bytes());
            stored.extend_from_slice(&since.as_millis().to_be_bytes());
            stored.extend_from_slice(key.expose_bytes());
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub(in crate::crypto) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let root = Key::new(*reader.array()?);
        let sending = decode_sending(reader)?;
        let receiving = decode_receiving(reader)?;
        let past = decode_chains(reader)?;
        let given_up = decode_chains(reader)?;
        let count = usize::from(reader.u16()?);
        if past.len() > MAX_PAST || !Skipped::is_bounded(count, given_up.len()) {
            return Err(DecodeError::Malformed);
        }
        let keys = (0..count).map(|_| decode_skipped(reader)).collect::<Result<_, _>>()?;
        let skipped = Skipped::restore(keys, given_up);
        Ok(Self { past, skipped, ..Self::new(root, sending, receiving) })
    }
}

fn encode_sending(sending: Option<&Sending>, stored: &mut Vec<u8>) {
    let Some(Sending { public, pair, previous, chain }) = sending else {
        return stored.push(NONE);
    };
    stored.push(if pair.is_some() { WITH_SECRET } else { WITHOUT_SECRET });
    stored.extend_from_slice(public.to_bytes().as_ref());
    if let Some(pair) = pair {
        stored.extend_from_slice(pair.secret().expose_bytes());
    }
    stored.extend_from_slice(&previous.to_be_bytes());
    stored.extend_from_slice(&chain.next().to_be_bytes());
    stored.extend_from_slice(chain.expose_key());
}

fn decode_sending(reader: &mut Reader<'_>) -> Result<Option<Sending>, DecodeError> {
    let kind = reader.byte()?;
    if kind == NONE {
        return Ok(None);
    }
    let public = decode_public(reader)?;
    let pair = match kind {
        WITHOUT_SECRET => None,
        WITH_SECRET => {
            let secret = Secret::from_bytes(reader.array()?).ok_or(DecodeError::Malformed)?;
            Some(Arc::new(KeyPair::restore(secret, public.clone())))
        }
        _ => return Err(DecodeError::Malformed),
    };
    let previous = reader.u32()?;
    let (next, key) = (reader.u32()?, reader.array()?);
    Ok(Some(Sending { public, pair, previous, chain: ChainKey::new(Key::new(*key), next) }))
}

fn encode_receiving(receiving: Option<&Receiving>, stored: &mut Vec<u8>) {
    stored.push(u8::from(receiving.is_some()));
    if let Some(Receiving { public, id: _, chain }) = receiving {
        stored.extend_from_slice(public.to_bytes().as_ref());
        stored.extend_from_slice(&chain.next().to_be_bytes());
        stored.extend_from_slice(chain.expose_key());
    }
}

fn decode_receiving(reader: &mut Reader<'_>) -> Result<Option<Receiving>, DecodeError> {
    match reader.byte()? {
        0 => Ok(None),
        1 => {
            let public = decode_public(reader)?;
            let (next, key) = (reader.u32()?, reader.array()?);
            let id = ChainId::of(&public.to_bytes());
            let chain = RemoteChainKey::new(Key::new(*key), next);
            Ok(Some(Receiving { public, id, chain }))
        }
        _ => Err(DecodeError::Malformed),
    }
}

fn decode_public(reader: &mut Reader<'_>) -> Result<PublicValue, DecodeError> {
    let bytes = DhPublicBytes(Box::new(*reader.array()?));
    PublicValue::try_from(&bytes).map_err(|_| DecodeError::Malformed)
}

fn encode_chains(chains: &VecDeque<ChainId>, stored: &mut Vec<u8>) {
    stored.push(u8::try_from(chains.len()).unwrap_or_default());
    for chain in chains {
        stored.extend_from_slice(&chain.0);
    }
}

fn decode_chains(reader: &mut Reader<'_>) -> Result<VecDeque<ChainId>, DecodeError> {
    let count = reader.byte()?;
    (0..count).map(|_| Ok(ChainId(*reader.array()?))).collect()
}

fn decode_skipped(reader: &mut Reader<'_>) -> Result<SkippedKey, DecodeError> {
    let chain = ChainId(*reader.array()?);
    let (number, since) = (reader.u32()?, Timestamp::from_millis(reader.u64()?));
    let key = Box::new(MessageKey::from_bytes(*reader.array()?));
    Ok(SkippedKey { chain, number, since, key })
}
