//! What is fuzzed: one function for each parser of bytes from outside.
//!
//! A target says whether it took its input, and asserts more than that nothing panics: what was
//! taken is written again as it was read, and what was signed or sealed is taken as its maker made
//! it or not at all. The same functions run under libFuzzer (`main.rs`) and over the kept corpus in
//! the ordinary tests (`tests/corpora.rs`).
//!
//! | room | what it parses |
//! | --- | --- |
//! | `text` | what people type or paste, and what is shown of others |
//! | `wire` | frames and what is in them |
//! | `signed` | device lists, cards, offers, bundles: parsed and verified |
//! | `sealed` | padding, contents, boxes |
//! | `sessions` | first and following messages, stored sessions and prekeys |
//! | `opaque` | both sides' messages of registration and login |
//! | `admin` | what who runs a rendezvous asks of it |

mod admin;
mod edits;
mod opaque;
mod people;
mod sealed;
mod sessions;
mod signed;
mod text;
mod wire;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What became of an input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was parsed, verified or opened.
    Taken,
    /// It was refused, with an error.
    Refused,
}

impl Outcome {
    fn of<T>(taken: Option<T>) -> Self {
        if taken.is_some() { Self::Taken } else { Self::Refused }
    }
}

/// An input to start from, with its name in the corpus.
pub struct Seed {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub outcome: Outcome,
}

fn taken(name: &'static str, bytes: impl Into<Vec<u8>>) -> Seed {
    Seed { name, bytes: bytes.into(), outcome: Outcome::Taken }
}

fn refused(name: &'static str, bytes: impl Into<Vec<u8>>) -> Seed {
    Seed { name, bytes: bytes.into(), outcome: Outcome::Refused }
}

/// A parser to fuzz.
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    /// Takes or refuses an input; panics where the parser is wrong.
    pub run: fn(&[u8]) -> Outcome,
    /// Where fuzzing starts.
    pub seeds: fn() -> Vec<Seed>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "account-box", run: sealed::account_box, seeds: sealed::account_box_seeds },
    Target { name: "admin-reply", run: admin::reply, seeds: admin::reply_seeds },
    Target { name: "admin-request", run: admin::request, seeds: admin::request_seeds },
    Target { name: "audit-head", run: admin::audit_head, seeds: admin::audit_head_seeds },
    Target { name: "card", run: signed::card, seeds: signed::card_seeds },
    Target { name: "content", run: sealed::content, seeds: sealed::content_seeds },
    Target { name: "device-list", run: signed::device_list, seeds: signed::device_list_seeds },
    Target { name: "email-address", run: text::email_address, seeds: text::email_address_seeds },
    Target { name: "envelope", run: wire::envelope, seeds: wire::envelope_seeds },
    Target { name: "event", run: wire::event, seeds: wire::event_seeds },
    Target {
        name: "first-message",
        run: sessions::first_message,
        seeds: sessions::first_message_seeds,
    },
    Target {
        name: "following-message",
        run: sessions::following_message,
        seeds: sessions::following_message_seeds,
    },
    Target { name: "frames", run: wire::frames, seeds: wire::frames_seeds },
    Target { name: "invitation", run: admin::invitation, seeds: admin::invitation_seeds },
    Target { name: "link", run: text::link, seeds: text::link_seeds },
    Target { name: "mail-template", run: text::mail_template, seeds: text::mail_template_seeds },
    Target { name: "offer", run: signed::offer, seeds: signed::offer_seeds },
    Target { name: "opaque-of-client", run: opaque::of_client, seeds: opaque::of_client_seeds },
    Target { name: "opaque-of-server", run: opaque::of_server, seeds: opaque::of_server_seeds },
    Target { name: "padding", run: sealed::padding, seeds: sealed::padding_seeds },
    Target { name: "peer-frame", run: wire::peer_frame, seeds: wire::peer_frame_seeds },
    Target { name: "prekey-bundle", run: signed::bundle, seeds: signed::bundle_seeds },
    Target { name: "raw-key", run: wire::raw_key, seeds: wire::raw_key_seeds },
    Target {
        name: "recovery-code",
        run: sealed::recovery_code,
        seeds: sealed::recovery_code_seeds,
    },
    Target { name: "reply", run: wire::reply, seeds: wire::reply_seeds },
    Target { name: "request", run: wire::request, seeds: wire::request_seeds },
    Target {
        name: "stored-prekeys",
        run: sessions::stored_prekeys,
        seeds: sessions::stored_prekeys_seeds,
    },
    Target {
        name: "stored-session",
        run: sessions::stored_session,
        seeds: sessions::stored_session_seeds,
    },
    Target { name: "username", run: text::username, seeds: text::username_seeds },
    Target { name: "visible", run: text::visible, seeds: text::visible_seeds },
];

/// Parses JSON, and sees to it that the value survives being written and read again.
fn json<T: DeserializeOwned + Serialize + PartialEq + fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = to_json(&value);
    assert_eq!(serde_json::from_slice::<T>(&written).expect("it was just written"), value);
    Some(value)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types serialize")
}
