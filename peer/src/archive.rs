//! Messages outside of a profile: what `parlor export` writes and `parlor import` reads, a line of
//! JSON for each message. No keys, no sessions, nothing that speaks for anybody.

use std::io::{self, BufRead, Read};

use parlor_common::id::{MessageId, Username};
use parlor_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::node::input::MAX_TEXT;
use crate::node::record::{Carrier, Direction, MessageState, StoredMessage};

/// The longest line, in bytes: a text of which every byte is escaped, and what stands around it.
const MAX_LINE: usize = 6 * MAX_TEXT + 2048;

/// In place of a name that could not be read any more.
pub const LOST_NAME: &str = "lost";

/// A message, as it stands in a line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ArchivedMessage {
    /// The other side of the conversation.
    pub contact: Username,
    /// Its id.
    pub id: MessageId,
    /// Which way it went.
    pub direction: Direction,
    /// Who wrote it.
    pub from: Username,
    /// What was written, at most [`MAX_TEXT`] bytes.
    pub text: String,
    /// When, by the writer's clock.
    #[serde(with = "rfc3339")]
    pub sent_at: Timestamp,
    /// How far it came.
    pub state: MessageState,
    /// How it went, if it went.
    pub carrier: Option<Carrier>,
}

/// Why a line is not taken.
#[derive(Debug, Error)]
pub enum LineError {
    /// It is no message.
    #[error("this is no message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is from somebody who cannot have written it.
    #[error("{0} has no part in this conversation of this profile")]
    Stranger(Username),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The text is longer than [`MAX_TEXT`].
    #[error("the text is longer than {MAX_TEXT} bytes")]
    TextTooLong,
    /// It is longer than any message.
    #[error("the line is longer than any message")]
    TooLong,
}

impl ArchivedMessage {
    /// A message of the profile whose name is `own`.
    pub fn of(message: StoredMessage, own: &Username) -> Self {
        let StoredMessage { id, contact, direction, text, sent_at, state, carrier, .. } = message;
        let from = match direction {
            Direction::In => contact.clone(),
            Direction::Out => own.clone(),
        };
        Self { contact, id, direction, from, text, sent_at, state, carrier }
    }

    /// The line, without its end.
    pub fn to_line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Reads a line for the profile whose name is `own`.
    pub fn parse(line: &[u8], own: &Username) -> Result<Self, LineError> {
        let message: Self = serde_json::from_slice(line)?;
        if message.text.len() > MAX_TEXT {
            return Err(LineError::TextTooLong);
        }
        let is_by_own = message.from == *own || message.from.as_str() == LOST_NAME;
        let fits = match message.direction {
            Direction::In => message.from == message.contact,
            Direction::Out => is_by_own && message.contact != *own,
        };
        if fits { Ok(message) } else { Err(LineError::Stranger(message.from)) }
    }
}

/// The messages of a file, each with the number of its line, counted from 1. Empty lines are none.
pub fn messages<'a>(
    mut file: impl BufRead + 'a,
    own: &'a Username,
) -> impl Iterator<Item = (u64, Result<ArchivedMessage, LineError>)> + 'a {
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            match next_line(&mut file) {
                Ok(None) => return None,
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => return Some((number, ArchivedMessage::parse(&line, own))),
                Err(error) => return Some((number, Err(error))),
            }
        }
    })
}

fn next_line(file: &mut impl BufRead) -> Result<Option<Vec<u8>>, LineError> {
    let mut line = Vec::new();
    let most = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
    match file.take(most).read_until(b'\n', &mut line)? {
        0 => Ok(None),
        read if read > MAX_LINE => Err(LineError::TooLong),
        _ => Ok(Some(line)),
    }
}

mod rfc3339 {
    use parlor_common::time::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Username {
        "alice".parse().unwrap()
    }

    fn message(direction: Direction) -> ArchivedMessage {
        let stored = StoredMessage {
            row: 1,
            id: MessageId([7; 16]),
            contact: "bob".parse().unwrap(),
            direction,
            text: "a \"b\"\n\0".to_owned(),
            sent_at: Timestamp::from_millis(u64::MAX),
            state: MessageState::Sent,
            carrier: Some(Carrier::Mailbox),
            reason: None,
        };
        ArchivedMessage::of(stored, &own())
    }

    fn read(text: &str) -> Vec<(u64, Result<ArchivedMessage, LineError>)> {
        messages(text.as_bytes(), &own()).take(5).collect()
    }

    #[test]
    fn a_message_reads_back_from_its_line() {
        for direction in [Direction::In, Direction::Out] {
            let line = message(direction).to_line().unwrap();
            let read = read(&format!("\n{line}\r\n\n{line}"));
            let numbers: Vec<u64> = read.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [2, 4]);
            for (_, found) in read {
                assert_eq!(found.unwrap(), message(direction));
            }
        }
        let line = message(Direction::Out).to_line().unwrap();
        for field in [
            r#""contact":"bob""#,
            r#""id":"07070707070707070707070707070707""#,
            r#""direction":"out""#,
            r#""from":"alice""#,
            r#""state":"sent""#,
            r#""carrier":"mailbox""#,
        ] {
            assert!(line.contains(field), "{line}");
        }
    }

    #[test]
    fn what_is_no_message_of_this_profile_is_refused() {
        let line = message(Direction::Out).to_line().unwrap();
        let refused = |from: &str, to: &str| {
            assert!(line.contains(from));
            read(&line.replace(from, to)).remove(0).1.unwrap_err()
        };
        for (from, to) in [
            ("{", "["),
            ("\"out\"", "\"up\""),
            ("0707", "07"),
            ("0707", "zz07"),
            ("\"bob\"", "\"../bob\""),
            ("\"sent\"", "\"lost\""),
            ("\"mailbox\"", "1"),
            ("Z\"", "\""),
            ("\"text\"", "\"test\""),
        ] {
            assert!(matches!(refused(from, to), LineError::Malformed(_)), "{to}");
        }
        assert!(matches!(refused("alice", "carol"), LineError::Stranger(_)));
        assert!(matches!(refused("\"out\"", "\"in\""), LineError::Stranger(_)));
        assert!(matches!(refused("bob", "alice"), LineError::Stranger(_)));
        let long = "x".repeat(MAX_TEXT + 1);
        assert!(matches!(refused("\\n", &long), LineError::TextTooLong));
        let endless = "x".repeat(MAX_LINE + 1);
        assert!(matches!(read(&endless)[0], (1, Err(LineError::TooLong))));
        assert!(read(&line.replace("alice", LOST_NAME))[0].1.is_ok());
    }

    #[test]
    fn the_longest_text_fits_a_line() {
        let longest = ArchivedMessage { text: "\u{1}".repeat(MAX_TEXT), ..message(Direction::In) };
        let line = longest.to_line().unwrap();
        assert_eq!(read(&line).remove(0).1.unwrap(), longest);
    }
}
