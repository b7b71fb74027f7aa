//! The core of a peer: placeholder, being written.

pub mod input;
pub mod output;
pub mod record;
pub mod work;
