//! Messages on their way from request to answer. Knows no engine and no clock.

use std::collections::{BTreeMap, BTreeSet};

use parlor_common::id::MessageId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::frame::{Failure, failure, success};
use crate::args::Wait;
use crate::cli::error::CliError;
use crate::cli::send::wanted;
use crate::node::input::Token;
use crate::node::output::Event;
use crate::node::record::{Carrier, MessageState};

/// What was asked of a message, beside its text.
#[derive(Debug)]
pub(super) struct Asked {
    /// Marks the answer; without one none is wanted.
    pub(super) id: Option<Value>,
    /// How far the answer waits.
    pub(super) wait: Wait,
    /// When it was asked.
    pub(super) at: Instant,
    /// Until when it waits.
    pub(super) until: Instant,
}

/// Messages that are in the outbox, and whose answers wait for more.
#[derive(Debug)]
struct Waiting {
    asked: Asked,
    state: MessageState,
    carrier: Option<Carrier>,
}

/// All requests to send that are not answered.
#[derive(Debug, Default)]
pub(super) struct Sends {
    unsaved: BTreeMap<Token, Asked>,
    waiting: BTreeMap<MessageId, Waiting>,
    due: BTreeSet<(Instant, MessageId)>,
}

impl Sends {
    /// A message was handed to the engine.
    pub(super) fn push(&mut self, token: Token, asked: Asked) {
        self.unsaved.insert(token, asked);
    }

    /// How many messages the engine has not said to be saved.
    pub(super) fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.unsaved.is_empty() && self.waiting.is_empty()
    }

    /// What an event answers.
    pub(super) fn handle(&mut self, event: &Event, now: Instant) -> Option<Value> {
        match event {
            Event::Queued { token, id } => {
                let asked = self.unsaved.remove(token)?;
                self.queued(*id, asked)
            }
            Event::Done { token, result: Err(error) } => {
                let id = self.unsaved.remove(token)?.id?;
                Some(failure(&id, &refused(&error.clone().into())))
            }
            Event::Receipt { id, state, carrier, .. } => {
                let waiting = self.waiting.get_mut(id)?;
                (waiting.state, waiting.carrier) = (*state, *carrier);
                if *state < wanted(waiting.asked.wait) {
                    return None;
                }
                self.answer(*id, now)
            }
            _ => None,
        }
    }

    fn queued(&mut self, id: MessageId, asked: Asked) -> Option<Value> {
        let state = MessageState::Queued;
        if asked.wait == Wait::None {
            return asked.id.map(|asked| success(&asked, &json!({ "id": id, "state": state })));
        }
        self.due.insert((asked.until, id));
        self.waiting.insert(id, Waiting { asked, state, carrier: None });
        None
    }

    /// When [`Sends::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(until, _)| *until)
    }

    /// The answers that wait no longer.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Value> {
        let mut answers = Vec::new();
        while let Some((_, id)) = self.due.first().copied().filter(|(until, _)| *until <= now) {
            answers.extend(self.answer(id, now));
        }
        answers
    }

    /// Says how far a message got.
    fn answer(&mut self, id: MessageId, now: Instant) -> Option<Value> {
        let Waiting { asked, state, carrier } = self.waiting.remove(&id)?;
        self.due.remove(&(asked.until, id));
        let ms = now.saturating_duration_since(asked.at).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        let result = json!({ "id": id, "state": state, "carrier": carrier, "ms": ms });
        asked.id.map(|asked| success(&asked, &result))
    }
}

/// An error of a command, as an answer.
pub(super) fn refused(error: &CliError) -> Failure {
    Failure::refused(error.code(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlor_common::id::Incarnation;

    use super::*;
    use crate::node::output::IntentError;

    struct Story {
        sends: Sends,
        start: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self { sends: Sends::default(), start: Instant::now() }
        }

        fn after(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Asks to send message `number`, waiting for 100 ms.
        fn ask(&mut self, number: u64, wait: Wait) {
            let id = Some(number.into());
            let (at, until) = (self.start, self.after(100));
            self.sends.push(Token(number), Asked { id, wait, at, until });
        }

        fn queued(&mut self, number: u64) -> Option<Value> {
            let event = Event::Queued { token: Token(number), id: message(number) };
            self.sends.handle(&event, self.start)
        }

        fn receipt(&mut self, number: u64, state: MessageState, ms: u64) -> Option<Value> {
            let to = "bob".parse().unwrap();
            let carrier = Some(Carrier::Direct);
            let (id, reason) = (message(number), None);
            let event = Event::Receipt { id, to, state, carrier, reason };
            let now = self.after(ms);
            self.sends.handle(&event, now)
        }
    }

    fn message(number: u64) -> MessageId {
        MessageId::new(Incarnation([1; 8]), number)
    }

    #[test]
    fn a_message_is_answered_when_it_got_as_far_as_was_asked() {
        let mut story = Story::new();
        story.ask(1, Wait::None);
        let result = json!({"id": message(1), "state": "queued"});
        assert_eq!(story.queued(1), Some(success(&1.into(), &result)));
        assert!(story.sends.is_empty());

        story.ask(2, Wait::Delivered);
        assert_eq!(story.queued(2), None);
        assert_eq!(story.receipt(2, MessageState::Sent, 5), None);
        let result = json!({"id": message(2), "state": "delivered", "carrier": "direct", "ms": 7});
        assert_eq!(story.receipt(2, MessageState::Delivered, 7), Some(success(&2.into(), &result)));
        assert_eq!(story.receipt(2, MessageState::Read, 9), None);
        assert!(story.sends.is_empty());
        assert_eq!(story.sends.poll_timeout(), None);
    }

    #[test]
    fn a_message_that_does_not_get_so_far_is_answered_in_time() {
        let mut story = Story::new();
        story.ask(1, Wait::Delivered);
        story.ask(2, Wait::Sent);
        story.queued(1);
        story.queued(2);
        story.receipt(1, MessageState::Sent, 5);
        assert_eq!(story.sends.poll_timeout(), Some(story.after(100)));
        assert_eq!(story.sends.handle_timeout(story.after(99)), Vec::<Value>::new());
        let answers = story.sends.handle_timeout(story.after(100));
        let states: Vec<_> = answers.iter().map(|answer| &answer["result"]["state"]).collect();
        assert_eq!(states, ["sent", "queued"]);
        assert_eq!(answers[1]["result"]["carrier"], Value::Null);
        assert!(story.sends.is_empty());
    }

    #[test]
    fn a_refusal_carries_a_word_for_programs() {
        let mut story = Story::new();
        story.ask(1, Wait::Delivered);
        let error = IntentError::UnknownContact("bob".parse().unwrap());
        let event = Event::Done { token: Token(1), result: Err(error) };
        let answer = story.sends.handle(&event, story.start).unwrap();
        assert_eq!(answer["error"]["data"]["code"], "unknown_contact");
        assert!(story.sends.is_empty());
    }
}
