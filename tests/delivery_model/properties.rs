//! What is always so, and what comes to be.

use stateright::Property;

use crate::protocol::Protocol;
use crate::state::{State, Text};

pub(crate) const ONCE: &str = "a message is stored once at most";
pub(crate) const IN_ORDER: &str = "messages are stored in the order in which they were written";
pub(crate) const SENT: &str = "what is stored was written, as it was written";
pub(crate) const STORED: &str = "what is said to be delivered is stored";
pub(crate) const KEPT: &str = "what was told to be queued is in the outbox or delivered";
pub(crate) const ARRIVES: &str = "when nobody has anything to do, all that was queued is delivered";
pub(crate) const EVENTUALLY: &str = "all that was queued is delivered in the end";
pub(crate) const POSSIBLE: &str = "everything can be delivered, after all faults that there are";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONCE, |_, state: &State| {
            is_ascending(&texts(state), |one, other| one != other)
        }),
        Property::always(IN_ORDER, |_, state: &State| {
            is_ascending(&texts(state), |one, other| one <= other)
        }),
        Property::always(SENT, |_, state: &State| {
            texts(state).iter().all(|text| *text <= state.said)
        }),
        Property::always(STORED, |_, state: &State| {
            let stored = texts(state);
            let said = state.told_delivered.iter().chain(&state.sender.disk.delivered);
            said.into_iter().all(|text| stored.contains(text))
        }),
        Property::always(KEPT, |_, state: &State| {
            let disk = &state.sender.disk;
            let waits = |text| disk.outbox.iter().any(|waiting| waiting.text == text);
            state.told_queued.iter().all(|text| waits(*text) || disk.delivered.contains(text))
        }),
        Property::always(ARRIVES, |model: &Protocol, state: &State| {
            !model.is_quiet(state) || is_delivered(model, state)
        }),
        Property::eventually(EVENTUALLY, is_delivered),
        Property::sometimes(POSSIBLE, |model: &Protocol, state: &State| {
            let faults = [state.sender.crashes_left, state.recipient.crashes_left];
            faults == [0, 0] && is_delivered(model, state)
        }),
    ]
}

fn texts(state: &State) -> Vec<Text> {
    state.recipient.disk.stored.iter().map(|(_, text)| *text).collect()
}

/// Whether any two, the first one stored before the other, stand to each other like that.
fn is_ascending(texts: &[Text], holds: impl Fn(Text, Text) -> bool) -> bool {
    let pairs = texts.iter().enumerate();
    pairs
        .into_iter()
        .all(|(place, one)| texts.iter().skip(place + 1).all(|other| holds(*one, *other)))
}

/// Everything was written, and what was queued is stored, acknowledged, and nowhere else.
fn is_delivered(model: &Protocol, state: &State) -> bool {
    let stored = texts(state);
    let all = state.said == model.bounds.messages;
    let arrived = state.told_queued.iter().all(|text| stored.contains(text));
    let nothing_waits = state.sender.disk.outbox.is_empty();
    all && arrived && nothing_waits && state.mailbox.envelopes.is_empty()
}
