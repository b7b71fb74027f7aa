//! What may be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use parlor_common::id::Username;

use crate::audit::Claim;
use crate::invitation::InvitationId;

// These two are layers of the configuration, read from the environment there and not by clap.
const DATA_HELP: &str = "The folder that keeps accounts and keys [env: PARLOR_RENDEZVOUS_DATA]";
const LISTEN_HELP: &str = "The UDP address to listen on; port 0 picks one \
                           [env: PARLOR_RENDEZVOUS_LISTEN] [default: [::]:4433]";

/// Parlor's meeting place: accounts, login, contacts, presence and signalling.
#[derive(Debug, Parser)]
#[command(name = "parlor-rendezvous", version)]
pub struct Args {
    /// What every subcommand takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every subcommand takes.
#[derive(ClapArgs, Debug)]
pub struct Common {
    /// The folder that keeps accounts and keys
    #[arg(long, global = true, value_name = "DIR", help = DATA_HELP)]
    pub data: Option<PathBuf>,
    /// A configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "PARLOR_RENDEZVOUS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until interrupted
    Serve {
        /// The UDP address to listen on
        #[arg(long, value_name = "ADDR", help = LISTEN_HELP)]
        listen: Option<SocketAddr>,
    },
    /// Print the server's link, and its QR code on a terminal
    Link,
    /// Look after the users
    User {
        /// What to do.
        #[command(subcommand)]
        what: UserCommand,
    },
    /// Look after who may register
    Invite {
        /// What to do.
        #[command(subcommand)]
        what: InviteCommand,
    },
    /// Look at what happened
    Audit {
        /// What to do.
        #[command(subcommand)]
        what: AuditCommand,
    },
    /// Say how the server is doing
    Status,
    /// Look at the configuration
    Config {
        /// What to do with it.
        #[command(subcommand)]
        what: ConfigCommand,
    },
}

/// What to do with users.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// List all of them
    List,
    /// Show all that is known of one
    Show {
        /// Whose account
        name: Username,
    },
    /// Cut a user's connections, and let no device of it in any more
    Disable {
        /// Whose account
        name: Username,
    },
    /// Let a disabled user in again
    Enable {
        /// Whose account
        name: Username,
    },
    /// Forget a user's failed logins, with their delays and locks
    Unlock {
        /// Whose account
        name: Username,
    },
    /// Remove an account for ever; its name is not given out again
    Delete {
        /// Whose account
        name: Username,
        /// Do not ask again on a terminal
        #[arg(long)]
        yes: bool,
    },
}

/// What to do with invitations.
#[derive(Clone, Debug, Subcommand)]
pub enum InviteCommand {
    /// Make one: print its code and its link
    Create {
        /// Accounts that it lets in
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        uses: u32,
        /// Days for which it is good
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// List all of them
    List,
    /// Take one back
    Revoke {
        /// Its id as listed, or its code
        #[arg(value_name = "ID-OR-CODE")]
        invitation: InvitationId,
    },
}

/// What to do with the audit trail.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the newest rows, oldest first
    Tail {
        /// So many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// Go on until interrupted
        #[arg(long)]
        follow: bool,
    },
    /// Say whether any row was removed, edited or cut off
    Verify {
        /// A head that was logged or printed before, which must be in the trail
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<Claim>,
    },
}

/// What to do with the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a server could start with it
    Check,
    /// Print what is in force
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let args = "parlor-rendezvous serve --json --data x --listen 127.0.0.1:0";
        let args = Args::try_parse_from(args.split(' ')).unwrap();
        assert!(args.common.json);
        assert!(Args::try_parse_from(["parlor-rendezvous", "serve", "--listen", "x"]).is_err());
    }
}
