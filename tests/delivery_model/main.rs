//! The delivery protocol as a model, within stated bounds: every order of steps, crashes, cut links
//! and lost sessions is looked at.
//!
//! The mutants in `mutants.rs` show that the properties can fail.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `state.rs` | what there is |
//! | `protocol.rs` | what can happen next |
//! | `properties.rs` | what is always so, and what comes to be |
//! | `mutants.rs` | protocols that are wrong, and what catches them |

#[cfg(test)]
mod mutants;
mod properties;
mod protocol;
mod state;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use stateright::{Checker, Model};

use self::protocol::{Bounds, Protocol};

/// Looks at every state of the delivery protocol within bounds.
#[derive(Debug, Parser)]
struct Args {
    /// How many messages are written.
    #[arg(long, default_value_t = 2)]
    messages: u8,
    /// How often each side crashes.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// How often the link is cut.
    #[arg(long, default_value_t = 1)]
    cuts: u8,
    /// How often the recipient loses its sessions.
    #[arg(long, default_value_t = 1)]
    losses: u8,
    /// How many threads look.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let Args { messages, crashes, cuts, losses, threads } = Args::parse();
    let mut holds = true;
    for direct in [true, false] {
        let bounds = Bounds { messages, crashes, cuts, losses, direct };
        holds &= check(bounds, threads);
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks at all states, and prints how many there are and what does not hold.
fn check(bounds: Bounds, threads: usize) -> bool {
    let started = Instant::now();
    let protocol = Protocol { bounds, mutant: None };
    let checker = protocol.checker().threads(threads).spawn_bfs().join();
    println!(
        "{bounds:?}: {} states, {} steps, at most {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64(),
    );
    let mut holds = true;
    for property in protocol.properties() {
        match (checker.discovery(property.name), property.name == properties::POSSIBLE) {
            (Some(_), true) | (None, false) => {}
            (None, true) => {
                println!("NEVER: {}", property.name);
                holds = false;
            }
            (Some(path), false) => {
                println!("DOES NOT HOLD: {}", property.name);
                for action in path.into_actions() {
                    println!("  {action:?}");
                }
                holds = false;
            }
        }
    }
    holds
}
