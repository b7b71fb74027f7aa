//! A profile with a million messages, and a peer that does nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use harness::Stage as _;
use harness::real::Real;
use parlor::node::record::{Carrier, ChainId, Change, EnvelopeRef, ReceivedMessage, StoredMessage};
use parlor::profile::Home;
use parlor::store::{Progress, Store};
use parlor_common::id::{Incarnation, MessageId, SessionId, Username};
use parlor_common::identity::AccountKey;
use parlor_common::time::Timestamp;

use crate::Effort;
use crate::process::{Process, beside};
use crate::report::{Figure, Report};
use crate::timing::{median, time};

const MESSAGES: u32 = 1_000_000;

/// The people that they are from, in turns.
const WRITERS: u32 = 20;

/// So many messages are one commit.
const COMMIT: usize = 1000;

/// What a front end shows first.
const SCREEN: u32 = 50;

/// The words of the messages, ten in each.
const WORDS: [&str; 16] = [
    "about", "all", "better", "coming", "dinner", "evening", "for", "house", "later", "morning",
    "never", "own", "please", "station", "tomorrow", "when",
];

/// A word that stands in one of a thousand messages.
const RARE: &str = "lighthouse";

/// How long a peer is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(3);

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let mut real = Real::new();
    for name in ["alice", "bob"] {
        real.register(name);
        real.stop(name);
    }
    idle(&real, report)?;
    let home = Home::new(real.home("alice"));
    fill(&home, report)?;
    let writer: Username = "writer7".parse()?;
    let (mut opened, mut searched) = (Vec::new(), Vec::new());
    for _ in 0..effort.of(5, 21) {
        opened.push(time_of(|| first_screen(&home, &writer))?);
        searched.push(time_of(|| search(&home, &writer))?);
    }
    report.tell(&Figure::alone("open_profile_1m", "ms", 1e3 * median(&mut opened)));
    report.tell(&Figure::alone("search_1m", "ms", 1e3 * median(&mut searched)));
    Ok(())
}

/// What a peer keeps in memory that is connected to its rendezvous and does nothing. Baseline: a
/// process with an endpoint of quinn that nobody has connected to.
fn idle(real: &Real, report: &Report) -> anyhow::Result<()> {
    let home = real.home("bob").to_string_lossy().into_owned();
    let value = beside(real, move || {
        let mut peer = Process::start(["answer", &home])?;
        let _: String = peer.hear()?;
        resident(peer)
    })?;
    let mut bare = Process::start(["bare-answer"])?;
    let _: String = bare.hear()?;
    report.tell(&Figure::new("idle_peer_bytes", "bytes", value, resident(bare)?));
    Ok(())
}

/// The resident set of a process after a rest, in bytes.
fn resident(process: Process) -> anyhow::Result<f64> {
    std::thread::sleep(REST);
    let id = process.id().to_string();
    let told = Command::new("ps").args(["-o", "rss=", "-p", &id]).output()?;
    let kilobytes: f64 = String::from_utf8(told.stdout)?.trim().parse()?;
    process.end()?;
    Ok(1024.0 * kilobytes)
}

/// Fills a profile, as the engine would. Baseline of its size: the texts alone.
fn fill(home: &Home, report: &Report) -> anyhow::Result<()> {
    let lock = home.lock("the benchmark")?;
    let (mut store, mut texts) = (lock.open()?, 0);
    let before = size(home.path())?;
    let took = time_of(|| {
        let numbers: Vec<u32> = (0..MESSAGES).collect();
        for numbers in numbers.chunks(COMMIT) {
            let messages: Vec<_> = numbers.iter().map(|number| message(*number)).collect();
            texts += messages.iter().map(|message| message.text.len()).sum::<usize>();
            let changes = messages.into_iter().map(|message| Change::Receive(Box::new(message)));
            store.commit(changes.collect::<Vec<_>>())?;
        }
        Ok(store.flush()?)
    })?;
    // An engine does that when nothing else is to be done.
    while store.index_some()? == Progress::More {}
    store.close()?;
    let bytes = (size(home.path())? - before) as f64 / f64::from(MESSAGES);
    let text = texts as f64 / f64::from(MESSAGES);
    report.tell(&Figure::new("store_bytes_per_message", "bytes", bytes, text));
    report.tell(&Figure::alone("stored_messages", "1/s", f64::from(MESSAGES) / took));
    Ok(())
}

fn size(folder: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(folder.join("profile.db"))?.len())
}

/// Message `number` of all.
fn message(number: u32) -> ReceivedMessage {
    let (writer, number) = (number % WRITERS, number / WRITERS + 1);
    let byte = u8::try_from(writer).unwrap_or_default();
    let envelope = EnvelopeRef {
        session: SessionId([byte; 16]),
        chain: ChainId([byte; ChainId::LEN]),
        number,
        tag: u64::from(number).to_be_bytes(),
    };
    ReceivedMessage {
        id: MessageId::new(Incarnation([byte; 8]), number.into()),
        from: format!("writer{writer}").parse().expect("a name"),
        account_key: AccountKey::from_bytes([byte; 32]),
        text: text(number),
        sent_at: Timestamp::from_millis(number.into()),
        received_at: Timestamp::from_millis(number.into()),
        carrier: Carrier::Direct,
        after: None,
        disappears: None,
        envelope,
    }
}

fn text(number: u32) -> String {
    // A generator that needs no state: the same numbers give the same words.
    let mut seed = number.wrapping_mul(2_654_435_761);
    let mut words: Vec<&str> = (0..10)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            WORDS[(seed >> 28) as usize]
        })
        .collect();
    if number.is_multiple_of(1000) {
        words.push(RARE);
    }
    words.join(" ")
}

fn first_screen(home: &Home, writer: &Username) -> anyhow::Result<()> {
    let (lock, store) = open(home)?;
    let shown = store.reader().history(writer, SCREEN, None)?;
    ensure!(shown.len() == SCREEN as usize, "{} messages are shown", shown.len());
    drop(lock);
    Ok(())
}

fn search(home: &Home, writer: &Username) -> anyhow::Result<()> {
    let found = home.open_read_only()?.history(writer, SCREEN, Some(RARE))?;
    let holds = |message: &StoredMessage| message.text.contains(RARE);
    ensure!(found.len() == SCREEN as usize && found.iter().all(holds), "found {}", found.len());
    Ok(())
}

fn open(home: &Home) -> anyhow::Result<(parlor::profile::ProfileLock, Store)> {
    let lock = home.lock("the benchmark")?;
    let store = lock.open()?;
    Ok((lock, store))
}

/// How many seconds work takes that may fail.
fn time_of(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut done = None;
    let took = time(|| done = Some(work()));
    done.context("the work was not done")?.map(|()| took)
}
