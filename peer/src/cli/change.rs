//! `parlor password` and `parlor account …`: what changes the account itself.

use std::process::ExitCode;

use parlor_common::wire::rendezvous::{Done, Request};
use serde_json::json;

use super::account::{change_password, now, show_recovery_code};
use super::error::CliError;
use super::own::{LoggedIn, OwnProfile};
use super::password::Chosen;
use super::whoami::print_identity;
use super::{Context, password, prompt};
use crate::account::Rekeyed;
use crate::args::{ConfirmArgs, PasswordArgs};
use crate::driver::os_rng;
use crate::net::CallError;
use crate::node::record::Change;

pub(super) async fn password(context: &Context, args: PasswordArgs) -> Result<ExitCode, CliError> {
    let mut profile = OwnProfile::open(context, "parlor password")?;
    let old = password::current(&args.password)?;
    let place = (&profile.identity.name, &profile.identity.server);
    let new = password::chosen(args.new_password_file.as_deref(), Chosen::Next, place)?;
    let LoggedIn { session, account, .. } = profile.log_in(&old).await?;
    change_password(&session, account, &new).await?;
    session.close().await;
    profile.close()?;
    context.printer.line(&json!({ "changed": "password" }), "the account has its new password")?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes the account. The profile stays: what was said is its owner's.
pub(super) async fn delete(context: &Context, args: ConfirmArgs) -> Result<ExitCode, CliError> {
    let mut profile = OwnProfile::open(context, "parlor account delete")?;
    let name = profile.identity.name.clone();
    context.printer.note(&format!(
        "this deletes the account {name}: it cannot be undone, and nobody gets the name again"
    ));
    confirm(&args, name.as_str())?;
    let password = password::current(&args.password)?;
    let LoggedIn { session, .. } = profile.log_in(&password).await?;
    let Done {} = session.call(&Request::AccountDelete {}).await?;
    session.close().await;
    profile.close()?;
    context.printer.line(&json!({ "deleted": name }), &format!("{name} is deleted"))?;
    context.printer.note(&format!(
        "nothing can be sent from here any more; {} still holds the history, until you remove it",
        context.home.path().display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Gives the account a new key. The profile keeps what it asks for before it asks, so that it
/// knows itself again whatever happens meanwhile.
pub(super) async fn rekey(context: &Context, args: ConfirmArgs) -> Result<ExitCode, CliError> {
    let mut profile = OwnProfile::open(context, "parlor account rekey")?;
    context.printer.note(
        "this gives your account a new key. Your other devices are cut off and must log in again; \
         contacts are told that your key has changed, and what you send waits until they accept \
         it; what is on its way now may or may not arrive, and counts as failed; the old recovery \
         code opens nothing any more",
    );
    confirm(&args, profile.identity.name.as_str())?;
    let password = password::current(&args.password)?;
    let LoggedIn { session, account, export } = profile.log_in(&password).await?;
    let device = &profile.identity.device;
    let (request, Rekeyed { devices, recovery_code }) =
        account.rekey(device, &export, now(), &mut os_rng())?;
    profile.save(Change::PutRekeying(Box::new(devices)))?;
    match session.call::<Done>(&request).await {
        Ok(Done {}) => profile.save(Change::AdoptRekeying)?,
        Err(error @ CallError::Refused(_)) => {
            profile.save(Change::ForgetRekeying)?;
            return Err(error.into());
        }
        Err(CallError::Lost | CallError::Malformed) => {
            show_recovery_code(context, &recovery_code);
            return Err(CliError::RekeyUnknown);
        }
    }
    session.close().await;
    profile.close()?;
    show_recovery_code(context, &recovery_code);
    print_identity(context.printer, &context.home.open_read_only()?.identity()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the person type the account's name, unless it was said before that it is meant.
fn confirm(args: &ConfirmArgs, name: &str) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    if !prompt::is_possible() {
        return Err(CliError::NotAsked);
    }
    let typed = prompt::ask(&format!("Type the account's name ({name}) to go on: "))?;
    if typed.as_str() == name { Ok(()) } else { Err(CliError::NotConfirmed) }
}
