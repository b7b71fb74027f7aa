//! The simulation: the very cores and their stores, on simulated time, network and disk, through
//! whatever a seed draws: partitions, crashes, restored copies, slow disks, wrong clocks. A
//! reference model says at every step who must have seen what.
//!
//! Each scenario hangs on its seed: `--seed X` plays it again, `--trace` says all that happens in
//! it. One that fails is shrunk to the fewest steps that still fail.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `step.rs` | what a scenario is made of |
//! | `scenario.rs` | scenarios, drawn from a seed |
//! | `cast.rs` | who is in them |
//! | `play.rs` | takes the steps |
//! | `model.rs`, `violation.rs` | what must have come of them, and what must never |
//! | `shrink.rs` | the shortest scenario that still fails |
//! | `tally.rs` | what happened in all scenarios |

mod cast;
mod model;
mod play;
mod scenario;
mod shrink;
mod step;
mod tally;
mod violation;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use self::cast::Worlds;
use self::play::{catch_panics, play};
use self::scenario::Scenario;
use self::tally::Tally;
use self::violation::Violation;

/// Plays scenarios, and fails where one goes wrong.
#[derive(Debug, Parser)]
struct Args {
    /// How many.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one's seed; the next ones' follow it.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Plays this one alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Says everything that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many at a time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Goes on after a scenario that failed, and shrinks none.
    #[arg(long)]
    keep_going: bool,
    /// Leaves these out, which are known to fail.
    #[arg(long, value_delimiter = ',')]
    except: Vec<u64>,
    /// A scenario that failed is shrunk for so many seconds at most.
    #[arg(long, default_value_t = 120)]
    shrink: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    catch_panics();
    let worlds = Worlds::prepare();
    match args.seed {
        Some(seed) => play_one(seed, &worlds, &args),
        None => play_all(&args, &worlds),
    }
}

fn play_one(seed: u64, worlds: &Worlds, args: &Args) -> ExitCode {
    let scenario = Scenario::draw(seed);
    let outcome = play(&scenario, worlds, args.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    match outcome.result {
        Ok(()) => {
            println!("seed {seed}: all is well: {}", outcome.tally);
            ExitCode::SUCCESS
        }
        Err(violation) => {
            explain(&scenario, &violation, worlds, args);
            ExitCode::FAILURE
        }
    }
}

/// Shrinks a scenario that failed, and tells its story.
fn explain(scenario: &Scenario, violation: &Violation, worlds: &Worlds, args: &Args) {
    let seed = scenario.seed;
    println!("seed {seed} FAILED in {} steps: {violation}", scenario.steps.len());
    let (started, longest) = (Instant::now(), Duration::from_secs(args.shrink));
    let shortest = shrink::shrink(scenario, |shorter| {
        started.elapsed() < longest && play(shorter, worlds, false).result.is_err()
    });
    if started.elapsed() >= longest {
        println!("there was no time to shrink it to the end");
    }
    let outcome = play(&shortest, worlds, true);
    println!(
        "the shortest story that fails, {:?}, latency {:?} ms:",
        shortest.cast, shortest.latency
    );
    for step in &shortest.steps {
        println!("  {step}");
    }
    println!("what happens in it:");
    for line in &outcome.trace {
        println!("  {line}");
    }
    if let Err(violation) = outcome.result {
        println!("seed {seed}: {violation}");
    }
}

fn play_all(args: &Args, worlds: &Worlds) -> ExitCode {
    println!("seeds {} to {}, {} at a time", args.from, args.from + args.seeds - 1, args.threads);
    let started = Instant::now();
    let (tally, failed) = play_seeds(args, worlds);
    let seconds = started.elapsed().as_secs_f64();
    println!("{seconds:.1} s, {:.1} seeds a second: {tally}", as_f64(tally.scenarios) / seconds);
    for (seed, violation) in &failed {
        println!("seed {seed} FAILED: {violation}");
    }
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some((seed, violation)) => {
            if !args.keep_going {
                explain(&Scenario::draw(*seed), violation, worlds, args);
            }
            ExitCode::FAILURE
        }
    }
}

fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Plays all seeds, or until one fails. Returns which did.
fn play_seeds(args: &Args, worlds: &Worlds) -> (Tally, Vec<(u64, Violation)>) {
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let (mut tally, mut failed) = (Tally::default(), Vec::new());
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= args.seeds || over.load(Ordering::Relaxed) {
                return (tally, failed);
            }
            let seed = args.from + place;
            if args.except.contains(&seed) {
                continue;
            }
            let outcome = play(&Scenario::draw(seed), worlds, false);
            tally.add(&outcome.tally);
            if let Err(violation) = outcome.result {
                failed.push((seed, violation));
                over.store(!args.keep_going, Ordering::Relaxed);
            }
        }
    };
    let (mut tally, mut failed) = (Tally::default(), Vec::new());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let (of_thread, failed_there) = thread.join().expect("panics are caught");
            tally.add(&of_thread);
            failed.extend(failed_there);
        }
    });
    failed.sort_by_key(|(seed, _)| *seed);
    (tally, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_story_again_and_the_first_ones_go_well() {
        let worlds = Worlds::prepare();
        for seed in 1..=4 {
            let scenario = Scenario::draw(seed);
            let outcome = play(&scenario, &worlds, true);
            assert!(outcome.result.is_ok(), "seed {seed}: {:?}", outcome.result);
            assert!(outcome.tally.delivered > 0);
            assert_eq!(outcome.trace, play(&scenario, &worlds, true).trace);
        }
    }
}
