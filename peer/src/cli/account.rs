//! `parlor register` and `parlor login`: a new account, or a new device of one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parlor_common::id::Username;
use parlor_common::identity::DeviceSecret;
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Done, LoggedIn, LoginStarted, RegisterStarted};

use super::Context;
use super::error::CliError;
use super::password::{self, Typed};
use super::session::interruptible;
use super::whoami::print_identity;
use crate::account::{LoggingIn, NewAccount, NewDevice, Password, Pending, Registering};
use crate::args::RegisterArgs;
use crate::driver::{EngineError, os_rng};
use crate::net::ServerSession;
use crate::node::record::Identity;
use crate::profile::ProfileLock;

pub(super) async fn register(context: &Context, args: RegisterArgs) -> Result<ExitCode, CliError> {
    let lock = context.home.lock("parlor register")?;
    lock.refuse_existing()?;
    let password = password::read(args.password_file.as_deref(), Typed::Twice)?;
    let NewAccount { identity, recovery_code } =
        make_account(&lock, args.name, args.server.0, &password).await?;
    let code = recovery_code.expose_text();
    context.printer.note(&format!("recovery code, shown this once: {}", code.as_str()));
    context.printer.note("write it down: without the password nothing else opens the account");
    print_identity(context.printer, &identity)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an account and its profile, both or none: the profile is written before the rendezvous
/// is asked for the last time, and put in force when it agrees.
pub(super) async fn make_account(
    lock: &ProfileLock,
    name: Username,
    server: ServerAddress,
    password: &Password,
) -> Result<NewAccount, CliError> {
    let rng = &mut os_rng();
    let device = NewDevice::generate(rng);
    let session = interruptible(connect(&device, &server)).await??;
    let (registering, request) = Registering::start(name, server, device, password, rng)?;
    let started: RegisterStarted = interruptible(session.call(&request)).await??;
    let finish = move || registering.finish(&started, now(), &mut os_rng());
    let (request, account) = off_loop(finish).await??;
    let profile = lock.prepare(&account.identity, rng)?;
    let Done {} = session.call(&request).await?;
    profile.keep()?.close().map_err(EngineError::Save)?;
    session.close().await;
    Ok(account)
}

pub(super) async fn login(context: &Context, args: RegisterArgs) -> Result<ExitCode, CliError> {
    let lock = context.home.lock("parlor login")?;
    lock.refuse_existing()?;
    let password = password::read(args.password_file.as_deref(), Typed::Once)?;
    let device = NewDevice::generate(&mut os_rng());
    let server = args.server.0;
    let session = interruptible(connect(&device, &server)).await??;
    let (logging_in, request) =
        LoggingIn::start(args.name, server, device, &password, &mut os_rng())?;
    let started: LoginStarted = interruptible(session.call(&request)).await??;
    let exporter = session.exporter();
    let (request, pending) =
        off_loop(move || logging_in.finish(&started, &exporter, &mut os_rng())).await??;
    let logged_in: LoggedIn = session.call(&request).await?;
    let identity = add_device(&lock, &session, pending, logged_in).await?;
    session.close().await;
    print_identity(context.printer, &identity)?;
    Ok(ExitCode::SUCCESS)
}

async fn add_device(
    lock: &ProfileLock,
    session: &ServerSession,
    pending: Pending,
    logged_in: LoggedIn,
) -> Result<Identity, CliError> {
    let (request, identity) = pending.open(logged_in, now())?;
    let profile = lock.prepare(&identity, &mut os_rng())?;
    let Done {} = session.call(&request).await?;
    profile.keep()?.close().map_err(EngineError::Save)?;
    Ok(identity)
}

async fn connect(device: &NewDevice, server: &ServerAddress) -> Result<ServerSession, CliError> {
    let key = Arc::new(DeviceSecret::from_seed(&device.key().expose_seed()));
    Ok(ServerSession::connect(key, server).await?)
}

/// Argon2id takes a tenth of a second and more: the connection must be kept alive meanwhile.
async fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CliError::Interrupted)
}

#[expect(clippy::disallowed_methods, reason = "a command has no driver to read the clock for it")]
fn now() -> Timestamp {
    let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(date.as_millis()).unwrap_or(u64::MAX))
}
