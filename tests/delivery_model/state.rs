//! All there is of two people of whom one writes to the other: what is on their disks, what is in
//! their memories, what is on its way.

use std::collections::{BTreeMap, BTreeSet};

/// What somebody wrote: the first, the second, …
pub(crate) type Text = u8;

/// Names a session.
pub(crate) type Session = u8;

/// A message's id: an incarnation, and a number that grows within it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Id {
    pub(crate) incarnation: u8,
    pub(crate) number: u8,
}

/// A message as it travels.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Envelope {
    pub(crate) id: Id,
    pub(crate) text: Text,
    pub(crate) session: Session,
}

/// What the recipient says.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Answer {
    /// A message was saved.
    Receipt(Id),
    /// What was sealed on other sessions cannot be opened: it is to be sealed on this one.
    Resend(Session),
}

/// By which way something travels.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Carrier {
    Direct,
    Mailbox,
}

/// A message that is not acknowledged.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) id: Id,
    pub(crate) text: Text,
    pub(crate) sealed: Option<Session>,
}

/// What the sender has saved.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct SenderDisk {
    pub(crate) outbox: Vec<Waiting>,
    pub(crate) delivered: BTreeSet<Text>,
    pub(crate) session: Session,
}

/// What the recipient has saved: messages in the order in which they came.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct RecipientDisk {
    pub(crate) stored: Vec<(Id, Text)>,
    /// The sessions that it can open, and the last that there was.
    pub(crate) sessions: BTreeSet<Session>,
    pub(crate) last_session: Session,
}

/// What is to happen when a turn has been saved.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Effect {
    /// The person hears that a text is queued.
    TellQueued(Text),
    /// The person hears that a text is delivered.
    TellDelivered(Text),
    /// An envelope leaves.
    Send(Carrier, Envelope),
    /// An answer leaves.
    Answer(Answer),
    /// The mailbox may forget this envelope.
    AckEnvelope(Envelope),
    /// The mailbox may forget this answer.
    AckAnswer(Answer),
}

/// A process: what it knows, and what it has saved.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Process<D, M> {
    /// `None` while it is down.
    pub(crate) memory: Option<M>,
    pub(crate) disk: D,
    pub(crate) crashes_left: u8,
}

/// How a turn ends. What it saves and what that allows are two steps, and a process can end before,
/// between and after them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum End {
    /// It is saved, and what that allows is done.
    Done,
    /// The process ends before it is saved.
    NotSaved,
    /// The process ends when it is saved, before what that allows is done.
    Saved,
}

/// What the sender knows while it runs.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct SenderMemory {
    pub(crate) incarnation: u8,
    pub(crate) last_number: u8,
    /// How many of the outbox the link has taken.
    pub(crate) taken: usize,
    /// What the mailbox has taken, and on which session it was sealed.
    pub(crate) posted: BTreeMap<Id, Session>,
    /// How many answers in the mailbox it has seen.
    pub(crate) seen: usize,
}

/// What the recipient knows while it runs.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct RecipientMemory {
    /// How many envelopes in the mailbox it has seen.
    pub(crate) seen: usize,
    /// For the mutant that remembers ids here and nowhere else.
    pub(crate) ids: BTreeSet<Id>,
}

/// A link: both ways in order.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Link {
    pub(crate) there: Vec<Envelope>,
    pub(crate) back: Vec<Answer>,
}

/// What the rendezvous holds until it is acknowledged.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Mailbox {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) answers: Vec<Answer>,
}

/// See the [module](self).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) sender: Process<SenderDisk, SenderMemory>,
    pub(crate) recipient: Process<RecipientDisk, RecipientMemory>,
    pub(crate) link: Option<Link>,
    pub(crate) mailbox: Mailbox,
    /// How many texts were written.
    pub(crate) said: Text,
    /// What the person was told.
    pub(crate) told_queued: BTreeSet<Text>,
    pub(crate) told_delivered: BTreeSet<Text>,
    pub(crate) incarnations: u8,
    pub(crate) cuts_left: u8,
    pub(crate) losses_left: u8,
}
