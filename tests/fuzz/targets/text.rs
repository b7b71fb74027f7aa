//! What people type or paste, and what is shown of what others wrote.

use parlor_common::id::Username;
use parlor_common::link::Link;
use parlor_common::visible::Visible;

use super::{Outcome, Seed, people, refused, taken};

/// A `parlor://` link.
pub(super) fn link(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else { return Outcome::Refused };
    let Ok(link) = text.parse::<Link>() else { return Outcome::Refused };
    assert_eq!(link.to_string().parse(), Ok(link));
    Outcome::Taken
}

pub(super) fn link_seeds() -> Vec<Seed> {
    let key = people::account().public();
    vec![
        taken("server", format!("parlor://{key}@example.org:4433")),
        taken("server-ipv6", format!("parlor://{key}@[2001:db8::1]:4433")),
        taken("contact", format!("parlor://{key}@192.0.2.1:4433/Bob#{key}")),
        taken("invitation", format!("parlor://{key}@localhost:4433/?invite=A-b_9")),
        taken("certificate", "parlor://example.org:443"),
        refused("no-port", format!("parlor://{key}@example.org")),
        refused("port-0", format!("parlor://{key}@example.org:0")),
        refused("key-too-short", "parlor://abc@example.org:4433"),
        refused("another-scheme", "https://example.org:443/"),
    ]
}

/// A username.
pub(super) fn username(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else { return Outcome::Refused };
    let Ok(name) = text.parse::<Username>() else { return Outcome::Refused };
    assert!((Username::MIN_LEN..=Username::MAX_LEN).contains(&name.as_str().len()));
    assert_eq!(name.as_str(), text.to_ascii_lowercase());
    assert_eq!(name.as_str().parse(), Ok(name));
    Outcome::Taken
}

pub(super) fn username_seeds() -> Vec<Seed> {
    vec![
        taken("folded", "Alice"),
        taken("all-kinds", "a.b_c-9"),
        taken("longest", "a".repeat(32)),
        refused("too-long", "a".repeat(33)),
        refused("starts-with-digit", "9lives"),
        refused("path", "../../x"),
        refused("look-alike", "\u{430}lice"),
    ]
}

/// Text of others on a terminal: whatever it was, it steers nothing and stays one line.
pub(super) fn visible(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else { return Outcome::Refused };
    let shown = Visible(text).to_string();
    assert!(!shown.contains(char::is_control));
    assert_eq!(Visible(&shown).to_string(), shown);
    Outcome::Taken
}

pub(super) fn visible_seeds() -> Vec<Seed> {
    vec![
        taken("escapes", "\x1b[2J\x1b]0;title\x07\r\n\u{9b}31m"),
        taken("reordered", "a\u{202e}b\u{2066}c\u{200b}d\u{e0041}"),
        taken("honest", "héllo שלום 👩‍👩‍👧"),
        refused("no-utf-8", b"\xff\xfe".as_slice()),
    ]
}
