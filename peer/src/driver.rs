//! The driver: waits in one place for everything that can happen to a node, reads the clock, and
//! does what the node says.
//!
//! A turn takes all input that waits, lets the node handle it, saves every change in one
//! transaction, and only then lets orders and events out. The store has one thing to do later,
//! for which it is called after every turn: it erases.

mod clock;

use std::sync::Arc;
use std::time::Duration;

use parlor_common::id::Incarnation;
use parlor_common::identity::DeviceSecret;
use parlor_common::time::Timestamp;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use rand::{CryptoRng, Rng};
use thiserror::Error;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::clock::Clock;
use crate::net::{Net, NetConfig};
use crate::node::input::{Input, Intent, NetInput, Now, ServerDown, Token};
use crate::node::output::Event;
use crate::node::work::WorkDone;
use crate::node::{Node, StartError};
use crate::store::{CommitError, ReadError, Store};

/// A turn takes at most this many inputs of each kind, so that a flood does not keep its answers
/// waiting: as many as messages may be on their way to a contact.
const MAX_OF_EACH: usize = 512;

/// Why an engine did not start, or ended by itself.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The socket could not be had.
    #[error(transparent)]
    Net(#[from] crate::net::OpenError),
    /// The profile could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The profile could not be written: nothing that was not saved has been told to anybody.
    #[error("{0}; start again when that is mended, nothing that was acknowledged is lost")]
    Save(#[from] CommitError),
    /// The profile is unsound.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running engine, for a front end: intents go in, events come out.
#[derive(Debug)]
pub struct Engine {
    intents: UnboundedSender<(Token, Intent)>,
    events: UnboundedReceiver<Event>,
    next_token: u64,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), EngineError>>,
}

impl Engine {
    /// Starts an engine on a profile's store. Needs a tokio runtime.
    pub fn start(mut store: Store) -> Result<Self, EngineError> {
        let start = store.load()?;
        let seed = start.identity.device.expose_seed();
        let device = Arc::new(DeviceSecret::from_seed(&seed));
        let net = Net::open(NetConfig { device, server: start.identity.server.clone() })?;
        let clock = Clock::start();
        let mut incarnation = [0; 8];
        os_rng().fill_bytes(&mut incarnation);
        let node = Node::new(start, Incarnation(incarnation), clock.now())?;

        let (intents, from_front_end) = mpsc::unbounded_channel();
        let (to_front_end, events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (work_done, worked) = mpsc::unbounded_channel();
        let driver = Driver {
            node,
            store,
            net,
            clock,
            intents: from_front_end,
            events: to_front_end,
            work_done,
            worked,
        };
        let task = tokio::spawn(driver.run(stopped));
        Ok(Self { intents, events, next_token: 1, stop: Some(stop), task })
    }

    /// Tells the node what is wanted. The answer is an event with this token.
    pub fn intend(&mut self, intent: Intent) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        // Fails only when the engine has ended, which `next` tells.
        let _ = self.intents.send((token, intent));
        token
    }

    /// The next event; `None` when the engine has ended by itself: [`Engine::stop`] says why.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Ends the engine in order: what was sent leaves, the rendezvous is told, the profile closed.
    pub async fn stop(mut self) -> Result<(), EngineError> {
        drop(self.stop.take());
        match self.task.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// The operating system's generator. Where it fails nothing secret can be made: that ends the
/// program.
pub fn os_rng() -> impl CryptoRng {
    UnwrapErr(SysRng)
}

/// The machine's date.
pub(crate) fn date() -> Timestamp {
    Clock::start().now().date
}

struct Driver {
    node: Node,
    store: Store,
    net: Net,
    clock: Clock,
    intents: UnboundedReceiver<(Token, Intent)>,
    events: UnboundedSender<Event>,
    work_done: UnboundedSender<WorkDone>,
    worked: UnboundedReceiver<WorkDone>,
}

enum Wake {
    Input(Input),
    Timeout,
    StoreTimeout,
    Stop,
}

/// Whether more waits than a turn takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    None,
    Some,
}

/// What a front end was told.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Told {
    NoMessage,
    /// Somebody's message, to which there may be an answer.
    Message,
}

impl Driver {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<(), EngineError> {
        loop {
            let wake = self.wait(&mut stopped).await;
            let now = self.clock.now();
            match wake {
                Wake::Input(input) => self.node.handle(input, now, &mut os_rng()),
                Wake::Timeout => self.node.handle_timeout(now),
                // Looked at after every turn.
                Wake::StoreTimeout => {}
                // What was wanted before the end is done before it.
                Wake::Stop => {
                    while self.take_all(now) == Rest::Some {}
                    self.turn(now)?;
                    self.transmit();
                    return self.end().await;
                }
            }
            let mut rest = self.take_all(now);
            if self.turn(now)? == Told::Message {
                // Its answer is ready at once, where a program gives it: it leaves with the receipt.
                tokio::task::yield_now().await;
                rest = self.take_all(now);
                self.turn(now)?;
            }
            self.transmit();
            self.store.handle_timeout(now.timer)?;
            if rest == Rest::Some {
                // What was transmitted leaves before the next turn: the links have this thread, too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The only place that waits.
    async fn wait(&mut self, stopped: &mut oneshot::Receiver<()>) -> Wake {
        let timeout = self.clock.until(self.node.poll_timeout(self.clock.now()));
        let store_timeout = self.clock.until(self.store.poll_timeout());
        tokio::select! {
            input = self.net.next() => Wake::Input(Input::Net(input)),
            Some((token, intent)) = self.intents.recv() => Wake::Input(Input::Intent(token, intent)),
            Some(done) = self.worked.recv() => Wake::Input(Input::Work(done)),
            () = tokio::time::sleep(timeout) => Wake::Timeout,
            () = tokio::time::sleep(store_timeout) => Wake::StoreTimeout,
            _ = stopped => Wake::Stop,
        }
    }

    /// Takes what else waits already: of each kind in turns, so that none waits for another.
    fn take_all(&mut self, now: Now) -> Rest {
        for _ in 0..MAX_OF_EACH {
            let intent = self.intents.try_recv().ok();
            let inputs = [
                intent.map(|(token, intent)| Input::Intent(token, intent)),
                self.worked.try_recv().ok().map(Input::Work),
                self.net.try_next().map(Input::Net),
            ];
            if inputs.iter().all(Option::is_none) {
                return Rest::None;
            }
            for input in inputs.into_iter().flatten() {
                self.node.handle(input, now, &mut os_rng());
            }
        }
        Rest::Some
    }

    /// Saves what the node wants saved, and tells what was. What it orders may leave from then on.
    fn turn(&mut self, now: Now) -> Result<Told, EngineError> {
        let mut told = Told::NoMessage;
        loop {
            self.save(now)?;
            told = told.max(self.tell());
            while let Some(work) = self.node.poll_work() {
                let done = self.work_done.clone();
                tokio::task::spawn_blocking(move || done.send(work.run(&mut os_rng())));
            }
            if !self.node.has_changes() {
                return Ok(told);
            }
        }
    }

    /// Does what the node wants done.
    fn transmit(&mut self) {
        while let Some(order) = self.node.poll_transmit() {
            self.net.execute(order);
        }
    }

    fn save(&mut self, now: Now) -> Result<(), EngineError> {
        let changes = self.node.take_changes(now, &mut os_rng());
        if !changes.is_empty() {
            let saved = self.store.commit(changes)?;
            self.node.handle_saved(saved, now);
        }
        Ok(())
    }

    fn tell(&mut self) -> Told {
        let mut told = Told::NoMessage;
        while let Some(event) = self.node.poll_event() {
            if matches!(event, Event::Message(_)) {
                told = Told::Message;
            }
            // A front end that has gone needs no events.
            let _ = self.events.send(event);
        }
        told
    }

    async fn end(mut self) -> Result<(), EngineError> {
        let now = self.clock.now();
        let down = Input::Net(NetInput::ServerDown(ServerDown::Closed));
        self.node.handle(down, now, &mut os_rng());
        self.save(now)?;
        self.tell();
        self.net.close().await;
        self.store.close()?;
        Ok(())
    }
}

/// The longest sleep: a node without anything due is looked at again then.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
