//! End-to-end cryptography.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`group`] | Diffie–Hellman over ffdhe3072: secrets, checked public values |
//! | [`prekey`] | the private halves of prekeys |
//! | [`kem`] | ML-KEM-768: keys, ciphertexts, what they hold |
//! | [`agreement`] | two devices agree on a secret, one of them offline: PQXDH's pattern |
//! | [`session`] | seals and opens envelopes between two devices |
//! | `ratchet` | the Double Ratchet: which key a message has; it knows of no envelope |
//! | `skipped` | the keys of messages that were overtaken |
//! | `chain` | keys that follow from one another and not back |
//! | [`aead`] | one message under one key: `AEAD_AES_128_CBC_HMAC_SHA_256` |
//! | `transcript` | the hash of everything public in an agreement |
//! | [`padding`] | hides a message's length |
//! | `kdf` | every derivation, with its label |
//! | `stored` | reading what was stored |
//! | [`safety_number`] | 60 digits that two people compare |
//! | [`self_test`] | known answers, for `parlor doctor` |
//! | [`vectors`] | what others can check their own implementation with |
//!
//! The path of a message: [`session::Session::seal`] asks the ratchet for the next message key,
//! pads, and seals under it; [`session::Session::open`] is its mirror, and commits what it derived
//! only after the tag held.
//!
//! Nothing here knows of sockets, clocks or the operating system's generator: randomness is an
//! argument.

pub mod aead;
pub mod agreement;
mod chain;
#[cfg(test)]
pub(crate) mod fixture;
pub mod group;
pub(crate) mod kdf;
pub mod kem;
pub mod padding;
pub mod prekey;
mod ratchet;
pub mod safety_number;
pub mod self_test;
pub mod session;
mod skipped;
mod stored;
mod transcript;
pub mod vectors;
