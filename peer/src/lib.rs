//! The program that people run: a core that decides, a driver that waits, and front ends that
//! speak with the driver.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`account`] | registration, and login on a new device |
//! | [`crypto`] | end-to-end cryptography: group, agreement, session, message |
//! | [`node`] | the core: contacts, outbox, inbox, sessions, paths; no socket, disk or clock |
//! | [`opaque`] | the client's half of OPAQUE |
//! | [`profile`] | the folder on disk: its lock, its key, its database |
//! | [`store`] | the profile on disk, and what of it front ends read |

pub mod account;
pub mod crypto;
pub mod driver;
pub mod net;
pub mod node;
pub mod opaque;
pub mod profile;
pub mod store;
