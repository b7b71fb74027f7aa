//! The delivery protocol, step by step: what each side does, and what befalls them.

use stateright::{Model, Property};

use crate::properties;
use crate::state::{
    Answer, Carrier, Effect, End, Envelope, Id, Link, Mailbox, Process, RecipientDisk,
    RecipientMemory, SenderDisk, SenderMemory, Session, State, Text, Waiting,
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

/// What one side does in a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// The sender queues a message.
    Say,
    /// The link takes the next message of the outbox.
    SendNext,
    /// The mailbox takes the message at this place of the outbox.
    Post(usize),
    /// The sender hears an answer on the link, or fetches one.
    HearAnswer,
    FetchAnswer,
    /// The recipient gets an envelope from the link, or fetches one.
    Receive,
    Fetch,
}

/// One step of anybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Turn(Turn, End),
    SenderStarts,
    SenderCrashes,
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
            Self::Turn(_, End::NotSaved | End::Saved)
                | Self::SenderCrashes
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

    fn say(&self, state: &mut State, end: End) {
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
        end_sender(state, disk, effects, end);
    }

    /// An envelope of the outbox is sealed, and leaves once that is saved.
    fn send(state: &mut State, place: usize, carrier: Carrier, end: End) {
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
        end_sender(state, disk, vec![Effect::Send(carrier, envelope)], end);
    }

    /// The sender hears an answer.
    fn answered(&self, state: &mut State, answer: Answer, carrier: Carrier, end: End) {
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
        end_sender(state, disk, effects, end);
    }

    /// The recipient gets an envelope.
    fn received(&self, state: &mut State, envelope: Envelope, carrier: Carrier, end: End) {
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
        let (early, effects) = effects.into_iter().partition(|effect| self.is_early(effect));
        act(state, early);
        end_recipient(state, disk, effects, end);
    }

    /// What the mutants do before anything is saved.
    fn is_early(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Answer(Answer::Receipt(_)) => self.is(Mutant::AcknowledgesEarly),
            Effect::AckEnvelope(_) => self.is(Mutant::EmptiesMailboxEarly),
            _ => false,
        }
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

    /// What the sender can do next.
    fn sender_turns(&self, state: &State) -> Vec<Turn> {
        let sender = &state.sender;
        let Some(memory) = &sender.memory else { return Vec::new() };
        let mut turns = Vec::new();
        if state.said < self.bounds.messages {
            turns.push(Turn::Say);
        }
        match &state.link {
            Some(link) => {
                if memory.taken < sender.disk.outbox.len() {
                    turns.push(Turn::SendNext);
                }
                if !link.back.is_empty() {
                    turns.push(Turn::HearAnswer);
                }
            }
            // What waits goes in order: the next is the first that is not posted.
            None => {
                let posted = |waiting: &Waiting| memory.posted.contains_key(&waiting.id);
                let next = sender.disk.outbox.iter().position(|waiting| !posted(waiting));
                turns.extend(next.map(Turn::Post));
            }
        }
        if memory.seen < state.mailbox.answers.len() {
            turns.push(Turn::FetchAnswer);
        }
        turns
    }

    /// What the recipient can do next.
    fn recipient_turns(state: &State) -> Vec<Turn> {
        let Some(memory) = &state.recipient.memory else { return Vec::new() };
        let mut turns = Vec::new();
        if state.link.as_ref().is_some_and(|link| !link.there.is_empty()) {
            turns.push(Turn::Receive);
        }
        if memory.seen < state.mailbox.envelopes.len() {
            turns.push(Turn::Fetch);
        }
        turns
    }

    fn take(&self, state: &mut State, turn: Turn, end: End) -> Option<()> {
        match turn {
            Turn::Say => self.say(state, end),
            Turn::SendNext => {
                let taken = state.sender.memory.as_ref()?.taken;
                Self::send(state, taken, Carrier::Direct, end);
            }
            Turn::Post(place) => Self::send(state, place, Carrier::Mailbox, end),
            Turn::HearAnswer => {
                let answer = state.link.as_mut()?.back.remove(0);
                self.answered(state, answer, Carrier::Direct, end);
            }
            Turn::FetchAnswer => {
                let memory = state.sender.memory.as_mut()?;
                memory.seen += 1;
                let answer = *state.mailbox.answers.get(memory.seen - 1)?;
                self.answered(state, answer, Carrier::Mailbox, end);
            }
            Turn::Receive => {
                let envelope = state.link.as_mut()?.there.remove(0);
                self.received(state, envelope, Carrier::Direct, end);
            }
            Turn::Fetch => {
                let memory = state.recipient.memory.as_mut()?;
                memory.seen += 1;
                let envelope = *state.mailbox.envelopes.get(memory.seen - 1)?;
                self.received(state, envelope, Carrier::Mailbox, end);
            }
        }
        Some(())
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
        if state.losses_left > 0 && !state.recipient.disk.sessions.is_empty() {
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

/// A turn of the sender ends.
fn end_sender(state: &mut State, disk: SenderDisk, effects: Vec<Effect>, end: End) {
    match end {
        End::Done => {
            state.sender.disk = disk;
            act(state, effects);
        }
        End::NotSaved => befall(state, Action::SenderCrashes),
        End::Saved => {
            state.sender.disk = disk;
            befall(state, Action::SenderCrashes);
        }
    }
}

/// A turn of the recipient ends.
fn end_recipient(state: &mut State, disk: RecipientDisk, effects: Vec<Effect>, end: End) {
    match end {
        End::Done => {
            state.recipient.disk = disk;
            act(state, effects);
        }
        End::NotSaved => befall(state, Action::RecipientCrashes),
        End::Saved => {
            state.recipient.disk = disk;
            befall(state, Action::RecipientCrashes);
        }
    }
}

impl<D, M> Process<D, M> {
    fn crash(&mut self) {
        self.memory = None;
        self.crashes_left -= 1;
    }
}

/// A turn, however it can end.
fn push_turns(turns: Vec<Turn>, crashes_left: u8, actions: &mut Vec<Action>) {
    for turn in turns {
        actions.push(Action::Turn(turn, End::Done));
        if crashes_left > 0 {
            actions.push(Action::Turn(turn, End::NotSaved));
            actions.push(Action::Turn(turn, End::Saved));
        }
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
            sender: Process { memory: None, disk: sender, crashes_left: crashes },
            recipient: Process { memory: None, disk: recipient, crashes_left: crashes },
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
        push_turns(self.sender_turns(state), state.sender.crashes_left, actions);
        push_turns(Self::recipient_turns(state), state.recipient.crashes_left, actions);
        if state.sender.memory.is_none() {
            actions.push(Action::SenderStarts);
        }
        if state.recipient.memory.is_none() {
            actions.push(Action::RecipientStarts);
        }
        let both = state.sender.memory.is_some() && state.recipient.memory.is_some();
        if both && state.link.is_none() && self.bounds.direct {
            actions.push(Action::LinkUp);
        }
        Self::faults(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Turn(turn, end) => self.take(&mut state, turn, end)?,
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
