//! A command's use of an engine: open the profile, wait for the rendezvous, end in order.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use parlor_common::id::{MessageId, Username};

use super::Context;
use super::error::CliError;
use super::notice;
use super::own::settle_first;
use super::print::Printer;
use crate::config::Config;
use crate::driver::Engine;
use crate::node::input::{Intent, ServerDown, Token};
use crate::node::output::Event;
use crate::profile::{ProfileError, ProfileLock};

/// A command that needs the rendezvous gives up after this long; with the time to end in order it
/// stays below ten seconds.
const ONLINE_TIME: Duration = Duration::from_secs(8);

/// An engine on this profile, which nobody else uses meanwhile.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) engine: Engine,
    config: Config,
    printer: Printer,
    _lock: ProfileLock,
}

impl Session {
    /// Locks the profile for `command` and starts its engine.
    pub(super) async fn start(context: &Context, command: &str) -> Result<Self, CliError> {
        // A profile that is not there is said before its folder is made.
        drop(context.home.open_read_only()?);
        let lock = context.home.lock(command)?;
        let (config, mut store) =
            (context.home.config().map_err(ProfileError::from)?, lock.open()?);
        Box::pin(settle_first(&mut store)).await?;
        let engine = Engine::start(store)?;
        Ok(Self { engine, config, printer: context.printer, _lock: lock })
    }

    /// The person has seen messages of a contact: it is told, unless the person tells nobody.
    pub(super) fn have_read(&mut self, contact: Username, ids: Vec<MessageId>) {
        if self.config.read_receipts {
            self.engine.intend(Intent::Read { contact, ids });
        }
    }

    /// The person is writing to a contact: it is told, unless the person tells nobody.
    pub(super) fn typing(&mut self, contact: Username) {
        if self.config.typing_notices {
            self.engine.intend(Intent::Typing { contact });
        }
    }

    /// The same, and waits until the rendezvous shows this device online.
    pub(super) async fn online(context: &Context, command: &str) -> Result<Self, CliError> {
        let mut session = Self::start(context, command).await?;
        match session.wait_online().await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.end().await?;
                Err(error)
            }
        }
    }

    async fn wait_online(&mut self) -> Result<(), CliError> {
        let deadline = Instant::now() + ONLINE_TIME;
        loop {
            match self.next_before(deadline).await? {
                Event::Online => return Ok(()),
                Event::Offline(reason @ (ServerDown::WrongKey | ServerDown::UnknownDevice)) => {
                    return Err(CliError::Server(reason));
                }
                _ => {}
            }
        }
    }

    /// Tells the engine what is wanted, and waits until that is done.
    pub(super) async fn intend(&mut self, intent: Intent) -> Result<(), CliError> {
        let wanted = self.engine.intend(intent);
        let deadline = Instant::now() + ONLINE_TIME;
        loop {
            match self.next_before(deadline).await? {
                Event::Done { token, result } if token == wanted => return Ok(result?),
                _ => {}
            }
        }
    }

    /// The next event, for commands that show none: what is told of keys and devices is told once,
    /// and so must not be passed over.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let event = self.engine.next().await?;
        if let Some((_, text)) = notice::render(&event) {
            self.printer.note(&text);
        }
        Some(event)
    }

    /// The next event. Where none comes in time, it is the rendezvous that is missing. Where the
    /// engine has ended by itself, ending the session says why.
    async fn next_before(&mut self, deadline: Instant) -> Result<Event, CliError> {
        match timeout_at(deadline, interruptible(self.next())).await {
            Err(_) => Err(CliError::Server(ServerDown::Unreachable)),
            Ok(event) => event?.ok_or(CliError::Interrupted),
        }
    }

    /// Ends the engine in order.
    pub(super) async fn end(self) -> Result<(), CliError> {
        Ok(self.engine.stop().await?)
    }
}

/// Waits for something, or for SIGINT or SIGTERM.
pub(super) async fn interruptible<T>(wait: impl Future<Output = T>) -> Result<T, CliError> {
    tokio::select! {
        value = wait => Ok(value),
        () = interrupted() => Err(CliError::Interrupted),
    }
}

/// Returns when the process is asked to end.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        interrupt = tokio::signal::ctrl_c() => {
            if interrupt.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Whether an event answers what was wanted with `token`, by refusing it.
pub(super) fn refused(event: &Event, wanted: Token) -> Option<CliError> {
    match event {
        Event::Done { token, result: Err(error) } if *token == wanted => {
            Some(CliError::Intent(error.clone()))
        }
        _ => None,
    }
}
