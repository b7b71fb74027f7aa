//! Messages between two people in two processes: engines, ratchet and stores on disk, as they are
//! run. A third process, this one, is their rendezvous.

pub mod peer;

use std::time::{Duration, Instant};

use harness::Stage as _;
use harness::real::Real;

use crate::Effort;
use crate::process::{Process, beside};
use crate::report::{Figure, Report};
use crate::timing::{median, quantile};

/// The length of a text, in bytes.
pub const SIZE: usize = 256;

/// After this pause a step of the ratchet is due again.
const BETWEEN_STEPS: Duration = Duration::from_millis(1050);

/// So many take less time than [`beside`] waits for.
const ROUNDS_OF_STEPS: usize = 25;

const SENDER: &str = "alice";
const RECIPIENT: &str = "bob";

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let mut real = Real::new();
    for name in [SENDER, RECIPIENT] {
        real.register(name);
    }
    real.befriend(SENDER, RECIPIENT);
    for name in [SENDER, RECIPIENT] {
        real.stop(name);
    }
    let homes = Homes { sender: home(&real, SENDER), recipient: home(&real, RECIPIENT) };
    cold_start(&real, &homes, effort, report)?;
    round_trips(&real, &homes, effort, report)?;
    turns(&real, &homes, effort, report)?;
    one_way(&real, &homes, effort, report)?;
    // The last: the profiles know nothing of it.
    round_trips_in_memory(&real, &homes, effort, report)
}

fn home(real: &Real, name: &str) -> String {
    real.home(name).to_string_lossy().into_owned()
}

#[derive(Clone, Debug)]
struct Homes {
    sender: String,
    recipient: String,
}

/// From the start of both processes until the sender knows that its message was delivered.
/// Baseline: quinn's server process, then its client's, until the client knows.
fn cold_start(real: &Real, homes: &Homes, effort: Effort, report: &Report) -> anyhow::Result<()> {
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..effort.of(7, 31) {
        let homes = homes.clone();
        values.push(beside(real, move || homes.start_cold())?);
        baselines.push(start_cold_bare()?);
    }
    let (value, bare) = (1e3 * median(&mut values), 1e3 * median(&mut baselines));
    report.tell(&Figure::new("cold_start", "ms", value, bare));
    Ok(())
}

/// From the sending of a message to the arrival of its echo.
fn round_trips(real: &Real, homes: &Homes, effort: Effort, report: &Report) -> anyhow::Result<()> {
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..effort.of(5, 9) {
        let (homes, rounds) = (homes.clone(), effort.of(1500, 5000));
        baselines.extend(ping_bare(rounds, Duration::ZERO)?);
        values.extend(beside(real, move || homes.ping(rounds, Duration::ZERO, &[]))?);
    }
    for (name, of_hundred) in [("rtt_p50", 50), ("rtt_p99", 99)] {
        let value = 1e6 * quantile(&mut values, of_hundred);
        let bare = 1e6 * quantile(&mut baselines, of_hundred);
        report.tell(&Figure::new(name, "µs", value, bare));
    }
    Ok(())
}

/// The same without a disk: what is left is not the store's.
fn round_trips_in_memory(
    real: &Real,
    homes: &Homes,
    effort: Effort,
    report: &Report,
) -> anyhow::Result<()> {
    let (homes, rounds) = (homes.clone(), effort.of(1500, 5000));
    let mut baselines = ping_bare(rounds, Duration::ZERO)?;
    let mut values = beside(real, move || homes.ping(rounds, Duration::ZERO, &["--in-memory"]))?;
    let (value, bare) = (1e6 * median(&mut values), 1e6 * median(&mut baselines));
    report.tell(&Figure::new("rtt_p50_in_memory", "µs", value, bare));
    Ok(())
}

/// From the sending of a message to the arrival of its echo, where a second lies between two
/// messages of a side: each side takes a step of the ratchet for each.
fn turns(real: &Real, homes: &Homes, effort: Effort, report: &Report) -> anyhow::Result<()> {
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..effort.of(1, 4) {
        let homes = homes.clone();
        baselines.extend(ping_bare(ROUNDS_OF_STEPS, BETWEEN_STEPS)?);
        values.extend(beside(real, move || homes.ping(ROUNDS_OF_STEPS, BETWEEN_STEPS, &[]))?);
    }
    let (value, bare) = (1e6 * median(&mut values), 1e6 * median(&mut baselines));
    report.tell(&Figure::new("rtt_turn_p50", "µs", value, bare));
    Ok(())
}

/// From the first of many messages, all wanted at once, until all are delivered: they are on both
/// disks then. Baseline: one stream, one write a message, until the other side has read them all.
fn one_way(real: &Real, homes: &Homes, effort: Effort, report: &Report) -> anyhow::Result<()> {
    let count = effort.of(20_000, 100_000);
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let homes = homes.clone();
        values.push(beside(real, move || homes.flood(count))?);
        baselines.push(flood_bare(count)?);
    }
    let rate = |times: &mut [f64]| count as f64 / median(times);
    let (value, bare) = (rate(&mut values), rate(&mut baselines));
    report.tell(&Figure::new("one_way_messages", "1/s", value, bare));
    Ok(())
}

impl Homes {
    fn start_cold(&self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let recipient = Process::start(["answer", &self.recipient])?;
        let mut sender = Process::start(["flood", &self.sender, RECIPIENT, "1"])?;
        let _: f64 = sender.hear()?;
        let took = started.elapsed().as_secs_f64();
        sender.end()?;
        recipient.end()?;
        Ok(took)
    }

    fn ping(&self, rounds: usize, pause: Duration, how: &[&str]) -> anyhow::Result<Vec<f64>> {
        let role = ["answer", &self.recipient, "--echo"];
        let mut recipient = Process::start([&role, how].concat())?;
        let _: String = recipient.hear()?;
        let [rounds, pause] = [rounds.to_string(), pause.as_millis().to_string()];
        let role = ["ping", &self.sender, RECIPIENT, &rounds, &pause];
        let samples = Process::start([&role, how].concat())?.told()?;
        recipient.end()?;
        Ok(samples)
    }

    fn flood(&self, count: usize) -> anyhow::Result<f64> {
        let mut recipient = Process::start(["answer", &self.recipient])?;
        let _: String = recipient.hear()?;
        let role = ["flood", &self.sender, RECIPIENT, &count.to_string(), "--warm"];
        let took = Process::start(role)?.told()?;
        recipient.end()?;
        Ok(took)
    }
}

fn start_cold_bare() -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut recipient = Process::start(["bare-answer"])?;
    let address: String = recipient.hear()?;
    let mut sender = Process::start(["bare-flood", &address, "1"])?;
    let _: f64 = sender.hear()?;
    let took = started.elapsed().as_secs_f64();
    sender.end()?;
    recipient.end()?;
    Ok(took)
}

fn ping_bare(rounds: usize, pause: Duration) -> anyhow::Result<Vec<f64>> {
    let mut recipient = Process::start(["bare-answer", "--echo"])?;
    let address: String = recipient.hear()?;
    let [rounds, pause] = [rounds.to_string(), pause.as_millis().to_string()];
    let samples = Process::start(["bare-ping", &address, &rounds, &pause])?.told()?;
    recipient.end()?;
    Ok(samples)
}

fn flood_bare(count: usize) -> anyhow::Result<f64> {
    let mut recipient = Process::start(["bare-answer"])?;
    let address: String = recipient.hear()?;
    let took = Process::start(["bare-flood", &address, &count.to_string()])?.told()?;
    recipient.end()?;
    Ok(took)
}
