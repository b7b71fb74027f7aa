//! `parlor rpc`: JSON-RPC 2.0 over standard input and output, for programs that talk. What is asked
//! goes to the engine without waiting for what was asked before; what happens is told unasked.

mod call;
mod frame;
mod newest;
mod sends;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

use self::call::{Call, Method, Read, Send, Typing, read_calls};
use self::frame::{failure, notification, success};
use self::newest::Newest;
use self::sends::{Asked, Sends, refused};
use super::Context;
use super::error::CliError;
use super::history;
use super::listen::{Line, PAGE, READY_TIME, render};
use super::send::check;
use super::session::{Session, interrupted};
use crate::args::HistoryArgs;
use crate::node::input::Intent;
use crate::node::output::{Event, Incoming};
use crate::node::record::{Carrier, StoredMessage};
use crate::store::Reader;

/// No more is read while the engine has so many messages to save.
const MAX_UNSAVED: usize = 4096;

/// What a reader does not have yet is looked for so often, and for so long: a commit reaches the
/// database some milliseconds after it was answered.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const HISTORY_TIME: Duration = Duration::from_secs(1);

/// Lines are written together, but no more than so many bytes wait for it.
const MAX_UNWRITTEN: usize = 64 * 1024;

pub(super) async fn run(context: &Context) -> Result<ExitCode, CliError> {
    let mut session = Session::start(context, "parlor rpc").await?;
    let reader = context.home.open_read_only()?;
    let mut rpc = Rpc {
        session: &mut session,
        reader,
        input: Some(read_calls()),
        sends: Sends::default(),
        histories: Vec::new(),
        newest: Newest::default(),
        starting: Some(Starting { until: Instant::now() + READY_TIME, happened: Vec::new() }),
        output: Output::default(),
    };
    let ended = tokio::select! {
        ended = rpc.serve() => ended,
        () = interrupted() => Ok(()),
    };
    session.end().await?;
    ended.map(|()| ExitCode::SUCCESS)
}

struct Rpc<'a> {
    session: &'a mut Session,
    reader: Reader,
    /// Groups of requests; none when the input has ended.
    input: Option<Receiver<Vec<Result<Call, Value>>>>,
    sends: Sends,
    /// Histories that are asked for and wait until they can be whole, each until then at most.
    histories: Vec<(Instant, Option<Value>, HistoryArgs)>,
    newest: Newest,
    /// Until `ready` was told.
    starting: Option<Starting>,
    output: Output,
}

/// What happens before `ready` is told after it. Requests are answered meanwhile.
struct Starting {
    until: Instant,
    happened: Vec<Event>,
}

enum Happened {
    Event(Option<Event>),
    Calls(Option<Vec<Result<Call, Value>>>),
    Timeout,
}

