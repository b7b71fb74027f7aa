//! Strangers on real sockets: what is malformed, oversized, cut short or never ends harms nobody
//! but its sender; another server key than the pinned one is refused; and what lies on the disks
//! tells nothing.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use harness::raw::{Raw, reply};
use harness::real::Real;
use harness::{Stage, secrets, stories};
use parlor::net::ConnectError;
use parlor::node::output::Event;
use parlor::profile::Home;
use parlor_common::identity::{DeviceSecret, ServerSecret};
use parlor_common::link::ServerAddress;
use parlor_common::wire::frame;
use parlor_common::wire::peer::{Hello, PeerFrame};
use quinn::{ConnectionError, ReadError, ReadToEndError};

#[test]
fn what_is_no_request_is_refused_and_many_of_it_end_the_connection() {
    let real = Real::new();
    real.block_on(async {
        let stranger = Raw::at_server(real.server(), &secret(1)).await;
        let long = u32::MAX.to_be_bytes();
        let cut_short = [&[0, 0, 0, 100][..], b"{\"request\":"].concat();
        let no_json = frame(&[0xff; 3000]);
        for bytes in [&long[..], &cut_short, &no_json, &frame(b""), &frame(b"{}"), b"\0\0"] {
            let (_send, mut receive) = stranger.request(bytes, true).await;
            assert_malformed(&reply(&mut receive).await);
        }
        let unknown = stranger.ask(b"{\"request\":\"later.thing\"}").await;
        assert!(String::from_utf8(unknown).unwrap().contains("unsupported"));
        while stranger.connection().close_reason().is_none() {
            let Ok((mut send, _)) = stranger.connection().open_bi().await else { break };
            let _ = send.write_all(&frame(b"{")).await;
            let _ = send.finish();
            let _ = send.stopped().await;
        }
        let reason = stranger.connection().closed().await;
        assert!(matches!(reason, ConnectionError::ApplicationClosed(_)), "{reason}");
    });
}

#[test]
fn requests_that_never_end_are_cut_and_keep_nobody_else_waiting() {
    let mut real = Real::new();
    let stranger = real.block_on(Raw::at_server(real.server(), &secret(1)));
    let mut streams = Vec::new();
    for _ in 0..8 {
        // A frame that is announced and begun.
        let begun = [&60_000_u32.to_be_bytes()[..], b"{"].concat();
        streams.push(real.block_on(stranger.request(&begun, false)));
    }
    stories::two_peers_talk(&mut real);
    for (_send, mut receive) in streams {
        let end = real.block_on(receive.read_to_end(1000));
        assert!(matches!(end, Err(ReadToEndError::Read(ReadError::Reset(_)))), "{end:?}");
    }
    assert_eq!(stranger.connection().close_reason(), None);
    real.block_on(async {
        let reply = stranger.ask(b"{\"request\":\"presence.watch\"}").await;
        assert!(String::from_utf8(reply).unwrap().contains("unknown_device"));
        stranger.leave().await;
    });
}

#[test]
fn a_peer_closes_what_is_no_contact_and_what_speaks_no_frames() {
    let mut real = Real::new();
    stories::two_peers_talk(&mut real);
    let bob = address_of(&real, "alice", "bob");
    let key = real.device("bob").public();
    let alice = DeviceSecret::from_seed(&real.device("alice").expose_seed());
    let too_long = u32::MAX.to_be_bytes().to_vec();
    let no_envelope = frame(&[3, 1, 2, 3]);
    let silent = Vec::new();
    let envelope_first = frame(&PeerFrame::BundleRequest.encode());
    let cases = [
        (secret(2), hello(), "a stranger"),
        (secret(2), silent, "a stranger without a word"),
        (secret(2), envelope_first, "a stranger without a hello"),
        (secret(2), too_long.clone(), "a stranger with a frame too long"),
        (alice, [hello(), too_long].concat(), "a contact with a frame too long"),
        (
            DeviceSecret::from_seed(&real.device("alice").expose_seed()),
            [hello(), no_envelope].concat(),
            "a contact with what is no envelope",
        ),
    ];
    // All at once, so that their times pass together.
    real.block_on(async {
        for (device, bytes, who) in &cases {
            let raw = Raw::at_peer(bob, &key, device).await;
            let _stream = raw.say(bytes).await;
            let reason = raw.connection().closed().await;
            assert!(matches!(reason, ConnectionError::ApplicationClosed(_)), "{who}: {reason}");
        }
    });
    real.says("alice", "bob", "and we talk on");
    real.sees("bob", &["hi bob", "and we talk on"]);
    real.all_delivered("alice");
}

