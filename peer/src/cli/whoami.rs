//! `parlor whoami` and `parlor link`: who this profile is.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use parlor_common::id::DeviceId;
use parlor_common::link::{Link, Target};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;

use super::Context;
use super::error::CliError;
use super::print::Printer;
use crate::node::record::Identity;

pub(super) fn whoami(context: &Context) -> Result<ExitCode, CliError> {
    let identity = context.home.open_read_only()?.identity()?;
    print_identity(context.printer, &identity)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints who a profile is: also what `register` and `login` end with.
pub(super) fn print_identity(printer: Printer, identity: &Identity) -> io::Result<()> {
    let Identity { name, server, account_key, device, .. } = identity;
    let server = server.to_string();
    let device = DeviceId::of(&device.public());
    let json = json!({
        "name": name, "server": server, "account_key": account_key, "device": device,
    });
    let text = format!(
        "name         {name}\nserver       {server}\naccount key  {account_key}\ndevice       {device}"
    );
    printer.line(&json, &text)
}

pub(super) fn link(context: &Context) -> Result<ExitCode, CliError> {
    let identity = context.home.open_read_only()?.identity()?;
    let account_key = Some(identity.account_key);
    let target = Target::Contact { name: identity.name, account_key };
    let link = Link { server: identity.server, target }.to_string();
    context.printer.line(&json!({ "link": link }), &link)?;
    if io::stdout().is_terminal()
        && let Ok(code) = QrCode::new(&link)
    {
        let picture = code.render::<Dense1x2>().quiet_zone(true).build();
        context.printer.text(&picture)?;
    }
    Ok(ExitCode::SUCCESS)
}