impl Rpc<'_> {
    /// Answers until the input has ended and everything is answered, or the engine has ended.
    async fn serve(&mut self) -> Result<(), CliError> {
        while self.input.is_some() || !self.sends.is_empty() || !self.histories.is_empty() {
            let mut happened = Some(self.next().await);
            while let Some(now) = happened {
                if matches!(now, Happened::Event(None)) {
                    return self.flush();
                }
                self.handle(now)?;
                happened = if self.output.is_full() { None } else { self.waiting().await };
            }
            self.answer_histories()?;
            self.flush()?;
        }
        Ok(())
    }

    /// The only place that waits.
    async fn next(&mut self) -> Happened {
        let takes_more = self.sends.unsaved() < MAX_UNSAVED;
        let starting = self.starting.as_ref().map(|starting| starting.until);
        let look = (!self.histories.is_empty()).then(|| Instant::now() + LOOK_AGAIN);
        let due = [starting, look, self.sends.poll_timeout()].into_iter().flatten().min();
        let calls = async {
            match &mut self.input {
                Some(input) if takes_more => input.recv().await,
                _ => std::future::pending().await,
            }
        };
        let timeout = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.session.engine.next() => Happened::Event(event),
            calls = calls => Happened::Calls(calls),
            () = timeout => Happened::Timeout,
        }
    }

    /// What has happened already.
    async fn waiting(&mut self) -> Option<Happened> {
        tokio::select! {
            biased;
            happened = self.next() => Some(happened),
            () = std::future::ready(()) => None,
        }
    }

    fn handle(&mut self, happened: Happened) -> Result<(), CliError> {
        match happened {
            Happened::Event(None) => Ok(()),
            Happened::Event(Some(event)) => self.handle_event(event),
            Happened::Calls(None) => {
                self.input = None;
                Ok(())
            }
            Happened::Calls(Some(calls)) => {
                for call in calls {
                    self.handle_call(call);
                }
                Ok(())
            }
            Happened::Timeout => self.handle_timeout(),
        }
    }

    fn handle_call(&mut self, call: Result<Call, Value>) {
        let answer = match call {
            Ok(Call { id, method: Method::Send(send) }) => self.send(id, send),
            Ok(Call { id, method: Method::History(args) }) => {
                self.histories.push((Instant::now() + HISTORY_TIME, id, args));
                None
            }
            Ok(Call { id, method: Method::Read(Read { contact, ids }) }) => {
                self.session.have_read(contact, ids);
                id.map(|id| success(&id, &json!({})))
            }
            Ok(Call { id, method: Method::Typing(Typing { contact }) }) => {
                self.session.typing(contact);
                id.map(|id| success(&id, &json!({})))
            }
            Err(answer) => Some(answer),
        };
        if let Some(answer) = answer {
            self.output.line(&answer);
        }
    }

    /// Hands a message to the engine. What cannot be a message is answered at once.
    fn send(&mut self, id: Option<Value>, send: Send) -> Option<Value> {
        let Send { contact, text, wait, timeout } = send;
        if let Err(error) = check(&text) {
            return id.map(|id| failure(&id, &refused(&error)));
        }
        let at = Instant::now();
        let token = self.session.engine.intend(Intent::Send { to: contact, text });
        self.sends.push(token, Asked { id, wait, at, until: at + timeout });
        None
    }

    /// Answers with histories, once they have everything that was told before.
    fn answer_histories(&mut self) -> Result<(), CliError> {
        let now = Instant::now();
        let Some((until, ..)) = self.histories.first() else { return Ok(()) };
        if !self.newest.is_in(&self.reader)? && now < *until {
            return Ok(());
        }
        for (_, id, args) in std::mem::take(&mut self.histories) {
            if let Some(id) = id {
                self.output.line(&self.history(&id, &args));
            }
        }
        Ok(())
    }

    fn history(&self, id: &Value, args: &HistoryArgs) -> Value {
        match history::entries(&self.reader, args) {
            Ok(entries) => success(id, &entries.into_iter().map(|(json, _)| json).collect()),
            Err(error) => failure(id, &refused(&error)),
        }
    }

    fn handle_event(&mut self, event: Event) -> Result<(), CliError> {
        self.newest.handle(&event);
        if let Some(answer) = self.sends.handle(&event, Instant::now()) {
            self.output.line(&answer);
        }
        match (&mut self.starting, event) {
            (Some(_), Event::Online) => self.ready(),
            (Some(starting), event) => {
                starting.happened.push(event);
                Ok(())
            }
            (None, event) => {
                self.output.event(event);
                Ok(())
            }
        }
    }

    fn handle_timeout(&mut self) -> Result<(), CliError> {
        let now = Instant::now();
        for answer in self.sends.handle_timeout(now) {
            self.output.line(&answer);
        }
        match &self.starting {
            Some(starting) if starting.until <= now => self.ready(),
            _ => Ok(()),
        }
    }

    /// Tells `ready`, what arrived while nobody listened, and what has happened since the start.
    fn ready(&mut self) -> Result<(), CliError> {
        self.output.line(&notification("ready", &Value::Object(Map::new())));
        loop {
            let page = self.reader.unprinted(self.output.printed, PAGE)?;
            if page.is_empty() {
                break;
            }
            for StoredMessage { row, id, contact, text, sent_at, carrier, .. } in page {
                let carrier = carrier.unwrap_or(Carrier::Direct);
                self.output.message(row, &Line { id, from: contact, text, sent_at, carrier });
            }
            self.flush()?;
        }
        let happened = self.starting.take().map(|starting| starting.happened);
        happened.into_iter().flatten().for_each(|event| self.output.event(event));
        Ok(())
    }

    /// Writes what is to be told, and then has remembered which messages that were.
    fn flush(&mut self) -> Result<(), CliError> {
        let rows = self.output.write(&mut io::stdout().lock())?;
        if !rows.is_empty() {
            self.session.engine.intend(Intent::Printed { rows });
        }
        Ok(())
    }
}

/// Lines that are to be written.
#[derive(Default)]
struct Output {
    lines: Vec<u8>,
    /// Rows of the messages among them.
    rows: Vec<i64>,
    /// The last row of all that were ever among them.
    printed: i64,
}

impl Output {
    fn line(&mut self, json: &Value) {
        self.lines.extend(json.to_string().into_bytes());
        self.lines.push(b'\n');
    }

    /// An event as a notification, if it is one that is told.
    fn event(&mut self, event: Event) {
        if let Event::Message(Incoming { row, id, from, text, sent_at, carrier, .. }) = event {
            self.message(row, &Line { id, from, text, sent_at, carrier });
        } else if let Some((json, _)) = render(&event) {
            self.notification(json);
        }
    }

    /// A message, unless it was told before.
    fn message(&mut self, row: i64, message: &Line) {
        if row > self.printed {
            self.notification(message.render().0);
            self.printed = row;
            self.rows.push(row);
        }
    }

    /// What `listen` prints, with the event's name as the method.
    fn notification(&mut self, mut event: Value) {
        let name = event.as_object_mut().and_then(|fields| fields.remove("event"));
        if let Some(name) = name.as_ref().and_then(Value::as_str) {
            self.line(&notification(name, &event));
        }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= MAX_UNWRITTEN
    }

    /// Writes everything. Gives the rows of the messages that were written.
    fn write(&mut self, to: &mut impl Write) -> io::Result<Vec<i64>> {
        if !self.lines.is_empty() {
            to.write_all(&self.lines)?;
            to.flush()?;
            self.lines.clear();
        }
        Ok(std::mem::take(&mut self.rows))
    }
}
