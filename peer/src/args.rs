//! What may be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parlor_common::id::{ParseUsernameError, Username};
use parlor_common::identity::AccountKey;
use parlor_common::link::{Link, ParseLinkError, ServerAddress, Target};
use thiserror::Error;

/// Private chat between people's own machines.
#[derive(Debug, Parser)]
#[command(name = "parlor", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// The folder that holds the profile [default: the platform's data folder]
    #[arg(long, global = true, env = "PARLOR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A rendezvous and two peers in one process: see them meet, agree on a key, and chat
    Demo,
    /// Run a rendezvous, for friends and local networks
    Host(HostArgs),
    /// Make an account at a rendezvous
    Register(RegisterArgs),
    /// Open an account on this device
    Login(RegisterArgs),
    /// Say who this profile is
    Whoami,
    /// Print the link by which others add you
    Link,
    /// Ask, answer and list contacts
    #[command(subcommand)]
    Contact(ContactCommand),
    /// Print the number that you and a contact compare, to know that nobody stands in between
    SafetyNumber {
        /// With whom
        contact: Username,
    },
    /// List the account's devices
    Devices {
        /// What else to do with them
        #[command(subcommand)]
        command: Option<DevicesCommand>,
    },
    /// Send a message and wait until it is delivered
    Send(SendArgs),
    /// Print what happens, until interrupted
    Listen,
    /// Print the conversation with a contact
    History(HistoryArgs),
    /// Talk with a contact: each line of input is sent
    Chat {
        /// With whom
        contact: Username,
    },
}

/// Arguments of `host`.
#[derive(Args, Debug)]
pub struct HostArgs {
    /// Address and port to listen on [default: all addresses, port 4433]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// The folder that holds the rendezvous' data [default: rendezvous, inside the profile's folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The host name or address that others reach this machine by
    #[arg(long, value_name = "HOST")]
    pub public: Option<String>,
    /// Let anybody register who reaches this machine [default: on loopback alone; beyond it, who
    /// has an invitation]
    #[arg(long)]
    pub open: bool,
}

/// Arguments of `register` and `login`.
#[derive(Args, Debug)]
pub struct RegisterArgs {
    /// The account's name: 3 to 32 characters of a-z 0-9 . _ -
    pub name: Username,
    /// The rendezvous' link
    #[arg(long, value_name = "LINK")]
    pub server: ServerArg,
    /// A file whose first line is the password [default: ask]
    #[arg(long, env = "PARLOR_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Subcommands of `contact`.
#[derive(Debug, Subcommand)]
pub enum ContactCommand {
    /// Ask somebody to become a contact, by name or by link
    Add {
        /// Whom
        #[arg(value_name = "NAME-or-LINK")]
        who: ContactArg,
    },
    /// List the contacts
    List,
    /// List those who wait for your answer
    Requests,
    /// Accept somebody who has asked, or a contact's changed key or new device
    Accept {
        /// Whom
        name: Username,
    },
    /// Decline somebody who has asked
    Decline {
        /// Whom
        name: Username,
    },
    /// Take somebody off the contacts; the history stays
    Remove {
        /// Whom
        name: Username,
    },
    /// Mark a contact as verified: you have compared safety numbers
    Verify {
        /// Whom
        name: Username,
    },
}

/// Subcommands of `devices`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum DevicesCommand {
    /// Sign for the account's newest device from this one, so that contacts trust it
    Confirm,
}

/// Arguments of `send`.
#[derive(Args, Debug)]
pub struct SendArgs {
    /// To whom
    pub contact: Username,
    /// What; standard input where it is `-` or absent
    pub text: Option<String>,
    /// How far to wait
    #[arg(long, value_enum, default_value_t = Wait::Delivered)]
    pub wait: Wait,
    /// For how many seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub timeout: u32,
}

/// How far `send` waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Wait {
    /// Until the message is saved here
    None,
    /// Until a link has taken it
    Sent,
    /// Until the recipient's device has saved it
    Delivered,
}

/// Arguments of `history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// With whom
    pub contact: Username,
    /// How many messages: the newest are kept
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: u32,
    /// Only messages with these words
    #[arg(long, value_name = "WORDS")]
    pub search: Option<String>,
}

/// A rendezvous, by a link to it or to something on it.
#[derive(Clone, Debug)]
pub struct ServerArg(pub ServerAddress);

impl std::str::FromStr for ServerArg {
    type Err = ServerArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let server = text.parse::<Link>()?.server;
        if server.key.is_none() {
            return Err(ServerArgError::NoKey);
        }
        Ok(Self(server))
    }
}

/// Why a text names no rendezvous.
#[derive(Clone, Debug, Error)]
pub enum ServerArgError {
    /// It is no link.
    #[error(transparent)]
    Link(#[from] ParseLinkError),
    /// It has no key.
    #[error("the link has no key; it should start with parlor://KEY@, as the rendezvous prints it")]
    NoKey,
}

/// Somebody, by name or by a link that may carry the account key.
#[derive(Clone, Debug)]
pub enum ContactArg {
    /// A name on one's own rendezvous.
    Name(Username),
    /// A link.
    Link {
        /// Where.
        server: ServerAddress,
        /// Who.
        name: Username,
        /// The account key that the link vouches for.
        account_key: Option<AccountKey>,
    },
}

/// Why a text names nobody.
#[derive(Clone, Debug, Error)]
pub enum ContactArgError {
    /// It is neither a link nor a name.
    #[error(transparent)]
    Name(#[from] ParseUsernameError),
    /// It is a malformed link.
    #[error(transparent)]
    Link(#[from] ParseLinkError),
    /// It is a link to something else.
    #[error("the link is not a contact's; it should end with /NAME#KEY")]
    NotContact,
}

impl std::str::FromStr for ContactArg {
    type Err = ContactArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("://") {
            return Ok(Self::Name(text.parse()?));
        }
        let Link { server, target } = text.parse()?;
        match target {
            Target::Contact { name, account_key } => Ok(Self::Link { server, name, account_key }),
            Target::Server | Target::Invitation { .. } => Err(ContactArgError::NotContact),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn malformed_names_and_links_are_usage_errors() {
        for bad in [
            &["parlor", "send", "../../x", "hi"][..],
            &["parlor", "send", "al", "hi"],
            &["parlor", "contact", "add", ""],
            &["parlor", "contact", "add", "parlor://nonsense"],
            &["parlor", "contact", "add", "parlor://127.0.0.1:4433"],
            &["parlor", "register", "alice", "--server", "parlor://127.0.0.1:4433"],
            &["parlor", "register", "alice", "--server", "127.0.0.1:4433"],
        ] {
            let error = Cli::try_parse_from(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
