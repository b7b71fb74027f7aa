//! One of the two: a process that answers for a ledger.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::ledger::{Ledger, Numbers, Wanted, check};
use crate::process::{Life, Process};
use crate::stage::Tally;

/// Marks the answer that is a history; all others are marked by a message's number.
pub const HISTORY: &str = "history";

/// So many wrong things are said, and no more.
const MOST_WRONG: usize = 30;

/// One of the two.
#[derive(Debug)]
pub struct Person {
    other: &'static str,
    pub process: Option<Process>,
    pub ledger: Ledger,
    /// Whether this process has said what it has of the messages of those before it.
    pub resolved: bool,
    /// What is wanted of the next history, if one was asked for.
    awaited: Option<Wanted>,
    /// In which life each message of the other was told last.
    told: BTreeMap<usize, Life>,
    /// Lives that did not end by a kill.
    in_order: BTreeSet<Life>,
}

impl Person {
    pub const fn new(name: &'static str, other: &'static str) -> Self {
        Self {
            other,
            process: None,
            ledger: Ledger::new(name),
            resolved: false,
            awaited: None,
            told: BTreeMap::new(),
            in_order: BTreeSet::new(),
        }
    }

    /// A life is to end in order: what it has told is told for ever.
    pub fn ends_in_order(&mut self, life: Life) {
        self.in_order.insert(life);
    }

    /// A process was started: it is asked what it has.
    pub fn started(&mut self, process: Process, other: &Ledger) {
        self.process = Some(process);
        (self.resolved, self.awaited) = (false, None);
        self.ask_for_history(other.delivered(), false);
    }

    /// Asks for the history, unless one is awaited. It must have what the other knows to be
    /// delivered now, and with `all_sent` everything that was ever written here.
    pub fn ask_for_history(&mut self, received: Numbers, all_sent: bool) {
        if let (Some(process), None) = (&mut self.process, &self.awaited) {
            let params = json!({"contact": self.other, "limit": u32::MAX});
            process.write(&request(&HISTORY.into(), HISTORY, &params));
            let first_of_life = !self.resolved;
            self.awaited = Some(Wanted { received, all_sent, first_of_life });
        }
    }

    /// Whether a history was asked for that has not come.
    pub const fn awaits_history(&self) -> bool {
        self.awaited.is_some()
    }

    /// Has the process send what it was not given yet, once it is known what it has.
    pub fn hand_over(&mut self) {
        if let (Some(process), true) = (&mut self.process, self.resolved) {
            let send = |(number, text): (usize, String)| {
                request(&number.into(), "send", &json!({"contact": self.other, "text": text}))
            };
            process.write(&self.ledger.hand_over().into_iter().map(send).collect::<String>());
        }
    }

    /// How many messages of the other it was told.
    pub fn told(&self) -> usize {
        self.told.len()
    }

    /// Takes a line of the process of a life.
    pub fn hear(
        &mut self,
        life: Life,
        line: &Value,
        other: &Ledger,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        ensure!(line.get("error").is_none(), "an error: {line}");
        let params = &line["params"];
        match line["method"].as_str() {
            Some("message") => self.message(life, params, other, tally),
            Some("receipt") => self.ledger.receipt(word(params, "id")?, word(params, "state")?),
            Some(_) => Ok(()),
            None if line["id"] == HISTORY => self.history(&line["result"], other, tally),
            None => {
                let number = line["id"].as_u64().context("nobody asked that")?;
                self.ledger.queued(usize::try_from(number)?, word(&line["result"], "id")?)
            }
        }
    }

    /// Told twice is fine where a process that was killed has told it before.
    fn message(
        &mut self,
        life: Life,
        params: &Value,
        other: &Ledger,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let number = other.number_of(word(params, "text")?)?;
        *tally.by_carrier.entry(word(params, "carrier")?.to_owned()).or_default() += 1;
        match self.told.insert(number, life) {
            Some(before) if before == life => bail!("one process told message {number} twice"),
            Some(before) if self.in_order.contains(&before) => {
                bail!("message {number} is told again in life {life}, after life {before} told it")
            }
            Some(_) => tally.told_again += 1,
            None => {}
        }
        Ok(())
    }

    fn history(
        &mut self,
        history: &Value,
        other: &Ledger,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let wanted = self.awaited.take().context("nobody asked for a history")?;
        tally.histories += 1;
        let mut wrong = check(history, &mut self.ledger, other, &wanted)?;
        wrong.truncate(MOST_WRONG);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        self.resolved = true;
        self.hand_over();
        Ok(())
    }
}

fn word<'a>(params: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    params[key].as_str().with_context(|| format!("there is no {key} in {params}"))
}

fn request(id: &Value, method: &str, params: &Value) -> String {
    format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}
