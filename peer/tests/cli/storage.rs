//! What a profile keeps: searched, set, locked, taken out and brought back, and looked after.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::stage::{Ended, Stage, json};

/// alice and bob are contacts, and alice has queued these messages for bob.
fn with_queued(texts: &[&str]) -> Stage {
    let mut stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    stage.stop_rendezvous();
    for text in texts {
        assert_eq!(stage.run("alice", &["send", "bob", text, "--wait", "none"]).code, 0);
    }
    stage
}

fn lines(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.out.lines().map(json).collect()
}

fn texts(stage: &Stage, home: &str, args: &[&str]) -> Vec<String> {
    let args = [&["history", "bob", "--json"], args].concat();
    let lines = lines(&stage.run(home, &args));
    lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_conversation_is_searched_and_read_in_pages() {
    let stage = with_queued(&["Zum Café", "cafe AND tea", "only tea", "tea for two :-)"]);
    let search = |words: &str| texts(&stage, "alice", &["--search", words]);
    assert_eq!(search("CAFÉ"), ["Zum Café", "cafe AND tea"]);
    assert_eq!(search("te and"), ["cafe AND tea"]);
    assert_eq!(search("\"tea"), ["cafe AND tea", "only tea", "tea for two :-)"]);
    assert_eq!(search(":-)"), ["tea for two :-)"]);
    assert_eq!(search("coffee"), Vec::<String>::new());

    let all = lines(&stage.run("alice", &["history", "bob", "--json"]));
    let last = all[3]["id"].as_str().unwrap();
    let page = ["--limit", "2", "--before", last];
    assert_eq!(texts(&stage, "alice", &page), ["cafe AND tea", "only tea"]);
    let found = [&page[..], &["--search", "cafe"]].concat();
    assert_eq!(texts(&stage, "alice", &found), ["Zum Café", "cafe AND tea"]);
    let unknown = stage.run("alice", &["history", "bob", "--before", &"0".repeat(32)]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert_eq!(stage.run("alice", &["history", "bob", "--before", "12"]).code, 2);
}

#[test]
fn a_configuration_with_a_line_that_says_nothing_known_stops_the_engine() {
    let stage = with_queued(&[]);
    let config = stage.path("alice").join("config.toml");
    fs::write(&config, "read_receipts = false\nread_reciepts = true\n").unwrap();
    let refused = stage.run("alice", &["send", "bob", "hi", "--wait", "none", "--json"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let error = json(&refused.err);
    assert_eq!(error["error"]["code"], "config");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("config.toml: line 2: unknown field `read_reciepts`"), "{message}");
    fs::write(&config, "read_receipts = false\ndurability = \"power\"").unwrap();
    assert_eq!(stage.run("alice", &["send", "bob", "hi", "--wait", "none"]).code, 0);
}

#[test]
fn a_profile_behind_a_passphrase_opens_with_it_alone() {
    let stage = with_queued(&["secret"]);
    let passphrase = |text: &str| -> PathBuf {
        let file = stage.path("passphrase");
        fs::write(&file, format!("{text}\n")).unwrap();
        file
    };
    let file = passphrase("pale otter under nine bridges");
    let file = file.to_str().unwrap();
    let nobody = stage.run("alice", &["store", "passphrase"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("--passphrase-file"), "{nobody:?}");
    let weak = stage.path("weak");
    fs::write(&weak, "alice1").unwrap();
    let weak = weak.to_str().unwrap();
    assert_eq!(stage.run("alice", &["store", "passphrase", "--passphrase-file", weak]).code, 1);
    let set = ["store", "passphrase", "--json", "--passphrase-file", file];
    assert_eq!(json(&stage.run("alice", &set).out)["key"], "passphrase");

    for args in
        [&["history", "bob"][..], &["send", "bob", "hi"], &["store", "passphrase", "--remove"]]
    {
        let locked = stage.run("alice", args);
        assert_eq!(locked.code, 1, "{locked:?}");
        assert!(locked.err.contains("PARLOR_PASSPHRASE_FILE"), "{locked:?}");
    }
    let wrong = stage.unlocked("alice", "wrong", &["history", "bob", "--json"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(json(&wrong.err)["error"]["code"], "passphrase");
    assert!(wrong.err.contains("wrong passphrase"), "{wrong:?}");
    let sent = ["send", "bob", "more", "--wait", "none"];
    assert_eq!(stage.unlocked("alice", "passphrase", &sent).code, 0);

    let remove = ["store", "passphrase", "--remove", "--json"];
    let removed = stage.unlocked("alice", "passphrase", &remove);
    assert_eq!(json(&removed.out)["key"], "plain_file", "{removed:?}");
    assert_eq!(texts(&stage, "alice", &[]), ["secret", "more"]);
}
