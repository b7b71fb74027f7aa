//! `parlor history`: the conversation with a contact, oldest first.

use std::process::ExitCode;

use parlor_common::id::{MessageId, Username};
use parlor_common::visible::Visible;
use serde_json::{Value, json};

use super::Context;
use super::error::CliError;
use crate::args::HistoryArgs;
use crate::node::record::{Direction, StoredMessage};
use crate::store::{HistoryPage, Reader};

pub(super) fn run(context: &Context, args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let reader = context.home.open_read_only()?;
    for (json, text) in entries(&reader, args)? {
        context.printer.line(&json, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The messages that are asked for, as JSON and as text.
pub(super) fn entries(
    reader: &Reader,
    args: &HistoryArgs,
) -> Result<Vec<(Value, String)>, CliError> {
    let own = reader.identity()?.name;
    let before = args.before.map(|id| row_before(reader, args, id)).transpose()?;
    let page = HistoryPage { limit: args.limit, before, search: args.search.as_deref() };
    let messages = reader.page(&args.contact, &page)?;
    let known = || reader.contacts().map(|all| all.iter().any(|c| c.contact.name == args.contact));
    if messages.is_empty() && !known()? {
        return Err(CliError::UnknownContact(args.contact.to_string()));
    }
    Ok(messages.into_iter().map(|message| entry(message, &own)).collect())
}

fn entry(message: StoredMessage, own: &Username) -> (Value, String) {
    let StoredMessage { id, contact, direction, text, sent_at, state, .. } = message;
    let from = match direction {
        Direction::In => &contact,
        Direction::Out => own,
    };
    let json = json!({
        "id": id, "direction": direction, "from": from, "text": text,
        "sent_at": sent_at.to_string(), "state": state,
    });
    let state = match direction {
        Direction::In => String::new(),
        Direction::Out => format!(" ({})", state_word(state)),
    };
    let text = format!("{sent_at} {from}: {}{state}", Visible(&text));
    (json, text)
}

/// The row of the message that a page ends before.
fn row_before(reader: &Reader, args: &HistoryArgs, id: MessageId) -> Result<i64, CliError> {
    let found = reader.message(id)?.filter(|message| message.contact == args.contact);
    let found = found.ok_or_else(|| CliError::UnknownMessage(id, args.contact.clone()))?;
    Ok(found.row)
}

/// A state as people read it: the same word as in JSON.
pub(super) fn state_word(state: crate::node::record::MessageState) -> String {
    let json = serde_json::to_value(state).ok();
    json.and_then(|json| json.as_str().map(str::to_owned)).unwrap_or_default()
}
