//! The rendezvous: where peers register, find each other and come together. It sees neither
//! passwords nor messages.
//!
//! The way of a request: [`driver`](Rendezvous) reads a frame from a QUIC stream and waits for
//! nothing else; [`server::Server`] decides, asking [`store::Store`] what it needs to know;
//! [`turn::settle`] lets the store answer all questions of a turn in one transaction; only then
//! the driver writes replies and events.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`Rendezvous`] | a running server, to embed: `start`, `run`, `stop` |
//! | [`server`] | the core: no sockets, disk, clock or randomness |
//! | [`store`] | SQLite |
//! | [`turn`] | core and store together, without sockets |
//! | [`admin`] | what who runs the server asks of it, and is told |
//! | [`audit`] | the audit trail: events, rows, and the chain that they form |
//! | [`code`], [`invitation`] | codes that are passed on, invitations among them |
//! | [`email`] | addresses, the codes that are mailed to them, the mail |
//! | [`opaque`] | the server's half of OPAQUE, bytes in and out |
//! | [`guard`] | how soon the next login may be tried, and when none may |
//! | [`config`], [`limits`] | what the server is told |
//! | [`bucket`] | how often something may happen |
//! | [`folder`], [`keys`], [`reach`] | the data folder, the server's keys, its link |
//! | [`args`], [`commands`] | the command line |

pub mod admin;
pub mod args;
pub mod audit;
pub mod bucket;
pub mod code;
pub mod commands;
pub mod config;
mod driver;
pub mod email;
pub mod folder;
pub mod guard;
pub mod invitation;
pub mod keys;
pub mod limits;
pub mod opaque;
pub mod reach;
pub mod server;
pub mod store;
pub mod turn;

pub use self::config::Config;
pub use self::driver::{Ended, MailerError, Rendezvous, StartError};
