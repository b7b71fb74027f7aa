//! A rendezvous and two people, as processes; what they say, written down as it is heard.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::person::{HISTORY, Person};
use crate::process::{Heard, Life, Part, Process};
use crate::programs::Programs;

/// What takes longer never comes.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// While nothing is said for so long, histories are asked for: what a process said last before it
/// was killed may not have been heard.
const SILENCE: Duration = Duration::from_millis(500);

/// How often what happened.
#[derive(Debug, Default)]
pub struct Tally {
    pub kills: BTreeMap<Part, usize>,
    pub told_again: usize,
    pub by_carrier: BTreeMap<String, usize>,
    pub longest_catch_up: Duration,
    pub histories: usize,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    programs: Programs,
    folder: TempDir,
    listen: String,
    to_us: Sender<Heard>,
    heard: Receiver<Heard>,
    rendezvous: Option<Process>,
    people: [Person; 2],
    lives: Life,
    /// Everything that happened, for who must find out why.
    log: File,
    started: Instant,
    pub tally: Tally,
}

impl Stage {
    /// Two contacts who have never talked, and do not run.
    pub fn open(programs: Programs) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (to_us, heard) = mpsc::channel();
        let log = File::create(folder.path().join("story"))?;
        let mut stage = Self {
            programs,
            folder,
            listen: "127.0.0.1:0".to_owned(),
            to_us,
            heard,
            rendezvous: None,
            people: [Person::new("alice", "bob"), Person::new("bob", "alice")],
            lives: 0,
            log,
            started: Instant::now(),
            tally: Tally::default(),
        };
        let link = stage.first_start()?;
        fs::write(stage.path("password"), "correct horse battery staple\n")?;
        let password = stage.path("password");
        let password = password.to_str().context("the folder's name is text")?;
        for name in ["alice", "bob"] {
            let register = ["register", name, "--server", &link, "--password-file", password];
            stage.command(name, &register)?;
        }
        stage.command("alice", &["contact", "add", "bob"])?;
        stage.command("bob", &["contact", "accept", "alice"])?;
        stage.command("alice", &["contact", "list"])?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Keeps the folder, for who must find out why.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    fn first_start(&mut self) -> anyhow::Result<String> {
        self.start(Part::Rendezvous)?;
        let heard = self.heard.recv_timeout(PATIENCE)?;
        let ready = heard.line.context("the rendezvous does not serve")?;
        let word = |key: &str| ready[key].as_str().map(str::to_owned);
        self.listen = word("listen").context("it says where it listens")?;
        word("link").context("it says its link")
    }

    /// Runs a command to its end.
    fn command(&self, name: &str, args: &[&str]) -> anyhow::Result<()> {
        let mut command = self.programs.peer(&self.path(name));
        let ended = command.args(args).stdin(Stdio::null()).output()?;
        let complaint = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{name}: {args:?} failed: {complaint}");
        Ok(())
    }

    pub fn note(&mut self, what: &str) {
        // The story is for people only.
        let _ = writeln!(self.log, "{:9.3} {what}", self.started.elapsed().as_secs_f64());
    }

    /// A person, and the other one.
    fn people(&mut self, part: Part) -> anyhow::Result<(&mut Person, &mut Person)> {
        let [alice, bob] = &mut self.people;
        match part {
            Part::Alice => Ok((alice, bob)),
            Part::Bob => Ok((bob, alice)),
            Part::Rendezvous => bail!("the rendezvous is no person"),
        }
    }

    fn process(&mut self, part: Part) -> &mut Option<Process> {
        match part {
            Part::Alice => &mut self.people[0].process,
            Part::Bob => &mut self.people[1].process,
            Part::Rendezvous => &mut self.rendezvous,
        }
    }

    /// Starts a part that does not run. A person is asked at once what it has.
    pub fn start(&mut self, part: Part) -> anyhow::Result<()> {
        self.lives += 1;
        let life = self.lives;
        self.note(&format!("{part:?} starts: life {life}"));
        let command = match part {
            Part::Alice => self.programs.rpc(&self.path("alice")),
            Part::Bob => self.programs.rpc(&self.path("bob")),
            Part::Rendezvous => self.programs.rendezvous(&self.path("rendezvous"), &self.listen),
        };
        ensure!(self.process(part).is_none(), "{part:?} runs already");
        let complaints = self.path("complaints");
        let process = Process::start(command, (part, life), &complaints, self.to_us.clone())?;
        if part == Part::Rendezvous {
            self.rendezvous = Some(process);
        } else {
            let (person, other) = self.people(part)?;
            person.started(process, &other.ledger);
        }
        Ok(())
    }

    /// `kill -9`, and everything that was said before it.
    pub fn kill(&mut self, part: Part) -> anyhow::Result<()> {
        *self.tally.kills.entry(part).or_default() += 1;
        let process = self.process(part);
        let process = process.as_mut().context("it does not run")?;
        let life = process.life;
        process.kill()?;
        self.note(&format!("{part:?} is killed in life {life}"));
        self.until_the_end_of(part, life)
    }

    /// Ends somebody in order.
    pub fn stop(&mut self, part: Part) -> anyhow::Result<()> {
        let process = self.process(part);
        let process = process.as_mut().context("it does not run")?;
        process.close_input();
        let life = process.life;
        self.note(&format!("{part:?} is stopped in life {life}"));
        self.people(part)?.0.ends_in_order(life);
        self.until_the_end_of(part, life)
    }

