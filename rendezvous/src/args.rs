//! What may be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

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
    /// Look at the configuration
    Config {
        /// What to do with it.
        #[command(subcommand)]
        what: ConfigCommand,
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
