//! `parlor chat`: each line of input is sent, each message is printed as a line.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use parlor_common::id::{MessageId, Username};
use parlor_common::visible::Visible;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::error::{CliError, NOT_DELIVERED};
use super::lines::{self, read_line};
use super::listen::{Line, render};
use super::notice;
use super::session::{Session, interrupted};
use crate::node::input::{Intent, MAX_TEXT};
use crate::node::output::{Event, Incoming, IntentError};
use crate::node::record::{Direction, MessageState};

/// At the end of input, what was typed has this long to be delivered.
const DELIVERY_TIME: Duration = Duration::from_secs(30);

/// Lines of history that a conversation on a terminal opens with.
const OPENING: u32 = 10;

pub(super) async fn run(context: &Context, contact: Username) -> Result<ExitCode, CliError> {
    let contacts = context.home.open_read_only()?.contacts()?;
    if !contacts.iter().any(|listed| listed.contact.name == contact) {
        return Err(IntentError::UnknownContact(contact).into());
    }
    let mut session = Session::start(context, "parlor chat").await?;
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        open(context, &contact, &mut session)?;
    }
    let pending = BTreeSet::new();
    let mut chat = Chat { context, contact, is_terminal, pending, unanswered: 0 };
    let chatted = tokio::select! {
        chatted = chat.talk(&mut session) => chatted,
        () = interrupted() => Ok(()),
    };
    session.end().await?;
    chatted?;
    if chat.pending.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let count = chat.pending.len();
    context.printer.note(&format!("{count} not delivered yet; they stay queued"));
    Ok(ExitCode::from(NOT_DELIVERED))
}

/// Shows the end of the conversation so far, and how this works.
fn open(context: &Context, contact: &Username, session: &mut Session) -> Result<(), CliError> {
    let mut seen = Vec::new();
    for message in context.home.open_read_only()?.history(contact, OPENING, None)? {
        let from = match message.direction {
            Direction::In => {
                seen.push(message.id);
                contact.as_str()
            }
            Direction::Out => "you",
        };
        context.printer.text(&format!("{from}: {}", Visible(&message.text)))?;
    }
    session.have_read(contact.clone(), seen);
    context.printer.text(&format!("* talking with {contact}; /quit ends"))?;
    Ok(())
}

struct Chat<'a> {
    context: &'a Context,
    contact: Username,
    /// Whether it is a person who reads and writes.
    is_terminal: bool,
    /// Sent and not delivered.
    pending: BTreeSet<MessageId>,
    /// Typed, and not answered by the engine.
    unanswered: usize,
}

impl Chat<'_> {
    async fn talk(&mut self, session: &mut Session) -> Result<(), CliError> {
        let mut lines = read_lines();
        loop {
            tokio::select! {
                event = session.engine.next() => match event {
                    Some(event) => self.show(event, session)?,
                    None => return Ok(()),
                },
                line = lines.recv() => match line {
                    Some(Ok(line)) if line == "/quit" => break,
                    Some(Ok(line)) => self.say(line, session),
                    Some(Err(error)) => self.context.printer.note(&error.to_string()),
                    None => break,
                },
            }
        }
        self.wait_delivered(session).await
    }

    fn say(&mut self, line: String, session: &mut Session) {
        if line.is_empty() {
            return;
        }
        session.engine.intend(Intent::Send { to: self.contact.clone(), text: line });
        self.unanswered += 1;
    }

    async fn wait_delivered(&mut self, session: &mut Session) -> Result<(), CliError> {
        let deadline = Instant::now() + DELIVERY_TIME;
        while self.unanswered > 0 || !self.pending.is_empty() {
            match timeout_at(deadline, session.engine.next()).await {
                Ok(Some(event)) => self.show(event, session)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    fn show(&mut self, event: Event, session: &mut Session) -> Result<(), CliError> {
        match event {
            Event::Message(Incoming { id, from, text, sent_at, carrier, .. }) => {
                if from == self.contact {
                    if self.is_terminal {
                        session.have_read(from.clone(), vec![id]);
                    }
                    let (json, text) = Line { id, from, text, sent_at, carrier }.render();
                    self.context.printer.line(&json, &text)?;
                }
            }
            Event::Queued { id, .. } => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.pending.insert(id);
            }
            Event::Done { result: Err(error), .. } => return Err(error.into()),
            event => {
                if let Event::Receipt { id, state, .. } = &event
                    && *state >= MessageState::Delivered
                {
                    self.pending.remove(id);
                }
                if (self.context.printer.is_json() || notice::render(&event).is_some())
                    && let Some((json, text)) = render(&event)
                {
                    self.context.printer.line(&json, &text)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads standard input on a thread of its own: a terminal cannot be waited for otherwise.
fn read_lines() -> mpsc::Receiver<Result<String, CliError>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input, MAX_TEXT).transpose() {
            let line = line.map_err(CliError::Io).and_then(text_of);
            let ended = matches!(line, Err(CliError::Io(_)));
            if sender.blocking_send(line).is_err() || ended {
                return;
            }
        }
    });
    receiver
}

/// The text of a line that can be sent.
fn text_of(line: lines::Line) -> Result<String, CliError> {
    let wrong = match line {
        lines::Line::Text(text) => return Ok(text),
        lines::Line::TooLong => format!("a line is longer than {MAX_TEXT} bytes and was not sent"),
        lines::Line::NotUtf8 => "a line is not UTF-8 and was not sent".to_owned(),
    };
    Err(CliError::Text(wrong))
}
