//! The Double Ratchet as the specification writes it (§3), for comparison: both halves of a DH
//! ratchet step at once, a key pair drawn on the spot, skipped keys in a map.

use std::collections::BTreeMap;

use parlor_common::prekey::DhPublicBytes;
use rand::rngs::StdRng;

use super::MAX_SKIP;
use crate::crypto::group::{KeyPair, PublicValue};
use crate::crypto::kdf::{self, Key};

/// `state`, by the names of the specification.
pub(super) struct Textbook {
    pub(super) dhs: KeyPair,
    pub(super) dhr: Option<DhPublicBytes>,
    pub(super) rk: Key,
    pub(super) cks: Option<Key>,
    pub(super) ckr: Option<Key>,
    pub(super) ns: u32,
    pub(super) nr: u32,
    pub(super) pn: u32,
    pub(super) skipped: BTreeMap<(DhPublicBytes, u32), Key>,
}

/// `HEADER(dh, pn, n)`.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) dh: DhPublicBytes,
    pub(super) pn: u32,
    pub(super) n: u32,
}

impl Textbook {
    /// `RatchetInitBob`.
    pub(super) fn responder(root: &Key, prekey: KeyPair) -> Self {
        Self {
            dhs: prekey,
            dhr: None,
            rk: root.clone(),
            cks: None,
            ckr: None,
            ns: 0,
            nr: 0,
            pn: 0,
            skipped: BTreeMap::new(),
        }
    }

    /// `RatchetEncrypt`, without the encryption.
    pub(super) fn send(&mut self) -> (Sent, [u8; 32]) {
        let chain = self.cks.as_mut().unwrap();
        let key = *kdf::message_key(chain);
        *chain = kdf::next_chain_key(chain);
        let sent = Sent { dh: self.dhs.public().to_bytes(), pn: self.pn, n: self.ns };
        self.ns += 1;
        (sent, key)
    }

    /// `RatchetDecrypt`, without the decryption.
    pub(super) fn receive(&mut self, sent: &Sent, rng: &mut StdRng) -> [u8; 32] {
        if let Some(key) = self.skipped.remove(&(sent.dh.clone(), sent.n)) {
            return *key;
        }
        if self.dhr.as_ref() != Some(&sent.dh) {
            self.skip(sent.pn);
            self.dh_ratchet(sent, rng);
        }
        self.skip(sent.n);
        let chain = self.ckr.as_mut().unwrap();
        let key = *kdf::message_key(chain);
        *chain = kdf::next_chain_key(chain);
        self.nr += 1;
        key
    }

    fn skip(&mut self, until: u32) {
        assert!(until.saturating_sub(self.nr) <= MAX_SKIP);
        let Some(chain) = &mut self.ckr else { return };
        while self.nr < until {
            let of = (self.dhr.clone().unwrap(), self.nr);
            self.skipped.insert(of, kdf::message_key(chain));
            *chain = kdf::next_chain_key(chain);
            self.nr += 1;
        }
    }

    fn dh_ratchet(&mut self, sent: &Sent, rng: &mut StdRng) {
        let theirs = PublicValue::try_from(&sent.dh).unwrap();
        (self.pn, self.ns, self.nr) = (self.ns, 0, 0);
        self.dhr = Some(sent.dh.clone());
        let (rk, ckr) = kdf::ratchet_keys(&self.rk, &self.dhs.agree(&theirs));
        self.dhs = KeyPair::generate(rng);
        let (rk, cks) = kdf::ratchet_keys(&rk, &self.dhs.agree(&theirs));
        (self.rk, self.ckr, self.cks) = (rk, Some(ckr), Some(cks));
    }
}
