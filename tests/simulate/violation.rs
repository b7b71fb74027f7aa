//! What must never be.

use parlor::node::record::MessageState;
use parlor_common::id::MessageId;
use thiserror::Error;

use crate::step::Home;

/// How a world has broken its word.
#[derive(Clone, Debug, Error)]
pub(crate) enum Violation {
    /// Something was queued that nobody wanted to send.
    #[error("{home} was told that {id} is queued, and had not asked for it")]
    QueuedUnasked { home: Home, id: MessageId },
    /// A message counts as queued and is not in the store, or counts so twice.
    #[error("{home} was told that {id} is queued, and its store has not saved it so")]
    QueuedUnsaved { home: Home, id: MessageId },
    /// Something was not done that there is no reason to refuse.
    #[error("{home} refused: {text}")]
    Refused { home: Home, text: String },
    /// A receipt for what was not sent, or one that goes backwards.
    #[error("{home} was told that {id} is {state:?}, which cannot follow {before:?}")]
    Receipt { home: Home, id: MessageId, before: Option<MessageState>, state: MessageState },
    /// A message counts as failed, for no reason.
    #[error("{home} was told that {id} has failed")]
    Failed { home: Home, id: MessageId },
    /// A message counts as delivered that its recipient does not have.
    #[error("{home} was told that {id} is delivered, and {at} does not have it")]
    NotThere { home: Home, id: MessageId, at: Home },
    /// A message that nobody sent.
    #[error("{home} has {text:?}, which nobody sent")]
    Unsaid { home: Home, text: String },
    /// A message was told before it was saved.
    #[error("{home} was told {id}, and its store does not have it")]
    ToldUnsaved { home: Home, id: MessageId },
    /// A message was told again, though it was noted as told or told in the same life.
    #[error("{home} was told {text:?} twice")]
    ToldTwice { home: Home, text: String },
    /// A message was told after a later one of the same incarnation.
    #[error("{home} was told {text:?} out of order")]
    ToldOutOfOrder { home: Home, text: String },
    /// A message was never told, though it is stored.
    #[error("{home} has {text:?} and was never told it")]
    NeverTold { home: Home, text: String },
    /// A message is stored after a later one of the same home.
    #[error("{home} shows {text:?} after {before:?}")]
    StoredOutOfOrder { home: Home, text: String, before: String },
    /// A message is stored twice.
    #[error("{home} has {text:?} twice")]
    StoredTwice { home: Home, text: String },
    /// When all was well again, a message was not where it must be, once.
    #[error("{text:?} of {home} is {state:?}, and its recipient has {copies} of it")]
    NotDelivered { home: Home, text: String, state: MessageState, copies: usize },
    /// A message that was queued is not in its sender's store.
    #[error("{home} was told that {id} is queued, and does not know it any more")]
    Forgotten { home: Home, id: MessageId },
    /// When all was well again, messages still waited after a long time.
    #[error("{waiting} messages wait still, {minutes} minutes after all is well again")]
    StillWaiting { waiting: u64, minutes: u64 },
    /// Links come up and go down without end.
    #[error("{home} has had {links} links in a minute")]
    Restless { home: Home, links: usize },
    /// A part of the world has panicked.
    #[error("panic: {0}")]
    Panic(String),
}
