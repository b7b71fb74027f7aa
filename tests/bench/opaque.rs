//! Registrations and logins: the server with its database on disk, without sockets. Only what the
//! server does is timed: clients, and their Argon2id, are on other people's machines.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use harness::stage::password_of;
use parlor::account::{LoggingIn, NewDevice, Password, Registering};
use parlor::driver::os_rng;
use parlor::opaque::{Login, Parties, Registration};
use parlor_common::id::Username;
use parlor_common::identity::{DeviceKey, ServerKey};
use parlor_common::link::{HostPort, ServerAddress};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Argon2Params, Done, LoggedIn, LoginStarted, RegisterStarted, Reply, Request,
};
use parlor_rendezvous::config::Registration as Policy;
use parlor_rendezvous::limits::Limits;
use parlor_rendezvous::opaque::{
    Binding, CredentialId, Known, OpaqueSetup, Record, finish_registration,
};
use parlor_rendezvous::server::{ConnId, Loopback, NodeId, Output, Server, ServerParams, StreamId};
use parlor_rendezvous::store::Store;
use parlor_rendezvous::turn::settle;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::Effort;
use crate::report::{Figure, Report};
use crate::timing::{median, time};

const SERVER: ServerKey = ServerKey::from_bytes([9; 32]);
const CREDENTIAL: CredentialId = CredentialId([5; 32]);

/// Logins that arrive together: under load a turn takes what has come meanwhile, and commits once.
const TOGETHER: usize = 32;

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let mut place = Place::new()?;
    let mut bare = Bare::new()?;
    let (mut registrations, mut bare_registrations) = (Vec::new(), Vec::new());
    let (mut logins, mut bare_logins) = (Vec::new(), Vec::new());
    for turn in 0..effort.of(2, 12) {
        let mut names = Vec::new();
        for number in 0..TOGETHER {
            let name: Username = format!("user{turn}-{number}").parse()?;
            let (took, bare_took) = place.register(&name, &bare)?;
            registrations.push(took);
            bare_registrations.push(bare_took);
            bare_logins.push(bare.log_in()?);
            names.push(name);
        }
        logins.push(place.log_in(&names)? / TOGETHER as f64);
    }
    let rate = |samples: &mut Vec<f64>| 1.0 / median(samples);
    let figure = |name, samples, bare| Figure::new(name, "1/s", rate(samples), rate(bare));
    report.tell(&figure("opaque_registrations", &mut registrations, &mut bare_registrations));
    report.tell(&figure("opaque_logins", &mut logins, &mut bare_logins));
    Ok(())
}

