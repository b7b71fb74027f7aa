//! `parlor devices`: the account's devices, and this one's word for the newest.

use std::process::ExitCode;
use std::time::Duration;

use parlor_common::device_list::VerifiedDeviceList;
use parlor_common::id::DeviceId;
use serde_json::json;

use super::Context;
use super::error::CliError;
use super::session::Session;
use crate::node::input::Intent;
use crate::node::record::Identity;
use crate::profile::LockError;
use crate::store::Reader;

/// The list is fresh if the rendezvous answers within this time; else it is what was known.
const FRESH_TIME: Duration = Duration::from_secs(4);

/// Lists the devices, after a look at the rendezvous if this process can have one.
pub(super) async fn list(context: &Context) -> Result<ExitCode, CliError> {
    let reader = context.home.open_read_only()?;
    let online = Box::pin(Session::online(context, "parlor devices"));
    match tokio::time::timeout(FRESH_TIME, online).await {
        Ok(Ok(session)) => session.end().await?,
        // Whoever holds the profile keeps the list fresh.
        Ok(Err(CliError::Lock(LockError::Held { .. }))) => {}
        Ok(Err(error @ CliError::Server(_))) => context.printer.note(&error.to_string()),
        Ok(Err(error)) => return Err(error),
        Err(_) => context.printer.note("the rendezvous cannot be reached; this is what was known"),
    }
    let (devices, this) = own_devices(&reader)?;
    print(context, &devices, this)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the list and signs it, and no other.
pub(super) async fn confirm(context: &Context) -> Result<ExitCode, CliError> {
    let mut session = Session::online(context, "parlor devices confirm").await?;
    let confirmed = sign(context, &mut session).await;
    session.end().await?;
    confirmed.map(|()| ExitCode::SUCCESS)
}

async fn sign(context: &Context, session: &mut Session) -> Result<(), CliError> {
    let reader = context.home.open_read_only()?;
    let (devices, this) = own_devices(&reader)?;
    print(context, &devices, this)?;
    session.intend(Intent::ConfirmDevices { list: devices.mark().hash }).await?;
    Ok(context.printer.text("signed by this device; your contacts are told")?)
}

fn own_devices(reader: &Reader) -> Result<(VerifiedDeviceList, DeviceId), CliError> {
    let Identity { name, account_key, devices, device, .. } = reader.identity()?;
    let devices = devices.verify(&name, &account_key).map_err(CliError::OwnDevices)?;
    Ok((devices, DeviceId::of(&device.public())))
}

fn print(context: &Context, devices: &VerifiedDeviceList, this: DeviceId) -> Result<(), CliError> {
    let newest = devices.newest().map(|newest| newest.id);
    let unconfirmed = devices.unconfirmed().map(|device| device.id);
    for device in &devices.list().devices {
        let (is_this, is_newest) = (device.id == this, newest == Some(device.id));
        let by_password = unconfirmed == Some(device.id);
        let json = json!({
            "device": device.id, "added_at": device.added_at.to_string(), "this": is_this,
            "newest": is_newest, "by_password_alone": by_password,
        });
        let marks = [
            (is_this, ", this device"),
            (is_newest, ", receives"),
            (by_password, ", added by password alone: not confirmed by an earlier device"),
        ];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let text = format!("{} added {}{marks}", device.id, device.added_at);
        context.printer.line(&json, &text)?;
    }
    Ok(())
}
