//! One end of a conversation: an engine on its profile, as `parlor` runs it.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use parlor::driver::Engine;
use parlor::node::input::Intent;
use parlor::node::output::Event;
use parlor::node::record::{Carrier, Change, MessageState};
use parlor::profile::{Home, ProfileLock};
use parlor::store::Store;
use parlor_common::id::Username;

use super::SIZE;
use crate::process::{input_ends, rest, tell};

/// What a node starts from, in a store that ends with the process.
fn in_memory(mut store: Store) -> anyhow::Result<Store> {
    let start = store.load()?;
    let mut copy = Store::in_memory(&start.identity)?;
    let contacts = start.contacts.into_iter().map(|contact| Change::PutContact(Box::new(contact)));
    let sessions = start.sessions.into_iter().map(Change::PutSession);
    let prekeys = start.prekeys.into_iter().map(|(id, secret)| Change::PutPrekey(id, secret));
    let starts = [Change::PutStarts(start.starts)];
    copy.commit(contacts.chain(sessions).chain(prekeys).chain(starts).collect::<Vec<_>>())?;
    Ok(copy)
}

struct Peer {
    engine: Engine,
    _lock: ProfileLock,
}

/// Where a peer keeps what it commits.
#[derive(Clone, Copy, Debug)]
pub enum Keeping {
    OnDisk,
    /// In a copy of its profile that ends with the process.
    InMemory,
}

impl Keeping {
    pub fn of(in_memory: bool) -> Self {
        if in_memory { Self::InMemory } else { Self::OnDisk }
    }
}

impl Peer {
    fn start(home: &Path, keeping: Keeping) -> anyhow::Result<Self> {
        let lock = Home::new(home).lock("the benchmark")?;
        let store = match keeping {
            Keeping::OnDisk => lock.open()?,
            Keeping::InMemory => in_memory(lock.open()?)?,
        };
        Ok(Self { engine: Engine::start(store)?, _lock: lock })
    }

    fn send(&mut self, to: &Username, text: &str) {
        self.engine.intend(Intent::Send { to: to.clone(), text: text.to_owned() });
    }

    async fn next(&mut self) -> anyhow::Result<Event> {
        let event = self.engine.next().await.context("the engine ended")?;
        match event {
            Event::Done { result: Err(error), .. } => bail!("refused: {error}"),
            event => Ok(event),
        }
    }

    /// Sends a text so many times and waits until all of them are delivered. Returns whether all went
    /// directly.
    async fn deliver(&mut self, to: &Username, text: &str, count: usize) -> anyhow::Result<bool> {
        (0..count).for_each(|_| self.send(to, text));
        let mut directly = true;
        let (mut queued, mut waiting) = (0, HashSet::new());
        while queued < count || !waiting.is_empty() {
            match self.next().await? {
                Event::Queued { id, .. } => {
                    queued += 1;
                    waiting.insert(id);
                }
                Event::Receipt { id, state: MessageState::Delivered, carrier, .. } => {
                    directly &= carrier == Some(Carrier::Direct);
                    waiting.remove(&id);
                }
                _ => {}
            }
        }
        Ok(directly)
    }

    /// Sends a text after a pause, and returns how many seconds it took until its echo came.
    async fn exchange_after(
        &mut self,
        pause: Duration,
        with: &Username,
        text: &str,
    ) -> anyhow::Result<f64> {
        rest(pause).await;
        let started = Instant::now();
        self.send(with, text);
        while !matches!(self.next().await?, Event::Message(_)) {}
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Takes messages, and sends each back where asked to, until the input ends.
pub async fn answer(home: &Path, keeping: Keeping, echo: bool) -> anyhow::Result<()> {
    let mut peer = Peer::start(home, keeping)?;
    let mut end = std::pin::pin!(input_ends());
    loop {
        let event = tokio::select! {
            event = peer.next() => event?,
            () = &mut end => break,
        };
        match event {
            Event::Online => tell(&"ready")?,
            Event::Message(message) if echo => peer.send(&message.from, &message.text),
            _ => {}
        }
    }
    Ok(peer.engine.stop().await?)
}

/// Tells how many seconds each round trip took, after a pause each; the first ones are not counted.
pub async fn ping(
    home: &Path,
    keeping: Keeping,
    to: &Username,
    rounds: usize,
    pause: Duration,
) -> anyhow::Result<()> {
    let mut peer = Peer::start(home, keeping)?;
    let text = "x".repeat(SIZE);
    for _ in 0..rounds / 10 + 1 {
        peer.exchange_after(pause, to, &text).await?;
    }
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        samples.push(peer.exchange_after(pause, to, &text).await?);
    }
    tell(&samples)?;
    Ok(peer.engine.stop().await?)
}

/// Tells how many seconds all messages together took to be delivered.
pub async fn flood(home: &Path, to: &Username, count: usize, warm: bool) -> anyhow::Result<()> {
    let mut peer = Peer::start(home, Keeping::OnDisk)?;
    let text = "x".repeat(SIZE);
    // A first message may find its way by the mailbox.
    while warm && !peer.deliver(to, &text, 1).await? {}
    let started = Instant::now();
    let directly = peer.deliver(to, &text, count).await?;
    ensure!(directly || !warm, "not all went directly");
    tell(&started.elapsed().as_secs_f64())?;
    Ok(peer.engine.stop().await?)
}
