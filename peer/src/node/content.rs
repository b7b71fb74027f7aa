//! What is inside an envelope once it is open: versioned JSON.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use parlor_common::device_list::ListMark;
use parlor_common::id::{Incarnation, MessageId};
use parlor_common::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;
use zeroize::Zeroizing;

use super::input::MAX_TEXT;
use super::record::Carrier;

/// The version that this program writes, and the highest that it reads.
const VERSION: u32 = 1;

/// A receipt names at most this many ranges: what does not fit goes into the next.
pub const MAX_RANGES: usize = 512;

/// What one peer says to another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Something that a person, or a program, wrote.
    Text {
        /// The message's id.
        id: MessageId,
        /// When it was written, by the writer's clock.
        sent_at: Timestamp,
        /// What was written.
        text: String,
        /// The last message before this one to the same recipient; in the first of an incarnation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<MessageId>,
        /// Both sides erase it so many seconds after they have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disappears: Option<u32>,
        /// After how many seconds the writer would have messages disappear: they do when both
        /// sides say so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timer: Option<u32>,
        /// Device lists; in a session's first messages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lists: Option<Lists>,
    },
    /// Messages that this device has saved, or its person has seen.
    Receipt {
        /// The ids of those that were saved, as runs.
        delivered: Vec<IdRange>,
        /// By which carrier these came; directly, if that is absent.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
        carrier: Option<Carrier>,
        /// The ids of those that were seen, as runs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        read: Vec<IdRange>,
        /// Device lists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lists: Option<Lists>,
    },
    /// A session is new because something could not be opened: what is not acknowledged is to be
    /// sealed again, on this one.
    Resend {
        /// Messages of the recipient that were received last, as runs.
        received: Vec<IdRange>,
        /// Device lists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lists: Option<Lists>,
    },
    /// Somebody is writing.
    Typing {},
    /// A type that this version does not know; it is ignored.
    #[serde(other)]
    Unknown,
}

/// Which device lists a peer has, so that both sides notice when the rendezvous shows them
/// different ones.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lists {
    /// The newest list of the sender's account that the sender knows.
    pub own: ListMark,
    /// The newest list of the recipient's account that the sender has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<ListMark>,
}

/// Messages of one incarnation with consecutive numbers; `["0011223344556677",1,9]` in JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdRange {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The first number.
    pub first: u64,
    /// The last number, not below the first.
    pub last: u64,
}

/// An opened envelope holds nothing that this version understands.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ContentError {
    /// No JSON of a known shape, or a text that is empty or too long.
    #[error("the content is malformed")]
    Malformed,
    /// Written by a newer version.
    #[error("the content is of version {0}, which is not known here")]
    UnknownVersion(u32),
}

#[derive(Deserialize, Serialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Content {
    /// The content as it is sealed.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Our own types serialize: they have no maps with odd keys and no failing serializers.
        let bytes = serde_json::to_vec(&Versioned { v: VERSION, content: self });
        Zeroizing::new(bytes.unwrap_or_default())
    }

    /// Parses what was opened.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContentError> {
        let malformed = |_| ContentError::Malformed;
        let Version { v } = serde_json::from_slice(bytes).map_err(malformed)?;
        if v > VERSION {
            return Err(ContentError::UnknownVersion(v));
        }
        let content: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        match &content {
            Self::Text { text, .. } if text.is_empty() || text.len() > MAX_TEXT => {
                Err(ContentError::Malformed)
            }
            Self::Receipt { delivered, read, .. } if delivered.len() + read.len() > MAX_RANGES => {
                Err(ContentError::Malformed)
            }
            Self::Resend { received, .. } if received.len() > MAX_RANGES => {
                Err(ContentError::Malformed)
            }
            Self::Text { .. }
            | Self::Receipt { .. }
            | Self::Resend { .. }
            | Self::Typing {}
            | Self::Unknown => Ok(content),
        }
    }
}

impl IdRange {
    /// Whether the range holds an id.
    pub fn contains(&self, id: MessageId) -> bool {
        id.incarnation() == self.incarnation && (self.first..=self.last).contains(&id.number())
    }

    /// The fewest ranges that hold exactly these ids.
    pub fn cover(ids: &BTreeSet<MessageId>) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for id in ids {
            let (incarnation, number) = (id.incarnation(), id.number());
            match ranges.last_mut() {
                Some(range)
                    if range.incarnation == incarnation
                        && range.last.checked_add(1) == Some(number) =>
                {
                    range.last = number;
                }
                _ => ranges.push(Self { incarnation, first: number, last: number }),
            }
        }
        ranges
    }
}

/// A carrier, if this version knows it.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Carrier>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    Ok(match word.as_deref() {
        Some("direct") => Some(Carrier::Direct),
        Some("mailbox") => Some(Carrier::Mailbox),
        Some(_) | None => None,
    })
}

