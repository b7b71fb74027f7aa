//! The binary as scripts see it: values, exit codes, and what bad input gets.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

mod accounts;
mod faults;
mod rpc;
mod stage;
mod storage;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use stage::{Ended, Stage, json, parlor};

#[test]
fn two_people_talk_as_the_readme_says() {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    let mut listener = stage.listen("bob");

    let sent = stage.run("alice", &["send", "bob", "hello", "--json"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let sent = json(&sent.out);
    assert_eq!((&sent["state"], &sent["carrier"]), (&"delivered".into(), &"direct".into()));
    assert!(sent["ms"].is_u64());
    let message = listener.next_message();
    assert_eq!((&message["from"], &message["text"]), (&"alice".into(), &"hello".into()));
    assert_eq!(message["id"], sent["id"]);

    // The profile is in use: the second says by whom; reading is possible meanwhile.
    let second = stage.run("bob", &["send", "alice", "hi"]);
    assert_eq!(second.code, 1);
    assert!(second.err.contains("parlor listen, process"), "{second:?}");
    let history = json(&stage.run("bob", &["history", "alice", "--json"]).out);
    assert_eq!((&history["direction"], &history["text"]), (&"in".into(), &"hello".into()));
    drop(listener);

    // Printed once is printed for ever.
    let contacts = json(&stage.run("alice", &["contact", "list", "--json"]).out);
    assert_eq!((&contacts["name"], &contacts["state"]), (&"bob".into(), &"mutual".into()));
    let queued = stage.run("alice", &["send", "bob", "later", "--json", "--timeout", "1"]);
    assert_eq!(queued.code, 5, "{queued:?}");
    assert_eq!(json(&queued.out)["state"], "sent", "{queued:?}");
    assert_eq!(json(&queued.out)["carrier"], "mailbox", "{queued:?}");
    let mut listener = stage.listen("bob");
    assert_eq!(stage.run("alice", &["send", "bob", "now"]).code, 0);
    assert_eq!(listener.next_message()["text"], "later");
    assert_eq!(listener.next_message()["text"], "now");
}

#[test]
fn a_pipe_can_chat_and_hostile_text_shows_as_marks() {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    let mut bob = parlor(&stage.path("bob"))
        .args(["chat", "alice"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = stage.run("alice", &["send", "bob", "\u{1b}[2J\u{202e}hi"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let mut lines = BufReader::new(bob.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "alice: ␛[2J<U+202E>hi");

    let mut listener = stage.listen("alice");
    bob.stdin.take().unwrap().write_all(b"one\ntwo\n/quit\nthree\n").unwrap();
    assert_eq!(listener.next_message()["text"], "one");
    assert_eq!(listener.next_message()["text"], "two");
    assert!(bob.wait().unwrap().success());
}

#[test]
fn refusals_have_their_exit_codes_and_change_nothing() {
    let stage = Stage::open();
    stage.register("alice");
    let taken = stage.account("second", "register", "alice", &stage.link, "password");
    assert_eq!(taken.code, 3, "{taken:?}");
    assert_eq!(json(&taken.err)["error"]["code"], "name_taken");
    let wrong = stage.account("second", "login", "alice", &stage.link, "wrong");
    let unknown = stage.account("second", "login", "nobody", &stage.link, "wrong");
    assert_eq!((wrong.code, &wrong.err), (3, &unknown.err), "nobody is told which it was");
    assert_eq!(unknown.code, 3);
    assert_eq!(stage.run("second", &["whoami"]).code, 1, "no profile was made");

    let exists = stage.account("alice", "register", "carol", &stage.link, "password");
    assert_eq!(exists.code, 1, "{exists:?}");
    assert!(exists.err.contains("alice's profile"), "{exists:?}");

    let other_key = "A".repeat(43);
    let (_, at) = stage.link.split_once('@').unwrap();
    let forged = format!("parlor://{other_key}@{at}");
    let mismatch = stage.account("second", "register", "carol", &forged, "password");
    assert_eq!(mismatch.code, 6, "{mismatch:?}");

    assert_eq!(stage.run("alice", &["contact", "add", "nobody"]).code, 3);
    assert_eq!(stage.run("alice", &["contact", "accept", "nobody"]).code, 1);
    assert_eq!(stage.run("alice", &["send", "nobody", "hi"]).code, 1);
    assert_eq!(stage.run("alice", &["history", "nobody"]).code, 1);
    assert_eq!(stage.run("alice", &["chat", "nobody"]).code, 1);
    let elsewhere = format!("parlor://{other_key}@192.0.2.1:4433/bob");
    assert_eq!(stage.run("alice", &["contact", "add", &elsewhere]).code, 1);
}

#[test]
fn a_link_with_another_account_key_is_refused() {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    let link = json(&stage.run("bob", &["link", "--json"]).out);
    let link = link["link"].as_str().unwrap();
    let (contact, _) = link.split_once('#').unwrap();
    let forged = format!("{contact}#{}", "A".repeat(43));
    assert_eq!(stage.run("alice", &["contact", "add", &forged]).code, 6);
    assert!(stage.run("alice", &["contact", "list"]).out.is_empty(), "nothing was changed");
    assert_eq!(stage.run("alice", &["contact", "add", link]).code, 0);
    let contact = json(&stage.run("alice", &["contact", "list", "--json"]).out);
    assert_eq!((&contact["state"], &contact["verified"]), (&"asked".into(), &true.into()));
}

#[test]
fn two_people_compare_one_number_and_mark_each_other_verified() {
    let mut stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    assert_eq!(stage.run("alice", &["safety-number", "bob"]).code, 1, "no contact");
    assert_eq!(stage.run("alice", &["contact", "verify", "bob"]).code, 1, "no contact");
    assert_eq!(stage.run("alice", &["safety-number", "../x"]).code, 2);
    stage.befriend("alice", "bob");
    let number = |stage: &Stage, who: &str, with: &str| {
        let ended = stage.run(who, &["safety-number", with, "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        json(&ended.out)["safety_number"].as_str().unwrap().to_owned()
    };
    let digits = number(&stage, "alice", "bob");
    assert_eq!(digits.len(), 60);
    assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
    let listener = stage.listen("bob");
    assert_eq!(number(&stage, "bob", "alice"), digits, "beside the process that has the profile");
    drop(listener);
    let shown = stage.run("alice", &["safety-number", "bob"]).out;
    let groups: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!((groups.len(), groups.concat()), (12, digits.clone()));
    assert!(groups.iter().all(|group| group.len() == 5));

    // A person's own word needs no rendezvous.
    stage.stop_rendezvous();
    assert_eq!(number(&stage, "alice", "bob"), digits);
    let verified = stage.run("alice", &["contact", "verify", "bob"]);
    assert_eq!((verified.code, verified.err.as_str()), (0, ""), "{verified:?}");
    let contact = json(&stage.run("alice", &["contact", "list", "--json"]).out);
    assert_eq!((&contact["name"], &contact["verified"]), (&"bob".into(), &true.into()));
}

#[test]
fn an_earlier_device_confirms_a_new_one() {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    assert_eq!(stage.run("alice", &["contact", "verify", "bob"]).code, 0);
    let nothing = stage.run("bob", &["devices", "confirm"]);
    assert_eq!(nothing.code, 1, "{nothing:?}");
    assert_eq!(stage.account("phone", "login", "bob", &stage.link, "password").code, 0);

    let devices = |home: &str| -> Vec<Value> {
        let ended = stage.run(home, &["devices", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out.lines().map(json).collect()
    };
    let flags =
        |device: &Value| ["this", "newest", "by_password_alone"].map(|flag| device[flag] == true);
    let listed = devices("bob");
    assert_eq!(flags(&listed[0]), [true, false, false]);
    assert_eq!(flags(&listed[1]), [false, true, true]);

    let contact = json(&stage.run("alice", &["contact", "list", "--json"]).out);
    assert_eq!(contact["unsigned_devices"][0], listed[1]["device"], "it is held");
    let elsewhere = stage.run("phone", &["devices", "confirm"]);
    assert_eq!(elsewhere.code, 1, "{elsewhere:?}");
    let confirmed = stage.run("bob", &["devices", "confirm", "--json"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let signed: Vec<Value> = confirmed.out.lines().map(json).collect();
    let ids = |devices: &[Value]| -> Vec<Value> {
        devices.iter().map(|device| device["device"].clone()).collect()
    };
    assert_eq!(ids(&signed), ids(&listed), "what it signs");
    assert_eq!(flags(&devices("phone")[1]), [true, true, false]);

    let mut phone = stage.listen("phone");
    let sent = stage.run("alice", &["send", "bob", "to your phone"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(phone.next_message()["text"], "to your phone");
}

#[test]
fn usage_and_text_that_cannot_be_sent_end_with_2() {
    let stage = Stage::open();
    stage.register("alice");
    let long = stage.path("long");
    std::fs::write(&long, "x".repeat(65_537)).unwrap();
    let bytes = stage.path("bytes");
    std::fs::write(&bytes, [0xff, 0xfe]).unwrap();
    for file in [long, bytes] {
        let input = std::fs::File::open(file).unwrap();
        let sent = parlor(&stage.path("alice")).args(["send", "bob", "-"]).stdin(input).output();
        assert_eq!(Ended::of(sent.unwrap()).code, 2);
    }
    for args in [
        &["send", "bob", ""][..],
        &["send", "../../x", "hi"],
        &["send", &"a".repeat(33), "hi"],
        &["contact", "add", ""],
        &["contact", "add", "parlor://nonsense"],
        &["fly"],
        &[],
    ] {
        assert_eq!(stage.run("alice", args).code, 2, "{args:?}");
    }
}

#[test]
fn a_rendezvous_that_is_not_there_ends_with_4_and_a_message_stays_queued() {
    let mut stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    // Somebody who is no rendezvous, and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (key, _) = stage.link.split_once('@').unwrap();
    let nowhere = format!("{key}@{}", silent.local_addr().unwrap());
    let refused = stage.account("carol", "register", "carol", &nowhere, "password");
    assert_eq!(refused.code, 4, "{refused:?}");

    stage.stop_rendezvous();
    assert_eq!(stage.run("alice", &["contact", "add", "carol"]).code, 4);
    let sent = stage.run("alice", &["send", "bob", "hi", "--json", "--timeout", "1"]);
    assert_eq!(sent.code, 5, "{sent:?}");
    assert_eq!(json(&sent.out)["state"], "queued");
    let history = json(&stage.run("alice", &["history", "bob", "--json"]).out);
    assert_eq!((&history["text"], &history["state"]), (&"hi".into(), &"queued".into()));
}

#[test]
fn a_folder_that_cannot_hold_a_profile_is_said() {
    let stage = Stage::open();
    let file = stage.account("password", "register", "alice", &stage.link, "password");
    assert_eq!(file.code, 1);
    assert!(file.err.contains("is not a folder"), "{file:?}");
    let none = stage.run("none", &["listen"]);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("parlor register NAME --server LINK"), "{none:?}");
    assert!(!stage.path("none").exists());
}

#[test]
fn the_demo_shows_its_messages_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_parlor"))
        .args(["demo", "--json"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let demo = Ended::of(demo);
    assert_eq!(demo.code, 0, "{demo:?}");
    let events: Vec<Value> = demo.out.lines().map(json).collect();
    let messages: Vec<&Value> = events.iter().filter(|e| e["event"] == "message").collect();
    assert!(messages.len() >= 4);
    for message in messages {
        assert_eq!(message["carrier"], "direct");
        assert!(message["ms"].is_number());
        assert!(message["ciphertext"].as_str().unwrap().len() >= 32);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
