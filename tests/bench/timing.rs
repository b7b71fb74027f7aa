//! Two kinds of work, measured in turns: what else the machine does meets both.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How many seconds work takes.
pub fn time<T>(work: impl FnOnce() -> T) -> f64 {
    let started = Instant::now();
    black_box(work());
    started.elapsed().as_secs_f64()
}

/// The medians of two kinds of work. Each call does the work once and says how many seconds it took.
pub fn in_turns(
    budget: Duration,
    mut value: impl FnMut() -> f64,
    mut baseline: impl FnMut() -> f64,
) -> (f64, f64) {
    let started = Instant::now();
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    while values.len() < 5 || started.elapsed() < budget {
        values.push(value());
        baselines.push(baseline());
    }
    (median(&mut values), median(&mut baselines))
}

/// The median.
pub fn median(samples: &mut [f64]) -> f64 {
    quantile(samples, 50)
}

/// What so many of a hundred samples stay within.
pub fn quantile(samples: &mut [f64], of_hundred: usize) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let place = (samples.len() * of_hundred / 100).min(samples.len().saturating_sub(1));
    samples.get(place).copied().unwrap_or(f64::NAN)
}