#[test]
fn a_frame_that_never_ends_keeps_no_peer_from_its_contacts() {
    let mut real = Real::new();
    stories::two_peers_talk(&mut real);
    let (bob, key) = (address_of(&real, "alice", "bob"), real.device("bob").public());
    let alice = DeviceSecret::from_seed(&real.device("alice").expose_seed());
    let begun = [&hello()[..], &400_000_u32.to_be_bytes(), &[3; 10]].concat();
    let held = real.block_on(async {
        let raw = Raw::at_peer(bob, &key, &alice).await;
        let stream = raw.say(&begun).await;
        (raw, stream)
    });
    real.register("carol");
    real.befriend("carol", "bob");
    real.says("carol", "bob", "from carol");
    real.says("alice", "bob", "from alice");
    let both = |told: &[Event]| {
        let texts = told.iter().filter(|event| matches!(event, Event::Message(_)));
        texts.count() == 3
    };
    real.until("bob", "both", both);
    drop(held);
}

#[test]
fn another_server_key_than_the_links_is_refused_before_anything_is_said() {
    let mut real = Real::new();
    let other = ServerSecret::from_seed(&[9; 32]).public();
    let wrong = ServerAddress { key: Some(other), ..real.server().clone() };
    let refused = real.try_register("alice", &wrong);
    assert!(matches!(refused, Err(ConnectError::WrongKey)), "{refused:?}");
    let profile = real.server_folder().with_file_name("alice");
    assert!(Home::new(profile).open_read_only().is_err(), "no half of a profile is left");
    real.register("alice");
}

#[test]
fn what_lies_on_the_disks_holds_neither_text_nor_password() {
    let mut real = Real::new();
    stories::two_peers_talk(&mut real);
    let texts = ["hi alice", "how are you?", "password of alice", "password of bob"];
    let server = real.server_folder();
    let homes = ["alice", "bob"].map(|who| real.home(who).to_owned());
    let search = |folders: &[&Path]| {
        let files: Vec<_> = folders.iter().flat_map(|folder| files(folder)).collect();
        assert!(files.len() > folders.len(), "there is something to search");
        for (path, bytes) in files {
            for text in texts {
                assert!(!secrets::holds(&bytes, text), "{path} holds {text:?}");
            }
        }
    };
    let has_name = |bytes: &[u8]| secrets::holds(bytes, "account_box");
    assert!(files(&server).iter().any(|(_, bytes)| has_name(bytes)), "the search finds a column");
    // While they run, with their logs; and when all is closed.
    search(&[&server, &homes[0], &homes[1]]);
    real.stop("alice");
    real.stop("bob");
    real.stop_server();
    search(&[&server, &homes[0], &homes[1]]);
}

fn assert_malformed(reply: &[u8]) {
    let reply = String::from_utf8_lossy(reply);
    assert!(reply.contains("\"malformed\""), "{reply}");
}

/// Where a contact was reached.
fn address_of(real: &Real, who: &str, contact: &str) -> SocketAddr {
    let mut told = real.told(who).iter().rev();
    let path = told.find_map(|event| match event {
        Event::Path { contact: name, address, .. } if name.as_str() == contact => Some(*address),
        _ => None,
    });
    path.expect("they have talked")
}

fn hello() -> Vec<u8> {
    frame(&PeerFrame::Hello(Hello { version: 1 }).encode())
}

fn secret(seed: u8) -> DeviceSecret {
    DeviceSecret::from_seed(&[seed; 32])
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: &Path| (path.display().to_string(), fs::read(path).unwrap());
    entries.filter(|path| path.is_file()).map(|path| read(&path)).collect()
}
