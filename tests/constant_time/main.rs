//! Whether the time that something takes depends on secrets: measured as dudect does it (Reparaz,
//! Balasch, Verbauwhede, "Dude, is my code constant time?", DATE 2017).
//!
//!     cargo run --release -p parlor-tests --bin constant-time [-- --quick]
//!
//! Two classes of inputs are timed in random order; Welch's t says whether their times differ. A
//! difference that is not noise grows with the number of runs without end, so that |t| over 10 is
//! one. A measurement sees what this machine shows; `valgrind-check` looks at the instructions.

mod checks;
mod statistics;

use std::process::ExitCode;
use std::time::Instant;

use checks::{CHECKS, Check, Cost};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use statistics::largest_t;

/// Measures whether the time that something takes depends on secrets.
#[derive(Parser)]
struct Args {
    /// A tenth of the runs.
    #[arg(long)]
    quick: bool,
}

/// From this |t| on, two classes differ.
const THRESHOLD: f64 = 10.0;

fn main() -> ExitCode {
    let quick = Args::parse().quick;
    let mut good = true;
    for check in CHECKS {
        let runs = match check.cost {
            Cost::Milliseconds => 20_000,
            Cost::Microseconds => 200_000,
        };
        let runs = if quick { runs / 10 } else { runs };
        let t = largest_t(&measure(check, runs));
        let differs = t.abs() > THRESHOLD;
        let expected = differs == check.leaks;
        good &= expected;
        let seen = if differs { "a difference" } else { "no difference" };
        let verdict = if expected { "as it should be" } else { "WRONG" };
        println!("{:<62} {runs:>7} runs  t = {t:>8.2}  {seen}: {verdict}", check.name);
    }
    println!("verdict: {}", if good { "times do not depend on secrets" } else { "FAILED" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The time of each run, in nanoseconds, by class.
fn measure(check: &Check, runs: usize) -> [Vec<f64>; 2] {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..runs {
        let class = usize::from(rng.random::<bool>());
        let mut run = (check.prepare)(class == 1, rng);
        let started = Instant::now();
        run();
        times[class].push(started.elapsed().as_nanos() as f64);
    }
    times
}
