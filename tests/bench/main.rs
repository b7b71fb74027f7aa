//! The benchmark: each figure beside the same work done by bare quinn, or by the bare primitive, in
//! the same run. Compare ratios; absolute numbers are the machine's.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `message.rs` | two people's messages, in two processes |
//! | `store.rs` | a profile with a million messages; a peer that does nothing |
//! | `crypto.rs` | Diffie–Hellman, agreements, sealing and opening |
//! | `opaque.rs` | registrations and logins at a server without sockets |
//! | `lookups.rs` | accounts that are looked up over connections that stay |
//! | `floods.rs` | what honest users wait while somebody floods the server |
//! | `reconnections.rs` | known devices that come back to a server |
//! | `bare.rs` | quinn with the same keys and nothing above it |
//! | `process.rs` | this program again, as one end of a conversation |
//! | `timing.rs`, `report.rs` | two kinds of work in turns; the table |

mod bare;
mod crypto;
mod floods;
mod lookups;
mod message;
mod opaque;
mod process;
mod reconnections;
mod report;
mod store;
mod timing;

use std::time::Instant;

use clap::{Parser, ValueEnum};

use self::process::Role;
use self::report::Report;

/// Measures Parlor, and bare quinn or the bare primitive beside it.
#[derive(Debug, Parser)]
struct Args {
    /// Ends within five minutes on two cores.
    #[arg(long)]
    quick: bool,
    /// Measures one group.
    #[arg(long)]
    only: Option<Group>,
    /// Prints a JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// Figures that belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Group {
    Message,
    Crypto,
    Store,
    Rendezvous,
    Network,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// One of two amounts.
    fn of<T>(self, quick: T, thorough: T) -> T {
        if self.quick { quick } else { thorough }
    }
}

fn main() -> anyhow::Result<()> {
    let Args { quick, only, json, role } = Args::parse();
    if let Some(role) = role {
        return role.play();
    }
    let started = Instant::now();
    let report = Report::begin(json);
    let groups = only.map_or(Group::value_variants().to_vec(), |group| vec![group]);
    for group in groups {
        measure(group, Effort { quick }, &report)?;
    }
    report.end(quick, started.elapsed());
    Ok(())
}

fn measure(group: Group, effort: Effort, report: &Report) -> anyhow::Result<()> {
    match group {
        Group::Message => message::measure(effort, report),
        Group::Crypto => crypto::measure(effort, report),
        Group::Rendezvous => {
            opaque::measure(effort, report)?;
            reconnections::measure(effort, report)?;
            lookups::measure(effort, report)?;
            floods::measure(effort, report)
        }
        Group::Store => store::measure(effort, report),
        Group::Network => {
            report.note(&format!("{group:?}: no figures yet"));
            Ok(())
        }
    }
}
