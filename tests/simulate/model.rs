//! Who must have seen what: the reference model, asked after everything that happens.
//!
//! A message is *lost by right* only where a profile was put back to a copy: what the copy never
//! knew. So a message that was queued after its sender's copy may arrive or not; and one that was
//! received after its recipient's copy stays away if its sender had heard that it arrived. Nothing
//! else is lost, nothing is ever stored twice, and a front end is told a message again only in
//! another life, and only if its note that it had told it was not saved.
//!
//! Order is asked for by sender: always in what a conversation shows, within an incarnation; across
//! incarnations, and in what is told within a life, with two excuses. Carriers that lose and disorder
//! envelopes, which no link does; and keys that are lost at either end, because a profile was put
//! back to a copy or a clock has made sessions old: what was sealed on them is sealed anew and comes
//! after what was sealed later. What is told has one more: a rendezvous that was put back has lost
//! posts, and they are posted again after what was posted later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use harness::World;
use harness::world::Copy;
use parlor::node::input::{Intent, Token};
use parlor::node::output::{Event, Incoming};
use parlor::node::record::{Direction, MessageState, StoredMessage};
use parlor_common::id::{Incarnation, MessageId};

use crate::cast::Cast;
use crate::step::Home;
use crate::tally::Tally;
use crate::violation::Violation;

/// More links of one home in this time are a storm that feeds itself.
const RESTLESS: (usize, Duration) = (30, Duration::from_secs(60));

/// See the [module](self).
pub(crate) struct Model {
    cast: Cast,
    homes: BTreeMap<Home, Ledger>,
    /// Everything that anybody wanted to send, by its text: no two are alike.
    said: BTreeMap<String, Said>,
    /// Whether carriers have put envelopes out of order: then order cannot be asked for.
    disordered: bool,
    /// Whether a rendezvous was put back, and may have lost posts.
    lost_posts: bool,
    pub(crate) tally: Tally,
    /// What happened, where it is wanted.
    pub(crate) trace: Option<Vec<String>>,
}

/// Something that somebody wanted to send.
struct Said {
    from: Home,
    to: Home,
    /// Grows with each that this home sent.
    number: u64,
}

/// What is known of a home.
#[derive(Default)]
struct Ledger {
    /// How much of what its front end was told is in the books.
    heard: usize,
    said: u64,
    sends: BTreeMap<Token, String>,
    /// What it was told to be queued, as far as its profile knows it.
    queued: BTreeSet<MessageId>,
    /// The states that it was told in this life.
    states: BTreeMap<MessageId, MessageState>,
    /// What was told in this life, and the last number of each incarnation.
    told: BTreeSet<MessageId>,
    last: BTreeMap<Incarnation, u64>,
    /// What was ever told.
    ever: BTreeSet<MessageId>,
    /// Notes of what was told, on their way, and those that were saved.
    notes: BTreeMap<Token, Vec<MessageId>>,
    noted: BTreeSet<MessageId>,
    /// What it received and does not know any more, because it was put back to a copy.
    lost: BTreeSet<MessageId>,
    /// Whether it may have lost keys under which others have sealed.
    lost_keys: bool,
    /// When links came up lately.
    paths: VecDeque<Duration>,
    copy: Option<LedgerCopy>,
}

/// A copy of a profile, and what was known of it.
struct LedgerCopy {
    profile: Copy,
    queued: BTreeSet<MessageId>,
    noted: BTreeSet<MessageId>,
}

impl Model {
    /// For a world that starts: what its people said before is in the books.
    pub(crate) fn new(cast: Cast, world: &mut World, traced: bool) -> Result<Self, Violation> {
        let homes = cast.homes().iter().map(|home| (*home, Ledger::default())).collect();
        let mut model = Self {
            cast,
            homes,
            said: BTreeMap::new(),
            disordered: false,
            lost_posts: false,
            tally: Tally::default(),
            trace: traced.then(Vec::new),
        };
        for home in cast.homes() {
            for to in model.others(home) {
                for message in sent(world, home, to) {
                    model.say(home, to, message.text);
                }
            }
        }
        for home in cast.homes() {
            model.begin_life(world, home)?;
        }
        Ok(model)
    }