/// A server and its database.
struct Place {
    _folder: TempDir,
    server: Server,
    store: Store,
    bus: Loopback,
    last: u64,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let store = Store::open(&folder.path().join("rendezvous.db"))?;
        let params = ServerParams {
            key: SERVER,
            next_key_hash: [8; 32],
            opaque: OpaqueSetup::generate(&mut os_rng()),
            registration: Policy::Open,
            email: None,
            limits: Limits::default(),
            node: NodeId::default(),
        };
        let (server, bus) = (Server::new(params), Loopback::default());
        Ok(Self { _folder: folder, server, store, bus, last: 0 })
    }

    /// Registers, and lets the bare primitive do its part of the same.
    fn register(&mut self, name: &Username, bare: &Bare) -> anyhow::Result<(f64, f64)> {
        let device = NewDevice::generate(&mut os_rng());
        let conn = self.connect(device.key().public());
        let password = password(name.as_str())?;
        let (client, request) =
            Registering::start(name.clone(), address(), device, &password, &mut os_rng())?;
        let (first, started) = self.call::<RegisterStarted>(conn, &request)?;
        let (finish, _) = client.finish(&started, now(), &mut os_rng())?;
        let (last, Done {}) = self.call(conn, &finish)?;
        self.disconnect(conn);

        let Request::RegisterStart { message, .. } = request else { unreachable!() };
        let Request::RegisterFinish(registration) = finish else { unreachable!() };
        let bare = time(|| {
            let answer = bare.setup.start_registration(&message.0, &CREDENTIAL);
            (answer.expect("it starts"), finish_registration(&registration.upload.0))
        });
        Ok((first + last, bare))
    }

    /// Lets all log in: their first messages come in one turn, and their last ones in another.
    fn log_in(&mut self, names: &[Username]) -> anyhow::Result<f64> {
        let (mut clients, mut first_flights) = (Vec::new(), Vec::new());
        for name in names {
            let device = NewDevice::generate(&mut os_rng());
            let conn = self.connect(device.key().public());
            let password = password(name.as_str())?;
            let (client, request) =
                LoggingIn::start(name.clone(), address(), &password, &mut os_rng())?;
            clients.push((conn, client));
            first_flights.push((conn, request));
        }
        let (first, started) = self.turn::<LoginStarted>(&first_flights)?;
        let mut last_flights = Vec::new();
        for ((conn, client), started) in clients.into_iter().zip(started) {
            let (request, _) = client.finish(&started, &exporter(conn), &mut os_rng())?;
            last_flights.push((conn, request));
        }
        let (last, _) = self.turn::<LoggedIn>(&last_flights)?;
        for (conn, _) in last_flights {
            self.disconnect(conn);
        }
        Ok(first + last)
    }

    /// Each client comes from an address of its own.
    fn connect(&mut self, device: DeviceKey) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        let [.., a, b] = self.last.to_be_bytes();
        let remote = ([10, 0, a, b], 5000).into();
        self.server.handle_connected(conn, device, remote, exporter(conn), now());
        settle(&mut self.server, &mut self.store, &mut self.bus, now(), &mut os_rng());
        conn
    }

    fn disconnect(&mut self, conn: ConnId) {
        self.server.handle_disconnected(conn, now());
        settle(&mut self.server, &mut self.store, &mut self.bus, now(), &mut os_rng());
    }

    fn call<T: DeserializeOwned>(
        &mut self,
        conn: ConnId,
        request: &Request,
    ) -> anyhow::Result<(f64, T)> {
        let (took, mut replies) = self.turn(&[(conn, request.clone())])?;
        Ok((took, replies.pop().context("no reply")?))
    }

    /// From the requests' bytes to their replies', what is stored being committed.
    fn turn<T: DeserializeOwned>(
        &mut self,
        requests: &[(ConnId, Request)],
    ) -> anyhow::Result<(f64, Vec<T>)> {
        let mut payloads = Vec::new();
        for (conn, request) in requests {
            self.last += 1;
            payloads.push((*conn, StreamId(self.last), serde_json::to_vec(request)?));
        }
        let mut outputs = Vec::new();
        let took = time(|| {
            for (conn, stream, payload) in &payloads {
                self.server.handle_request(*conn, *stream, payload, now(), &mut os_rng());
            }
            outputs =
                settle(&mut self.server, &mut self.store, &mut self.bus, now(), &mut os_rng());
        });
        let mut replies = BTreeMap::new();
        for output in outputs {
            if let Output::Reply { stream, payload, .. } = output {
                replies.insert(stream, payload);
            }
        }
        let parse = |(_, stream, _): &(_, StreamId, _)| match serde_json::from_slice(
            replies.get(stream).context("no reply")?,
        )? {
            Reply::Ok(reply) => Ok(reply),
            Reply::Error(error) => anyhow::bail!("refused: {}", error.message),
        };
        Ok((took, payloads.iter().map(parse).collect::<anyhow::Result<_>>()?))
    }
}

/// The primitive alone, with one account.
struct Bare {
    setup: OpaqueSetup,
    record: Record,
    name: Username,
}

impl Bare {
    fn new() -> anyhow::Result<Self> {
        let (setup, name) = (OpaqueSetup::generate(&mut os_rng()), "bare".parse()?);
        let password = password_of("bare").into_bytes();
        let (client, message) = Registration::start(&password, &mut os_rng())?;
        let answer = setup.start_registration(&message, &CREDENTIAL)?;
        let parties = Parties { name: &name, server: &SERVER };
        let (upload, _) = client.finish(&answer, parties, Argon2Params::DEFAULT, &mut os_rng())?;
        Ok(Self { record: finish_registration(&upload)?, setup, name })
    }

    fn log_in(&mut self) -> anyhow::Result<f64> {
        let Self { setup, record, name } = self;
        let exporter = [4; 32];
        let binding = Binding { name, server: &SERVER, exporter: &exporter };
        let password = password_of("bare").into_bytes();
        let (client, message) = Login::start(&password, &mut os_rng())?;
        let mut started = None;
        let first = time(|| {
            let account = Known::Account { record, credential: &CREDENTIAL };
            started = setup.start_login(account, &message, &binding, &mut os_rng()).ok();
        });
        let (answer, pending) = started.context("the login does not start")?;
        let parties = Parties { name, server: &SERVER };
        let (message, _) =
            client.finish(&answer, parties, &exporter, Argon2Params::DEFAULT, &mut os_rng())?;
        let mut finished = None;
        let last = time(|| finished = pending.finish(&message, &binding).ok());
        ensure!(finished.is_some(), "the login does not finish");
        Ok(first + last)
    }
}

fn password(name: &str) -> anyhow::Result<Password> {
    Ok(Password::new(password_of(name).into_bytes().into())?)
}

fn address() -> ServerAddress {
    ServerAddress { key: Some(SERVER), at: HostPort { host: "127.0.0.1".to_owned(), port: 4433 } }
}

/// As the connection exports it at both ends.
fn exporter(conn: ConnId) -> [u8; 32] {
    let mut exporter = [4; 32];
    exporter[..8].copy_from_slice(&conn.0.to_be_bytes());
    exporter
}

fn now() -> Timestamp {
    Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
