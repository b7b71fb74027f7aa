//! What may be typed.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parlor_common::id::{MessageId, Username};
use serde::Deserialize;

pub use values::{
    ContactArg, ContactArgError, DeviceArg, DeviceArgError, DeviceName, DeviceNameError,
    DisappearAfter, DisappearAfterError, Named, ServerArg, ServerArgError,
};

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
    Login(LoginArgs),
    /// Change the account's password
    Password(PasswordArgs),
    /// End the account, or give it a new key
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make an invitation to register, where users may
    Invite {
        /// How many accounts it is good for
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
    },
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
    /// List, name, confirm and remove the account's devices
    Devices {
        /// What else to do with them
        #[command(subcommand)]
        command: Option<DevicesCommand>,
    },
    /// Send a message and wait until it is delivered
    Send(SendArgs),
    /// List what is not delivered, take back or rewrite what has not left
    Outbox {
        /// What else to do
        #[command(subcommand)]
        command: Option<OutboxCommand>,
    },
    /// Print what happens, until interrupted
    Listen,
    /// Take JSON-RPC requests on standard input, a line each, and answer on standard output
    Rpc,
    /// Print the conversation with a contact
    History(HistoryArgs),
    /// Write messages as lines of JSON: no keys, no sessions
    Export(ExportArgs),
    /// Bring exported messages back into this profile
    Import {
        /// The file that `export` wrote
        file: PathBuf,
    },
    /// Look whether everything is well: cryptography, store, rendezvous, clock, network
    Doctor,
    /// See to the profile's own files
    #[command(subcommand)]
    Store(StoreCommand),
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

/// Arguments of `register`.
#[derive(Args, Debug)]
pub struct RegisterArgs {
    /// The account's name: 3 to 32 characters of a-z 0-9 . _ -
    pub name: Username,
    /// The rendezvous' link; one that is an invitation lets you in
    #[arg(long, value_name = "LINK")]
    pub server: ServerArg,
    /// The invitation's code, where one is needed [default: the link's, or ask]
    #[arg(long, value_name = "CODE", conflicts_with = "email")]
    pub invite: Option<String>,
    /// Your e-mail address, where one is needed: a code is sent there
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
    /// The code that was sent there [default: ask]
    #[arg(long, value_name = "CODE", requires = "email")]
    pub email_code: Option<String>,
    /// Where the password is.
    #[command(flatten)]
    pub password: PasswordFile,
}

/// Arguments of `login`.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// The account's name
    pub name: Username,
    /// The rendezvous' link
    #[arg(long, value_name = "LINK")]
    pub server: ServerArg,
    /// Without the password: by the recovery code, and choose a new password
    #[arg(long)]
    pub recovery: bool,
    /// A file that holds the recovery code [default: ask]
    #[arg(long, value_name = "FILE", requires = "recovery")]
    pub recovery_file: Option<PathBuf>,
    /// Where the password is.
    #[command(flatten)]
    pub password: PasswordFile,
}

/// Where a password comes from.
#[derive(Args, Debug)]
pub struct PasswordFile {
    /// A file that holds the password [default: ask]
    #[arg(long = "password-file", env = "PARLOR_PASSWORD_FILE", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// Arguments of `password`.
#[derive(Args, Debug)]
pub struct PasswordArgs {
    /// Where the password is.
    #[command(flatten)]
    pub password: PasswordFile,
    /// A file that holds the new password [default: ask]
    #[arg(long, env = "PARLOR_NEW_PASSWORD_FILE", value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// Subcommands of `account`.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Delete the account; nobody gets its name again
    Delete(ConfirmArgs),
    /// Give the account a new key: its other devices are cut off, and contacts must accept it
    Rekey(ConfirmArgs),
}

/// Arguments of `export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Whose conversation [default: all]
    pub contact: Option<Username>,
    /// A new file for the lines, which only its owner reads [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Subcommands of `store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Put the key of the profile's database behind a passphrase, or change that
    Passphrase(PassphraseArgs),
}

/// Arguments of `store passphrase`.
#[derive(Args, Debug)]
pub struct PassphraseArgs {
    /// A file that holds the new passphrase [default: ask]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Take the passphrase away: whoever reads the profile's folder reads everything
    #[arg(long, conflicts_with = "passphrase_file")]
    pub remove: bool,
}

/// Arguments of what cannot be undone.
#[derive(Args, Debug)]
pub struct ConfirmArgs {
    /// Where the password is.
    #[command(flatten)]
    pub password: PasswordFile,
    /// Do not ask whether it is meant
    #[arg(long)]
    pub yes: bool,
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
    /// Block somebody, contact or not: nothing of theirs reaches you, and they are not told
    Block {
        /// Whom
        name: Username,
    },
    /// Take a block back
    Unblock {
        /// Whom
        name: Username,
    },
    /// Mark a contact as verified: you have compared safety numbers
    Verify {
        /// Whom
        name: Username,
    },
    /// Have messages disappear on both sides, once the contact wants it too
    Disappear {
        /// With whom
        name: Username,
        /// After how long, such as 30s, 10m, 8h, 7d or 4w; or off
        after: DisappearAfter,
    },
}

/// Subcommands of `outbox`.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Take a message back that has not left
    TakeBack {
        /// Its id
        id: MessageId,
    },
    /// Write a message anew that has not left
    Edit {
        /// Its id
        id: MessageId,
        /// What it says now
        text: String,
    },
}

/// Subcommands of `devices`.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Sign for the account's newest device from this one, so that contacts trust it
    Confirm,
    /// Give a device a name, for your own eyes
    Name {
        /// Which: its id, or the beginning of it
        device: DeviceArg,
        /// How it is called; empty to take the name off
        name: DeviceName,
    },
    /// Take a device off the account; it is cut off at once
    Remove {
        /// Which: its id, or the beginning of it
        device: DeviceArg,
        /// Where the password is.
        #[command(flatten)]
        password: PasswordFile,
    },
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "snake_case")]
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
    /// Only messages with words that begin with these, whatever case and accents
    #[arg(long, value_name = "WORDS")]
    pub search: Option<String>,
    /// Only messages before this one, to page back
    #[arg(long, value_name = "ID")]
    pub before: Option<MessageId>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const SERVER: &str = "parlor://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@127.0.0.1:4433";

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
            &["parlor", "register", "alice", "--server", SERVER, "--email-code", "ABCD-EFGH"],
            &["parlor", "register", "alice", "--server", SERVER, "--invite", "A", "--email", "a@b"],
            &["parlor", "login", "alice", "--server", SERVER, "--recovery-file", "code"],
            &["parlor", "invite", "--uses", "0"],
            &["parlor", "devices", "name", "xyz", "phone"],
            &["parlor", "devices", "name", "ab", "a\nb"],
            &["parlor", "devices", "remove", ""],
            &["parlor", "history", "bob", "--before", "12"],
            &["parlor", "contact", "disappear", "bob", "0s"],
            &["parlor", "outbox", "take-back", "12"],
        ] {
            let error = Cli::try_parse_from(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
