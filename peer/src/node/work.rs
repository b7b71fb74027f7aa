//! Work that would block a turn: it leaves the node as [`Work`] and comes back as [`WorkDone`].

/// Placeholder, being written.
#[derive(Debug)]
pub struct WorkDone;
