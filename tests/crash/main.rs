//! `kill -9` of sender, recipient and rendezvous, hundreds of times during thousands of messages
//! both ways: afterwards each message is on both sides once, in order, and the conversation goes on.
//!
//! The very programs run, as processes. When somebody is killed hangs on the seed and on how many
//! lines were said until then; which of them the machine's scheduler lets out first does not.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `direct.rs` | the conversation of two who run side by side |
//! | `mailbox.rs` | the conversation of two who are never there together |
//! | `chance.rs` | what hangs on the seed |
//! | `stage.rs` | a rendezvous and two people, and waiting for what they say |
//! | `person.rs` | one of the two: a `parlor rpc` that answers for a ledger |
//! | `ledger.rs` | what was written, how far it got, and what histories must have |
//! | `process.rs`, `programs.rs` | processes, and the programs that they run |

mod chance;
mod direct;
mod ledger;
mod mailbox;
mod person;
mod process;
mod programs;
mod stage;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use self::chance::Chance;
use self::programs::Programs;
use self::stage::{Stage, Tally};

/// Kills programs that talk, and looks whether anything is lost, doubled or out of order.
#[derive(Debug, Parser)]
struct Args {
    /// How many messages, both ways together.
    #[arg(long, default_value_t = 5000)]
    messages: usize,
    /// How many kills, at least.
    #[arg(long, default_value_t = 200)]
    kills: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the messages travel by.
    #[arg(long, value_enum, default_value_t = Carriers::All)]
    carrier: Carriers,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Carriers {
    All,
    /// The two run side by side.
    Direct,
    /// The two are never there together.
    Mailbox,
}

impl Carriers {
    fn each(self) -> Vec<Self> {
        if self == Self::All { vec![Self::Direct, Self::Mailbox] } else { vec![self] }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let programs = Programs::build()?;
    for carrier in args.carrier.each() {
        if !hold(&args, carrier, &programs)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A conversation. Whether nothing was lost.
fn hold(args: &Args, carrier: Carriers, programs: &Programs) -> anyhow::Result<bool> {
    let Args { messages, kills, seed, .. } = *args;
    println!("{carrier:?}: seed {seed}, {messages} messages, {kills} kills");
    let started = Instant::now();
    let mut stage = Stage::open(programs.clone())?;
    let mut chance = Chance::new(seed, messages, kills);
    let held = match carrier {
        Carriers::Mailbox => mailbox::hold(&mut stage, &mut chance),
        Carriers::All | Carriers::Direct => direct::hold(&mut stage, &mut chance),
    };
    print(&stage.tally, started);
    let Err(error) = held else {
        println!("  nothing lost, doubled or out of order; the conversation goes on");
        return Ok(true);
    };
    println!("WRONG: {error:#}");
    println!("everything that happened is in {}", stage.keep().join("story").display());
    Ok(false)
}

fn print(tally: &Tally, started: Instant) {
    let Tally { kills, told_again, by_carrier, longest_catch_up, histories } = tally;
    let all: usize = kills.values().sum();
    println!("  {all} kills {kills:?}, messages told by carrier {by_carrier:?}");
    println!("  {histories} histories looked at, {told_again} messages told again after a kill");
    println!("  longest catch-up {:.1} s", longest_catch_up.as_secs_f64());
    println!("  {:.0} s in all", started.elapsed().as_secs_f64());
}
