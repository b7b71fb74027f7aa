//! Deterministic vectors, made from fixed seeds, so that others can check what they write.
//!
//! The files are in `docs/vectors/`; `cargo run -p parlor-tests --bin vectors -- --check` makes them
//! anew and compares, and `tests/model` recomputes them independently. All that is secret in them
//! is public: never use any of it.

mod identities;
mod primitives;
mod sessions;

use std::convert::Infallible;

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryCryptoRng, TryRng};
use serde_json::Value;
use thiserror::Error;

use super::agreement::AgreementError;
use super::group::OutOfRange;
use super::kem::MalformedKemKey;
use super::session::SealError;

/// A file of vectors.
#[derive(Debug)]
pub struct VectorFile {
    /// Its name in `docs/vectors/`.
    pub name: &'static str,
    /// What is in it.
    pub json: Value,
}

/// This build cannot make a vector.
#[derive(Clone, Copy, Debug, Error)]
pub enum VectorError {
    /// An agreement failed.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// Something of fixed seeds is not as it has to be.
    #[error("a vector is not as it has to be: {0}")]
    Unsound(&'static str),
    /// A KEM key was refused.
    #[error(transparent)]
    Kem(#[from] MalformedKemKey),
    /// A message was not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<OutOfRange> for VectorError {
    fn from(_: OutOfRange) -> Self {
        Self::Unsound("a public value is out of range")
    }
}

/// All files.
pub fn vector_files() -> Result<Vec<VectorFile>, VectorError> {
    Ok(vec![
        VectorFile { name: "dh.json", json: primitives::dh()? },
        VectorFile { name: "aead.json", json: primitives::aead() },
        VectorFile { name: "key_schedule.json", json: primitives::key_schedule()? },
        VectorFile { name: "device_list.json", json: identities::device_lists() },
        VectorFile { name: "prekeys.json", json: identities::prekeys() },
        VectorFile { name: "agreement.json", json: sessions::agreements()? },
        VectorFile { name: "ratchet.json", json: sessions::conversation()? },
    ])
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// A generator whose bytes hang on a seed, and which remembers what it gave.
struct Script {
    rng: StdRng,
    given: Vec<Vec<u8>>,
}

impl Script {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), given: Vec::new() }
    }

    /// Bytes of its own, for an input that is no draw of the code under test.
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// What it gave since the last call, draw by draw.
    fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.given)
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.rng.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rng.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.rng.fill_bytes(bytes);
        self.given.push(bytes.to_vec());
        Ok(())
    }
}

impl TryCryptoRng for Script {}
