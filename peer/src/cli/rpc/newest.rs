//! The last thing of a conversation that was told, so that a history can have it.

use parlor_common::id::MessageId;

use crate::node::output::{Event, Incoming};
use crate::node::record::MessageState;
use crate::store::{ReadError, Reader};

/// The message that the store changed last, and how far it got. Changes reach the database in
/// order: where this one is, all before it are.
#[derive(Debug, Default)]
pub(super) struct Newest(Option<(MessageId, MessageState)>);

impl Newest {
    /// Remembers what an event says of a message.
    pub(super) fn handle(&mut self, event: &Event) {
        self.0 = match event {
            Event::Queued { id, .. } | Event::Message(Incoming { id, .. }) => {
                Some((*id, MessageState::Queued))
            }
            Event::Receipt { id, state, .. } => Some((*id, *state)),
            _ => return,
        };
    }

    /// Whether a reader has it.
    pub(super) fn is_in(&self, reader: &Reader) -> Result<bool, ReadError> {
        let Some((id, state)) = self.0 else { return Ok(true) };
        Ok(reader.message(id)?.is_some_and(|message| message.state >= state))
    }
}
