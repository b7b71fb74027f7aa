//! Keys that were erased are gone from the files of a profile, for a thief too who has the
//! profile's key.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::Stage as _;
use harness::real::Real;
use harness::thief::Loot;
use hmac::{Hmac, KeyInit, Mac};
use parlor::node::record::{Change, StoredSession};
use parlor::profile::{Home, ProfileLock};
use parlor::store::Store;
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::time::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sha2::Sha256;
use tempfile::TempDir;

/// Changes sessions and prekeys at random, and knows which secrets are in force and which are
/// erased. As many as here, of such lengths, share pages and move from one to another: a store that
/// only empties its log leaves pieces of them behind.
struct Churn {
    rng: StdRng,
    sessions: BTreeMap<u8, Vec<u8>>,
    prekeys: BTreeMap<u32, Vec<u8>>,
    next_prekey: u32,
    erased: Vec<Vec<u8>>,
}

impl Churn {
    fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let (sessions, prekeys) = (BTreeMap::new(), BTreeMap::new());
        Self { rng, sessions, prekeys, next_prekey: 1, erased: Vec::new() }
    }

    /// Commits a change. Most replace the state of a session by one of another length.
    fn step(&mut self, store: &mut Store) {
        let change = match self.rng.random_range(0..20) {
            0..12 => self.put_session(),
            12 => self.remove_session(),
            13..17 => self.put_prekey(),
            _ => self.remove_prekey(),
        };
        store.commit(&[change]).unwrap();
    }

    fn put_session(&mut self) -> Change {
        let (id, state) = (self.rng.random_range(1..=30), self.secret(200..1500));
        self.erased.extend(self.sessions.insert(id, state.clone()));
        let (device, state) = (DeviceId([id; 16]), state.into());
        let id = SessionId([id; 16]);
        let opened_at = Timestamp::default();
        Change::PutSession(StoredSession { device, id, used: 1, opened_at, state })
    }

    fn remove_session(&mut self) -> Change {
        let id = self.rng.random_range(1..=30);
        self.erased.extend(self.sessions.remove(&id));
        Change::RemoveSession(DeviceId([id; 16]), SessionId([id; 16]))
    }

    fn put_prekey(&mut self) -> Change {
        let (id, secret) = (self.next_prekey, self.secret(100..1000));
        self.next_prekey += 1;
        self.prekeys.insert(id, secret.clone());
        Change::PutPrekey(id, secret.into())
    }

    fn remove_prekey(&mut self) -> Change {
        let id = self.rng.random_range(0..self.next_prekey);
        self.erased.extend(self.prekeys.remove(&id));
        Change::RemovePrekey(id)
    }

    fn secret(&mut self, lengths: std::ops::Range<usize>) -> Vec<u8> {
        let mut secret = vec![0; self.rng.random_range(lengths)];
        self.rng.fill_bytes(&mut secret);
        secret
    }

    /// How many of the erased secrets are found, in part at least: one of their pieces of 32
    /// bytes.
    fn found_of_erased(&self, loot: &Loot) -> usize {
        let found = |secret: &&Vec<u8>| secret.chunks_exact(32).any(|piece| loot.holds(piece));
        self.erased.iter().filter(found).count()
    }

    fn assert_gone(&self, loot: &Loot) {
        assert_eq!(self.found_of_erased(loot), 0, "of {} erased", self.erased.len());
        for secret in self.sessions.values().chain(self.prekeys.values()) {
            assert!(secret.chunks_exact(32).all(|piece| loot.holds(piece)), "the search finds");
        }
    }
}

/// A registered profile that nobody uses.
fn profile() -> Real {
    let mut real = Real::new();
    real.register("alice");
    real.stop("alice");
    real
}

fn open(folder: &Path) -> (ProfileLock, Store) {
    let lock = Home::new(folder).lock("a test").unwrap();
    let store = lock.open().unwrap();
    (lock, store)
}

/// Does what is due, and waits until it is done.
fn tick(store: &mut Store, now: Timestamp) {
    store.handle_timeout(now).unwrap();
    store.settle().unwrap();
}

/// What stands in the files that are emptied.
fn log_len(folder: &Path) -> u64 {
    let files = ["profile.db-wal", "profile.journal", "profile.journal.old"];
    files
        .iter()
        .filter_map(|name| fs::metadata(folder.join(name)).ok())
        .map(|found| found.len())
        .sum()
}

#[test]
fn erased_keys_are_gone_a_second_after_the_commit() {
    let real = profile();
    let folder = real.home("alice");
    let (_lock, mut store) = open(folder);
    let mut churn = Churn::new(1);
    for second in 0..20 {
        let now = Timestamp::from_millis(1000 * second);
        for _ in 0..20 {
            churn.step(&mut store);
        }
        tick(&mut store, now);
        assert!(churn.found_of_erased(&Loot::of(folder)) > 0, "there is something to erase");
        tick(&mut store, now + Duration::from_millis(20));
        assert!(churn.found_of_erased(&Loot::of(folder)) > 0, "in the database, too");
        tick(&mut store, now + Duration::from_millis(950));
        churn.assert_gone(&Loot::of(folder));
        assert_eq!(log_len(folder), 0);
    }
}

