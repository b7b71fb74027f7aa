//! What people type or paste, and what is shown of what others wrote.

use parlor_common::id::Username;
use parlor_common::link::Link;
use parlor_common::visible::Visible;
use parlor_rendezvous::email::{Address, EmailCode, Filled, Template};

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

/// An e-mail address: whatever is taken is one line of printable ASCII, and nothing else reads the
/// same.
pub(super) fn email_address(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else { return Outcome::Refused };
    let Ok(address) = text.parse::<Address>() else { return Outcome::Refused };
    let written = address.to_string();
    assert!(written.len() <= 254 && written.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let (_, domain) = written.rsplit_once('@').expect("an address has an @");
    assert_eq!(domain, address.domain().as_str());
    assert_eq!(domain.parse().as_ref(), Ok(address.domain()));
    assert_eq!(written.parse(), Ok(address));
    Outcome::Taken
}

pub(super) fn email_address_seeds() -> Vec<Seed> {
    vec![
        taken("plain", "x@isb.nu.edu.pk"),
        taken("upper-case", "First.Last+tag@ISB.NU.EDU.PK"),
        taken("quoted", r#""a \" b"@evil.example"#),
        taken("quoted-without-need", "\"x\"@isb.nu.edu.pk"),
        taken("international", "x@bücher.example"),
        taken("look-alike", "x@i\u{455}b.nu.edu.pk"),
        taken("full-width", "x@\u{ff49}sb\u{3002}nu.edu.pk"),
        refused("header", "x@isb.nu.edu.pk\r\nBcc: y@evil.example"),
        refused("display-name", "X <x@isb.nu.edu.pk>"),
        refused("comment", "x(y)@isb.nu.edu.pk"),
        refused("literal", "x@[IPv6:::1]"),
        refused("root", "x@isb.nu.edu.pk."),
        refused("bad-punycode", "x@xn--a.example"),
    ]
}

/// The template of a mail: whatever it is, the code is alone on the first line.
pub(super) fn mail_template(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else { return Outcome::Refused };
    let Ok(template) = text.parse::<Template>() else { return Outcome::Refused };
    let code: EmailCode = "ABCD-EFGH".parse().expect("it is a code");
    let name = "alice".parse().expect("it is a name");
    let filled = template.fill(Filled { code: &code, name: &name, server: "chat.example" });
    assert_eq!(filled.split('\n').next(), Some("ABCD-EFGH"));
    assert!(!filled.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    Outcome::Taken
}

pub(super) fn mail_template_seeds() -> Vec<Seed> {
    vec![
        taken("all", "{code}\n\nfor {name} at {server}: {code} }\n"),
        taken("code", "{code}"),
        taken("dos", "{code}\r\n\r\n{name}\r\n"),
        refused("unknown", "{code}\n{password}"),
        refused("unclosed", "{code}\n{name"),
        refused("not-alone", "code: {code}\n"),
        refused("escape", "{code}\n\u{1b}[2J"),
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
