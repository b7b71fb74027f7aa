//! A server with its database on disk, many accounts, and clients who try to log in to them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use parlor::driver::os_rng;
use parlor::opaque::{Login, Parties, Registration};
use parlor_common::device_list::{DeviceEntry, DeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountSecret, DeviceSecret, ServerKey};
use parlor_common::prekey::DhPublicBytes;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    self as wire, Argon2Params, RegisterStarted, Reply, Request,
};
use parlor_rendezvous::admin::{AdminRequest, UserChange};
use parlor_rendezvous::config::Registration as Policy;
use parlor_rendezvous::limits::Limits;
use parlor_rendezvous::opaque::OpaqueSetup;
use parlor_rendezvous::server::{
    AdminId, ConnId, Loopback, NodeId, Output, Server, ServerParams, StreamId,
};
use parlor_rendezvous::store::Store;
use parlor_rendezvous::turn::settle;
use tempfile::TempDir;

const SERVER: ServerKey = ServerKey::from_bytes([9; 32]);

/// Whose login it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    Unknown,
    Disabled,
    WrongPassword,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::Unknown, Self::Disabled, Self::WrongPassword];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "no such account",
            Self::Disabled => "disabled",
            Self::WrongPassword => "wrong password",
        }
    }

    /// A name of its own for each; all are of the same length.
    fn username(self, number: usize) -> anyhow::Result<Username> {
        let letter = match self {
            Self::Unknown => 'a',
            Self::Disabled => 'b',
            Self::WrongPassword => 'c',
        };
        // So that they are not neighbours in the database by their class.
        Ok(format!("u{:05}{letter}", number * 7_919 % 100_000).parse()?)
    }
}

pub(crate) struct Place {
    _folder: TempDir,
    server: Server,
    store: Store,
    bus: Loopback,
    last: u64,
}

impl Place {
    /// A server with so many accounts that are disabled, and as many that are not.
    pub(crate) fn new(accounts: usize) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let store = Store::open(&folder.path().join("rendezvous.db"))?;
        let limits = Limits {
            registrations_per_minute_in_all: 1_000_000,
            logins_per_minute_in_all: 1_000_000,
            ..Limits::default()
        };
        let params = ServerParams {
            key: SERVER,
            next_key_hash: [8; 32],
            opaque: OpaqueSetup::generate(&mut os_rng()),
            registration: Policy::Open,
            email: None,
            limits,
            node: NodeId::default(),
        };
        let (server, bus) = (Server::new(params), Loopback::default());
        let mut place = Self { _folder: folder, server, store, bus, last: 0 };
        place.fill(accounts)?;
        Ok(place)
    }

    fn fill(&mut self, accounts: usize) -> anyhow::Result<()> {
        let upload = self.upload()?;
        let mut names = Vec::new();
        for number in 0..accounts {
            for class in [Class::Disabled, Class::WrongPassword] {
                names.push((class, class.username(number)?));
            }
        }
        for (class, name) in names {
            self.register(class, &name, &upload)?;
        }
        Ok(())
    }

    /// What a client uploads who registers; nobody will ever log in by it.
    fn upload(&mut self) -> anyhow::Result<Vec<u8>> {
        let name: Username = "somebody".parse()?;
        let (client, message) = Registration::start(b"password", &mut os_rng())?;
        let conn = self.connect(&DeviceSecret::from_seed(&[1; 32]));
        let request =
            Request::RegisterStart { name: name.clone(), message: message.into(), ticket: None };
        let started: RegisterStarted = self.call(conn, &request)?;
        let parties = Parties { name: &name, server: &SERVER };
        let argon2 = Argon2Params::DEFAULT;
        Ok(client.finish(&started.message.0, parties, argon2, &mut os_rng())?.0)
    }

    fn register(&mut self, class: Class, name: &Username, upload: &[u8]) -> anyhow::Result<()> {
        let device = device(self.last);
        let conn = self.connect(&device);
        let (_, message) = Registration::start(b"password", &mut os_rng())?;
        let start =
            Request::RegisterStart { name: name.clone(), message: message.into(), ticket: None };
        let _: RegisterStarted = self.call(conn, &start)?;
        let account = AccountSecret::from_seed(&device.expose_seed());
        let dh = DhPublicBytes(Box::new([7; DhPublicBytes::LEN]));
        let entry = DeviceEntry::new(device.public(), dh, now());
        let list = DeviceList::first(name.clone(), account.public(), entry, now());
        let registration = wire::Registration {
            upload: upload.to_vec().into(),
            devices: list.sign(&account, None),
            account_box: vec![7; 60].into(),
            recovery_box: vec![8; 80].into(),
        };
        let _: wire::Done = self.call(conn, &Request::RegisterFinish(Box::new(registration)))?;
        if class == Class::Disabled {
            let (name, change) = (name.clone(), UserChange::Disable);
            let request = AdminRequest::UserChange { name, change };
            self.server.handle_admin(AdminId(self.last), request, now(), &mut os_rng());
            self.settle();
        }
        self.disconnect(conn);
        Ok(())
    }

    /// Seconds until the first flight of a login is answered, and the answer.
    pub(crate) fn begin_login(
        &mut self,
        class: Class,
        number: usize,
    ) -> anyhow::Result<(f64, Vec<u8>)> {
        let conn = self.connect(&device(self.last));
        let (_, message) = Login::start(b"guess", &mut os_rng())?;
        let name = class.username(number)?;
        let payload = serde_json::to_vec(&Request::LoginStart { name, message: message.into() })?;
        self.last += 1;
        let stream = StreamId(self.last);
        let started = Instant::now();
        self.server.handle_request(conn, stream, &payload, now(), &mut os_rng());
        let outputs = self.settle();
        let took = started.elapsed().as_secs_f64();
        self.disconnect(conn);
        let reply = reply(outputs)?;
        ensure!(reply.starts_with(b"{\"ok\""), "refused: {}", String::from_utf8_lossy(&reply));
        Ok((took, reply))
    }

    /// Each client comes from an address of its own.
    fn connect(&mut self, device: &DeviceSecret) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        let [.., a, b, c] = self.last.to_be_bytes();
        let (remote, exporter) = (([10, a, b, c], 5000).into(), [4; 32]);
        self.server.handle_connected(conn, device.public(), remote, exporter, now());
        self.settle();
        conn
    }

    fn disconnect(&mut self, conn: ConnId) {
        self.server.handle_disconnected(conn, now());
        self.settle();
    }

    fn settle(&mut self) -> Vec<Output> {
        settle(&mut self.server, &mut self.store, &mut self.bus, now(), &mut os_rng())
    }

    fn call<T: serde::de::DeserializeOwned>(
        &mut self,
        conn: ConnId,
        request: &Request,
    ) -> anyhow::Result<T> {
        self.last += 1;
        let (stream, payload) = (StreamId(self.last), serde_json::to_vec(request)?);
        self.server.handle_request(conn, stream, &payload, now(), &mut os_rng());
        match serde_json::from_slice(&reply(self.settle())?)? {
            Reply::Ok(reply) => Ok(reply),
            Reply::Error(error) => anyhow::bail!("refused: {}", error.message),
        }
    }
}

fn reply(outputs: Vec<Output>) -> anyhow::Result<Vec<u8>> {
    let reply = outputs.into_iter().find_map(|output| match output {
        Output::Reply { payload, .. } => Some(payload),
        _ => None,
    });
    reply.context("no reply")
}

fn device(number: u64) -> DeviceSecret {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    DeviceSecret::from_seed(&seed)
}

fn now() -> Timestamp {
    Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