    pub(crate) fn homes(&self) -> &'static [Home] {
        self.cast.homes()
    }

    /// Everybody whom a home can write to.
    fn others(&self, home: Home) -> Vec<Home> {
        let people = self.cast.people().iter().copied();
        people.filter(|name| *name != Cast::owner(home)).collect()
    }

    pub(crate) fn note(&mut self, world: &World, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} s  {}", world.age().as_secs_f64(), line()));
        }
    }

    fn say(&mut self, from: Home, to: Home, text: String) {
        let ledger = self.ledger(from);
        ledger.said += 1;
        let number = ledger.said;
        self.said.insert(text, Said { from, to, number });
    }

    fn ledger(&mut self, home: Home) -> &mut Ledger {
        self.homes.entry(home).or_default()
    }

    /// From now on nothing is said about order.
    pub(crate) fn disordered(&mut self) {
        self.disordered = true;
    }

    /// The rendezvous was put back to a copy.
    pub(crate) fn rendezvous_was_put_back(&mut self) {
        self.lost_posts = true;
    }

    /// A home's clock was wrong.
    pub(crate) fn clock_was_wrong(&mut self, home: Home) {
        self.ledger(home).lost_keys = true;
    }

    /// A home wants to send something.
    pub(crate) fn send(&mut self, world: &mut World, from: Home, to: Home) {
        let text = format!("{from} {}", self.ledger(from).said + 1);
        self.say(from, to, text.clone());
        let name = to.parse().expect("it is a name");
        let token = world.intend(from, Intent::Send { to: name, text: text.clone() });
        self.ledger(from).sends.insert(token, text);
    }

    /// A home was started: its front end tells what nobody has noted as told.
    pub(crate) fn begin_life(&mut self, world: &mut World, home: Home) -> Result<(), Violation> {
        let heard = world.told(home).len();
        let ledger = self.ledger(home);
        ledger.heard = heard;
        ledger.states.clear();
        ledger.told.clear();
        ledger.last.clear();
        let unprinted = world.store(home).reader().unprinted(0, u32::MAX).expect("it is read");
        let mut rows = Vec::new();
        for StoredMessage { row, id, contact, text, .. } in unprinted {
            self.tell(world, home, id, contact.as_str(), &text)?;
            rows.push((row, id));
        }
        self.note_told(world, home, rows);
        Ok(())
    }

    /// Looks at everything that front ends were told since.
    pub(crate) fn watch(&mut self, world: &mut World) -> Result<(), Violation> {
        for home in self.cast.homes() {
            if world.told(home).len() > self.ledger(home).heard {
                self.hear(world, home)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, world: &mut World, home: Home) -> Result<(), Violation> {
        let events = world.told(home)[self.ledger(home).heard..].to_vec();
        self.ledger(home).heard += events.len();
        let mut rows = Vec::new();
        for event in events {
            match event {
                Event::Queued { token, id } => self.is_queued(world, home, token, id)?,
                Event::Receipt { id, to, state, .. } => {
                    self.receipt(world, home, id, to.as_str(), state)?;
                }
                Event::Message(Incoming { row, id, from, text, .. }) => {
                    self.tell(world, home, id, from.as_str(), &text)?;
                    rows.push((row, id));
                }
                Event::Path { contact, .. } => {
                    self.path(world, home, contact.as_str())?;
                }
                Event::Done { token, result } => {
                    self.is_done(world, home, token, result.is_ok())?
                }
                other => self.note(world, || format!("{home}: {other:?}")),
            }
        }
        self.note_told(world, home, rows);
        Ok(())
    }

    fn is_queued(
        &mut self,
        world: &World,
        home: Home,
        token: Token,
        id: MessageId,
    ) -> Result<(), Violation> {
        let Some(text) = self.ledger(home).sends.remove(&token) else {
            return Err(Violation::QueuedUnasked { home, id });
        };
        self.note(world, || format!("{home}: queued {text:?} as {id}"));
        let stored = world.store(home).reader().message(id).expect("it is read");
        let is_stored = stored
            .is_some_and(|message| message.direction == Direction::Out && message.text == text);
        if !is_stored || !self.ledger(home).queued.insert(id) {
            return Err(Violation::QueuedUnsaved { home, id });
        }
        self.tally.queued += 1;
        Ok(())
    }

    fn is_done(
        &mut self,
        world: &World,
        home: Home,
        token: Token,
        is_ok: bool,
    ) -> Result<(), Violation> {
        let ledger = self.ledger(home);
        if let Some(ids) = ledger.notes.remove(&token) {
            ledger.noted.extend(ids);
        }
        if let Some(text) = ledger.sends.remove(&token) {
            self.note(world, || format!("{home}: refused {text:?}"));
            return Err(Violation::Refused { home, text });
        }
        if is_ok { Ok(()) } else { Err(Violation::Refused { home, text: "a note".to_owned() }) }
    }

    fn receipt(
        &mut self,
        world: &World,
        home: Home,
        id: MessageId,
        to: &str,
        state: MessageState,
    ) -> Result<(), Violation> {
        self.note(world, || format!("{home}: {id} to {to} is {state:?}"));
        let before = self.ledger(home).states.insert(id, state);
        let stored = world.store(home).reader().message(id).expect("it is read");
        let is_known = stored.is_some_and(|message| message.direction == Direction::Out);
        let goes_on = match before {
            None => state > MessageState::Queued,
            Some(MessageState::Sent) => state >= MessageState::Sent,
            Some(before) => state > before,
        };
        if !is_known || !goes_on {
            return Err(Violation::Receipt { home, id, before, state });
        }
        match state {
            MessageState::Queued | MessageState::Sent => Ok(()),
            MessageState::Failed => Err(Violation::Failed { home, id }),
            MessageState::Delivered | MessageState::Read => self.has(world, home, id, to),
        }
    }

    /// A link came up: not again and again.
    fn path(&mut self, world: &World, home: Home, contact: &str) -> Result<(), Violation> {
        self.note(world, || format!("{home}: a link to {contact}"));
        let now = world.age();
        let paths = &mut self.ledger(home).paths;
        paths.push_back(now);
        while paths.front().is_some_and(|at| *at + RESTLESS.1 < now) {
            paths.pop_front();
        }
        if paths.len() > RESTLESS.0 {
            return Err(Violation::Restless { home, links: paths.len() });
        }
        Ok(())
    }

    /// Whether the recipient has what its sender says was delivered.
    fn has(&self, world: &World, home: Home, id: MessageId, to: &str) -> Result<(), Violation> {
        let person = self.cast.people().iter().find(|name| **name == to);
        let at = self.cast.receives(person.expect("it is somebody"));
        let stored = world.store(at).reader().message(id).expect("it is read");
        let lost = self.homes.get(at).is_some_and(|ledger| ledger.lost.contains(&id));
        if stored.is_some_and(|message| message.direction == Direction::In) || lost {
            return Ok(());
        }
        Err(Violation::NotThere { home, id, at })
    }

    /// A front end tells a message.
    fn tell(
        &mut self,
        world: &World,
        home: Home,
        id: MessageId,
        from: &str,
        text: &str,
    ) -> Result<(), Violation> {
        self.note(world, || format!("{home}: {from} says {text:?}, {id}"));
        let owner = Cast::owner(home);
        let is_said = |said: &&Said| Cast::owner(said.from) == from && said.to == owner;
        if self.said.get(text).filter(is_said).is_none() {
            return Err(Violation::Unsaid { home, text: text.to_owned() });
        }
        if world.store(home).reader().message(id).expect("it is read").is_none() {
            return Err(Violation::ToldUnsaved { home, id });
        }
        let by = self.said.get(text).map_or(home, |said| said.from);
        let lost_keys = self.ledger(by).lost_keys || self.ledger(home).lost_keys;
        let disordered = self.disordered || lost_keys || self.lost_posts;
        let ledger = self.ledger(home);
        ledger.ever.insert(id);
        if ledger.noted.contains(&id) || !ledger.told.insert(id) {
            return Err(Violation::ToldTwice { home, text: text.to_owned() });
        }
        let last = ledger.last.insert(id.incarnation(), id.number());
        if !disordered && last.is_some_and(|last| last >= id.number()) {
            return Err(Violation::ToldOutOfOrder { home, text: text.to_owned() });
        }
        self.tally.told += 1;
        Ok(())
    }

    /// The front end has it noted what it has told.
    fn note_told(&mut self, world: &mut World, home: Home, rows: Vec<(i64, MessageId)>) {
        if rows.is_empty() || !world.is_up(home) {
            return;
        }
        let (rows, ids) = rows.into_iter().unzip();
        let token = world.intend(home, Intent::Printed { rows });
        self.ledger(home).notes.insert(token, ids);
    }

    /// A home's profile is copied.
    pub(crate) fn copy(&mut self, world: &World, home: Home) {
        let profile = world.copy(home);
        let ledger = self.ledger(home);
        let (queued, noted) = (ledger.queued.clone(), ledger.noted.clone());
        ledger.copy = Some(LedgerCopy { profile, queued, noted });
    }

    /// A home's copy is put back, and the home started, if there is a copy.
    pub(crate) fn put_back(&mut self, world: &mut World, home: Home) -> Result<(), Violation> {
        let Some(copy) = self.ledger(home).copy.take() else { return Ok(()) };
        if world.is_up(home) {
            world.kill(home);
        }
        self.watch(world)?;
        let before = self.received(world, home);
        world.restore(home, &copy.profile);
        let after = self.received(world, home);
        let ledger = self.ledger(home);
        ledger.lost.extend(before.difference(&after));
        ledger.queued.clone_from(&copy.queued);
        ledger.noted.clone_from(&copy.noted);
        ledger.lost_keys = true;
        ledger.copy = Some(copy);
        self.begin_life(world, home)
    }

    fn received(&self, world: &World, home: Home) -> BTreeSet<MessageId> {
        let others = self.others(home).into_iter();
        others.flat_map(|from| received(world, home, from)).map(|message| message.id).collect()
    }

    /// How many messages wait anywhere: in outboxes, and at the rendezvous.
    pub(crate) fn waiting(&self, world: &mut World) -> u64 {
        let waiting = |home: Home, to: Home| {
            u64::from(world.store(home).reader().waiting(&name(to)).expect("it is read"))
        };
        let homes = self.cast.homes().iter();
        let queued: u64 =
            homes.flat_map(|home| self.others(home).into_iter().map(|to| waiting(home, to))).sum();
        let people = self.cast.people().iter();
        queued + people.map(|person| world.waiting_envelopes(person)).sum::<u64>()
    }

    /// When all is well again and quiet: everything is where it must be.
    pub(crate) fn check_end(&mut self, world: &World) -> Result<(), Violation> {
        for home in self.cast.homes() {
            self.check_sent(world, home)?;
            self.check_received(world, home)?;
        }
        Ok(())
    }

    fn check_sent(&mut self, world: &World, home: Home) -> Result<(), Violation> {
        let mut known = BTreeSet::new();
        for to in self.others(home) {
            let at = self.cast.receives(to);
            let arrived: Vec<_> = received(world, at, Cast::owner(home));
            for StoredMessage { id, text, state, .. } in sent(world, home, to) {
                known.insert(id);
                let copies = arrived.iter().filter(|message| message.id == id).count();
                let may_lack = self.ledger(at).lost.contains(&id);
                if state < MessageState::Delivered || copies > 1 || copies == 0 && !may_lack {
                    return Err(Violation::NotDelivered { home, text, state, copies });
                }
                self.tally.delivered += 1;
            }
        }
        match self.ledger(home).queued.difference(&known).next() {
            Some(id) => Err(Violation::Forgotten { home, id: *id }),
            None => Ok(()),
        }
    }

    fn check_received(&mut self, world: &World, home: Home) -> Result<(), Violation> {
        for from in self.others(home) {
            let mut texts = BTreeSet::new();
            let mut shown = String::new();
            let (mut numbers, mut within) = (BTreeMap::new(), BTreeMap::new());
            for StoredMessage { id, text, .. } in received(world, home, from) {
                let said = self.said.get(&text);
                let Some(&Said { from: by, number, .. }) = said else {
                    return Err(Violation::Unsaid { home, text });
                };
                let lost_keys = self.ledger(by).lost_keys || self.ledger(home).lost_keys;
                let disordered = self.disordered || lost_keys;
                let last = numbers.insert(by, number);
                let before = std::mem::replace(&mut shown, text.clone());
                let in_life = (by, id.incarnation());
                let last_in_life = within.insert(in_life, id.number());
                if last_in_life.is_some_and(|last| last > id.number())
                    || !disordered && last.is_some_and(|last| last > number)
                {
                    return Err(Violation::StoredOutOfOrder { home, text, before });
                }
                if !self.ledger(home).ever.contains(&id) {
                    return Err(Violation::NeverTold { home, text });
                }
                if !texts.insert(text.clone()) {
                    return Err(Violation::StoredTwice { home, text });
                }
            }
        }
        Ok(())
    }
}

fn name(person: Home) -> parlor_common::id::Username {
    person.parse().expect("it is a name")
}

fn history(world: &World, home: Home, other: Home) -> Vec<StoredMessage> {
    world.store(home).reader().history(&name(other), u32::MAX, None).expect("it is read")
}

fn sent(world: &World, home: Home, to: Home) -> Vec<StoredMessage> {
    let all = history(world, home, to).into_iter();
    all.filter(|message| message.direction == Direction::Out).collect()
}

fn received(world: &World, home: Home, from: Home) -> Vec<StoredMessage> {
    let all = history(world, home, from).into_iter();
    all.filter(|message| message.direction == Direction::In).collect()
}
