//! The methods: what can be asked, with which parameters.

use std::io::{self, BufReader};
use std::time::Duration;

use parlor_common::id::{MessageId, Username};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::frame::{self, Code, Failure, Request, failure};
use crate::args::{HistoryArgs, Wait};
use crate::cli::lines::{Line, read_line};
use crate::node::input::MAX_TEXT;

/// Every byte of a text may stand as six in JSON, and then there is the rest of the request.
const MAX_LINE: usize = 6 * MAX_TEXT + 4096;

/// So many bytes are read at once; requests that lie in them are handed on together.
const BUFFER: usize = 64 * 1024;

/// So many groups of requests wait for the engine; then reading waits.
const GROUPS: usize = 16;

/// A request that was understood.
#[derive(Debug)]
pub(super) struct Call {
    /// Marks the answer; without one none is wanted.
    pub(super) id: Option<Value>,
    /// What is asked.
    pub(super) method: Method,
}

/// What can be asked.
#[derive(Debug)]
pub(super) enum Method {
    /// The conversation with a contact.
    History(HistoryArgs),
    /// A person has seen messages of a contact, which is told.
    Read(Read),
    /// A message.
    Send(Send),
    /// A person is writing to a contact, which is told.
    Typing(Typing),
}

/// Parameters of `read`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    /// Whose messages.
    pub(super) contact: Username,
    /// Which.
    pub(super) ids: Vec<MessageId>,
}

/// Parameters of `typing`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Typing {
    /// To whom.
    pub(super) contact: Username,
}

/// Parameters of `send`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    /// To whom.
    pub(super) contact: Username,
    /// What.
    pub(super) text: String,
    /// How far the answer waits.
    #[serde(default = "no_wait")]
    pub(super) wait: Wait,
    /// For how long.
    #[serde(default = "patience", deserialize_with = "seconds")]
    pub(super) timeout: Duration,
}

const fn no_wait() -> Wait {
    Wait::None
}

/// As long as `parlor send` waits by default.
const fn patience() -> Duration {
    Duration::from_secs(30)
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    // A century is for ever, and dates that far ahead can be reckoned with.
    let seconds = seconds.min(3.2e9);
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    contact: Username,
    #[serde(default = "page")]
    limit: u32,
    search: Option<String>,
    before: Option<MessageId>,
}

/// As many as `parlor history` prints by default.
const fn page() -> u32 {
    50
}

