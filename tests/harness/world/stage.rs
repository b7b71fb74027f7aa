//! The words of a story, simulated.

use parlor::node::input::{Intent, Token};
use parlor::node::output::{Event, IntentError};
use parlor::node::record::{ContactState, Direction, MessageState};
use parlor_common::id::{MessageId, Username};

use super::World;
use crate::stage::{Stage, password_of};

impl Stage for World {
    fn register(&mut self, name: &str) {
        self.try_register(name, &password_of(name)).unwrap();
        self.is_online(name);
    }

    fn befriend(&mut self, one: &str, other: &str) {
        self.is_done(one, Intent::AddContact { name: self.name(other), account_key: None });
        self.is_asked(other, one);
        self.is_done(other, Intent::AcceptContact { name: self.name(one) });
        self.are_contacts(one, other);
    }

    fn says(&mut self, from: &str, to: &str, text: &str) {
        let (to, text) = (to.parse().unwrap(), text.to_owned());
        self.is_done(from, Intent::Send { to, text });
    }

    fn sees(&mut self, who: &str, texts: &[&str]) {
        let expected = texts.len();
        let what = format!("{who} sees {expected} texts");
        self.run_until(&what, |world| world.texts(who).len() >= expected);
        assert_eq!(self.texts(who), texts);
    }

    fn all_delivered(&mut self, who: &str) {
        self.run_until(&format!("all of {who}'s are delivered"), |world| {
            world.sent(who).iter().all(|(_, state)| *state == MessageState::Delivered)
        });
    }

    fn stop(&mut self, who: &str) {
        let id = self.id(who);
        self.shut_down(id);
    }

    fn start(&mut self, who: &str) {
        let id = self.id(who);
        self.boot(id);
    }

    fn is_online(&mut self, who: &str) {
        self.run_until(&format!("{who} is online"), |world| world.knows_itself_online(who));
    }

    fn is_offline(&mut self, who: &str) {
        self.run_until(&format!("{who} is offline"), |world| !world.knows_itself_online(who));
    }

    fn stop_server(&mut self) {
        self.stop_rendezvous();
    }

    fn start_server(&mut self) {
        self.start_rendezvous();
    }
}

impl World {
    /// Stops a peer in order and starts it again.
    pub fn restart(&mut self, home: &str) {
        self.stop(home);
        self.start(home);
    }

    /// Wants something of a peer, and waits for the answer.
    pub fn asks_for(&mut self, home: &str, intent: Intent) -> Result<(), IntentError> {
        let token = self.intend(home, intent);
        self.run_until("an intent is answered", |world| world.result(home, token).is_some());
        self.result(home, token).unwrap()
    }

    fn is_done(&mut self, home: &str, intent: Intent) {
        assert_eq!(self.asks_for(home, intent), Ok(()));
    }

    /// What came of an intent; of a message that it was queued.
    pub fn result(&self, home: &str, wanted: Token) -> Option<Result<(), IntentError>> {
        self.told(home).iter().find_map(|event| match event {
            Event::Done { token, result } if *token == wanted => Some(result.clone()),
            Event::Queued { token, .. } if *token == wanted => Some(Ok(())),
            _ => None,
        })
    }

    /// Waits until `who` is told that `asker` wants to become a contact.
    pub fn is_asked(&mut self, who: &str, asker: &str) {
        let from = self.name(asker);
        self.run_until(&format!("{who} is asked by {asker}"), |world| {
            world.told(who).contains(&Event::ContactRequest { from: from.clone() })
        });
    }

    /// Waits until two know that they are contacts.
    pub fn are_contacts(&mut self, one: &str, other: &str) {
        for (who, whom) in [(one, other), (other, one)] {
            let name = self.name(whom);
            self.run_until(&format!("{whom} is a contact of {who}"), |world| {
                world.contact_state(who, &name) == Some(ContactState::Mutual)
            });
        }
    }

    /// How far `home` is with somebody.
    pub fn contact_state(&self, home: &str, name: &Username) -> Option<ContactState> {
        let contacts = self.store(home).reader().contacts().unwrap();
        let known = contacts.into_iter().find(|listed| listed.contact.name == *name);
        known.map(|listed| listed.contact.state)
    }

    /// Whether `home` shows somebody as online.
    pub fn shows_online(&self, home: &str, name: &str) -> bool {
        let contacts = self.store(home).reader().contacts().unwrap();
        contacts.iter().any(|listed| listed.contact.name.as_str() == name && listed.online)
    }

    /// All texts that a peer's front end was told, in order.
    pub fn texts(&self, home: &str) -> Vec<&str> {
        let told = self.told(home).iter();
        told.filter_map(|event| match event {
            Event::Message(message) => Some(message.text.as_str()),
            _ => None,
        })
        .collect()
    }

    /// How many of them are not known to have been delivered.
    pub fn undelivered(&self, home: &str, to: &str) -> usize {
        let history = self.store(home).reader().history(&to.parse().unwrap(), u32::MAX, None);
        let sent = history.unwrap().into_iter().filter(|each| each.direction == Direction::Out);
        sent.filter(|each| each.state != MessageState::Delivered).count()
    }

    /// How many messages to somebody a peer has stored.
    pub fn queued(&self, home: &str, to: &str) -> usize {
        let history = self.store(home).reader().history(&to.parse().unwrap(), u32::MAX, None);
        history.unwrap().iter().filter(|each| each.direction == Direction::Out).count()
    }

    /// All texts of one contact that a peer has stored, in order.
    pub fn stored_texts(&self, home: &str, from: &str) -> Vec<String> {
        let history = self.store(home).reader().history(&from.parse().unwrap(), u32::MAX, None);
        let received = history.unwrap().into_iter();
        received.filter(|each| each.direction == Direction::In).map(|each| each.text).collect()
    }

    /// What a peer has queued, as it was told, and each message's last state.
    pub fn sent(&self, home: &str) -> Vec<(MessageId, MessageState)> {
        let mut sent: Vec<(MessageId, MessageState)> = Vec::new();
        for event in self.told(home) {
            match event {
                Event::Queued { id, .. } => sent.push((*id, MessageState::Queued)),
                Event::Receipt { id, state, .. } => {
                    let known = sent.iter_mut().find(|(known, _)| known == id);
                    known.expect("receipts are for what was queued").1 = *state;
                }
                _ => {}
            }
        }
        sent
    }

    /// How many sessions a peer has agreed on, in all of its lives.
    pub fn agreed(&self, home: &str) -> usize {
        self.told(home).iter().filter(|event| matches!(event, Event::Agreed { .. })).count()
    }

    fn knows_itself_online(&self, home: &str) -> bool {
        let mut told = self.told_lately(home).iter().rev();
        told.find_map(|event| match event {
            Event::Online => Some(true),
            Event::Offline(_) => Some(false),
            _ => None,
        })
        .unwrap_or(false)
    }
}
