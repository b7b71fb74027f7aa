//! What the stories of several peers are told with.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`stage`] | what a story needs, whether it is simulated or real |
//! | [`stories`] | stories that are told on both |
//! | [`world`] | the very cores, with virtual time and a simulated network |
//! | [`real`] | the drivers that people run, on loopback |
//! | [`pair`] | two devices and their sessions, with no peers around them |
//! | [`raw`] | clients that keep to QUIC and TLS and to nothing else |
//! | [`secrets`] | looks for what must not be found |
//! | [`thief`] | what is in the pages of a profile that was stolen with its key |

pub mod pair;
pub mod raw;
pub mod real;
pub mod secrets;
pub mod stage;
pub mod stories;
pub mod thief;
pub mod world;

pub use stage::Stage;
pub use world::World;
