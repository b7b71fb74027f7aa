//! What somebody has written, how far it got as far as was said, and what histories must have.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// A message that somebody wants to send.
#[derive(Debug)]
struct Message {
    text: String,
    state: State,
}

/// How far a message is known to be.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum State {
    /// It was not handed over, or it was and is known not to be saved.
    Unasked,
    /// It was handed over and not answered.
    Asked,
    /// It is saved: that was answered, or it stood in the own history.
    Queued,
    /// A carrier has it.
    Sent,
    /// The other side has it.
    Delivered,
}

/// All messages of a person, in order.
#[derive(Debug)]
pub struct Ledger {
    name: &'static str,
    messages: Vec<Message>,
    ids: BTreeMap<String, usize>,
}

/// A message as `history` has it.
#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    direction: String,
    text: String,
    state: String,
}

impl Ledger {
    /// Nothing yet.
    pub const fn new(name: &'static str) -> Self {
        Self { name, messages: Vec::new(), ids: BTreeMap::new() }
    }

    /// A new message, with as many bytes behind its number.
    pub fn write(&mut self, padding: usize) {
        let text = format!("{} {} {}", self.name, self.messages.len(), "x".repeat(padding));
        self.messages.push(Message { text, state: State::Unasked });
    }

    /// Hands over what was not: number and text of each.
    pub fn hand_over(&mut self) -> Vec<(usize, String)> {
        let unasked = self.messages.iter_mut().enumerate();
        let unasked = unasked.filter(|(_, message)| message.state == State::Unasked);
        let handed = unasked.map(|(number, message)| {
            message.state = State::Asked;
            (number, message.text.clone())
        });
        handed.collect()
    }

    /// An answer came: message `number` is saved under an id.
    pub fn queued(&mut self, number: usize, id: &str) -> anyhow::Result<()> {
        self.reached(number, State::Queued)?;
        let known = self.ids.insert(id.to_owned(), number);
        ensure!(known.is_none_or(|known| known == number), "{id} names two messages");
        Ok(())
    }

    /// A receipt came. It may be for a message whose answer was lost with its process.
    pub fn receipt(&mut self, id: &str, state: &str) -> anyhow::Result<()> {
        match self.ids.get(id) {
            Some(number) => self.reached(*number, state_of(state)?),
            None => Ok(()),
        }
    }

    fn reached(&mut self, number: usize, state: State) -> anyhow::Result<()> {
        let message = self.messages.get_mut(number).context("nobody sent that")?;
        if message.state < state {
            message.state = state;
        }
        Ok(())
    }

    /// Whether everything that was handed over was answered.
    pub fn is_answered(&self) -> bool {
        self.messages.iter().all(|message| message.state != State::Asked)
    }

    /// Whether everything is with a carrier, at least.
    pub fn is_sent(&self) -> bool {
        self.messages.iter().all(|message| message.state >= State::Sent)
    }

    /// Whether everything is with the other side.
    pub fn is_delivered(&self) -> bool {
        self.messages.iter().all(|message| message.state == State::Delivered)
    }

    /// What is known to be with the other side.
    pub fn delivered(&self) -> Numbers {
        self.at_least(State::Delivered)
    }

    /// Everything that was ever written.
    pub fn all(&self) -> Numbers {
        (0..self.messages.len()).collect()
    }

    fn at_least(&self, state: State) -> Numbers {
        let numbers = self.messages.iter().enumerate();
        numbers.filter(|(_, message)| message.state >= state).map(|(number, _)| number).collect()
    }

    /// The number of a text that was sent.
    pub fn number_of(&self, text: &str) -> anyhow::Result<usize> {
        let number = text.strip_prefix(self.name).and_then(|rest| rest.split(' ').nth(1));
        let number = number.and_then(|number| number.parse().ok());
        let message = number.and_then(|number: usize| self.messages.get(number));
        match (number, message) {
            (Some(number), Some(message))
                if message.text == text && message.state >= State::Asked =>
            {
                Ok(number)
            }
            _ => bail!("{} never sent {text:.40?}", self.name),
        }
    }
}

fn state_of(word: &str) -> anyhow::Result<State> {
    match word {
        "queued" => Ok(State::Queued),
        "sent" => Ok(State::Sent),
        "delivered" | "read" => Ok(State::Delivered),
        _ => bail!("a message is {word}"),
    }
}

/// Messages by their numbers.
pub type Numbers = BTreeSet<usize>;

/// What a history must have.
#[derive(Debug)]
pub struct Wanted {
    /// These of the other side.
    pub received: Numbers,
    /// All own ones, and not only those that are known to be saved.
    pub all_sent: bool,
    /// Whether what was handed over and does not stand there will not come any more.
    pub first_of_life: bool,
}

