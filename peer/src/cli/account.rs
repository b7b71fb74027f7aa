//! `parlor register` and `parlor login`: a new account, or a new device of one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parlor_common::Blob;
use parlor_common::id::Username;
use parlor_common::identity::{DeviceSecret, Signature};
use parlor_common::link::{Link, ServerAddress, Target};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Done, ErrorCode, LoggedIn, LoginStarted, RecoveryStarted, RegisterStarted, Request, Ticket,
};

use super::error::CliError;
use super::password::Chosen;
use super::session::interruptible;
use super::whoami::print_identity;
use super::{Context, password, prompt};
use crate::account::{
    LoggingIn, NewAccount, NewDevice, OpenAccount, Password, Recovering, RecoveryCode, Registering,
};
use crate::args::{LoginArgs, RegisterArgs};
use crate::driver::{EngineError, os_rng};
use crate::net::{CallError, ServerSession};
use crate::node::record::Identity;
use crate::opaque::ExportKey;
use crate::profile::ProfileLock;

pub(super) async fn register(context: &Context, args: RegisterArgs) -> Result<ExitCode, CliError> {
    let lock = context.home.lock("parlor register")?;
    lock.refuse_existing()?;
    let (name, server) = (&args.name, &args.server.address);
    let file = args.password.path.as_deref();
    let password = password::chosen(file, Chosen::First, (name, server))?;
    let mut ticket = ticket(&args);
    let NewAccount { identity, recovery_code } = loop {
        let (name, server) = (name.clone(), server.clone());
        match make_account(&lock, name, server, &password, ticket.clone()).await {
            Err(refused) => ticket = Some(other_ticket(refused, ticket)?),
            Ok(account) => break account,
        }
    };
    show_recovery_code(context, &recovery_code);
    print_identity(context.printer, &identity)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show_recovery_code(context: &Context, code: &RecoveryCode) {
    let code = code.expose_text();
    context.printer.note(&format!("recovery code, shown this once: {}", code.as_str()));
    context.printer.note("write it down: without the password nothing else opens the account");
}

/// What lets a newcomer in, as far as it was given.
fn ticket(args: &RegisterArgs) -> Option<Ticket> {
    if let Some(address) = args.email.clone() {
        return Some(Ticket::Email { address, code: args.email_code.clone() });
    }
    let code = args.invite.as_deref().map(invitation_code);
    code.or_else(|| args.server.invitation.clone()).map(|code| Ticket::Invite { code })
}

/// An invitation may be given as a link, too.
fn invitation_code(text: &str) -> String {
    match text.parse() {
        Ok(Link { target: Target::Invitation { code }, .. }) => code,
        _ => text.to_owned(),
    }
}

/// Asks for what the rendezvous wants of a newcomer, if that is it and there is somebody to ask.
fn other_ticket(refused: CliError, ticket: Option<Ticket>) -> Result<Ticket, CliError> {
    let CliError::Call(CallError::Refused(reply)) = &refused else { return Err(refused) };
    if !prompt::is_possible() {
        return Err(refused);
    }
    match (reply.code, ticket) {
        (ErrorCode::InvitationNeeded, _) => {
            Ok(Ticket::Invite { code: invitation_code(&prompt::ask("Invitation: ")?) })
        }
        (ErrorCode::EmailNeeded, _) => {
            let address = prompt::ask("Your e-mail address: ")?.to_string();
            Ok(Ticket::Email { address, code: None })
        }
        (ErrorCode::EmailCodeNeeded, Some(Ticket::Email { address, .. })) => {
            let code = Some(prompt::ask("The code that was sent there: ")?.to_string());
            Ok(Ticket::Email { address, code })
        }
        _ => Err(refused),
    }
}

/// Makes an account and its profile, both or none: the profile is written before the rendezvous
/// is asked for the last time, and put in force when it agrees.
pub(super) async fn make_account(
    lock: &ProfileLock,
    name: Username,
    server: ServerAddress,
    password: &Password,
    with: Option<Ticket>,
) -> Result<NewAccount, CliError> {
    let rng = &mut os_rng();
    let device = NewDevice::generate(rng);
    let session = interruptible(connect(&device, &server)).await??;
    let (registering, mut request) = Registering::start(name, server, device, password, rng)?;
    if let Request::RegisterStart { ticket, .. } = &mut request {
        *ticket = with;
    }
    let started: RegisterStarted = interruptible(session.call(&request)).await??;
    let finish = move || registering.finish(&started, now(), &mut os_rng());
    let (request, account) = off_loop(finish).await??;
    let profile = lock.prepare(&account.identity, rng)?;
    let Done {} = session.call(&request).await?;
    profile.keep()?.close().map_err(EngineError::Save)?;
    session.close().await;
    Ok(account)
}

pub(super) async fn login(context: &Context, args: LoginArgs) -> Result<ExitCode, CliError> {
    let lock = context.home.lock("parlor login")?;
    lock.refuse_existing()?;
    let (name, server) = (args.name, args.server.address);
    let way = if args.recovery {
        let code = password::recovery_code(args.recovery_file.as_deref())?;
        let file = args.password.path.as_deref();
        Way::Recovery(code, password::chosen(file, Chosen::Recovered, (&name, &server))?)
    } else {
        Way::Password(password::current(&args.password)?)
    };
    let device = NewDevice::generate(&mut os_rng());
    let session = interruptible(connect(&device, &server)).await??;
    let account = match &way {
        Way::Password(password) => log_in(&session, name, server, password).await?.0,
        Way::Recovery(code, password) => {
            let account = recover(&session, name, server, code).await?;
            change_password(&session, account, password).await?
        }
    };
    let identity = add_device(&lock, &session, account, device).await?;
    session.close().await;
    print_identity(context.printer, &identity)?;
    Ok(ExitCode::SUCCESS)
}

/// How somebody comes in.
enum Way {
    Password(Password),
    /// By the code; then with a new password.
    Recovery(RecoveryCode, Password),
}

/// Logs in on a connection, and opens the account.
pub(super) async fn log_in(
    session: &ServerSession,
    name: Username,
    server: ServerAddress,
    password: &Password,
) -> Result<(OpenAccount, ExportKey), CliError> {
    let (logging_in, request) = LoggingIn::start(name, server, password, &mut os_rng())?;
    let started: LoginStarted = interruptible(session.call(&request)).await??;
    let exporter = session.exporter();
    let finish = move || logging_in.finish(&started, &exporter, &mut os_rng());
    let (request, pending) = match off_loop(finish).await? {
        Ok(finished) => finished,
        Err(error) => {
            give_up(session, Request::LoginFinish { message: Blob(Vec::new()) }).await;
            return Err(error.into());
        }
    };
    let logged_in: LoggedIn = session.call(&request).await?;
    Ok(pending.open(logged_in)?)
}

/// Tells the rendezvous by a last flight that is none that a login came to nothing: so it stands in
/// its audit trail at once, and not when it notices that the connection is gone.
async fn give_up(session: &ServerSession, request: Request) {
    // It is refused, as it has to be.
    let _ = session.call::<LoggedIn>(&request).await;
}

async fn recover(
    session: &ServerSession,
    name: Username,
    server: ServerAddress,
    code: &RecoveryCode,
) -> Result<OpenAccount, CliError> {
    let (recovering, request) = Recovering::start(name, server)?;
    let started: RecoveryStarted = interruptible(session.call(&request)).await??;
    let (request, recovered) = match recovering.prove(&started, code, &session.exporter()) {
        Ok(proven) => proven,
        Err(error) => {
            give_up(session, Request::RecoveryFinish { proof: Signature([0; 64]) }).await;
            return Err(error.into());
        }
    };
    let logged_in: LoggedIn = session.call(&request).await?;
    Ok(recovered.open(logged_in)?)
}

/// Gives an account another password, on the connection that has just logged in to it.
pub(super) async fn change_password(
    session: &ServerSession,
    account: OpenAccount,
    password: &Password,
) -> Result<OpenAccount, CliError> {
    let (changing, request) = account.change_password(password, &mut os_rng())?;
    let started: RegisterStarted = interruptible(session.call(&request)).await??;
    let (request, account) = off_loop(move || changing.finish(&started, &mut os_rng())).await??;
    let Done {} = session.call(&request).await?;
    Ok(account)
}

async fn add_device(
    lock: &ProfileLock,
    session: &ServerSession,
    account: OpenAccount,
    device: NewDevice,
) -> Result<Identity, CliError> {
    let (request, identity) = account.add_device(device, now())?;
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
pub(super) fn now() -> Timestamp {
    let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(date.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    const SERVER: &str = "parlor://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@127.0.0.1:4433";

    fn ticket_of(server: &str, more: &[&str]) -> Option<Ticket> {
        let typed = [&["parlor", "register", "alice", "--server", server][..], more].concat();
        let Command::Register(args) = Cli::try_parse_from(typed).unwrap().command else {
            panic!("it registers")
        };
        ticket(&args)
    }

    #[test]
    fn what_lets_a_newcomer_in_comes_from_the_link_or_the_arguments() {
        let invite = |code: &str| Some(Ticket::Invite { code: code.to_owned() });
        let link = format!("{SERVER}/?invite=ABCD-EFGH");
        assert_eq!(ticket_of(SERVER, &[]), None);
        assert_eq!(ticket_of(&link, &[]), invite("ABCD-EFGH"));
        assert_eq!(ticket_of(&link, &["--invite", "JKLM"]), invite("JKLM"));
        assert_eq!(ticket_of(SERVER, &["--invite", &link]), invite("ABCD-EFGH"));
        let email = |code: Option<&str>| {
            let (address, code) = ("alice@example.org".to_owned(), code.map(str::to_owned));
            Some(Ticket::Email { address, code })
        };
        let address = ["--email", "alice@example.org"];
        assert_eq!(ticket_of(&link, &address), email(None));
        let with_code = [&address[..], &["--email-code", "NPQR-STUV"]].concat();
        assert_eq!(ticket_of(SERVER, &with_code), email(Some("NPQR-STUV")));
    }
}