impl Serialize for IdRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (HEXLOWER.encode(&self.incarnation.0), self.first, self.last).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IdRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (incarnation, first, last) = <(String, u64, u64)>::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(incarnation.as_bytes()).ok();
        let incarnation = bytes.and_then(|bytes| bytes.try_into().ok()).map(Incarnation);
        let incarnation = incarnation.ok_or_else(|| de::Error::custom("no incarnation"))?;
        if first > last {
            return Err(de::Error::custom("a range that ends before it starts"));
        }
        Ok(Self { incarnation, first, last })
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::device_list::ListHash;
    use proptest::prelude::*;

    use super::*;

    fn id(incarnation: u8, number: u64) -> MessageId {
        MessageId::new(Incarnation([incarnation; 8]), number)
    }

    #[test]
    fn contents_stand_in_json_as_documented() {
        let sent_at = Timestamp::from_millis(5);
        let text = Content::Text {
            id: id(1, 2),
            sent_at,
            text: "hi".to_owned(),
            after: None,
            disappears: None,
            timer: None,
            lists: None,
        };
        let json = r#"{"v":1,"type":"text","id":"01010101010101010000000000000002","sent_at":5,"text":"hi"}"#;
        assert_eq!(text.encode().as_slice(), json.as_bytes());
        assert_eq!(Content::parse(json.as_bytes()), Ok(text));

        let delivered = IdRange::cover(&[id(1, 1), id(1, 2)].into());
        let receipt = receipt_of(delivered, None);
        let json = r#"{"v":1,"type":"receipt","delivered":[["0101010101010101",1,2]]}"#;
        assert_eq!(receipt.encode().as_slice(), json.as_bytes());
        assert_eq!(Content::parse(json.as_bytes()), Ok(receipt));
    }

    fn receipt_of(delivered: Vec<IdRange>, lists: Option<Lists>) -> Content {
        Content::Receipt { delivered, carrier: None, read: Vec::new(), lists }
    }

    #[test]
    fn a_receipt_says_by_which_way_messages_came_and_which_were_seen() {
        let range = IdRange::cover(&[id(1, 1)].into());
        let carrier = Some(Carrier::Mailbox);
        let receipt = Content::Receipt {
            delivered: range.clone(),
            carrier,
            read: range.clone(),
            lists: None,
        };
        let json = r#"{"v":1,"type":"receipt","delivered":[["0101010101010101",1,1]],"carrier":"mailbox","read":[["0101010101010101",1,1]]}"#;
        assert_eq!(receipt.encode().as_slice(), json.as_bytes());
        assert_eq!(Content::parse(json.as_bytes()), Ok(receipt));
        let later = json.replace("mailbox", "pigeon");
        let unknown =
            Content::Receipt { delivered: range.clone(), carrier: None, read: range, lists: None };
        assert_eq!(Content::parse(later.as_bytes()), Ok(unknown));
    }

    #[test]
    fn device_lists_are_named_by_version_and_hash() {
        let mark = |version| ListMark { version, hash: ListHash([0; 32]) };
        let lists = Some(Lists { own: mark(2), seen: Some(mark(1)) });
        let receipt = receipt_of(Vec::new(), lists);
        let hash = "A".repeat(43);
        let json = format!(
            r#"{{"v":1,"type":"receipt","delivered":[],"lists":{{"own":{{"version":2,"hash":"{hash}"}},"seen":{{"version":1,"hash":"{hash}"}}}}}}"#
        );
        assert_eq!(receipt.encode().as_slice(), json.as_bytes());
        assert_eq!(Content::parse(json.as_bytes()), Ok(receipt));
        let bad =
            r#"{"v":1,"type":"receipt","delivered":[],"lists":{"own":{"version":2,"hash":"AA"}}}"#;
        assert_eq!(Content::parse(bad.as_bytes()), Err(ContentError::Malformed));
    }

    #[test]
    fn what_is_not_understood_is_refused_or_ignored() {
        let parse = |json: &str| Content::parse(json.as_bytes());
        assert_eq!(parse(r#"{"v":1,"type":"song","x":1}"#), Ok(Content::Unknown));
        assert_eq!(parse(r#"{"v":2,"type":"text"}"#), Err(ContentError::UnknownVersion(2)));
        assert_eq!(parse(r#"{"type":"text"}"#), Err(ContentError::Malformed));
        let backwards = r#"{"v":1,"type":"receipt","delivered":[["0101010101010101",3,2]]}"#;
        assert_eq!(parse(backwards), Err(ContentError::Malformed));
        let long = Content::Text {
            id: id(1, 1),
            sent_at: Timestamp::default(),
            text: "a".repeat(MAX_TEXT + 1),
            after: None,
            disappears: None,
            timer: None,
            lists: None,
        };
        assert_eq!(Content::parse(&long.encode()), Err(ContentError::Malformed));
    }

    #[test]
    fn ids_are_covered_by_the_fewest_ranges() {
        let ids = [id(1, 1), id(1, 2), id(1, 4), id(2, 5), id(2, 6)].into();
        let ranges = IdRange::cover(&ids);
        assert_eq!(ranges.len(), 3);
        assert!(ids.iter().all(|id| ranges.iter().any(|range| range.contains(*id))));
        assert!(!ranges.iter().any(|range| range.contains(id(1, 3))));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Content::parse(&bytes);
        }
    }
}
