//! What a handler comes to: a reply, a refusal, or to wait for the store.

use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Done, ErrorCode, ErrorReply, MAX_REPLY, Reply};
use serde::Serialize;

/// A request's next step.
pub(super) enum Step {
    /// It is answered.
    Reply(Vec<u8>),
    /// It goes on with the store's answer.
    Wait,
}

/// A step, or why the request is refused.
pub(super) type Handled = Result<Step, ErrorReply>;

/// The answer to a request.
pub(super) fn ok<T: Serialize>(body: T) -> Handled {
    match serde_json::to_vec(&Reply::Ok(body)) {
        Ok(payload) if payload.len() <= MAX_REPLY => Ok(Step::Reply(payload)),
        Ok(payload) => {
            tracing::error!(bytes = payload.len(), "a reply is longer than the protocol allows");
            Err(unavailable())
        }
        Err(error) => {
            tracing::error!(%error, "a reply does not serialize");
            Err(unavailable())
        }
    }
}

/// The answer to a request that has nothing to say.
pub(super) fn done() -> Handled {
    ok(Done {})
}

/// Why a request is refused; the message says in plain words what to do next.
pub(super) fn refusal(code: ErrorCode, message: &str) -> ErrorReply {
    ErrorReply { code, message: message.to_owned(), until: None }
}

/// A refusal that ends at `until`.
pub(super) fn too_fast(message: &str, until: Timestamp) -> ErrorReply {
    ErrorReply { until: Some(until), ..refusal(ErrorCode::TooFast, message) }
}

/// Too many have failed, until `until`.
pub(super) fn locked(until: Timestamp) -> ErrorReply {
    let message = "too many failed logins: nobody new is let in for a while";
    ErrorReply { until: Some(until), ..refusal(ErrorCode::Locked, message) }
}

/// The store cannot answer.
pub(super) fn unavailable() -> ErrorReply {
    refusal(ErrorCode::Unavailable, "the server cannot answer now; try again in a moment")
}

/// The connection's device belongs to no account, or does not any more.
pub(super) fn unknown_device() -> ErrorReply {
    refusal(ErrorCode::UnknownDevice, "this device belongs to no account here: register, or log in")
}

/// A field is longer than anything honest.
pub(super) fn malformed(message: &str) -> ErrorReply {
    refusal(ErrorCode::Malformed, message)
}

/// A refusal as it stands on the wire.
pub(super) fn refused(error: ErrorReply) -> Vec<u8> {
    // A code, a text and a number always serialize; an empty reply would be refused by the client.
    serde_json::to_vec(&Reply::<Done>::Error(error)).unwrap_or_default()
}
