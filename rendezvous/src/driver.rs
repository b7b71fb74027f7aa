//! The thin driver: sockets, clock and randomness around the core. It decides nothing.
//!
//! One task owns core and store and takes turns; connections and requests are tasks that read one
//! thing, hand it over and write what comes back.

#[cfg(unix)]
mod admin;
mod admission;
mod connection;
#[cfg(test)]
mod loopback;
mod mail;
mod offline;
mod reset;
mod room;
mod turns;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parlor_common::link::Link;
use parlor_common::quic::{self, ALPN_RENDEZVOUS, Transport};
use parlor_common::time::Timestamp;
use quinn::{Endpoint, TokioRuntime, TransportConfig, VarInt};
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

#[cfg(unix)]
use self::admin::AdminSocket;
#[cfg(unix)]
pub(crate) use self::admin::SocketPath;
use self::admission::Admission;
use self::connection::ToTurns;
use self::mail::Mailer;
pub use self::mail::MailerError;
pub(crate) use self::offline::Offline;
use self::turns::{Input, Turns};
use crate::config::{Config, DataPlace};
use crate::email::EmailPolicy;
use crate::folder::{DataFolder, FolderError};
use crate::keys::ServerKeys;
use crate::opaque::OpaqueSetup;
use crate::reach;
use crate::server::{CloseReason, ConnId, NodeId, Server, ServerParams};
use crate::store::{DatabaseError, OpenError, Store};

/// Inputs that may wait for the next turn; beyond them readers pause.
const MAX_INPUTS: usize = 1024;

/// Bytes in flight from one connection, all its streams together: one request of full size, and a
/// few small ones.
const RECEIVE_WINDOW: u32 = 72 * 1024;

/// Bytes of packets that wait for the server, as far as the system allows it (`net.core.rmem_max`
/// on Linux): in a flood those of honest clients are lost with the others once it is full.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Bytes in flight to one connection: one reply of full size.
const SEND_WINDOW: u64 = 1024 * 1024;

/// How long a stopping server waits until its clients have heard of it.
const DRAIN: Duration = Duration::from_secs(2);

/// The note in the database that says where the server listened last.
pub(crate) const LISTEN_NOTE: &str = "listen";

/// A running server. Dropping it stops it as [`Rendezvous::stop`] does, without waiting.
#[derive(Debug)]
pub struct Rendezvous {
    address: SocketAddr,
    link: Link,
    /// Dropped or sent to: stop.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The server cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The socket for admin commands cannot be made.
    #[error("the socket for admin commands cannot be made in {}: {error}", .folder.display())]
    Admin {
        /// The data folder.
        folder: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {error}; give another address with --listen \
         (0.0.0.0:4433 on a machine without IPv6)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The database does not take a note.
    #[error("the database cannot be written: {0}")]
    Note(#[from] DatabaseError),
    /// The operating system has no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(#[from] rand::rngs::SysError),
    /// Registration is by e-mail, and there is no way to send any.
    #[error(transparent)]
    Mail(#[from] MailerError),
    /// QUIC or TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] quic::ConfigError),
}

/// The server ended though nobody stopped it: a bug.
#[derive(Clone, Copy, Debug, Error)]
#[error("the server ended by itself; its log says why")]
pub struct Ended;

impl Rendezvous {
    /// Starts a server on the current tokio runtime and returns once it listens.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let mut rng = StdRng::try_from_rng(&mut SysRng)?;
        let open = DataFolder::open_for_server;
        let Kept { folder, store, keys, opaque } = Kept::open(&config.data, open, &mut rng)?;
        let listening = |error| StartError::Listen { address: config.listen, error };
        let endpoint = bind(config.listen, &keys, listening)?;
        let address = endpoint.local_addr().map_err(listening)?;
        store.put_note(LISTEN_NOTE, &address.to_string())?;
        let link = reach::link(config.public.as_ref(), address, keys.public());
        let email = config.email.as_ref();
        let policy = email.map(|email| email.policy(link.server.at.to_string()));
        let server = Server::new(params(config, policy, &keys, opaque, &mut rng));
        let (stop, stopping) = oneshot::channel();
        let (inputs, waiting) = mpsc::channel(MAX_INPUTS);
        let mailer = email.map(|email| Mailer::new(email, inputs.clone())).transpose()?;
        let admission = Arc::new(Admission::new(config.limits));
        let to_turns = ToTurns::new(inputs, &config.limits);
        let admin = Admin::start(folder.as_ref(), &to_turns.inputs)?;
        tokio::spawn(accept(endpoint.clone(), admission, to_turns));
        let turns = Turns::new(server, store, rng, mailer);
        let task = tokio::spawn(async move {
            turns.run(waiting, stopping).await;
            admin.stop().await;
            drain(&endpoint).await;
            drop(folder);
        });
        Ok(Self { address, link, stop, task })
    }

    /// The UDP address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's link, with its key.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Serves until `shutdown` is done, then stops.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Ended> {
        tokio::select! {
            () = shutdown => {}
            _ = &mut self.task => return Err(Ended),
        }
        self.stop().await;
        Ok(())
    }

    /// Tells the clients, lets them go within two seconds, and closes endpoint and database.
    pub async fn stop(self) {
        // Whoever listens for it is gone only if it stopped by itself.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server ended in an unexpected way");
        }
    }
}

