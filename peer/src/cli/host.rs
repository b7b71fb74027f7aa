//! `parlor host`: a rendezvous inside the peer's binary.

use std::process::ExitCode;

use parlor_rendezvous::Rendezvous;
use parlor_rendezvous::config::{Config, Registration, Settings};
use serde_json::json;

use super::Context;
use super::error::CliError;
use super::session::interrupted;
use crate::args::HostArgs;

pub(super) async fn run(context: &Context, args: HostArgs) -> Result<ExitCode, CliError> {
    let config = config(context, args)?;
    let ended = interrupted();
    let server = Rendezvous::start(&config).map_err(|error| CliError::Host(error.to_string()))?;
    let (listen, link) = (server.address().to_string(), server.link().to_string());
    let json = json!({ "event": "ready", "listen": listen, "link": link });
    context.printer.line(&json, &format!("serving on {listen}: {link}"))?;
    server.run(ended).await.map_err(|error| CliError::Host(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn config(context: &Context, args: HostArgs) -> Result<Config, CliError> {
    let data = args.data.unwrap_or_else(|| context.home.path().join("rendezvous"));
    let registration = args.open.then_some(Registration::Open);
    let settings = Settings {
        registration,
        listen: args.listen,
        public: args.public,
        data: Some(data),
        ..Settings::default()
    };
    settings.into_config().map_err(|error| CliError::Host(error.to_string()))
}
