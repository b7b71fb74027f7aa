//! `parlor contact …`: how people become contacts, and who is one.

use std::process::ExitCode;
use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::link::ServerAddress;
use serde_json::{Value, json};

use super::Context;
use super::error::CliError;
use super::notice;
use super::session::Session;
use crate::args::{ContactArg, ContactCommand};
use crate::node::input::Intent;
use crate::node::record::ContactState;
use crate::profile::LockError;
use crate::store::{ListedContact, Reader};

/// A list is fresh if the rendezvous answers within this time; else it is what was known.
const FRESH_TIME: Duration = Duration::from_secs(4);

pub(super) async fn run(context: &Context, command: ContactCommand) -> Result<ExitCode, CliError> {
    match command {
        ContactCommand::Add { who } => add(context, who).await,
        ContactCommand::List => list(context, "parlor contact list", |_| true).await,
        ContactCommand::Requests => {
            let asking = |state| state == ContactState::Asking;
            list(context, "parlor contact requests", asking).await
        }
        ContactCommand::Accept { name } => accept(context, name).await,
        ContactCommand::Decline { name } => {
            change(context, "parlor contact decline", Intent::DeclineContact { name }).await
        }
        ContactCommand::Remove { name } => {
            change(context, "parlor contact remove", Intent::RemoveContact { name }).await
        }
        ContactCommand::Block { name } => {
            change(context, "parlor contact block", Intent::BlockContact { name }).await
        }
        ContactCommand::Unblock { name } => {
            change(context, "parlor contact unblock", Intent::UnblockContact { name }).await
        }
        ContactCommand::Verify { name } => verify(context, name).await,
        ContactCommand::Disappear { name, after } => disappear(context, name, after.0).await,
    }
}

/// Accepts somebody. What was written for a key that is no more is not sent to the new one.
async fn accept(context: &Context, name: Username) -> Result<ExitCode, CliError> {
    let reader = context.home.open_read_only()?;
    let waiting = reader.waiting(&name)?;
    let known = reader.contacts()?.into_iter().find(|listed| listed.contact.name == name);
    let key_changed = known.is_some_and(|listed| listed.contact.changed_key.is_some());
    let accepted = Intent::AcceptContact { name: name.clone() };
    let ended = change(context, "parlor contact accept", accepted).await?;
    if key_changed && waiting > 0 {
        context.printer.note(&format!(
            "{waiting} written for {name}'s old key will not be sent to the new one and count as \
             failed; send again what {name} is to read"
        ));
    }
    Ok(ended)
}

/// Needs no rendezvous: it is the person's own word.
async fn verify(context: &Context, name: Username) -> Result<ExitCode, CliError> {
    let mut session = Session::start(context, "parlor contact verify").await?;
    let verified = session.intend(Intent::VerifyContact { name: name.clone() }).await;
    session.end().await?;
    verified?;
    let contacts = context.home.open_read_only()?.contacts()?;
    let known = contacts.iter().find(|listed| listed.contact.name == name);
    if let Some(text) = known.and_then(|listed| notice::standing(&listed.contact)) {
        context.printer.note(&text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Needs no rendezvous: the next message says it.
async fn disappear(
    context: &Context,
    name: Username,
    seconds: Option<u32>,
) -> Result<ExitCode, CliError> {
    let mut session = Session::start(context, "parlor contact disappear").await?;
    let wanted = session.intend(Intent::SetTimer { name: name.clone(), seconds }).await;
    session.end().await?;
    wanted?;
    let contacts = context.home.open_read_only()?.contacts()?;
    let known = contacts.into_iter().find(|listed| listed.contact.name == name);
    if seconds.is_some() && known.is_some_and(|known| known.contact.timers.theirs.is_none()) {
        context.printer.note(&format!(
            "{name} hears of it with your next message; messages disappear once {name} wants it, too"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(context: &Context, who: ContactArg) -> Result<ExitCode, CliError> {
    let (name, account_key) = match who {
        ContactArg::Name(name) => (name, None),
        ContactArg::Link { server, name, account_key } => {
            check_server(&context.home.open_read_only()?, &server)?;
            (name, account_key)
        }
    };
    change(context, "parlor contact add", Intent::AddContact { name, account_key }).await
}

/// A contact's server is one's own if the keys are the same, wherever it is reached.
fn check_server(reader: &Reader, theirs: &ServerAddress) -> Result<(), CliError> {
    let own = reader.identity()?.server;
    let same = match (own.key, theirs.key) {
        (Some(own), Some(theirs)) => own == theirs,
        _ => own.at == theirs.at,
    };
    if same {
        return Ok(());
    }
    Err(CliError::OtherServer { theirs: theirs.to_string(), own: own.to_string() })
}

async fn change(context: &Context, command: &str, intent: Intent) -> Result<ExitCode, CliError> {
    let mut session = Session::online(context, command).await?;
    let changed = session.intend(intent).await;
    session.end().await?;
    changed.map(|()| ExitCode::SUCCESS)
}

async fn list(
    context: &Context,
    command: &str,
    wanted: impl Fn(ContactState) -> bool,
) -> Result<ExitCode, CliError> {
    for contact in fresh_list(context, command).await? {
        if wanted(contact.contact.state) {
            print(context, &contact)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The contacts, after a look at the rendezvous if this process can have one.
async fn fresh_list(context: &Context, command: &str) -> Result<Vec<ListedContact>, CliError> {
    let reader = context.home.open_read_only()?;
    let online = Box::pin(Session::online(context, command));
    match tokio::time::timeout(FRESH_TIME, online).await {
        Ok(Ok(session)) => {
            // What it has just heard is in the database when it has ended.
            session.end().await?;
            return Ok(reader.contacts()?);
        }
        // Whoever holds the profile keeps the list fresh.
        Ok(Err(CliError::Lock(LockError::Held { .. }))) => {}
        Ok(Err(error @ CliError::Server(_))) => context.printer.note(&error.to_string()),
        Ok(Err(error)) => return Err(error),
        Err(_) => context.printer.note("the rendezvous cannot be reached; this is what was known"),
    }
    Ok(reader.contacts()?)
}

fn print(context: &Context, listed: &ListedContact) -> Result<(), CliError> {
    let ListedContact { contact, online } = listed;
    let json = json!({
        "name": contact.name, "state": contact.state, "verified": contact.verified,
        "account_key": contact.account_key, "policy": contact.policy, "online": online,
        "key_changed": contact.changed_key.is_some(), "unsigned_devices": contact.unsigned,
        "disappear_after": contact.timers.agreed(),
    });
    let state = json.get("state").and_then(Value::as_str).unwrap_or_default();
    let verified = if contact.verified { ", verified" } else { "" };
    let presence = if *online { ", online" } else { "" };
    let changed = if contact.changed_key.is_some() { ", account key has changed" } else { "" };
    let devices = match (contact.unsigned.is_empty(), contact.verified) {
        (true, _) => "",
        (false, true) => ", a new device is held",
        (false, false) => ", a device was added by password alone",
    };
    let text = format!("{} ({state}{verified}{presence}{changed}{devices})", contact.name);
    Ok(context.printer.line(&json, &text)?)
}
