//! The program that people run: a core that decides, a driver that waits, and front ends that
//! speak with the driver.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`archive`] | messages outside of a profile: lines of a file |
//! | [`args`], [`cli`] | the command line: what may be typed, and one file a command |
//! | [`account`] | registration, and login on a new device |
//! | [`config`] | what a person sets for a profile |
//! | [`crypto`] | end-to-end cryptography: group, agreement, session, message |
//! | [`driver`] | the one loop: waits, reads the clock, feeds the node, does what it says |
//! | [`net`] | one UDP socket for the rendezvous and all links |
//! | [`node`] | the core: contacts, outbox, inbox, sessions, paths; no socket, disk or clock |
//! | [`opaque`] | the client's half of OPAQUE |
//! | [`profile`] | the folder on disk: its lock, its key, its database |
//! | [`store`] | the profile on disk, and what of it front ends read |

pub mod account;
pub mod archive;
pub mod args;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod driver;
pub mod net;
pub mod node;
pub mod opaque;
pub mod profile;
pub mod store;
