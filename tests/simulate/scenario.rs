//! Scenarios, drawn from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cast::{Cast, draw};
use crate::step::{Home, Step};

/// Who is there, what the network is like, and what happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) cast: Cast,
    /// One way, in milliseconds.
    pub(crate) latency: (u64, u64),
    /// Whether no two of them are ever up at the same time: then only mailboxes carry anything.
    pub(crate) apart: bool,
    pub(crate) steps: Vec<Step>,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        // The world draws from the seed itself: another stream for what is done to it.
        let rng = &mut StdRng::seed_from_u64(seed ^ 0x5ce9_a210);
        let cast = Cast::draw(rng);
        let latency = draw(&[(0, 2), (2, 25), (2, 25), (20, 80), (50, 400)], rng);
        let apart = rng.random_bool(0.2);
        let mut steps = Vec::new();
        for _ in 0..rng.random_range(2..10) {
            if apart {
                shift(cast, &mut steps, rng);
            } else {
                round(cast, &mut steps, rng);
            }
        }
        Self { seed, cast, latency, apart, steps }
    }
}

/// Something befalls them, they talk, and mostly it is over then.
fn round(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) {
    let recovery = strike(cast, steps, rng);
    for _ in 0..rng.random_range(1..5) {
        talk(cast, steps, rng);
    }
    if rng.random_bool(0.8) {
        steps.extend(recovery);
        steps.push(Step::Wait(some_time(rng)));
    }
}

/// One home is up for a while, and writes; something befalls it, or the rendezvous.
fn shift(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) {
    let home = draw(cast.homes(), rng);
    steps.push(Step::Alone(home));
    let recovery = match rng.random_range(0..8) {
        0..3 => strike_home(home, steps, rng),
        3..5 => strike_server(steps, rng),
        5 => {
            steps.push(Step::Copy(home));
            vec![Step::PutBack(home)]
        }
        _ => vec![],
    };
    for _ in 0..rng.random_range(1..4) {
        let to = cast.draw_other(home, rng);
        steps.push(Step::Send { from: home, to, count: rng.random_range(1..6) });
        steps.push(Step::Wait(some_time(rng)));
    }
    steps.extend(recovery);
    steps.push(Step::Wait(some_time(rng)));
}

fn talk(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..4) {
        let (from, to) = cast.draw_talk(rng);
        let count = match rng.random_range(0..100) {
            0 => rng.random_range(500..700),
            1..5 => rng.random_range(10..100),
            5..30 => rng.random_range(2..6),
            _ => 1,
        };
        steps.push(Step::Send { from, to, count });
        if rng.random_bool(0.3) {
            steps.push(Step::Wait(Duration::from_millis(rng.random_range(0..40))));
        }
    }
    steps.push(Step::Wait(some_time(rng)));
}

/// From a moment to a minute.
fn some_time(rng: &mut StdRng) -> Duration {
    Duration::from_millis(match rng.random_range(0..20) {
        0..6 => rng.random_range(0..30),
        6..14 => rng.random_range(0..500),
        14..19 => rng.random_range(0..5_000),
        _ => rng.random_range(5_000..70_000),
    })
}

/// Something befalls somebody. Returns what ends it.
fn strike(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) -> Vec<Step> {
    match rng.random_range(0..10) {
        0..4 => strike_home(draw(cast.homes(), rng), steps, rng),
        4..6 => strike_links(cast, steps, rng),
        6..8 => strike_server(steps, rng),
        8 => put_back(cast, steps, rng),
        _ => strike_all(cast, steps, rng),
    }
}

fn strike_home(home: Home, steps: &mut Vec<Step>, rng: &mut StdRng) -> Vec<Step> {
    let (step, recovery) = match rng.random_range(0..8) {
        0 => (Step::Kill(home), Step::Start(home)),
        1..4 => (Step::KillAtCommit(home, rng.random_range(0..12)), Step::Start(home)),
        4 => (Step::Stop(home), Step::Start(home)),
        5 => (Step::Clock { home, days: some_days(rng), late: rng.random() }, right(home)),
        _ => {
            let time = Duration::from_millis(rng.random_range(1..200));
            (Step::SlowDisk(home, time), Step::SlowDisk(home, Duration::ZERO))
        }
    };
    steps.push(step);
    vec![recovery]
}

fn right(home: Home) -> Step {
    Step::Clock { home, days: 0, late: false }
}

/// From a day to thirty years.
fn some_days(rng: &mut StdRng) -> u32 {
    draw(&[1, 6, 8, 15, 40, 400, 4_000, 11_000], rng)
}

fn strike_links(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) -> Vec<Step> {
    let (from, to) = cast.draw_talk(rng);
    let to = cast.receives(to);
    let (step, recovery) = match rng.random_range(0..5) {
        0 => (Step::CutLinks(from, to), vec![]),
        1 => (Step::SilenceLinks(from, to), vec![]),
        2 => (Step::Part(from, to), vec![Step::Join]),
        3 => (Step::PartFromServer(from), vec![Step::Join]),
        _ => (Step::Tamper(true), vec![Step::Tamper(false), Step::CutLinks(from, to)]),
    };
    steps.push(step);
    recovery
}

fn strike_server(steps: &mut Vec<Step>, rng: &mut StdRng) -> Vec<Step> {
    match rng.random_range(0..5) {
        0 => steps.push(Step::StopServer),
        1 => steps.push(Step::KillServer),
        2 | 3 => steps.push(Step::KillServerAtTurn(rng.random_range(0..12))),
        _ => {
            steps.push(Step::CopyServer);
            return vec![Step::PutServerBack];
        }
    }
    vec![Step::StartServer]
}

/// The power fails within the time in which a disk is behind, or a backup is older than that.
fn put_back(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) -> Vec<Step> {
    let home = draw(cast.homes(), rng);
    steps.push(Step::Copy(home));
    for _ in 0..rng.random_range(1..3) {
        let (from, to) = cast.draw_talk(rng);
        steps.push(Step::Send { from, to, count: rng.random_range(1..5) });
        let most = if rng.random() { 100 } else { 10_000 };
        steps.push(Step::Wait(Duration::from_millis(rng.random_range(0..most))));
    }
    if rng.random_bool(0.7) {
        steps.push(Step::PutBack(home));
        return vec![];
    }
    vec![Step::PutBack(home)]
}

fn strike_all(cast: Cast, steps: &mut Vec<Step>, rng: &mut StdRng) -> Vec<Step> {
    if rng.random() {
        steps.push(Step::KillAll);
        return vec![];
    }
    // Everybody goes, and comes back at another time.
    let mut recovery = Vec::new();
    for home in cast.homes() {
        steps.push(Step::Stop(home));
        recovery.extend([Step::Start(home), Step::Wait(some_time(rng))]);
    }
    let first = draw(cast.homes(), rng);
    steps.push(Step::Start(first));
    recovery
}