fn params(
    config: &Config,
    email: Option<EmailPolicy>,
    keys: &ServerKeys,
    opaque: OpaqueSetup,
    rng: &mut StdRng,
) -> ServerParams {
    ServerParams {
        key: keys.public(),
        next_key_hash: keys.next_hash(),
        opaque,
        registration: config.registration,
        email,
        limits: config.limits,
        node: NodeId(rng.next_u64()),
    }
}

/// Whoever answers admin commands, if somebody does.
struct Admin(Option<JoinHandle<()>>);

impl Admin {
    #[cfg(unix)]
    fn start(
        folder: Option<&DataFolder>,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<Self, StartError> {
        let Some(folder) = folder.map(DataFolder::path) else { return Ok(Self(None)) };
        let socket = AdminSocket::bind(folder)
            .map_err(|error| StartError::Admin { folder: folder.to_owned(), error })?;
        Ok(Self(Some(tokio::spawn(socket.serve(inputs.clone())))))
    }

    #[cfg(not(unix))]
    fn start(_: Option<&DataFolder>, _: &mpsc::Sender<Input>) -> Result<Self, StartError> {
        Ok(Self(None))
    }

    /// Removes the socket: who comes now waits until the folder is free.
    async fn stop(self) {
        if let Some(task) = self.0 {
            task.abort();
            let _ = task.await;
        }
    }
}

/// What a server keeps between its runs.
struct Kept {
    folder: Option<DataFolder>,
    store: Store,
    keys: ServerKeys,
    opaque: OpaqueSetup,
}

impl Kept {
    fn open(
        place: &DataPlace,
        open: fn(&Path) -> Result<DataFolder, FolderError>,
        rng: &mut StdRng,
    ) -> Result<Self, StartError> {
        match place {
            DataPlace::Folder(path) => {
                let folder = open(path)?;
                let (keys, opaque) = (folder.server_keys(rng)?, folder.opaque(rng)?);
                let store = Store::open(&folder.database()?)?;
                Ok(Self { folder: Some(folder), store, keys, opaque })
            }
            DataPlace::Memory => {
                let (keys, opaque) = (ServerKeys::generate(rng), OpaqueSetup::generate(rng));
                Ok(Self { folder: None, store: Store::in_memory()?, keys, opaque })
            }
        }
    }
}

fn bind(
    listen: SocketAddr,
    keys: &ServerKeys,
    failed: impl Fn(std::io::Error) -> StartError,
) -> Result<Endpoint, StartError> {
    let mut transport: TransportConfig = Transport::AT_RENDEZVOUS.config();
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOW)).send_window(SEND_WINDOW);
    let server = quic::server_config(&keys.current, ALPN_RENDEZVOUS, transport)?;
    let socket = UdpSocket::bind(listen).map_err(&failed)?;
    widen(&socket);
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(reset::endpoint_config(&keys.current), Some(server), socket, runtime)
        .map_err(failed)
}

/// Gives a socket room for more packets. It works without as well.
fn widen(socket: &UdpSocket) {
    #[cfg(unix)]
    if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER) {
        tracing::debug!(%error, "the receive buffer stays as it is");
    }
}

/// Lets newcomers in, as far as there is room.
async fn accept(endpoint: Endpoint, admission: Arc<Admission>, turns: ToTurns) {
    let mut last = 0;
    while let Some(incoming) = endpoint.accept().await {
        if let Some((connecting, slot)) = admission.judge(incoming) {
            last += 1;
            let id = ConnId(last);
            tokio::spawn(connection::serve(id, connecting, slot, turns.clone()));
        }
    }
}

async fn drain(endpoint: &Endpoint) {
    // Who does not go in time is cut.
    let _ = tokio::time::timeout(DRAIN, endpoint.wait_idle()).await;
    let reason = CloseReason::Stopping;
    endpoint.close(VarInt::from_u32(reason.code()), reason.as_str().as_bytes());
    let _ = tokio::time::timeout(DRAIN, endpoint.wait_idle()).await;
}

/// The one reader of the clock.
#[expect(clippy::disallowed_methods, reason = "the driver is the one reader of the clock")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default() + since
}