    fn until_the_end_of(&mut self, part: Part, life: Life) -> anyhow::Result<()> {
        loop {
            let heard = self.heard.recv_timeout(PATIENCE).context("a process does not end")?;
            if (heard.from, heard.life, heard.line.is_none()) == (part, life, true) {
                drop(self.process(part).take());
                return Ok(());
            }
            self.record(heard)?;
        }
    }

    /// Somebody writes messages, as long as `paddings` says; they are handed over if it runs.
    pub fn says(&mut self, part: Part, paddings: &[usize]) -> anyhow::Result<()> {
        self.note(&format!("{part:?} writes {}", paddings.len()));
        let (person, _) = self.people(part)?;
        paddings.iter().for_each(|padding| person.ledger.write(*padding));
        person.hand_over();
        Ok(())
    }

    /// Waits for a line of anybody who runs. False where nothing is said for so long.
    fn hear(&mut self, patience: Duration) -> anyhow::Result<bool> {
        match self.heard.recv_timeout(patience) {
            Ok(heard) => self.record(heard).map(|()| true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => bail!("nobody can be heard"),
        }
    }

    /// Hears so many lines, fewer where it gets quiet.
    pub fn observe(&mut self, lines: usize, patience: Duration) -> anyhow::Result<()> {
        for _ in 0..lines {
            if !self.hear(patience)? {
                self.note("nothing more is said");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hears until somebody was told so many messages since now, or until it gets quiet.
    pub fn observe_messages(
        &mut self,
        part: Part,
        messages: usize,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let wanted = self.people(part)?.0.told() + messages;
        while self.people(part)?.0.told() < wanted {
            if !self.hear(patience)? {
                self.note("no more messages are told");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hears until `is_so`; in silence a history of everybody who runs is asked for.
    fn until(&mut self, what: &str, is_so: impl Fn(&[Person; 2]) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.people) {
            ensure!(Instant::now() < deadline, "in {PATIENCE:?} it did not come so far: {what}");
            if !self.hear(SILENCE)? {
                self.ask_for_histories(false);
            }
        }
        Ok(())
    }

    fn ask_for_histories(&mut self, in_the_end: bool) {
        let [alice, bob] = &mut self.people;
        let of = |other: &Ledger| if in_the_end { other.all() } else { other.delivered() };
        alice.ask_for_history(of(&bob.ledger), in_the_end);
        bob.ask_for_history(of(&alice.ledger), in_the_end);
    }

    /// Waits until everything that somebody who runs wrote is saved there.
    pub fn is_answered(&mut self, part: Part) -> anyhow::Result<()> {
        let own = usize::from(part == Part::Bob);
        self.until("all answered", |people| {
            people[own].resolved && people[own].ledger.is_answered()
        })
    }

    /// Waits until a carrier has everything that somebody wrote.
    pub fn is_sent(&mut self, part: Part) -> anyhow::Result<()> {
        let own = usize::from(part == Part::Bob);
        let started = Instant::now();
        self.until("all with a carrier", |people| people[own].ledger.is_sent())?;
        self.caught_up(started, "with a carrier");
        Ok(())
    }

    fn caught_up(&mut self, started: Instant, what: &str) {
        let took = started.elapsed();
        self.tally.longest_catch_up = self.tally.longest_catch_up.max(took);
        self.note(&format!("all is {what}, after {took:?}"));
    }

    /// Waits until everything that was ever written is delivered.
    pub fn is_settled(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        self.until("all delivered", |people| {
            people.iter().all(|person| person.resolved && person.ledger.is_delivered())
        })?;
        self.caught_up(started, "delivered");
        Ok(())
    }

    /// Hears until nothing was said for so long.
    pub fn is_quiet(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.hear(patience)? {
            ensure!(Instant::now() < deadline, "it does not get quiet");
        }
        Ok(())
    }

    /// How many messages of the other somebody was never told.
    pub fn is_owed(&mut self, part: Part) -> anyhow::Result<usize> {
        let (person, other) = self.people(part)?;
        Ok(other.ledger.all().len().saturating_sub(person.told()))
    }

    /// Whether everything that was ever written is known to be delivered.
    pub fn all_is_delivered(&self) -> bool {
        self.people.iter().all(|person| person.ledger.is_delivered())
    }

    /// Looks whether the histories of those who run have everything that was ever written, and
    /// nothing else.
    pub fn is_whole(&mut self) -> anyhow::Result<()> {
        let answered = |people: &[Person; 2]| !people.iter().any(Person::awaits_history);
        self.until("histories", answered)?;
        self.ask_for_histories(true);
        self.until("histories", answered)
    }

    fn record(&mut self, heard: Heard) -> anyhow::Result<()> {
        let Heard { from, life, line } = heard;
        let Some(line) = line else {
            let complaints = fs::read_to_string(self.path("complaints")).unwrap_or_default();
            let last = complaints.lines().next_back().unwrap_or_default();
            bail!("{from:?} ended by itself in life {life}; the last complaint: {last}");
        };
        if line["id"] != HISTORY {
            let brief: String = line.to_string().chars().take(160).collect();
            self.note(&format!("{from:?} {life}: {brief}"));
        }
        let [alice, bob] = &mut self.people;
        match from {
            Part::Alice => alice.hear(life, &line, &bob.ledger, &mut self.tally),
            Part::Bob => bob.hear(life, &line, &alice.ledger, &mut self.tally),
            Part::Rendezvous => Ok(()),
        }
    }
}
