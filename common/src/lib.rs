//! What Parlor's peers and its rendezvous must agree on.
//!
//! Nothing here touches a socket, a disk, a clock or a source of randomness: everything is a
//! value, or bytes that become one by being checked.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`id`] | names and numbers: usernames, device, message and session ids |
//! | [`time`] | [`time::Timestamp`], and nothing that reads a clock |
//! | [`identity`] | Ed25519 keys by role, and signatures under labels |
//! | [`device_list`] | the signed list of an account's devices |
//! | [`prekey`] | prekey bundles, as bytes that were checked against a device |
//! | [`card`] | what a contact request says of the asker |
//! | [`candidate`] | addresses that a peer may be reached at, and the signed offer of them |
//! | [`envelope`] | sealed messages, as bytes |
//! | [`link`] | `parlor://` links |
//! | [`recovery`] | the account key's word for a connection, in place of a password |
//! | [`wire`] | frames, the rendezvous protocol, the peer protocol |
//! | [`quic`] | QUIC and TLS 1.3 with raw public keys |
//! | [`visible`] | text from others, made harmless for a terminal or a log |

pub mod candidate;
pub mod card;
pub mod device_list;
mod encoding;
pub mod envelope;
pub mod id;
pub mod identity;
pub mod link;
pub mod prekey;
pub mod quic;
pub mod recovery;
pub mod time;
pub mod visible;
pub mod wire;

pub use encoding::{Blob, Fields};
