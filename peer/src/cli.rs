//! The command line: one file a command, each thin: what was typed becomes intents, events become
//! lines.

#![expect(clippy::wildcard_enum_match_arm, reason = "a front end picks the events that it shows")]

mod account;
mod change;
mod chat;
mod contact;
mod demo;
mod devices;
mod doctor;
mod error;
mod export;
mod history;
mod host;
mod import;
mod invite;
mod lines;
mod listen;
mod notice;
mod outbox;
mod own;
mod password;
mod print;
mod prompt;
mod rpc;
mod safety_number;
mod send;
mod session;
mod store;
mod whoami;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use directories::ProjectDirs;

use self::error::CliError;
use self::print::Printer;
use crate::args::{AccountCommand, Cli, Command, StoreCommand};
use crate::profile::Home;

/// What every command is told.
#[derive(Debug)]
pub(crate) struct Context {
    home: Home,
    printer: Printer,
}

/// Runs the command that was typed, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print::usage(&error),
    };
    print::start_logs();
    let printer = Printer::new(cli.json);
    let ended = home(cli.home).and_then(|home| run(cli.command, &Context { home, printer }));
    match ended {
        Ok(code) => code,
        Err(error) => {
            printer.error(&error);
            error.exit_code()
        }
    }
}

fn home(given: Option<PathBuf>) -> Result<Home, CliError> {
    let default = || ProjectDirs::from("", "", "parlor").map(|dirs| dirs.data_dir().to_owned());
    let path = given.or_else(default).ok_or(CliError::NoHome)?;
    Ok(Home::new(path).asking(password::of_profile))
}

/// One thread runs everything that waits: fewer wake-ups than with several.
fn run(command: Command, context: &Context) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(Box::pin(dispatch(command, context)));
    // Work on other threads, such as reading a terminal, is not waited for.
    runtime.shutdown_background();
    ended
}

async fn dispatch(command: Command, context: &Context) -> Result<ExitCode, CliError> {
    match command {
        Command::Demo => demo::run(context).await,
        Command::Host(args) => host::run(context, args).await,
        Command::Register(args) => account::register(context, args).await,
        Command::Login(args) => account::login(context, args).await,
        Command::Whoami => whoami::whoami(context),
        Command::Link => whoami::link(context),
        Command::Contact(command) => contact::run(context, command).await,
        Command::SafetyNumber { contact } => safety_number::run(context, &contact),
        Command::Devices { command } => devices::run(context, command).await,
        Command::Password(args) => change::password(context, args).await,
        Command::Account(AccountCommand::Delete(args)) => change::delete(context, args).await,
        Command::Account(AccountCommand::Rekey(args)) => change::rekey(context, args).await,
        Command::Invite { uses } => invite::run(context, uses).await,
        Command::Send(args) => send::run(context, args).await,
        Command::Outbox { command } => outbox::run(context, command).await,
        Command::Listen => listen::run(context).await,
        Command::Rpc => rpc::run(context).await,
        Command::History(args) => history::run(context, &args),
        Command::Export(args) => export::run(context, &args),
        Command::Import { file } => import::run(context, &file),
        Command::Doctor => doctor::run(context).await,
        Command::Store(StoreCommand::Passphrase(args)) => store::passphrase(context, &args),
        Command::Chat { contact } => chat::run(context, contact).await,
    }
}
