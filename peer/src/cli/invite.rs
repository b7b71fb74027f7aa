//! `parlor invite`: an invitation to register, where users may make them.

use std::process::ExitCode;

use parlor_common::link::{Link, Target};
use parlor_common::wire::rendezvous::{Invitation, Request};
use serde_json::json;

use super::Context;
use super::error::CliError;
use super::own::OwnProfile;
use super::session::interruptible;

pub(super) async fn run(context: &Context, uses: u32) -> Result<ExitCode, CliError> {
    let mut profile = OwnProfile::open(context, "parlor invite")?;
    let session = profile.connect().await?;
    let request = Request::InviteCreate { uses };
    let invitation: Invitation = interruptible(session.call(&request)).await??;
    session.close().await;
    let Invitation { code, uses, expires_at } = invitation;
    let target = Target::Invitation { code: code.clone() };
    let link = Link { server: profile.identity.server.clone(), target }.to_string();
    profile.close()?;
    let json = json!({
        "code": code, "link": link, "uses": uses, "expires_at": expires_at.to_string(),
    });
    let text = format!("{code}\n{link}\ngood for {uses} until {expires_at}");
    context.printer.line(&json, &text)?;
    Ok(ExitCode::SUCCESS)
}
