//! A scenario is played: its steps are taken, everything is mended, and the model is asked.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use harness::world::RendezvousCopy;
use harness::{Stage, World};

use crate::cast::Worlds;
use crate::model::Model;
use crate::scenario::Scenario;
use crate::step::{Home, Step};
use crate::tally::Tally;
use crate::violation::Violation;

/// When all is well again everything is delivered within this time: repairs are a minute apart at
/// most, and so are tries to reach the rendezvous.
const HEALING: Duration = Duration::from_secs(5 * 60);

/// What came of a scenario.
pub(crate) struct Outcome {
    pub(crate) result: Result<(), Violation>,
    pub(crate) tally: Tally,
    /// What happened, if that was wanted.
    pub(crate) trace: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on what a panic says is kept for the outcome, and not printed.
pub(crate) fn catch_panics() {
    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// Plays a scenario.
pub(crate) fn play(scenario: &Scenario, worlds: &Worlds, traced: bool) -> Outcome {
    let mut world = worlds.world(scenario.cast, scenario.seed);
    world.hush();
    let (low, high) = scenario.latency;
    world.set_latency(low..=high);
    let mut play = match Model::new(scenario.cast, &mut world, traced) {
        Ok(model) => Play { world, model, server_copy: None },
        Err(violation) => {
            return Outcome { result: Err(violation), tally: Tally::default(), trace: Vec::new() };
        }
    };
    let begun = play.world.age();
    let result = panic::catch_unwind(AssertUnwindSafe(|| play.all(scenario)));
    let result = result.unwrap_or_else(|_| {
        Err(Violation::Panic(PANIC.take().unwrap_or_else(|| "of unknown cause".to_owned())))
    });
    let Model { mut tally, trace, .. } = play.model;
    tally.scenarios = 1;
    tally.time = play.world.age() - begun;
    Outcome { result, tally, trace: trace.unwrap_or_default() }
}

struct Play {
    world: World,
    model: Model,
    server_copy: Option<RendezvousCopy>,
}

impl Play {
    fn all(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        for step in &scenario.steps {
            self.model.note(&self.world, || format!("- {step}"));
            self.model.tally.steps += 1;
            self.take(step)?;
            self.model.watch(&mut self.world)?;
        }
        self.model.note(&self.world, || "- all is mended".to_owned());
        self.mend(scenario)?;
        if scenario.apart { self.settle_apart(scenario) } else { self.settle() }?;
        self.model.check_end(&self.world)
    }

    fn take(&mut self, step: &Step) -> Result<(), Violation> {
        let world = &mut self.world;
        match *step {
            Step::Wait(time) => return self.wait(time),
            Step::Send { from, to, count } => {
                for _ in 0..count {
                    if self.world.is_up(from) {
                        self.model.send(&mut self.world, from, to);
                    }
                }
            }
            Step::Alone(home) => return self.alone(home),
            Step::Kill(home) => self.kill(home),
            Step::KillAtCommit(home, after) => world.kill_after_commits(home, after),
            Step::Stop(home) if world.is_up(home) => world.stop(home),
            Step::Start(home) if !world.is_up(home) => return self.start(home),
            Step::Stop(_) | Step::Start(_) => {}
            Step::Copy(home) => self.model.copy(world, home),
            Step::PutBack(home) => {
                self.model.tally.put_back += 1;
                return self.model.put_back(world, home);
            }
            Step::SlowDisk(home, time) => world.slow_disk(home, time),
            Step::Clock { home, days, late } => {
                self.model.clock_was_wrong(home);
                world.set_clock(home, days_of(days), late);
            }
            Step::CutLinks(one, other) => world.cut_links(one, other),
            Step::SilenceLinks(one, other) => world.silence_links(one, other),
            Step::Part(one, other) => world.part(one, other),
            Step::PartFromServer(home) => world.part_from_server(home),
            Step::Join => world.join(),
            Step::Tamper(tampers) => {
                if tampers {
                    self.model.disordered();
                }
                world.tamper(tampers);
            }
            Step::KillAll => return self.kill_all(),
            Step::StopServer
            | Step::KillServer
            | Step::KillServerAtTurn(_)
            | Step::StartServer
            | Step::CopyServer
            | Step::PutServerBack => self.take_server(step),
        }
        Ok(())
    }

    fn take_server(&mut self, step: &Step) {
        let world = &mut self.world;
        match step {
            Step::StopServer if world.rendezvous_is_up() => world.stop_server(),
            Step::KillServer if world.rendezvous_is_up() => self.kill_server(),
            Step::KillServerAtTurn(after) => world.kill_rendezvous_after_turns(*after),
            Step::StartServer => self.start_server(),
            Step::CopyServer => self.server_copy = Some(world.copy_rendezvous()),
            Step::PutServerBack => {
                if let Some(copy) = &self.server_copy {
                    world.put_rendezvous_back(copy);
                    self.model.rendezvous_was_put_back();
                    self.model.tally.server_ends += 1;
                    self.start_server();
                }
            }
            _ => {}
        }
    }

    fn wait(&mut self, time: Duration) -> Result<(), Violation> {
        let Self { world, model, .. } = self;
        world.run_watched(time, |world| model.watch(world))
    }

    fn kill(&mut self, home: Home) {
        if self.world.is_up(home) {
            self.model.tally.kills += 1;
            self.world.kill(home);
        }
    }

    fn start(&mut self, home: Home) -> Result<(), Violation> {
        self.world.spare(home);
        self.model.watch(&mut self.world)?;
        self.world.start(home);
        self.model.begin_life(&mut self.world, home)
    }

    fn alone(&mut self, home: Home) -> Result<(), Violation> {
        for other in self.model.homes() {
            if *other != home && self.world.is_up(other) {
                self.world.stop(other);
            }
        }
        if self.world.is_up(home) { Ok(()) } else { self.start(home) }
    }

    fn kill_server(&mut self) {
        self.model.tally.server_ends += 1;
        self.world.kill_rendezvous();
    }

    fn start_server(&mut self) {
        self.world.spare_rendezvous();
        if !self.world.rendezvous_is_up() {
            self.world.start_server();
        }
    }

    fn kill_all(&mut self) -> Result<(), Violation> {
        let homes = self.model.homes();
        for home in homes {
            self.kill(home);
        }
        if self.world.rendezvous_is_up() {
            self.kill_server();
        }
        self.start_server();
        for home in homes {
            self.start(home)?;
        }
        Ok(())
    }

    /// Everything that was broken works again, and everybody is up.
    fn mend(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        let homes = scenario.cast.homes();
        self.world.join();
        self.world.tamper(false);
        self.start_server();
        for home in homes {
            self.world.spare(home);
            self.world.slow_disk(home, Duration::ZERO);
            self.world.set_clock(home, Duration::ZERO, false);
            if !self.world.is_up(home) && !scenario.apart {
                self.start(home)?;
            }
        }
        for (place, one) in homes.iter().enumerate() {
            for other in homes.iter().skip(place + 1) {
                // What a carrier has lost goes again on the next link.
                self.world.cut_links(one, other);
            }
        }
        Ok(())
    }

    /// Waits until nothing waits.
    fn settle(&mut self) -> Result<(), Violation> {
        let end = self.world.age() + HEALING;
        self.wait(Duration::from_secs(1))?;
        loop {
            let waiting = self.model.waiting(&mut self.world);
            if waiting == 0 {
                return self.wait(Duration::from_secs(2));
            }
            if self.world.age() >= end {
                let minutes = HEALING.as_secs() / 60;
                return Err(Violation::StillWaiting { waiting, minutes });
            }
            self.wait(Duration::from_secs(1))?;
        }
    }
}

/// How often each is up, where no two ever are at the same time.
const SHIFTS: u32 = 8;
/// For how long: shorter than it takes until a peer posts again what it has posted before its start.
const SHIFT: Duration = Duration::from_secs(25);
/// For how long where something was lost by right, and has to be posted again.
const LONG_SHIFT: Duration = Duration::from_secs(70);

impl Play {
    /// Waits until nothing waits, while one after the other is up.
    fn settle_apart(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        let loses = |step: &Step| {
            matches!(step, Step::PutBack(_) | Step::PutServerBack | Step::Clock { .. })
        };
        let shift = if scenario.steps.iter().any(loses) { LONG_SHIFT } else { SHIFT };
        for _ in 0..SHIFTS {
            for home in self.model.homes() {
                self.alone(home)?;
                self.wait(shift)?;
            }
            if self.model.waiting(&mut self.world) == 0 {
                return Ok(());
            }
        }
        let minutes = shift.as_secs() * u64::from(SHIFTS) / 60;
        Err(Violation::StillWaiting { waiting: self.model.waiting(&mut self.world), minutes })
    }
}

fn days_of(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}
