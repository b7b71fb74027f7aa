//! The delivery protocol, step by step: what each side does, and what befalls them.

use stateright::{Model, Property};

use crate::properties;
use crate::state::{
    Answer, Carrier, Effect, Envelope, Id, Link, Mailbox, Process, RecipientDisk, RecipientMemory,
    SenderDisk, SenderMemory, Session, State, Text, Turn, Waiting,
};

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages: Text,
    /// Of each side.
    pub(crate) crashes: u8,
    pub(crate) cuts: u8,
    /// How often the recipient loses its sessions.
    pub(crate) losses: u8,
    /// Whether the two can ever be linked. If not, all goes by mailbox.
    pub(crate) direct: bool,
}

/// A way to break the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    /// The recipient acknowledges a message before it has saved it.
    AcknowledgesEarly,
    /// The recipient acknowledges to the mailbox before it has saved.
    EmptiesMailboxEarly,
    /// The recipient knows duplicates only since its last start.
    ForgetsDuplicates,
    /// The sender starts with the same incarnation each time.
    ReusesIncarnation,
    /// A message is told to be queued, and sent, and not saved.
    SkipsOutbox,
    /// What was sealed on a session that is gone is not sealed anew.
    KeepsSealed,
    /// A new link takes what was written since, not what is unacknowledged.
    ForgetsUnacknowledged,
}

/// The protocol, or a mutant of it, within bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) mutant: Option<Mutant>,
}

/// One step of anybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Say,
    SendNext,
    Post(usize),
    HearAnswer,
    FetchAnswer,
    SenderSaves,
    SenderActs,
    SenderStarts,
    SenderCrashes,
    Receive,
    Fetch,
    RecipientSaves,
    RecipientActs,
    RecipientStarts,
    RecipientCrashes,
    LinkUp,
    CutLink,
    LoseSessions,
    /// No more faults.
    Calm,
}

impl Action {
    const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::SenderCrashes
                | Self::RecipientCrashes
                | Self::CutLink
                | Self::LoseSessions
                | Self::Calm
        )
    }
}

impl Protocol {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether nobody has anything to do but for faults.
    pub(crate) fn is_quiet(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.iter().all(|action| action.is_fault())
    }

    fn say(&self, state: &mut State) {
        let Some(memory) = &mut state.sender.memory else { return };
        state.said += 1;
        memory.last_number += 1;
        let id = Id { incarnation: memory.incarnation, number: memory.last_number };
        let text = state.said;
        let mut disk = state.sender.disk.clone();
        let mut effects = vec![Effect::TellQueued(text)];
        if self.is(Mutant::SkipsOutbox) {
            let session = disk.session;
            let carrier = if state.link.is_some() { Carrier::Direct } else { Carrier::Mailbox };
            effects.push(Effect::Send(carrier, Envelope { id, text, session }));
        } else {
            disk.outbox.push(Waiting { id, text, sealed: None });
        }
        state.sender.turn = Some(Turn { disk: Some(disk), effects });
    }

    /// An envelope of the outbox is sealed, and leaves once that is saved.
    fn send(state: &mut State, place: usize, carrier: Carrier) {
        let mut disk = state.sender.disk.clone();
        let session = disk.session;
        let Some(waiting) = disk.outbox.get_mut(place) else { return };
        let session = *waiting.sealed.get_or_insert(session);
        let envelope = Envelope { id: waiting.id, text: waiting.text, session };
        let Some(memory) = &mut state.sender.memory else { return };
        match carrier {
            Carrier::Direct => memory.taken += 1,
            Carrier::Mailbox => drop(memory.posted.insert(envelope.id, session)),
        }
        let effects = vec![Effect::Send(carrier, envelope)];
        state.sender.turn = Some(Turn { disk: Some(disk), effects });
    }

    /// The sender hears an answer.
    fn answered(&self, state: &mut State, answer: Answer, carrier: Carrier) {
        let Some(memory) = &mut state.sender.memory else { return };
        let mut disk = state.sender.disk.clone();
        let mut effects = Vec::new();
        match answer {
            Answer::Receipt(id) => {
                if let Some(place) = disk.outbox.iter().position(|waiting| waiting.id == id) {
                    let waiting = disk.outbox.remove(place);
                    disk.delivered.insert(waiting.text);
                    effects.push(Effect::TellDelivered(waiting.text));
                    memory.taken -= usize::from(place < memory.taken);
                }
            }
            Answer::Resend(session) if session > disk.session => {
                disk.session = session;
                if !self.is(Mutant::KeepsSealed) {
                    for waiting in &mut disk.outbox {
                        waiting.sealed = None;
                    }
                }
                memory.taken = 0;
                memory.posted.clear();
            }
            Answer::Resend(_) => {}
        }
        if carrier == Carrier::Mailbox {
            effects.push(Effect::AckAnswer(answer));
        }
        state.sender.turn = Some(Turn { disk: Some(disk), effects });
    }

