//! First messages that were accepted: the same again opens nothing.
//!
//! A carrier that holds a first message could bring it again when its session is long forgotten,
//! and where it came without a one-time prekey nothing else would refuse it.

use std::collections::BTreeMap;
use std::time::Duration;

use parlor_common::prekey::DhPublicBytes;
use parlor_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::Change;

/// For as long as the prekeys live that such a message may name.
const MEMORY: Duration = Duration::from_secs((21 + 44) * 24 * 3600);

/// The start of the hash of an ephemeral key, 16 bytes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct EphemeralHash(pub [u8; 16]);

impl EphemeralHash {
    fn of(ephemeral: &DhPublicBytes) -> Self {
        let digest: [u8; 32] = Sha256::digest(ephemeral).into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

/// Accepted ephemeral keys, and when they were accepted.
#[derive(Debug, Default)]
pub(super) struct Replays {
    accepted: BTreeMap<EphemeralHash, Timestamp>,
}

impl Replays {
    /// Takes over what was stored.
    pub(super) fn new(stored: Vec<(EphemeralHash, Timestamp)>) -> Self {
        Self { accepted: stored.into_iter().collect() }
    }

    /// Whether a first message with this key was accepted before.
    pub(super) fn knows(&self, ephemeral: &DhPublicBytes) -> bool {
        self.accepted.contains_key(&EphemeralHash::of(ephemeral))
    }

    /// A first message was accepted.
    pub(super) fn accepted(
        &mut self,
        ephemeral: &DhPublicBytes,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        self.accepted.retain(|hash, at| {
            let is_old = now.since(*at) > MEMORY;
            if is_old {
                changes.push(Change::ForgetEphemeral(*hash));
            }
            !is_old
        });
        let hash = EphemeralHash::of(ephemeral);
        self.accepted.insert(hash, now);
        changes.push(Change::RememberEphemeral(hash, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ephemeral_key_is_known_for_65_days() {
        let key = |byte| DhPublicBytes(Box::new([byte; DhPublicBytes::LEN]));
        let (mut replays, mut changes) = (Replays::default(), Vec::new());
        let start = Timestamp::from_millis(1_000_000_000_000);
        assert!(!replays.knows(&key(1)));
        replays.accepted(&key(1), start, &mut changes);
        replays.accepted(&key(2), start + MEMORY, &mut changes);
        assert!(replays.knows(&key(1)) && replays.knows(&key(2)));
        replays.accepted(&key(3), start + MEMORY + Duration::from_millis(1), &mut changes);
        assert!(!replays.knows(&key(1)) && replays.knows(&key(2)));
        let hash = EphemeralHash::of(&key(1));
        assert!(changes.contains(&Change::RememberEphemeral(hash, start)));
        assert!(changes.contains(&Change::ForgetEphemeral(hash)));
    }
}