/// Looks whether somebody's history has what it must have, and takes from it how far the own
/// messages are. Gives everything that is wrong.
pub fn check(
    history: &Value,
    own: &mut Ledger,
    other: &Ledger,
    wanted: &Wanted,
) -> anyhow::Result<Vec<String>> {
    let entries: Vec<Entry> = Vec::deserialize(history)?;
    let (out, received): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.direction == "out");
    let place = own.name;
    let mut wrong = Vec::new();
    let there = numbers(&out, own, place, &mut wrong);
    let saved = if wanted.all_sent { own.all() } else { own.at_least(State::Queued) };
    wrong.extend(missing(&saved, &there, own, place));
    let there = numbers(&received, other, place, &mut wrong);
    wrong.extend(missing(&wanted.received, &there, other, place));
    if wrong.is_empty() {
        learn(own, &out, wanted.first_of_life)?;
    }
    Ok(wrong)
}

/// The numbers of messages in a history, each once and in order, or it is wrong.
fn numbers(entries: &[&Entry], of: &Ledger, place: &str, wrong: &mut Vec<String>) -> Numbers {
    let name = of.name;
    let mut there = Numbers::new();
    for entry in entries {
        match of.number_of(&entry.text) {
            Err(error) => wrong.push(format!("in {place}'s history: {error}")),
            Ok(number) => {
                let last = there.last().copied();
                if !there.insert(number) {
                    wrong.push(format!("in {place}'s history: {name} {number} stands twice"));
                } else if let Some(last) = last.filter(|last| *last > number) {
                    let stands = format!("{name} {number} stands after {last}");
                    wrong.push(format!("in {place}'s history: {stands}"));
                }
            }
        }
    }
    there
}

fn missing<'a>(
    wanted: &'a Numbers,
    there: &'a Numbers,
    of: &'a Ledger,
    place: &'a str,
) -> impl Iterator<Item = String> + 'a {
    wanted.difference(there).map(move |number| {
        let state = of.messages.get(*number).map(|message| &message.state);
        format!("not in {place}'s history: {} {number} ({state:?})", of.name)
    })
}

/// What stands in the own history is saved. What does not, in the first one of a process, is not.
fn learn(own: &mut Ledger, out: &[&Entry], first_of_life: bool) -> anyhow::Result<()> {
    for entry in out {
        let number = own.number_of(&entry.text)?;
        own.queued(number, &entry.id)?;
        own.receipt(&entry.id, &entry.state)?;
    }
    let lost = own.messages.iter_mut().filter(|message| message.state == State::Asked);
    lost.filter(|_| first_of_life).for_each(|message| message.state = State::Unasked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Alice has written three messages; two were answered, of which bob has one.
    fn alice() -> Ledger {
        let mut alice = Ledger::new("alice");
        (0..3).for_each(|padding| alice.write(padding));
        assert_eq!(alice.hand_over().len(), 3);
        alice.queued(0, "a0").unwrap();
        alice.queued(1, "a1").unwrap();
        alice.receipt("a0", "delivered").unwrap();
        alice
    }

    fn history(direction: &str, entries: &[(&str, &str)]) -> Value {
        let entry = |(id, text): &(&str, &str)| json!({"id": id, "direction": direction, "text": text, "state": "queued"});
        entries.iter().map(entry).collect()
    }

    /// What is wrong with alice's own history.
    fn own(entries: &[(&str, &str)]) -> Vec<String> {
        let wanted = Wanted { received: Numbers::new(), all_sent: false, first_of_life: true };
        let history = history("out", entries);
        check(&history, &mut alice(), &Ledger::new("bob"), &wanted).unwrap()
    }

    /// What is wrong with bob's history of her.
    fn received(entries: &[(&str, &str)]) -> Vec<String> {
        let alice = alice();
        let wanted = Wanted { received: alice.delivered(), all_sent: false, first_of_life: true };
        check(&history("in", entries), &mut Ledger::new("bob"), &alice, &wanted).unwrap()
    }

    const ZERO: (&str, &str) = ("a0", "alice 0 ");
    const ONE: (&str, &str) = ("a1", "alice 1 x");

    #[test]
    fn what_must_be_there_is_looked_for() {
        assert_eq!(own(&[ZERO, ONE]), [""; 0]);
        assert_eq!(own(&[ZERO, ONE, ("a2", "alice 2 xx")]), [""; 0]);
        assert_eq!(own(&[ZERO]), ["not in alice's history: alice 1 (Some(Queued))"]);
        assert_eq!(received(&[ZERO]), [""; 0]);
        assert_eq!(received(&[]), ["not in bob's history: alice 0 (Some(Delivered))"]);
    }

    #[test]
    fn twice_out_of_order_and_never_sent_are_told() {
        assert_eq!(received(&[ZERO, ZERO]), ["in bob's history: alice 0 stands twice"]);
        assert_eq!(received(&[ONE, ZERO]), ["in bob's history: alice 0 stands after 1"]);
        for text in ["alice 3 ", "alice 1 xx", "alice", "bob 0 ", ""] {
            let wrong = received(&[ZERO, ("x", text)]);
            assert!(matches!(&wrong[..], [one] if one.contains("never sent")), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_not_saved_is_handed_over_again_and_only_that() {
        let mut alice = alice();
        let wanted = Wanted { received: Numbers::new(), all_sent: false, first_of_life: true };
        let history = history("out", &[ZERO, ONE]);
        check(&history, &mut alice, &Ledger::new("bob"), &wanted).unwrap();
        assert_eq!(alice.hand_over(), [(2, "alice 2 xx".to_owned())]);
    }
}
