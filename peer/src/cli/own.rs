//! This profile's own account, on a connection of its own: for commands that change the account,
//! and need no engine.

use std::sync::Arc;

use parlor_common::identity::DeviceSecret;
use parlor_common::wire::rendezvous::{Event, Request, User};

use super::Context;
use super::account::log_in;
use super::error::CliError;
use super::session::interruptible;
use crate::account::{OpenAccount, Password};
use crate::driver::EngineError;
use crate::net::ServerSession;
use crate::node::input::ServerDown;
use crate::node::record::{Change, Identity};
use crate::opaque::ExportKey;
use crate::profile::ProfileLock;
use crate::store::Store;

/// The profile, which nobody else uses meanwhile.
#[derive(Debug)]
pub(super) struct OwnProfile {
    pub(super) identity: Identity,
    store: Store,
    _lock: ProfileLock,
}

impl OwnProfile {
    /// Locks the profile for `command` and opens it.
    pub(super) fn open(context: &Context, command: &str) -> Result<Self, CliError> {
        // A profile that is not there is said before its folder is made.
        drop(context.home.open_read_only()?);
        let lock = context.home.lock(command)?;
        let store = lock.open()?;
        let identity = store.reader().identity()?;
        Ok(Self { identity, store, _lock: lock })
    }

    /// Connects as this device.
    pub(super) async fn connect(&mut self) -> Result<ServerSession, CliError> {
        let session = interruptible(connect(&self.identity)).await??;
        if settle(&mut self.store, &session).await? {
            self.identity = self.store.reader().identity()?;
        }
        Ok(session)
    }

    /// Connects, logs in and opens the account.
    pub(super) async fn log_in(&mut self, password: &Password) -> Result<LoggedIn, CliError> {
        let session = self.connect().await?;
        let Identity { name, server, .. } = &self.identity;
        let (account, export) = log_in(&session, name.clone(), server.clone(), password).await?;
        account.check_is(&self.identity)?;
        Ok(LoggedIn { session, account, export })
    }

    pub(super) fn save(&mut self, change: Change) -> Result<(), CliError> {
        self.store.commit(&[change]).map_err(EngineError::Save)?;
        Ok(())
    }

    pub(super) fn close(self) -> Result<(), CliError> {
        Ok(self.store.close().map_err(EngineError::Save)?)
    }
}

/// A fresh login to the own account.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) session: ServerSession,
    pub(super) account: OpenAccount,
    pub(super) export: ExportKey,
}

/// Connects as the profile's device, which the rendezvous must know.
async fn connect(identity: &Identity) -> Result<ServerSession, CliError> {
    let key = Arc::new(DeviceSecret::from_seed(&identity.device.expose_seed()));
    let session = ServerSession::connect(key, &identity.server).await?;
    match session.welcome() {
        Event::Welcome { name: Some(name), .. } if *name == identity.name => Ok(session),
        _ => Err(CliError::Server(ServerDown::UnknownDevice)),
    }
}

/// Finds out what came of a new account key, where a process ended before it was told. Returns
/// whether the profile has the new one now.
async fn settle(store: &mut Store, session: &ServerSession) -> Result<bool, CliError> {
    let Some(asked) = store.reader().rekeying()? else { return Ok(false) };
    let name = store.reader().identity()?.name;
    let User { devices } = interruptible(session.call(&Request::UserGet { name })).await??;
    let adopted = devices.claimed_mark() == asked.claimed_mark();
    let change = if adopted { Change::AdoptRekeying } else { Change::ForgetRekeying };
    store.commit(&[change]).map_err(EngineError::Save)?;
    Ok(adopted)
}

/// The same, before an engine starts from the profile: it must know which account it speaks for.
pub(super) async fn settle_first(store: &mut Store) -> Result<(), CliError> {
    // One at a time: a reader is locked until the end of its statement.
    let asked = store.reader().rekeying()?;
    let identity = store.reader().identity()?;
    if asked.is_some() {
        let session = interruptible(connect(&identity)).await??;
        settle(store, &session).await?;
        session.close().await;
    }
    Ok(())
}
