//! The drivers that people run, on loopback, each with its folder: real sockets, real disks, real
//! time. Stories wait for events; the time limits only tell a failure from patience.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parlor::account::{NewDevice, Password, Registering};
use parlor::driver::{Engine, os_rng};
use parlor::net::{ConnectError, ServerSession};
use parlor::node::input::Intent;
use parlor::node::output::{Event, IntentError};
use parlor::node::record::MessageState;
use parlor::profile::{Home, ProfileLock};
use parlor_common::id::MessageId;
use parlor_common::identity::DeviceSecret;
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Done, RegisterStarted};
use parlor_rendezvous::config::DataPlace;
use parlor_rendezvous::limits::Limits;
use parlor_rendezvous::{Config, Rendezvous};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::stage::{Stage, password_of};

/// Nothing in a story takes so long; what does has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A rendezvous and its peers on this machine.
pub struct Real {
    runtime: Runtime,
    folder: TempDir,
    config: Config,
    link: ServerAddress,
    server: Option<Rendezvous>,
    peers: BTreeMap<String, Peer>,
}

struct Peer {
    home: Home,
    device: DeviceSecret,
    running: Option<(Engine, ProfileLock)>,
    told: Vec<Event>,
    /// How many of these it was told before its last start.
    told_before: usize,
}

impl Real {
    /// A rendezvous with a data folder, and nobody there.
    pub fn new() -> Self {
        Self::limited(Limits::default())
    }

    /// The same with other limits.
    pub fn limited(limits: Limits) -> Self {
        let folder = TempDir::new().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let data = DataPlace::Folder(folder.path().join("rendezvous"));
        let mut config = Config { data, limits, ..Config::in_memory() };
        config.listen = (Ipv4Addr::LOCALHOST, 0).into();
        let server = runtime.block_on(async { Rendezvous::start(&config) }).unwrap();
        config.listen = server.address();
        let link = server.link().server.clone();
        Self { runtime, folder, config, link, server: Some(server), peers: BTreeMap::new() }
    }

    /// The rendezvous as its link names it.
    pub fn server(&self) -> &ServerAddress {
        &self.link
    }

    /// The rendezvous' folder.
    pub fn server_folder(&self) -> PathBuf {
        self.folder.path().join("rendezvous")
    }

    /// A peer's folder.
    pub fn home(&self, who: &str) -> &Path {
        self.peers[who].home.path()
    }

    /// A peer's device key.
    pub fn device(&self, who: &str) -> &DeviceSecret {
        &self.peers[who].device
    }

    /// Runs something beside the peers.
    pub fn block_on<T>(&self, task: impl Future<Output = T>) -> T {
        let task = async { timeout(PATIENCE, task).await.expect("it takes too long") };
        self.runtime.block_on(task)
    }

    /// Everything that a peer's front end was told so far.
    pub fn told(&self, who: &str) -> &[Event] {
        &self.peers[who].told
    }

    /// Waits until a peer has been told what `is_so` looks for.
    pub fn until(&mut self, who: &str, what: &str, is_so: impl Fn(&[Event]) -> bool) {
        let Self { runtime, peers, .. } = self;
        let Peer { running, told, .. } = peers.get_mut(who).unwrap();
        let (engine, _) = running.as_mut().expect("the peer runs");
        let wait = async {
            while !is_so(told) {
                told.push(engine.next().await.expect("the engine runs"));
            }
        };
        let waited = runtime.block_on(async { timeout(PATIENCE, wait).await });
        assert!(waited.is_ok(), "{who} was never told: {what}; but {told:?}");
    }

    /// Wants something of a peer, and waits for the answer.
    pub fn asks_for(&mut self, who: &str, intent: Intent) -> Result<(), IntentError> {
        let (engine, _) = self.peers.get_mut(who).unwrap().running.as_mut().unwrap();
        let wanted = engine.intend(intent);
        let before = self.told(who).len();
        let find = move |told: &[Event]| {
            told.iter().skip(before).find_map(|event| match event {
                Event::Done { token, result } if *token == wanted => Some(result.clone()),
                Event::Queued { token, .. } if *token == wanted => Some(Ok(())),
                _ => None,
            })
        };
        self.until(who, "an answer", |told| find(told).is_some());
        find(self.told(who)).unwrap()
    }

    /// Wants much of a peer at once, and waits for nothing.
    pub fn wants(&mut self, who: &str, intents: impl IntoIterator<Item = Intent>) {
        let (engine, _) = self.peers.get_mut(who).unwrap().running.as_mut().unwrap();
        for intent in intents {
            engine.intend(intent);
        }
    }

