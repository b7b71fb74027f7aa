//! `parlor send`: one message, and how far it got.

use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;

use parlor_common::id::{MessageId, Username};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::error::{CliError, NOT_DELIVERED};
use super::history::state_word;
use super::notice;
use super::session::{Session, interruptible, refused};
use crate::args::{SendArgs, Wait};
use crate::node::input::{Intent, MAX_TEXT, ServerDown, Token};
use crate::node::output::Event;
use crate::node::record::{Carrier, MessageState};

/// How far a message got.
struct Progress {
    id: Option<MessageId>,
    state: MessageState,
    carrier: Option<Carrier>,
    started: Instant,
}

pub(super) async fn run(context: &Context, args: SendArgs) -> Result<ExitCode, CliError> {
    let text = match args.text.filter(|text| text != "-") {
        Some(text) => text,
        None => read_text(io::stdin().lock())?,
    };
    check(&text)?;
    let started = Instant::now();
    let mut session = Session::start(context, "parlor send").await?;
    let token = session.engine.intend(Intent::Send { to: args.contact.clone(), text });
    let mut progress = Progress { id: None, state: MessageState::Queued, carrier: None, started };
    let timeout = Duration::from_secs(args.timeout.into());
    let waited = progress.wait(&mut session, token, args.wait, timeout).await;
    let ended = session.end().await;
    let Some(id) = progress.id else {
        ended?;
        waited?;
        return Err(CliError::Interrupted);
    };
    progress.print(context, id, &args.contact)?;
    if !matches!(waited, Ok(true)) {
        say_what_holds(context, &args.contact)?;
    }
    ended?;
    match waited {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) | Err(CliError::Interrupted) => Ok(ExitCode::from(NOT_DELIVERED)),
        Err(error) => Err(error),
    }
}

/// A message may wait for the person's own decision.
fn say_what_holds(context: &Context, contact: &Username) -> Result<(), CliError> {
    let contacts = context.home.open_read_only()?.contacts()?;
    let known = contacts.iter().find(|listed| listed.contact.name == *contact);
    if let Some(text) = known.and_then(|listed| notice::standing(&listed.contact)) {
        context.printer.note(&text);
    }
    Ok(())
}

/// Reads a message from standard input; one line end at its end is cut off.
fn read_text(input: impl Read) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_TEXT + 2).unwrap_or(u64::MAX);
    input.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes);
    let mut text = text.map_err(|_| CliError::Text("the message is not UTF-8".to_owned()))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Whether a text can be a message.
pub(super) fn check(text: &str) -> Result<(), CliError> {
    if text.is_empty() {
        return Err(CliError::Text("the message is empty".to_owned()));
    }
    if text.len() > MAX_TEXT {
        let message = format!("the message is longer than {MAX_TEXT} bytes; send it in parts");
        return Err(CliError::Text(message));
    }
    Ok(())
}

impl Progress {
    /// Waits until the message got as far as wanted. Returns whether it did.
    async fn wait(
        &mut self,
        session: &mut Session,
        token: Token,
        wait: Wait,
        timeout: Duration,
    ) -> Result<bool, CliError> {
        let deadline = self.started + timeout;
        loop {
            if self.id.is_some() && self.state >= wanted(wait) {
                return Ok(self.state != MessageState::Failed);
            }
            let next = interruptible(session.next());
            // Whether it is saved is known in any case; how far it got beyond that may not be.
            let event = if self.id.is_none() {
                next.await?
            } else {
                match timeout_at(deadline, next).await {
                    Ok(event) => event?,
                    Err(_) => return Ok(false),
                }
            };
            let Some(event) = event else { return Err(CliError::Interrupted) };
            self.note(&event, token)?;
        }
    }

    fn note(&mut self, event: &Event, token: Token) -> Result<(), CliError> {
        if let Some(error) = refused(event, token) {
            return Err(error);
        }
        match event {
            Event::Queued { token: queued, id } if *queued == token => self.id = Some(*id),
            Event::Receipt { id, state, carrier, .. } if Some(*id) == self.id => {
                self.state = *state;
                self.carrier = *carrier;
            }
            Event::Offline(reason @ (ServerDown::WrongKey | ServerDown::UnknownDevice)) => {
                return Err(CliError::Server(*reason));
            }
            _ => {}
        }
        Ok(())
    }

    fn print(&self, context: &Context, id: MessageId, to: &Username) -> Result<(), CliError> {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (state, carrier) = (self.state, self.carrier);
        let json = json!({ "id": id, "state": state, "carrier": carrier, "ms": ms });
        let word = state_word(state);
        let text = match state {
            MessageState::Sent if carrier == Some(Carrier::Mailbox) => {
                format!("{word}; it waits at the rendezvous for {to}")
            }
            MessageState::Queued | MessageState::Sent => {
                format!("{word}; it goes on to {to} when both are online")
            }
            MessageState::Delivered | MessageState::Read | MessageState::Failed => {
                format!("{word} ({ms} ms)")
            }
        };
        Ok(context.printer.line(&json, &text)?)
    }
}

/// The state that is waited for.
pub(super) const fn wanted(wait: Wait) -> MessageState {
    match wait {
        Wait::None => MessageState::Queued,
        Wait::Sent => MessageState::Sent,
        Wait::Delivered => MessageState::Delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_up_to_its_limit_and_loses_one_line_end() {
        assert_eq!(read_text(&b"hi\n"[..]).unwrap(), "hi");
        assert_eq!(read_text(&b"hi\n\n"[..]).unwrap(), "hi\n");
        assert!(matches!(read_text(&b"\xff"[..]), Err(CliError::Text(_))));
        let most = "a".repeat(MAX_TEXT);
        assert!(check(&read_text(format!("{most}\n").as_bytes()).unwrap()).is_ok());
        assert!(check(&read_text(format!("{most}aa").as_bytes()).unwrap()).is_err());
        assert!(check("").is_err());
    }
}
