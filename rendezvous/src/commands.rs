//! The subcommands: each turns what was typed into a call of the library, and prints.

mod audit;
mod invite;
mod link;
mod logs;
mod reach;
mod serve;
mod status;
mod user;

use std::io::{self, Write};

use serde::Serialize;
use thiserror::Error;

use self::reach::Core;
use crate::admin::AdminError;
use crate::args::{Args, Command, Common, ConfigCommand};
use crate::audit::Broken;
use crate::config::{Config, ConfigError, Settings};
use crate::driver::{Ended, StartError};
use crate::folder::FolderError;
use crate::store::OpenError;

/// A command failed. The text says what happened and what to do next.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The audit trail is not what the server wrote.
    #[error("the audit trail is broken: {0}")]
    Audit(#[from] Broken),
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server ended though nobody stopped it.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// `log.level` is none.
    #[error("log.level = {0:?} is no level: try error, warn, info, debug or trace")]
    LogLevel(String),
    /// The server ended before it answered.
    #[error(
        "the server ended before it answered, and may have done it or not: look, and try again"
    )]
    NoAnswer,
    /// Who was asked did not say the same again.
    #[error("nothing was done")]
    NotConfirmed,
    /// The core refused.
    #[error("{}", .0.message)]
    Refused(AdminError),
    /// No server has run on the data folder.
    #[error("no server has run here yet: start one with `parlor-rendezvous serve`")]
    NoServer,
    /// The database cannot be read.
    #[error("the database cannot be read: {0}")]
    Note(#[from] rusqlite::Error),
    /// Standard output, signals or the runtime.
    #[error("{0}")]
    Os(#[from] io::Error),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl CommandError {
    /// The error's name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::LogLevel(_) => "bad_config",
            Self::Audit(_) => "audit_broken",
            Self::NoAnswer => "no_answer",
            Self::NotConfirmed => "not_confirmed",
            Self::Refused(error) => error.code.as_str(),
            Self::NoServer => "no_server",
            Self::Ended(_) | Self::Os(_) => "failed",
            Self::Start(StartError::Listen { .. }) => "cannot_listen",
            Self::Start(StartError::Folder(FolderError::InUse(_)))
            | Self::Folder(FolderError::InUse(_)) => "in_use",
            Self::Start(StartError::Database(OpenError::Damaged(_))) => "damaged_database",
            Self::Folder(FolderError::Silent(_)) => "unavailable",
            Self::Folder(_) | Self::Note(_) | Self::Start(_) => "unusable_data",
        }
    }
}

/// Runs what was typed.
pub fn run(args: Args) -> Result<(), CommandError> {
    let Args { common, command } = args;
    let json = common.json;
    match command {
        Command::Serve { listen } => {
            let flags = Settings { listen, ..Settings::default() };
            serve::run(&configure(flags, common)?, json)
        }
        Command::Link => link::run(&configure(Settings::default(), common)?, json),
        Command::User { what } => {
            let config = admin(common)?;
            user::run(&mut Core::reach(&config)?, what, json)
        }
        Command::Invite { what } => {
            let config = admin(common)?;
            invite::run(&config, &mut Core::reach(&config)?, what, json)
        }
        Command::Audit { what } => audit::run(&admin(common)?, what, json),
        Command::Status => status::run(&mut Core::reach(&admin(common)?)?, json),
        Command::Config { what } => {
            let config = configure(Settings::default(), common)?;
            match what {
                ConfigCommand::Check => check(&config, json),
                ConfigCommand::Show => show(&config, json),
            }
        }
    }
}

/// Defaults, under the file, under the environment, under flags.
fn configure(flags: Settings, common: Common) -> Result<Config, ConfigError> {
    let flags = Settings { data: common.data, ..flags };
    let environment = Settings::from_environment(|name| std::env::var(name).ok())?;
    let file = common.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    flags.over(environment).over(file).into_config()
}

/// The configuration of a command that speaks to the core.
fn admin(common: Common) -> Result<Config, CommandError> {
    let config = configure(Settings::default(), common)?;
    logs::start(&config.log)?;
    Ok(config)
}

fn check(config: &Config, json: bool) -> Result<(), CommandError> {
    logs::filter(&config.log)?;
    if json { print_json(&serde_json::json!({ "ok": true })) } else { print_line("sound") }
}

fn show(config: &Config, json: bool) -> Result<(), CommandError> {
    let settings = config.to_settings();
    if json {
        return print_json(&settings);
    }
    let text = toml::to_string(&settings).map_err(io::Error::other)?;
    print_line(text.trim_end())
}

fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    print_line(&serde_json::to_string(value).map_err(io::Error::other)?)
}

fn print_line(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
