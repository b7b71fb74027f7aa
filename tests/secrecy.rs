//! What must not be found: texts and passwords, on the wire inside TLS, in the rendezvous' memory,
//! in logs; and text that must not reach a terminal as it is.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use harness::world::World;
use harness::{Stage, secrets};
use parlor_common::visible::Visible;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

const SECRETS: [&str; 4] =
    ["meet me at noon", "the red door it is", "password of alice", "password of bob"];

/// A conversation of which every word is a secret.
fn conversation(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world.says("alice", "bob", SECRETS[0]);
    world.says("bob", "alice", SECRETS[1]);
    world.sees("bob", &[SECRETS[0]]);
    world.sees("alice", &[SECRETS[1]]);
    let _ = world.try_login("alice", SECRETS[3], "thief");
    world.login("alice", "phone");
    world.run_until_quiet();
    world
}

#[test]
fn neither_text_nor_password_crosses_the_wire_or_stays_in_the_rendezvous() {
    let world = conversation(90);
    assert!(world.wire().holds("contact.request"), "the search finds what is there");
    assert!(world.wire().bytes() > 10_000);
    let memory = world.server_debug();
    assert!(secrets::holds(memory.as_bytes(), "198.51.100.1"), "the search finds what is there");
    for secret in SECRETS {
        assert!(!world.wire().holds(secret), "{secret:?} crossed the wire");
        assert!(!secrets::holds(memory.as_bytes(), secret), "{secret:?} is at the rendezvous");
    }
}

#[test]
fn neither_text_nor_password_is_logged_at_any_level() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let world = tracing::subscriber::with_default(subscriber, || conversation(91));
    drop(world);
    let log = log.0.lock().unwrap();
    assert!(secrets::holds(&log, "registered"), "something is logged at all");
    for secret in SECRETS {
        assert!(!secrets::holds(&log, secret), "{secret:?} was logged");
    }
}

#[test]
fn hostile_text_arrives_as_it_was_and_is_shown_as_visible_marks() {
    let mut world = World::new(92);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    let hostile = "\x1b]0;owned\x07\x1b[2J\u{202e}txt.exe\u{2066}\r\n\0\u{9b}31m\u{200b}";
    world.says("alice", "bob", hostile);
    world.sees("bob", &[hostile]);
    let shown = Visible(hostile).to_string();
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}')
    };
    assert!(!shown.contains(steers), "{shown:?}");
    assert!(shown.contains("txt.exe") && shown.contains("owned"), "{shown:?}");
}

#[test]
fn texts_of_every_length_arrive_whole_and_envelopes_tell_little_of_it() {
    let mut world = World::new(93);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    let texts: Vec<String> = [1, 15, 16, 17, 255, 256, 4095, 4096, 65_536]
        .map(|length| "ü".repeat(length / 2) + &"x".repeat(length % 2))
        .to_vec();
    for text in &texts {
        world.says("alice", "bob", text);
    }
    world.sees("bob", &texts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
