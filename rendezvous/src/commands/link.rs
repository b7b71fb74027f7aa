//! `link`: the server's link, whether it runs or not.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use parlor_common::link::Link;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;

use super::{CommandError, logs, print_json, print_line};
use crate::config::{Config, DataPlace};
use crate::driver::LISTEN_NOTE;
use crate::{folder, reach, store};

pub(super) fn run(config: &Config, json: bool) -> Result<(), CommandError> {
    logs::start(&config.log)?;
    let link = find(config)?;
    if json {
        return print_json(&json!({ "link": link }));
    }
    print_line(&link.to_string())?;
    if io::stdout().is_terminal() {
        print_line(&qr_code(&link)?)?;
    }
    Ok(())
}

/// The link with the address that the server listened on last.
pub(super) fn find(config: &Config) -> Result<Link, CommandError> {
    let DataPlace::Folder(data) = &config.data else { return Err(CommandError::NoServer) };
    let keys = folder::read_server_keys(data)?.ok_or(CommandError::NoServer)?;
    let database = data.join(store::FILE);
    let note = if database.exists() { store::read_note(&database, LISTEN_NOTE)? } else { None };
    let listen = note.and_then(|note| note.parse::<SocketAddr>().ok());
    Ok(reach::link(config.public.as_ref(), listen.unwrap_or(config.listen), keys.public()))
}

fn qr_code(link: &Link) -> Result<String, CommandError> {
    let code = QrCode::new(link.to_string()).map_err(io::Error::other)?;
    // Terminals are dark more often than not, and readers want dark modules on light ground.
    let mut image = code.render::<Dense1x2>();
    Ok(image.dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build())
}