    /// The recipient gets an envelope.
    fn received(&self, state: &mut State, envelope: Envelope, carrier: Carrier) {
        let Some(memory) = &mut state.recipient.memory else { return };
        let mut disk = state.recipient.disk.clone();
        let mut effects = Vec::new();
        let Envelope { id, text, session } = envelope;
        if disk.sessions.contains(&session) {
            let known = if self.is(Mutant::ForgetsDuplicates) {
                !memory.ids.insert(id)
            } else {
                disk.stored.iter().any(|(known, _)| *known == id)
            };
            if !known {
                disk.stored.push((id, text));
            }
            effects.push(Effect::Answer(Answer::Receipt(id)));
        } else {
            if disk.sessions.is_empty() {
                disk.last_session += 1;
                disk.sessions.insert(disk.last_session);
            }
            effects.push(Effect::Answer(Answer::Resend(disk.last_session)));
        }
        if carrier == Carrier::Mailbox {
            effects.push(Effect::AckEnvelope(envelope));
        }
        state.recipient.turn = Some(Turn { disk: Some(disk), effects });
        self.act_early(state);
    }

    /// What the mutants do before anything is saved.
    fn act_early(&self, state: &mut State) {
        let early = |effect: &Effect| match effect {
            Effect::Answer(Answer::Receipt(_)) => self.is(Mutant::AcknowledgesEarly),
            Effect::AckEnvelope(_) => self.is(Mutant::EmptiesMailboxEarly),
            _ => false,
        };
        let Some(turn) = &mut state.recipient.turn else { return };
        let (now, later) = std::mem::take(&mut turn.effects).into_iter().partition(early);
        turn.effects = later;
        act(state, now);
    }

    fn start_sender(&self, state: &mut State) {
        let fresh = !self.is(Mutant::ReusesIncarnation);
        state.incarnations += u8::from(fresh);
        let incarnation = state.incarnations;
        state.sender.memory = Some(SenderMemory { incarnation, ..SenderMemory::default() });
    }

    fn link_up(&self, state: &mut State) {
        state.link = Some(Link::default());
        let Some(memory) = &mut state.sender.memory else { return };
        memory.taken = 0;
        if self.is(Mutant::ForgetsUnacknowledged) {
            memory.taken = state.sender.disk.outbox.iter().filter(|w| w.sealed.is_some()).count();
        }
    }

    fn sender_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let sender = &state.sender;
        let Some(memory) = &sender.memory else { return actions.push(Action::SenderStarts) };
        match &sender.turn {
            Some(Turn { disk: Some(_), .. }) => return actions.push(Action::SenderSaves),
            Some(_) => return actions.push(Action::SenderActs),
            None => {}
        }
        if state.said < self.bounds.messages {
            actions.push(Action::Say);
        }
        match &state.link {
            Some(link) => {
                if memory.taken < sender.disk.outbox.len() {
                    actions.push(Action::SendNext);
                }
                if !link.back.is_empty() {
                    actions.push(Action::HearAnswer);
                }
            }
            // What waits goes in order: the next is the first that is not posted.
            None => {
                let posted = |waiting: &Waiting| memory.posted.contains_key(&waiting.id);
                let next = sender.disk.outbox.iter().position(|waiting| !posted(waiting));
                actions.extend(next.map(Action::Post));
            }
        }
        if memory.seen < state.mailbox.answers.len() {
            actions.push(Action::FetchAnswer);
        }
    }

    fn recipient_actions(state: &State, actions: &mut Vec<Action>) {
        let recipient = &state.recipient;
        let Some(memory) = &recipient.memory else {
            return actions.push(Action::RecipientStarts);
        };
        match &recipient.turn {
            Some(Turn { disk: Some(_), .. }) => return actions.push(Action::RecipientSaves),
            Some(_) => return actions.push(Action::RecipientActs),
            None => {}
        }
        if state.link.as_ref().is_some_and(|link| !link.there.is_empty()) {
            actions.push(Action::Receive);
        }
        if memory.seen < state.mailbox.envelopes.len() {
            actions.push(Action::Fetch);
        }
    }

    fn faults(state: &State, actions: &mut Vec<Action>) {
        if state.sender.memory.is_some() && state.sender.crashes_left > 0 {
            actions.push(Action::SenderCrashes);
        }
        if state.recipient.memory.is_some() && state.recipient.crashes_left > 0 {
            actions.push(Action::RecipientCrashes);
        }
        if state.link.is_some() && state.cuts_left > 0 {
            actions.push(Action::CutLink);
        }
        let idle = state.recipient.turn.is_none();
        if idle && state.losses_left > 0 && !state.recipient.disk.sessions.is_empty() {
            actions.push(Action::LoseSessions);
        }
        let faults = [state.sender.crashes_left, state.recipient.crashes_left];
        if faults.into_iter().chain([state.cuts_left, state.losses_left]).any(|left| left > 0) {
            actions.push(Action::Calm);
        }
    }
}