#[test]
fn erased_keys_are_gone_when_the_store_was_closed() {
    let real = profile();
    let folder = real.home("alice");
    let mut churn = Churn::new(2);
    for _ in 0..10 {
        let (_lock, mut store) = open(folder);
        for _ in 0..20 {
            churn.step(&mut store);
        }
        store.close().unwrap();
        churn.assert_gone(&Loot::of(folder));
    }
}

#[test]
fn erased_keys_that_a_killed_process_left_are_gone_at_the_next_start() {
    let real = profile();
    let folder = real.home("alice");
    let (_lock, mut store) = open(folder);
    let mut churn = Churn::new(3);
    for _ in 0..200 {
        churn.step(&mut store);
    }
    // The files as they stand now are what is left of a process that is killed now.
    let killed = TempDir::new().unwrap();
    for name in ["profile.db", "profile.db-wal", "profile.journal", "profile.key"] {
        fs::copy(folder.join(name), killed.path().join(name)).unwrap();
    }
    assert!(churn.found_of_erased(&Loot::of(killed.path())) > 0);
    let (_lock, _store) = open(killed.path());
    churn.assert_gone(&Loot::of(killed.path()));
    assert_eq!(log_len(killed.path()), 0);
}

#[test]
fn running_engines_empty_their_logs_soon_after_they_have_talked() {
    let mut real = Real::new();
    for name in ["alice", "bob"] {
        real.register(name);
    }
    real.befriend("alice", "bob");
    for round in 0..3 {
        let texts: Vec<String> = (0..=round).map(|number| format!("text {number}")).collect();
        real.says("alice", "bob", texts.last().unwrap());
        real.sees("bob", &texts.iter().map(String::as_str).collect::<Vec<_>>());
        real.all_delivered("alice");
        let since = Instant::now();
        real.block_on(async {
            while ["alice", "bob"].iter().any(|name| log_len(real.home(name)) > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        eprintln!("the logs were empty after {:?}", since.elapsed());
    }
}

/// The keys of a session's stored form that change as it is used: its root key, the key of each of
/// its chains, and the key of the next message of each.
fn changing_keys(state: &[u8]) -> Vec<[u8; 32]> {
    const PUBLIC: usize = 384;
    let key = |at: usize| -> [u8; 32] { state[at..at + 32].try_into().unwrap() };
    let root = 1 + 1 + 16 + 32 + 16;
    let sending = root + 32;
    let (chains, receiving) = match state[sending] {
        0 => (Vec::new(), sending + 1),
        kind => {
            let secret = if kind == 2 { 35 } else { 0 };
            let chain = sending + 1 + PUBLIC + secret + 4 + 4;
            (vec![key(chain)], chain + 32)
        }
    };
    let received = (state[receiving] == 1).then(|| key(receiving + 1 + PUBLIC + 4));
    let chains: Vec<_> = chains.into_iter().chain(received).collect();
    let messages = chains.iter().map(|chain| {
        let mut hmac = Hmac::<Sha256>::new_from_slice(chain).unwrap();
        hmac.update(&[1]);
        <[u8; 32]>::from(hmac.finalize().into_bytes())
    });
    [key(root)].into_iter().chain(messages.collect::<Vec<_>>()).chain(chains).collect()
}

#[test]
fn used_message_keys_of_a_conversation_are_in_no_page() {
    let mut real = Real::new();
    for name in ["alice", "bob"] {
        real.register(name);
    }
    real.befriend("alice", "bob");
    let mut old: BTreeMap<&str, Vec<[u8; 32]>> = BTreeMap::new();
    let mut texts = Vec::new();
    for round in 0..4 {
        texts.push(format!("text {round}"));
        real.says("alice", "bob", texts.last().unwrap());
        real.sees("bob", &texts.iter().map(String::as_str).collect::<Vec<_>>());
        real.all_delivered("alice");
        for name in ["alice", "bob"] {
            real.stop(name);
            let (lock, mut store) = open(real.home(name));
            let start = store.load().unwrap();
            store.close().unwrap();
            drop(lock);
            let now: Vec<_> =
                start.sessions.iter().flat_map(|session| changing_keys(&session.state)).collect();
            let loot = Loot::of(real.home(name));
            let is_chain = |key: &&[u8; 32]| loot.holds(*key);
            assert!(now.iter().any(|key| is_chain(&key)), "the search finds what is in force");
            let earlier = old.entry(name).or_default();
            let used = earlier.iter().filter(|key| !now.contains(key));
            assert!(used.clone().count() > 0 || round == 0, "keys were used");
            assert_eq!(used.filter(is_chain).count(), 0, "{name} holds used keys");
            earlier.extend(now);
        }
        for name in ["alice", "bob"] {
            real.start(name);
        }
    }
}
