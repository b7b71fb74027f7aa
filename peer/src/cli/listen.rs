//! `parlor listen`: what happens, as lines, until interrupted.

use std::process::ExitCode;
use std::time::Duration;

use parlor_common::id::{MessageId, Username};
use parlor_common::time::Timestamp;
use parlor_common::visible::Visible;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::error::CliError;
use super::history::state_word;
use super::notice;
use super::session::{Session, interrupted};
use crate::node::input::Intent;
use crate::node::output::{Event, Incoming};
use crate::node::record::{Carrier, StoredMessage};
use crate::store::Reader;

/// `ready` is said after this long even without the rendezvous.
pub(super) const READY_TIME: Duration = Duration::from_secs(5);

/// So many stored messages are read at once.
pub(super) const PAGE: u32 = 256;

pub(super) async fn run(context: &Context) -> Result<ExitCode, CliError> {
    let mut session = Session::start(context, "parlor listen").await?;
    let reader = context.home.open_read_only()?;
    let mut listener = Listener { context, reader, printed: 0 };
    let ended = tokio::select! {
        ended = listener.listen(&mut session) => ended,
        () = interrupted() => Ok(()),
    };
    session.end().await?;
    ended.map(|()| ExitCode::SUCCESS)
}

struct Listener<'a> {
    context: &'a Context,
    reader: Reader,
    /// The last row that was printed.
    printed: i64,
}

impl Listener<'_> {
    async fn listen(&mut self, session: &mut Session) -> Result<(), CliError> {
        let held_back = wait_ready(session).await;
        let ready = json!({ "event": "ready" });
        self.context.printer.line(&ready, "ready; press Ctrl-C to end")?;
        self.print_stored(session)?;
        for event in held_back {
            self.print(event, session)?;
        }
        while let Some(event) = session.engine.next().await {
            self.print(event, session)?;
        }
        Ok(())
    }

    /// Prints what arrived while nobody listened.
    fn print_stored(&mut self, session: &mut Session) -> Result<(), CliError> {
        loop {
            let page = self.reader.unprinted(self.printed, PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for StoredMessage { row, id, contact, text, sent_at, carrier, .. } in page {
                let carrier = carrier.unwrap_or(Carrier::Direct);
                self.message(session, row, &Line { id, from: contact, text, sent_at, carrier })?;
            }
        }
    }

    fn print(&mut self, event: Event, session: &mut Session) -> Result<(), CliError> {
        if let Event::Message(Incoming { row, id, from, text, sent_at, carrier, .. }) = event {
            return self.message(session, row, &Line { id, from, text, sent_at, carrier });
        }
        if let Some((json, text)) = render(&event) {
            self.context.printer.line(&json, &text)?;
        }
        Ok(())
    }

    /// Prints a message unless it was printed before, and then has that remembered.
    fn message(&mut self, session: &mut Session, row: i64, line: &Line) -> Result<(), CliError> {
        if row <= self.printed {
            return Ok(());
        }
        let (json, text) = line.render();
        self.context.printer.line(&json, &text)?;
        self.printed = row;
        session.engine.intend(Intent::Printed { rows: vec![row] });
        Ok(())
    }
}

/// Waits until the rendezvous shows this device online, but not for long. Returns what happened
/// meanwhile.
async fn wait_ready(session: &mut Session) -> Vec<Event> {
    let deadline = Instant::now() + READY_TIME;
    let mut happened = Vec::new();
    loop {
        match timeout_at(deadline, session.engine.next()).await {
            Err(_) | Ok(None | Some(Event::Online)) => return happened,
            Ok(Some(event)) => happened.push(event),
        }
    }
}

/// A message as a line.
pub(super) struct Line {
    pub(super) id: MessageId,
    pub(super) from: Username,
    pub(super) text: String,
    pub(super) sent_at: Timestamp,
    pub(super) carrier: Carrier,
}

impl Line {
    pub(super) fn render(&self) -> (Value, String) {
        let Self { id, from, text, sent_at, carrier } = self;
        let json = json!({
            "event": "message", "id": id, "from": from, "text": text,
            "sent_at": sent_at.to_string(), "carrier": carrier,
        });
        (json, format!("{from}: {}", Visible(text)))
    }
}

/// An event other than a message, as JSON and as text; `None` for what nobody listens for.
pub(super) fn render(event: &Event) -> Option<(Value, String)> {
    let rendered = match event {
        Event::Receipt { id, to, state, reason, .. } => {
            let json = match reason {
                None => json!({ "event": "receipt", "id": id, "state": state }),
                Some(reason) => {
                    json!({ "event": "receipt", "id": id, "state": state, "reason": reason })
                }
            };
            (json, format!("* message to {to}: {}", state_word(*state)))
        }
        Event::Typing { contact } => {
            let json = json!({ "event": "typing", "contact": contact });
            (json, format!("* {contact} is writing"))
        }
        Event::ContactRequest { from } => {
            let json = json!({ "event": "contact_request", "from": from });
            (json, format!("* {from} asks to become a contact: parlor contact accept {from}"))
        }
        Event::Presence { contact, online } => {
            let json = json!({ "event": "presence", "contact": contact, "online": online });
            (json, format!("* {contact} is {}", if *online { "online" } else { "offline" }))
        }
        Event::Path { contact, carrier, address, rtt } => {
            let rtt = (rtt.as_secs_f64() * 1e5).round() / 100.0;
            let json = json!({
                "event": "path", "contact": contact, "carrier": carrier,
                "address": address.to_string(), "rtt_ms": rtt,
            });
            (json, format!("* {contact} is reached directly at {address} ({rtt} ms)"))
        }
        Event::AccountChanged(_)
        | Event::BundleRefused { .. }
        | Event::ContactDevices { .. }
        | Event::IdentityChanged { .. }
        | Event::ListFault { .. }
        | Event::MailboxFull { .. }
        | Event::NewDevice { .. } => {
            let (json, text) = notice::render(event)?;
            (json, format!("* {text}"))
        }
        Event::Agreed { .. }
        | Event::ContactAccepted { .. }
        | Event::Done { .. }
        | Event::Message(_)
        | Event::Offline(_)
        | Event::Online
        | Event::Queued { .. }
        | Event::Replaced => return None,
    };
    Some(rendered)
}