    /// Registers somebody at a server; nobody there yet need answer.
    pub fn try_register(&mut self, name: &str, server: &ServerAddress) -> Result<(), ConnectError> {
        let home = Home::new(self.folder.path().join(name));
        let lock = home.lock("a test").unwrap();
        lock.refuse_existing().unwrap();
        let rng = &mut os_rng();
        let device = NewDevice::generate(rng);
        let seed = device.key().expose_seed();
        let key = Arc::new(DeviceSecret::from_seed(&seed));
        let password = Password::new(password_of(name).into_bytes().into()).unwrap();
        let (registering, request) =
            Registering::start(name.parse().unwrap(), server.clone(), device, &password, rng)
                .unwrap();
        let profile = self.block_on(async {
            let session = ServerSession::connect(key, server).await?;
            let started: RegisterStarted = session.call(&request).await.unwrap();
            let (request, account) = registering.finish(&started, now(), rng).unwrap();
            let profile = lock.prepare(&account.identity, rng).unwrap();
            let Done {} = session.call(&request).await.unwrap();
            session.close().await;
            Ok::<_, ConnectError>(profile)
        })?;
        profile.keep().unwrap().close().unwrap();
        let device = DeviceSecret::from_seed(&seed);
        let peer = Peer { home, device, running: None, told: Vec::new(), told_before: 0 };
        drop(lock);
        self.peers.insert(name.to_owned(), peer);
        Ok(())
    }

    fn texts(told: &[Event]) -> Vec<&str> {
        let texts = told.iter().filter_map(|event| match event {
            Event::Message(message) => Some(message.text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

impl Default for Real {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage for Real {
    fn register(&mut self, name: &str) {
        let server = self.link.clone();
        self.try_register(name, &server).unwrap();
        self.start(name);
        self.is_online(name);
    }

    fn befriend(&mut self, one: &str, other: &str) {
        let (asker, asked) = (one.parse().unwrap(), other.parse().unwrap());
        let ask = Intent::AddContact { name: asked, account_key: None };
        assert_eq!(self.asks_for(one, ask), Ok(()));
        let request = Event::ContactRequest { from: one.parse().unwrap() };
        self.until(other, "a request", |told| told.contains(&request));
        assert_eq!(self.asks_for(other, Intent::AcceptContact { name: asker }), Ok(()));
        for (who, whom) in [(one, other), (other, one)] {
            let accepted = Event::ContactAccepted { name: whom.parse().unwrap() };
            self.until(who, "an acceptance", |told| told.contains(&accepted));
        }
    }

    fn says(&mut self, from: &str, to: &str, text: &str) {
        let send = Intent::Send { to: to.parse().unwrap(), text: text.to_owned() };
        assert_eq!(self.asks_for(from, send), Ok(()));
    }

    fn sees(&mut self, who: &str, texts: &[&str]) {
        let expected = texts.len();
        let what = format!("{expected} texts");
        self.until(who, &what, |told| Self::texts(told).len() >= expected);
        assert_eq!(Self::texts(self.told(who)), texts);
    }

    fn all_delivered(&mut self, who: &str) {
        self.until(who, "all delivered", |told| waiting(told).is_empty());
    }

    fn stop(&mut self, who: &str) {
        let (engine, lock) = self.peers.get_mut(who).unwrap().running.take().unwrap();
        self.block_on(engine.stop()).unwrap();
        drop(lock);
    }

    fn start(&mut self, who: &str) {
        let peer = self.peers.get_mut(who).unwrap();
        assert!(peer.running.is_none(), "{who} runs already");
        let lock = peer.home.lock("a test").unwrap();
        let store = lock.open().unwrap();
        let engine = self.runtime.block_on(async { Engine::start(store) }).unwrap();
        peer.running = Some((engine, lock));
        peer.told_before = peer.told.len();
    }

    fn is_online(&mut self, who: &str) {
        let before = self.peers[who].told_before;
        self.until(who, "online", |told| is_online(&told[before..]) == Some(true));
    }

    fn is_offline(&mut self, who: &str) {
        let before = self.peers[who].told_before;
        self.until(who, "offline", |told| is_online(&told[before..]) == Some(false));
    }

    fn stop_server(&mut self) {
        let server = self.server.take().expect("the rendezvous runs");
        self.block_on(server.stop());
    }

    fn start_server(&mut self) {
        assert!(self.server.is_none(), "the rendezvous runs already");
        let config = &self.config;
        let server = self.runtime.block_on(async { Rendezvous::start(config) }).unwrap();
        assert_eq!(server.link().server, self.link, "it is the same rendezvous");
        self.server = Some(server);
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // The runtime must be there while the rendezvous stops.
        let _entered = self.runtime.enter();
        self.peers.clear();
        self.server = None;
    }
}

fn is_online(told: &[Event]) -> Option<bool> {
    told.iter().rev().find_map(|event| match event {
        Event::Online => Some(true),
        Event::Offline(_) => Some(false),
        _ => None,
    })
}

/// What was queued and is not delivered.
fn waiting(told: &[Event]) -> Vec<MessageId> {
    let mut waiting = Vec::new();
    for event in told {
        match event {
            Event::Queued { id, .. } => waiting.push(*id),
            Event::Receipt { id, state: MessageState::Delivered, .. } => {
                waiting.retain(|known| known != id);
            }
            _ => {}
        }
    }
    waiting
}

fn now() -> Timestamp {
    Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
