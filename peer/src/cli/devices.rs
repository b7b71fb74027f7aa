//! `parlor devices …`: the account's devices, their names, this one's word for the newest, and the
//! removal of others.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use parlor_common::device_list::VerifiedDeviceList;
use parlor_common::id::DeviceId;
use parlor_common::visible::Visible;
use parlor_common::wire::rendezvous::{Devices, Done, KnownDevice, Request};
use serde_json::json;

use super::account::now;
use super::error::CliError;
use super::own::{LoggedIn, OwnProfile};
use super::session::{Session, interruptible};
use super::{Context, password};
use crate::args::{DeviceArg, DeviceName, DevicesCommand, Named, PasswordFile};
use crate::node::input::Intent;
use crate::node::record::{Change, Identity};
use crate::profile::LockError;
use crate::store::Reader;

/// The list is fresh if the rendezvous answers within this time; else it is what was known.
const FRESH_TIME: Duration = Duration::from_secs(4);

pub(super) async fn run(
    context: &Context,
    command: Option<DevicesCommand>,
) -> Result<ExitCode, CliError> {
    match command {
        None => list(context).await,
        Some(DevicesCommand::Confirm) => confirm(context).await,
        Some(DevicesCommand::Name { device, name }) => set_name(context, &device, name).await,
        Some(DevicesCommand::Remove { device, password }) => {
            remove(context, &device, &password).await
        }
    }
}

/// Lists the devices, after a look at the rendezvous if this process can have one.
async fn list(context: &Context) -> Result<ExitCode, CliError> {
    let reader = context.home.open_read_only()?;
    let mut served = Served::new();
    match tokio::time::timeout(FRESH_TIME, Box::pin(look(context, &mut served))).await {
        // Whoever holds the profile keeps the list fresh.
        Ok(Ok(()) | Err(CliError::Lock(LockError::Held { .. }))) => {}
        Ok(Err(error @ CliError::Server(_))) => context.printer.note(&error.to_string()),
        Ok(Err(error)) => return Err(error),
        Err(_) => context.printer.note("the rendezvous cannot be reached; this is what was known"),
    }
    let (devices, this) = own_devices(&reader)?;
    print(context, &devices, this, &served)?;
    Ok(ExitCode::SUCCESS)
}

/// What the rendezvous knows of devices, where it was asked.
type Served = BTreeMap<DeviceId, KnownDevice>;

/// Looks at the account's list, and at what else the rendezvous knows.
async fn look(context: &Context, served: &mut Served) -> Result<(), CliError> {
    Session::online(context, "parlor devices").await?.end().await?;
    let mut profile = OwnProfile::open(context, "parlor devices")?;
    let session = profile.connect().await?;
    let Devices { devices } = interruptible(session.call(&Request::DeviceList {})).await??;
    session.close().await;
    served.extend(devices.into_iter().map(|known| (known.device, known)));
    profile.close()
}

/// Shows the list and signs it, and no other.
async fn confirm(context: &Context) -> Result<ExitCode, CliError> {
    let mut session = Session::online(context, "parlor devices confirm").await?;
    let confirmed = sign(context, &mut session).await;
    session.end().await?;
    confirmed.map(|()| ExitCode::SUCCESS)
}

async fn sign(context: &Context, session: &mut Session) -> Result<(), CliError> {
    let reader = context.home.open_read_only()?;
    let (devices, this) = own_devices(&reader)?;
    print(context, &devices, this, &Served::new())?;
    session.intend(Intent::ConfirmDevices { list: devices.mark().hash }).await?;
    Ok(context.printer.text("signed by this device; your contacts are told")?)
}

async fn set_name(
    context: &Context,
    device: &DeviceArg,
    DeviceName(name): DeviceName,
) -> Result<ExitCode, CliError> {
    let mut profile = OwnProfile::open(context, "parlor devices name")?;
    let session = profile.connect().await?;
    let Devices { devices } = interruptible(session.call(&Request::DeviceList {})).await??;
    let device = one_of(device, devices.iter().map(|known| known.device))?;
    let Done {} = session.call(&Request::DeviceName { device, name }).await?;
    session.close().await;
    profile.close()?;
    Ok(ExitCode::SUCCESS)
}

/// Takes a device off the account: this one signs that, and contacts believe it.
async fn remove(
    context: &Context,
    device: &DeviceArg,
    password: &PasswordFile,
) -> Result<ExitCode, CliError> {
    let mut profile = OwnProfile::open(context, "parlor devices remove")?;
    let password = password::current(password)?;
    let LoggedIn { session, account, .. } = profile.log_in(&password).await?;
    let listed = account.devices().list().devices.iter().map(|device| device.id);
    let device = one_of(device, listed)?;
    let (request, devices) = account.remove_device(device, &profile.identity.device, now())?;
    let Done {} = session.call(&request).await?;
    profile.save(Change::PutOwnDevices(Box::new(devices)))?;
    session.close().await;
    profile.close()?;
    let text = format!("{device} is removed, and cut off; your contacts are told");
    context.printer.line(&json!({ "removed": device }), &text)?;
    Ok(ExitCode::SUCCESS)
}

fn one_of(
    wanted: &DeviceArg,
    devices: impl Iterator<Item = DeviceId>,
) -> Result<DeviceId, CliError> {
    match wanted.among(devices) {
        Named::One(device) => Ok(device),
        Named::Nothing => Err(CliError::UnknownDevice(wanted.to_string())),
        Named::Several => Err(CliError::SeveralDevices(wanted.to_string())),
    }
}

fn own_devices(reader: &Reader) -> Result<(VerifiedDeviceList, DeviceId), CliError> {
    let Identity { name, account_key, devices, device, .. } = reader.identity()?;
    let devices = devices.verify(&name, &account_key).map_err(CliError::OwnDevices)?;
    Ok((devices, DeviceId::of(&device.public())))
}

fn print(
    context: &Context,
    devices: &VerifiedDeviceList,
    this: DeviceId,
    served: &Served,
) -> Result<(), CliError> {
    let newest = devices.newest().map(|newest| newest.id);
    let unconfirmed = devices.unconfirmed().map(|device| device.id);
    for device in &devices.list().devices {
        let (is_this, is_newest) = (device.id == this, newest == Some(device.id));
        let by_password = unconfirmed == Some(device.id);
        let known = served.get(&device.id);
        let (name, online) = (known.and_then(|it| it.name.as_deref()), known.map(|it| it.online));
        let json = json!({
            "device": device.id, "added_at": device.added_at.to_string(), "this": is_this,
            "newest": is_newest, "by_password_alone": by_password, "name": name, "online": online,
        });
        let marks = [
            (is_this, ", this device"),
            (is_newest, ", receives"),
            (online == Some(true), ", online"),
            (by_password, ", added by password alone: not confirmed by an earlier device"),
        ];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let name = name.map(|name| format!(" ({})", Visible(name))).unwrap_or_default();
        let text = format!("{}{name} added {}{marks}", device.id, device.added_at);
        context.printer.line(&json, &text)?;
    }
    Ok(())
}