/// Reads requests from standard input on a thread of its own, until it ends. What is no request
/// comes as the answer that it gets.
pub(super) fn read_calls() -> mpsc::Receiver<Vec<Result<Call, Value>>> {
    let (sender, receiver) = mpsc::channel(GROUPS);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(BUFFER, io::stdin().lock());
        // An input that cannot be read any more has ended.
        while let Ok(Some(calls)) = read_group(&mut input) {
            if sender.blocking_send(calls).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for a line, and takes the whole lines that came with it.
fn read_group(
    input: &mut BufReader<impl io::Read>,
) -> io::Result<Option<Vec<Result<Call, Value>>>> {
    let mut calls = Vec::new();
    while calls.is_empty() || input.buffer().contains(&b'\n') {
        match read_line(input, MAX_LINE)? {
            Some(line) => calls.extend(parse(line)),
            None => return Ok((!calls.is_empty()).then_some(calls)),
        }
    }
    Ok(Some(calls))
}

/// The request on a line, or the answer that the line gets; neither for one without an id that
/// cannot be done, because nobody hears of that, nor for an empty line.
fn parse(line: Line) -> Option<Result<Call, Value>> {
    let refuse =
        |message: String| Some(Err(failure(&Value::Null, &Failure::new(Code::Parse, message))));
    let line = match line {
        Line::Text(line) if line.trim().is_empty() => return None,
        Line::Text(line) => line,
        Line::TooLong => return refuse(format!("a line has at most {MAX_LINE} bytes")),
        Line::NotUtf8 => return refuse("a line is UTF-8".to_owned()),
    };
    let Request { id, method, params } = match frame::parse(&line) {
        Ok(request) => request,
        Err(answer) => return Some(Err(answer)),
    };
    match self::method(&method, params) {
        Ok(method) => Some(Ok(Call { id, method })),
        Err(error) => id.map(|id| Err(failure(&id, &error))),
    }
}

fn method(name: &str, params: Value) -> Result<Method, Failure> {
    match name {
        "history" => {
            let History { contact, limit, search, before } = frame::params(params)?;
            Ok(Method::History(HistoryArgs { contact, limit, search, before }))
        }
        "read" => frame::params(params).map(Method::Read),
        "send" => frame::params(params).map(Method::Send),
        "typing" => frame::params(params).map(Method::Typing),
        _ => {
            let message = "there is no such method; there are history, read, send and typing";
            Err(Failure::new(Code::MethodNotFound, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: &str) -> Vec<Vec<Result<Call, Value>>> {
        let mut input = BufReader::with_capacity(BUFFER, input.as_bytes());
        std::iter::from_fn(|| read_group(&mut input).unwrap()).collect()
    }

    fn line(id: &Value, method: &str, params: &Value) -> String {
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        format!("{line}\n")
    }

    fn one(method: &str, params: &Value) -> Result<Method, i64> {
        let [group] = &mut read(&line(&1.into(), method, params))[..] else { panic!("a group") };
        match group.pop().unwrap() {
            Ok(call) => Ok(call.method),
            Err(answer) => Err(answer["error"]["code"].as_i64().unwrap()),
        }
    }

    #[test]
    fn lines_that_come_together_are_one_group() {
        let sends: String = (0..300)
            .map(|n| line(&n.into(), "send", &json!({"contact": "bob", "text": "hi"})))
            .collect();
        assert!(sends.len() < BUFFER);
        let groups = read(&format!("\n{sends}"));
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [300]);
    }

    #[test]
    fn a_text_of_the_greatest_length_fits_however_it_is_escaped() {
        let text = "\u{1}".repeat(MAX_TEXT);
        let Ok(Method::Send(send)) = one("send", &json!({"contact": "bob", "text": text})) else {
            panic!("it is a message")
        };
        assert_eq!(send.text, text);
        let too_long = format!("\"{}\"\n{{\n", "x".repeat(MAX_LINE));
        let answers: Vec<_> = read(&too_long).into_iter().flatten().collect();
        assert_eq!(answers.len(), 2);
        for answer in answers {
            assert_eq!(answer.unwrap_err()["error"]["code"], -32700);
        }
    }

    #[test]
    fn parameters_have_defaults_and_bounds() {
        let Ok(Method::Send(send)) = one("send", &json!({"contact": "Bob", "text": "x"})) else {
            panic!("it is a message")
        };
        assert_eq!((send.contact.as_str(), send.wait), ("bob", Wait::None));
        assert_eq!(send.timeout, Duration::from_secs(30));
        let more = json!({"contact": "bob", "text": "x", "wait": "delivered", "timeout": 1.5});
        let Ok(Method::Send(send)) = one("send", &more) else { panic!("it is a message") };
        assert_eq!((send.wait, send.timeout), (Wait::Delivered, Duration::from_millis(1500)));
        let Ok(Method::History(args)) = one("history", &json!({"contact": "bob"})) else {
            panic!("it is history")
        };
        assert_eq!((args.limit, args.search), (50, None));
        for wrong in [
            json!(null),
            json!({"contact": "../x", "text": "x"}),
            json!({"contact": "bob"}),
            json!({"contact": "bob", "text": "x", "wait": "read"}),
            json!({"contact": "bob", "text": "x", "timeout": -1}),
            json!({"contact": "bob", "text": "x", "timeuot": 1}),
        ] {
            assert_eq!(one("send", &wrong).unwrap_err(), -32602, "{wrong}");
        }
        assert!(one("send", &json!({"contact": "bob", "text": "x", "timeout": 1e300})).is_ok());
        assert_eq!(one("sned", &json!({})).unwrap_err(), -32601);
    }

    #[test]
    fn nobody_hears_of_what_wants_no_answer() {
        assert!(read("{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n").is_empty());
    }
}
