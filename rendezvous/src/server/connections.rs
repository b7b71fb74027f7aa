//! Who is connected: by connection, by device, by account. Knows nothing of requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::identity::{AccountKey, DeviceKey};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::Request;

use super::bus::Audience;
use super::exchange::Exchange;
use super::output::{ConnId, StreamId};

/// A login is fresh for this long: time to type a code, not to walk away from the machine.
const LOGIN_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The key that it proved in TLS.
    pub(super) device: DeviceKey,
    /// The address that it comes from.
    pub(super) remote: SocketAddr,
    /// 32 bytes that both ends, and nobody else, derive from this TLS connection.
    pub(super) exporter: [u8; 32],
    /// What is known of the device.
    pub(super) standing: Standing,
    /// An unfinished registration or login; one at a time.
    pub(super) exchange: Option<Exchange>,
    /// The login that was finished here last.
    pub(super) login: Option<Login>,
    /// The account that its device is shown online for. A newer connection of the device takes it
    /// over, so that coming back is not going and coming.
    pub(super) shown_as: Option<Username>,
    /// Whether it wants to hear who of its contacts comes and goes.
    pub(super) watching: bool,
    /// Whether it was told that something is in its mailbox, and has not asked since.
    pub(super) knows_of_envelopes: bool,
    /// How many malformed requests it has sent.
    pub(super) malformed: u32,
}

/// What is known of a connection's device.
#[derive(Debug)]
pub(super) enum Standing {
    /// The store is being asked; requests wait.
    Arriving(Vec<(StreamId, Request)>),
    /// It belongs to no account.
    Stranger,
    /// It belongs to an account.
    SignedIn(Identity),
}

/// The account that a connection speaks for.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) name: Username,
    pub(super) account_key: AccountKey,
}

/// A login finished on a connection.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) name: Username,
    pub(super) at: Timestamp,
}

impl Connection {
    pub(super) fn new(device: DeviceKey, remote: SocketAddr, exporter: [u8; 32]) -> Self {
        Self {
            device,
            remote,
            exporter,
            standing: Standing::Arriving(Vec::new()),
            exchange: None,
            login: None,
            shown_as: None,
            watching: false,
            knows_of_envelopes: false,
            malformed: 0,
        }
    }

    /// The account that it speaks for.
    pub(super) fn identity(&self) -> Option<&Identity> {
        match &self.standing {
            Standing::SignedIn(identity) => Some(identity),
            Standing::Arriving(_) | Standing::Stranger => None,
        }
    }

    /// The account whose password was proved here in the last five minutes.
    pub(super) fn fresh_login(&self, now: Timestamp) -> Option<&Username> {
        let login = self.login.as_ref()?;
        (now.since(login.at) <= LOGIN_LIFETIME).then_some(&login.name)
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: BTreeMap<ConnId, Connection>,
    by_device: BTreeMap<DeviceKey, ConnId>,
    by_account: BTreeMap<Username, BTreeSet<ConnId>>,
}

impl Connections {
    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.all.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.all.get_mut(&conn)
    }

    /// Adds a connection; returns the one that the same device had.
    pub(super) fn insert(&mut self, conn: ConnId, mut connection: Connection) -> Option<ConnId> {
        let before = self.by_device.insert(connection.device, conn);
        let older = before.and_then(|before| self.all.get_mut(&before));
        connection.shown_as = older.and_then(|older| older.shown_as.take());
        self.all.insert(conn, connection);
        before
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.sign_out(conn);
        let connection = self.all.remove(&conn)?;
        if self.by_device.get(&connection.device) == Some(&conn) {
            self.by_device.remove(&connection.device);
        }
        Some(connection)
    }

    /// Makes a connection speak for an account.
    pub(super) fn sign_in(&mut self, conn: ConnId, identity: Identity) {
        self.sign_out(conn);
        let Some(connection) = self.all.get_mut(&conn) else { return };
        self.by_account.entry(identity.name.clone()).or_default().insert(conn);
        connection.standing = Standing::SignedIn(identity);
    }

    /// Makes a connection speak for nobody.
    pub(super) fn sign_out(&mut self, conn: ConnId) {
        let Some(connection) = self.all.get_mut(&conn) else { return };
        let Some(name) = connection.identity().map(|identity| identity.name.clone()) else {
            return;
        };
        connection.standing = Standing::Stranger;
        if let Some(conns) = self.by_account.get_mut(&name) {
            conns.remove(&conn);
            if conns.is_empty() {
                self.by_account.remove(&name);
            }
        }
    }

    /// The connection of a device.
    pub(super) fn of_device(&self, device: &DeviceKey) -> Option<ConnId> {
        self.by_device.get(device).copied()
    }

    /// Every exchange that was begun and not finished.
    pub(super) fn take_exchanges(&mut self) -> Vec<Exchange> {
        self.all.values_mut().filter_map(|connection| connection.exchange.take()).collect()
    }

    /// Every device that is shown online, and its account.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&Username, DeviceKey)> {
        let shown = self.all.values();
        shown.filter_map(|known| Some((known.shown_as.as_ref()?, known.device)))
    }

    /// The connections of an account.
    pub(super) fn of_account(&self, name: &Username) -> Vec<ConnId> {
        self.by_account.get(name).into_iter().flatten().copied().collect()
    }

    /// The connections of an account that want to hear of presence.
    pub(super) fn watching(&self, name: &Username) -> Vec<ConnId> {
        let conns = self.of_account(name).into_iter();
        conns.filter(|conn| self.get(*conn).is_some_and(|known| known.watching)).collect()
    }

    /// The connections of an account that an event is for.
    pub(super) fn audience(&self, name: &Username, audience: Audience) -> Vec<ConnId> {
        match audience {
            Audience::Everyone => self.of_account(name),
            Audience::Watching => self.watching(name),
            Audience::Others(device) => {
                let by = self.of_device(&device);
                self.of_account(name).into_iter().filter(|conn| Some(*conn) != by).collect()
            }
        }
    }

    /// Every connection.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.all.keys().copied().collect()
    }
}
