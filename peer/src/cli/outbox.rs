//! `parlor outbox`: what has not been delivered, and what of it can still be changed.

use std::process::ExitCode;

use parlor_common::visible::Visible;
use serde_json::json;

use super::Context;
use super::error::CliError;
use super::history::state_word;
use super::send::check;
use super::session::Session;
use crate::args::OutboxCommand;
use crate::node::input::Intent;

pub(super) async fn run(
    context: &Context,
    command: Option<OutboxCommand>,
) -> Result<ExitCode, CliError> {
    match command {
        None => list(context),
        Some(OutboxCommand::TakeBack { id }) => {
            change(context, "parlor outbox take-back", Intent::TakeBack { id }).await
        }
        Some(OutboxCommand::Edit { id, text }) => {
            check(&text)?;
            change(context, "parlor outbox edit", Intent::Edit { id, text }).await
        }
    }
}

fn list(context: &Context) -> Result<ExitCode, CliError> {
    for message in context.home.open_read_only()?.undelivered()? {
        let json = json!({
            "id": message.id, "to": message.contact, "text": message.text,
            "sent_at": message.sent_at.to_string(), "state": message.state,
            "carrier": message.carrier,
        });
        let (id, to, state) = (message.id, &message.contact, state_word(message.state));
        let text = format!("{id} to {to} ({state}): {}", Visible(&message.text));
        context.printer.line(&json, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Needs no rendezvous: what is asked for has not left.
async fn change(context: &Context, command: &str, intent: Intent) -> Result<ExitCode, CliError> {
    let mut session = Session::start(context, command).await?;
    let changed = session.intend(intent).await;
    session.end().await?;
    changed.map(|()| ExitCode::SUCCESS)
}
