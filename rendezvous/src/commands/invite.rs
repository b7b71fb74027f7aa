//! `invite`: who may register here.

use parlor_common::link::{Link, Target};
use parlor_common::wire::rendezvous::Invitation;
use serde_json::json;

use super::reach::Core;
use super::{CommandError, link, print_json, print_line};
use crate::admin::{AdminAnswer, AdminRequest, KnownInvitation, PAGE};
use crate::args::InviteCommand;
use crate::config::Config;
use crate::invitation::InvitationId;

pub(super) fn run(
    config: &Config,
    core: &mut Core<'_>,
    what: InviteCommand,
    json: bool,
) -> Result<(), CommandError> {
    match what {
        InviteCommand::Create { uses, days } => create(config, core, (uses, days), json),
        InviteCommand::List => list(core, json),
        InviteCommand::Revoke { invitation } => revoke(core, invitation, json),
    }
}

fn create(
    config: &Config,
    core: &mut Core<'_>,
    (uses, days): (u32, u32),
    json: bool,
) -> Result<(), CommandError> {
    let answer = core.ask(&AdminRequest::InviteCreate { uses, days })?;
    let AdminAnswer::Invitation(invitation) = answer else { return Err(CommandError::NoAnswer) };
    let Invitation { code, uses, expires_at } = invitation;
    let target = Target::Invitation { code: code.clone() };
    let link = Link { target, ..link::find(config)? };
    let expires_at = expires_at.to_string();
    if json {
        let invitation =
            json!({ "code": code, "link": link, "uses": uses, "expires_at": expires_at });
        return print_json(&invitation);
    }
    print_line(&format!("code   {code}"))?;
    print_line(&format!("link   {link}"))?;
    print_line(&format!("lets in {uses}, until {expires_at}"))
}

fn list(core: &mut Core<'_>, json: bool) -> Result<(), CommandError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let answer = core.ask(&AdminRequest::InviteList { after: after.take() })?;
        let AdminAnswer::Invitations(page) = answer else { return Err(CommandError::NoAnswer) };
        let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        after = page.last().map(|invitation| invitation.id.clone());
        all.extend(page);
        if is_last {
            break;
        }
    }
    all.sort_by_key(|invitation| invitation.made_at);
    all.iter().try_for_each(|invitation| print(invitation, json))
}

fn print(invitation: &KnownInvitation, json: bool) -> Result<(), CommandError> {
    let KnownInvitation { id, uses, used, made_by, made_at, expires_at, revoked } = invitation;
    if json {
        return print_json(&json!({
            "id": id,
            "uses": uses,
            "used": used,
            "made_by": made_by,
            "made_at": made_at.to_string(),
            "expires_at": expires_at.to_string(),
            "revoked": revoked,
        }));
    }
    let by = made_by.as_ref().map_or("an admin", |name| name.as_str());
    let state = if *revoked { ", revoked" } else { "" };
    print_line(&format!("{id} used {used} of {uses}, until {expires_at}, made by {by}{state}"))
}

fn revoke(core: &mut Core<'_>, id: InvitationId, json: bool) -> Result<(), CommandError> {
    let text = id.to_string();
    core.ask(&AdminRequest::InviteRevoke { id })?;
    if json {
        return print_json(&json!({ "id": text, "done": "revoked" }));
    }
    print_line(&format!("{text} is revoked"))
}
