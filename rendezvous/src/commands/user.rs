//! `user`: who has an account here.

use std::io::{self, BufRead, IsTerminal, Write};

use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::visible::Visible;
use serde::Serialize;
use serde_json::json;

use super::reach::Core;
use super::{CommandError, print_json, print_line};
use crate::admin::{AdminAnswer, AdminRequest, PAGE, User, UserChange, UserLine};
use crate::args::UserCommand;

pub(super) fn run(core: &mut Core<'_>, what: UserCommand, json: bool) -> Result<(), CommandError> {
    match what {
        UserCommand::List => list(core, json),
        UserCommand::Show { name } => show(core, name, json),
        UserCommand::Disable { name } => change(core, &name, UserChange::Disable, json),
        UserCommand::Enable { name } => change(core, &name, UserChange::Enable, json),
        UserCommand::Unlock { name } => change(core, &name, UserChange::Unlock, json),
        UserCommand::Delete { name, yes } => delete(core, &name, yes, json),
    }
}

fn change(
    core: &mut Core<'_>,
    name: &Username,
    change: UserChange,
    json: bool,
) -> Result<(), CommandError> {
    let done = match change {
        UserChange::Disable => "disabled",
        UserChange::Enable => "enabled",
        UserChange::Unlock => "unlocked",
    };
    core.ask(&AdminRequest::UserChange { name: name.clone(), change })?;
    say(name, done, json)
}

fn delete(core: &mut Core<'_>, name: &Username, yes: bool, json: bool) -> Result<(), CommandError> {
    confirm(name, yes)?;
    core.ask(&AdminRequest::UserDelete { name: name.clone() })?;
    say(name, "deleted", json)
}

fn say(name: &Username, done: &str, json: bool) -> Result<(), CommandError> {
    if json {
        return print_json(&json!({ "name": name, "done": done }));
    }
    print_line(&format!("{name} is {done}"))
}

/// On a terminal who deletes an account says so twice; a script said it once.
fn confirm(name: &Username, yes: bool) -> Result<(), CommandError> {
    if yes || !io::stdin().is_terminal() {
        return Ok(());
    }
    write!(io::stderr(), "{name} and all that is kept of it go for ever. Type the name again: ")?;
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == name.as_str() { Ok(()) } else { Err(CommandError::NotConfirmed) }
}

/// A user in the list, as programs read it.
#[derive(Serialize)]
struct Line {
    name: Username,
    created_at: String,
    disabled: bool,
    devices: u32,
    online: bool,
    last_login: Option<String>,
}

impl From<UserLine> for Line {
    fn from(user: UserLine) -> Self {
        Self {
            name: user.name,
            created_at: user.created_at.to_string(),
            disabled: user.disabled_at.is_some(),
            devices: user.devices,
            online: user.online,
            last_login: user.last_login.as_ref().map(Timestamp::to_string),
        }
    }
}

fn list(core: &mut Core<'_>, json: bool) -> Result<(), CommandError> {
    let mut after = None;
    loop {
        let answer = core.ask(&AdminRequest::UserList { after: after.take() })?;
        let AdminAnswer::Users(users) = answer else { return Err(CommandError::NoAnswer) };
        let is_last = users.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        after = users.last().map(|user| user.name.clone());
        for user in users {
            let line = Line::from(user);
            if json { print_json(&line)? } else { print_line(&line.to_text())? }
        }
        if is_last {
            return Ok(());
        }
    }
}

impl Line {
    fn to_text(&self) -> String {
        let state = match (self.disabled, self.online) {
            (true, _) => "disabled",
            (false, true) => "online",
            (false, false) => "offline",
        };
        let Self { name, devices, created_at, last_login, .. } = self;
        let last_login = last_login.as_deref().unwrap_or("never");
        let name = name.as_str();
        format!(
            "{name:<32} {state:<8} devices {devices}, made {created_at}, last login {last_login}"
        )
    }
}

fn show(core: &mut Core<'_>, name: Username, json: bool) -> Result<(), CommandError> {
    let answer = core.ask(&AdminRequest::UserShow { name })?;
    let AdminAnswer::User(user) = answer else { return Err(CommandError::NoAnswer) };
    if json { print_json(&to_json(*user)) } else { print_user(&user) }
}

fn to_json(user: User) -> serde_json::Value {
    let disabled_at = user.line.disabled_at.as_ref().map(Timestamp::to_string);
    let locks: Vec<_> = user
        .tries
        .into_iter()
        .map(|tries| {
            let locked_until = tries.locked_until.as_ref().map(Timestamp::to_string);
            json!({ "source": tries.source, "failures": tries.failures, "locked_until": locked_until })
        })
        .collect();
    let line = Line::from(user.line);
    json!({
        "name": line.name,
        "created_at": line.created_at,
        "disabled": line.disabled,
        "disabled_at": disabled_at,
        "online": line.online,
        "last_login": line.last_login,
        "email": user.email,
        "devices": user.known_devices,
        "locks": locks,
        "mailbox": user.mailbox,
    })
}

fn print_user(user: &User) -> Result<(), CommandError> {
    let text = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let line = &user.line;
    print_line(&format!("name        {}", line.name))?;
    print_line(&format!("made        {}", line.created_at))?;
    print_line(&format!("last login  {}", text(line.last_login)))?;
    if let Some(since) = line.disabled_at {
        print_line(&format!("disabled    since {since}"))?;
    }
    if let Some(email) = &user.email {
        print_line(&format!("email       {}", Visible(email)))?;
    }
    for device in &user.known_devices {
        let name = Visible(device.name.as_deref().unwrap_or("without a name"));
        let state = if device.online { "online" } else { "offline" };
        print_line(&format!("device      {} {state}, {name}", device.device))?;
    }
    let mailbox = &user.mailbox;
    print_line(&format!("mailbox     {} envelopes, {} bytes", mailbox.messages, mailbox.bytes))?;
    for tries in &user.tries {
        let source = tries.source.as_deref().unwrap_or("everywhere");
        let locked = tries.locked_until.map(|until| format!(", locked until {until}"));
        let locked = locked.unwrap_or_default();
        print_line(&format!("failed      {} times from {source}{locked}", tries.failures))?;
    }
    Ok(())
}