/// What a turn allows happens.
fn act(state: &mut State, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::TellQueued(text) => drop(state.told_queued.insert(text)),
            Effect::TellDelivered(text) => drop(state.told_delivered.insert(text)),
            Effect::Send(Carrier::Direct, envelope) => {
                // A link that is gone takes nothing.
                state.link.iter_mut().for_each(|link| link.there.push(envelope));
            }
            Effect::Send(Carrier::Mailbox, envelope) => state.mailbox.envelopes.push(envelope),
            Effect::Answer(answer) => match &mut state.link {
                Some(link) => link.back.push(answer),
                None => state.mailbox.answers.push(answer),
            },
            Effect::AckEnvelope(envelope) => {
                let envelopes = &mut state.mailbox.envelopes;
                if let Some(place) = envelopes.iter().position(|known| *known == envelope) {
                    envelopes.remove(place);
                    let memory = state.recipient.memory.iter_mut();
                    memory.for_each(|memory| memory.seen -= usize::from(place < memory.seen));
                }
            }
            Effect::AckAnswer(answer) => {
                let answers = &mut state.mailbox.answers;
                if let Some(place) = answers.iter().position(|known| *known == answer) {
                    answers.remove(place);
                    let memory = state.sender.memory.iter_mut();
                    memory.for_each(|memory| memory.seen -= usize::from(place < memory.seen));
                }
            }
        }
    }
}

impl<D, M> Process<D, M> {
    fn save(&mut self) {
        let disk = self.turn.as_mut().and_then(|turn| turn.disk.take());
        self.disk = disk.unwrap_or_else(|| unreachable!("there is a turn to save"));
    }

    fn crash(&mut self) {
        self.memory = None;
        self.turn = None;
        self.crashes_left -= 1;
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.turn.take().map(|turn| turn.effects).unwrap_or_default()
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let Bounds { crashes, cuts, losses, .. } = self.bounds;
        let first: Session = 1;
        let sender = SenderDisk { session: first, ..SenderDisk::default() };
        let sessions = [first].into();
        let recipient = RecipientDisk { sessions, last_session: first, stored: Vec::new() };
        vec![State {
            sender: Process { memory: None, disk: sender, turn: None, crashes_left: crashes },
            recipient: Process { memory: None, disk: recipient, turn: None, crashes_left: crashes },
            link: None,
            mailbox: Mailbox::default(),
            said: 0,
            told_queued: [].into(),
            told_delivered: [].into(),
            incarnations: 0,
            cuts_left: cuts,
            losses_left: losses,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.sender_actions(state, actions);
        Self::recipient_actions(state, actions);
        let both = state.sender.memory.is_some() && state.recipient.memory.is_some();
        if both && state.link.is_none() && self.bounds.direct {
            actions.push(Action::LinkUp);
        }
        Self::faults(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Say => self.say(&mut state),
            Action::SendNext => {
                let taken = state.sender.memory.as_ref()?.taken;
                Self::send(&mut state, taken, Carrier::Direct);
            }
            Action::Post(place) => Self::send(&mut state, place, Carrier::Mailbox),
            Action::HearAnswer => {
                let answer = state.link.as_mut()?.back.remove(0);
                self.answered(&mut state, answer, Carrier::Direct);
            }
            Action::FetchAnswer => {
                let memory = state.sender.memory.as_mut()?;
                memory.seen += 1;
                let answer = *state.mailbox.answers.get(memory.seen - 1)?;
                self.answered(&mut state, answer, Carrier::Mailbox);
            }
            Action::Receive => {
                let envelope = state.link.as_mut()?.there.remove(0);
                self.received(&mut state, envelope, Carrier::Direct);
            }
            Action::Fetch => {
                let memory = state.recipient.memory.as_mut()?;
                memory.seen += 1;
                let envelope = *state.mailbox.envelopes.get(memory.seen - 1)?;
                self.received(&mut state, envelope, Carrier::Mailbox);
            }
            Action::SenderSaves => state.sender.save(),
            Action::RecipientSaves => state.recipient.save(),
            Action::SenderActs => {
                let effects = state.sender.effects();
                act(&mut state, effects);
            }
            Action::RecipientActs => {
                let effects = state.recipient.effects();
                act(&mut state, effects);
            }
            Action::SenderStarts => self.start_sender(&mut state),
            Action::RecipientStarts => state.recipient.memory = Some(RecipientMemory::default()),
            Action::LinkUp => self.link_up(&mut state),
            fault => befall(&mut state, fault),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn befall(state: &mut State, fault: Action) {
    match fault {
        Action::SenderCrashes => state.sender.crash(),
        Action::RecipientCrashes => state.recipient.crash(),
        Action::CutLink => state.cuts_left -= 1,
        Action::LoseSessions => {
            state.losses_left -= 1;
            return state.recipient.disk.sessions.clear();
        }
        _ => {
            (state.sender.crashes_left, state.recipient.crashes_left) = (0, 0);
            (state.cuts_left, state.losses_left) = (0, 0);
            return;
        }
    }
    state.link = None;
}
