//! What a stranger learns from the answer to `login.start`: whether a name that nobody has, a
//! disabled account and a wrong password can be told apart, by their bytes or by their time.
//!
//!     cargo run --release -p parlor-tests --bin login-oracle [-- --quick]
//!
//! The server and its database on disk are timed without sockets, from the request's bytes to the
//! answer's, in random order, each try with a name that was never tried before. Of each pair of
//! classes Welch's t (as in `constant-time`) and the distance of Kolmogorov and Smirnov are shown.

mod place;
#[path = "../constant_time/statistics.rs"]
mod statistics;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Parser;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::Value;

use self::place::{Class, Place};
use self::statistics::largest_t;

/// Times the server's answer to the first flight of a login, for names of three kinds.
#[derive(Parser)]
struct Args {
    /// A tenth of the tries.
    #[arg(long)]
    quick: bool,
}

/// From this |t| on, two classes differ.
const THRESHOLD: f64 = 10.0;

/// The distance of two samples of the same distribution is above this, by the root of their
/// harmonic size, once in about 100,000 times.
const FAR: f64 = 2.5;

fn main() -> anyhow::Result<ExitCode> {
    let each = if Args::parse().quick { 500 } else { 5_000 };
    let mut place = Place::new(each)?;
    let mut tries: Vec<_> =
        (0..each).flat_map(|number| Class::ALL.map(|class| (class, number))).collect();
    tries.shuffle(&mut StdRng::seed_from_u64(1));
    let mut times = Class::ALL.map(|_| Vec::with_capacity(each));
    let mut shapes = Class::ALL.map(|_| BTreeSet::new());
    for (class, number) in tries {
        let (took, reply) = place.begin_login(class, number)?;
        times[class as usize].push(took * 1e6);
        shapes[class as usize].insert(shape(&reply)?);
    }
    let alike = shapes.iter().all(|shape| shape.len() == 1 && *shape == shapes[0]);
    for (class, shapes) in Class::ALL.iter().zip(&shapes) {
        println!("{:<18} {}", class.name(), shapes.iter().cloned().collect::<Vec<_>>().join(" | "));
    }
    println!("bytes: {}\n", if alike { "the same shape" } else { "DIFFERENT" });
    show(&mut times);
    let mut good = alike;
    for (one, other) in [(0, 2), (1, 2), (0, 1)] {
        good &= compare(&times, one, other);
    }
    println!("verdict: {}", if good { "they cannot be told apart" } else { "FAILED" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A reply without what is random in it: its length, and its fields with their kinds and lengths.
fn shape(reply: &[u8]) -> anyhow::Result<String> {
    fn of(value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}:{}", of(value))).collect();
                format!("{{{}}}", fields.join(","))
            }
            Value::String(text) => format!("text of {}", text.len()),
            other => other.to_string(),
        }
    }
    Ok(format!("{} bytes {}", reply.len(), of(&serde_json::from_slice(reply)?)))
}

/// Prints the distributions, in microseconds.
fn show(times: &mut [Vec<f64>; 3]) {
    const PERCENTILES: [usize; 9] = [1, 5, 10, 25, 50, 75, 90, 95, 99];
    let head: Vec<_> = PERCENTILES.iter().map(|it| format!("{:>8}", format!("p{it}"))).collect();
    println!("{:<18}{:>8} tries, in microseconds", "", times[0].len());
    println!("{:<18}{}", "", head.concat());
    for (class, times) in Class::ALL.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let at = |percent: &usize| format!("{:>8.1}", times[(times.len() - 1) * percent / 100]);
        println!("{:<18}{}", class.name(), PERCENTILES.iter().map(at).collect::<String>());
    }
    println!();
}

/// Prints how far two classes are apart; returns whether that is noise.
fn compare(times: &[Vec<f64>; 3], one: usize, other: usize) -> bool {
    let t = largest_t(&[times[one].clone(), times[other].clone()]);
    let distance = distance(&times[one], &times[other]);
    let (size_1, size_2) = (times[one].len() as f64, times[other].len() as f64);
    let scaled = distance * (size_1 * size_2 / (size_1 + size_2)).sqrt();
    let same = t.abs() < THRESHOLD && scaled < FAR;
    let pair = format!("{} / {}", Class::ALL[one].name(), Class::ALL[other].name());
    let verdict = if same { "no difference" } else { "A DIFFERENCE" };
    println!(
        "{pair:<36} t = {t:>7.2}  KS distance = {distance:.3} (scaled {scaled:.2})  {verdict}"
    );
    same
}

/// The largest distance of two distribution functions; the samples are sorted.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let below = |samples: &[f64], bound: f64| {
        samples.partition_point(|time| *time <= bound) as f64 / samples.len() as f64
    };
    let bounds = one.iter().chain(other);
    bounds.map(|bound| (below(one, *bound) - below(other, *bound)).abs()).fold(0.0, f64::max)
}
