//! Random conversations on sessions: sends, losses, duplicates, reorderings and restarts of both
//! sides in any order, steps that are late or ready, clocks that jump by a year, forged envelopes.
//!
//! Every case hangs on its seed, which is printed when it fails: `--seed SEED --cases 1` is the
//! same case again.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `talk.rs` | a case: what happens, and what must come of it |
//! | `side.rs` | one side: its session, its clocks, and what it must be able to open |
//! | `prepared.rs` | the sessions that cases start from |
//! | `tally.rs` | what happened in all cases |

mod prepared;
mod side;
mod talk;
mod tally;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;

use self::prepared::Prepared;
use self::talk::Talk;
use self::tally::Tally;

/// Holds random conversations on sessions, and fails where one goes wrong.
#[derive(Debug, Parser)]
struct Args {
    /// How many.
    #[arg(long, default_value_t = 10_000)]
    cases: u64,
    /// The first one's seed; the next ones' follow it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many at a time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() {
    let Args { cases, seed, threads } = Args::parse();
    println!("seed {seed}, {cases} cases, {threads} at a time");
    let started = Instant::now();
    let tally = hold(seed, cases, threads);
    println!("{cases} cases in {:.1} s: {tally}", started.elapsed().as_secs_f64());
}

/// Holds the conversations of so many seeds from this one on.
fn hold(seed: u64, cases: u64, threads: usize) -> Tally {
    let (prepared, done) = (Prepared::all(), AtomicU64::new(0));
    let work = || {
        let mut tally = Tally::default();
        loop {
            let case = done.fetch_add(1, Ordering::Relaxed);
            if case >= cases {
                return tally;
            }
            tally.add(Talk::hold(seed.wrapping_add(case), &prepared));
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(thread.join().expect("a case failed: see its seed above"));
        }
        tally
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_conversations_go_well() {
        let tally = hold(1, 40, 2);
        assert!(tally.has_everything(), "too little happened: {tally}");
    }

    #[test]
    fn a_seed_is_the_same_case_again() {
        let prepared = Prepared::all();
        assert_eq!(Talk::hold(7, &prepared), Talk::hold(7, &prepared));
    }
}
