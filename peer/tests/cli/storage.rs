//! What a profile keeps: searched, set, locked, taken out and brought back, and looked after.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::stage::{Ended, Stage, json};

/// alice and bob are contacts, dave is nobody's, and alice has queued these messages for bob.
fn with_queued(texts: &[&str]) -> Stage {
    let mut stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.register("dave");
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
    let message = ["send", "bob", "more", "--wait", "none"];
    assert_eq!(stage.unlocked("alice", "passphrase", &message).code, 0);

    let remove = ["store", "passphrase", "--remove", "--json"];
    let removed = stage.unlocked("alice", "passphrase", &remove);
    assert_eq!(json(&removed.out)["key"], "plain_file", "{removed:?}");
    assert_eq!(texts(&stage, "alice", &[]), ["secret", "more"]);
}

#[test]
fn messages_are_taken_out_and_brought_back() {
    let stage = with_queued(&["one", "two \u{1b}[2J", "three"]);
    let exported = stage.run("alice", &["export", "bob"]);
    let messages = lines(&exported);
    assert_eq!(messages.len(), 3);
    let first = &messages[0];
    assert_eq!((&first["contact"], &first["from"]), (&"bob".into(), &"alice".into()));
    assert_eq!((&first["direction"], &first["state"]), (&"out".into(), &"queued".into()));
    assert!(first["carrier"].is_null() && first["id"].is_string() && first["sent_at"].is_string());
    assert_eq!(messages[1]["text"], "two \u{1b}[2J");

    let file = stage.path("saved");
    let saved = file.to_str().unwrap();
    let to_file = stage.run("alice", &["export", "--output", saved, "--json"]);
    assert_eq!(json(&to_file.out)["messages"], 3, "{to_file:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), exported.out);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(stage.run("alice", &["export", "--output", saved]).code, 1, "it is there already");
    assert_eq!(stage.run("alice", &["export", "nobody"]).code, 1);

    let again = lines(&stage.run("alice", &["import", saved, "--json"]));
    assert_eq!((&again[0]["messages"], &again[0]["new"]), (&3.into(), &0.into()));
    assert_eq!(lines(&stage.run("alice", &["outbox", "--json"])).len(), 3, "they still go");
    let foreign = stage.run("bob", &["import", saved]);
    assert_eq!(foreign.code, 1, "{foreign:?}");
    assert!(foreign.err.contains("line 1"), "{foreign:?}");
}

#[test]
fn what_is_imported_counts_once_and_a_bad_line_imports_nothing() {
    let stage = with_queued(&["one", "two"]);
    let all = stage.run("alice", &["export"]).out.replace("\"alice\"", "\"dave\"");
    let mut lines_of: Vec<&str> = all.lines().collect();
    lines_of.push("{\"contact\":\"bob\"}");
    let file = stage.path("lines");
    let write = |lines: &[&str]| fs::write(&file, lines.join("\n")).unwrap();
    let path = file.to_str().unwrap();
    write(&lines_of);
    let refused = stage.run("dave", &["import", path, "--json"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(json(&refused.err)["error"]["code"], "import");
    assert!(refused.err.contains("line 3"), "{refused:?}");
    assert_eq!(stage.run("dave", &["history", "bob"]).code, 1, "nothing was imported");

    write(&lines_of[..2]);
    for new in [2, 0] {
        let imported = lines(&stage.run("dave", &["import", path, "--json"]));
        assert_eq!(imported[0]["new"], new);
    }
    let history = lines(&stage.run("dave", &["history", "bob", "--json"]));
    let states: Vec<&Value> = history.iter().map(|message| &message["state"]).collect();
    assert_eq!(states, ["failed", "failed"]);
    assert_eq!(stage.run("dave", &["import", "/nowhere"]).code, 1);
}

/// What the doctor says, by check.
fn findings(ended: &Ended) -> std::collections::BTreeMap<String, (bool, String)> {
    let lines = ended.out.lines().map(json);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .map(|line| {
            let ok = line["ok"].as_bool().unwrap();
            (text(&line["check"]), (ok, text(&line["detail"])))
        })
        .collect()
}

#[test]
fn the_doctor_says_what_is_well_and_what_is_not() {
    let mut stage = Stage::open();
    stage.register("alice");
    let well = stage.run("alice", &["doctor", "--json"]);
    assert_eq!(well.code, 0, "{well:?}");
    let found = findings(&well);
    let checks: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(checks, ["clock", "config", "cryptography", "key", "nat", "rendezvous", "store"]);
    assert!(found["key"].1.contains("a key beside the lock"), "{found:?}");

    // While another process has the profile, whose connection stays.
    let mut listener = stage.listen("alice");
    let beside = stage.run("alice", &["doctor", "--json"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    assert!(findings(&beside)["store"].1.contains("in use by parlor listen"), "{beside:?}");
    stage.register("bob");
    assert_eq!(stage.run("bob", &["contact", "add", "alice"]).code, 0);
    while listener.next()["event"] != "contact_request" {}
    drop(listener);

    stage.stop_rendezvous();
    let away = stage.run("alice", &["doctor", "--json"]);
    assert_eq!(away.code, 1);
    let found = findings(&away);
    assert!(found["store"].0 && !found["rendezvous"].0 && !found["clock"].0, "{found:?}");

    let none = stage.run("none", &["doctor", "--json"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(!findings(&none)["store"].0 && findings(&none)["cryptography"].0);
    assert!(!stage.path("none").exists());
}

#[test]
fn of_a_damaged_profile_the_rest_is_saved_and_the_doctor_says_how() {
    let texts: Vec<String> = (0..60).map(|n| format!("{n} {}", "x".repeat(900))).collect();
    let stage = with_queued(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let path = stage.path("alice").join("profile.db");
    let whole = fs::read(&path).unwrap();
    let at = whole.len() - 20 * 4096 + 2000;
    let mut broken = whole.clone();
    broken[at] ^= 1;
    fs::write(&path, &broken).unwrap();
    let doctor = stage.run("alice", &["doctor", "--json"]);
    assert_eq!(doctor.code, 1);
    let store = &findings(&doctor)["store"];
    assert!(!store.0 && store.1.contains("parlor export"), "{store:?}");
    let rest = stage.run("alice", &["export"]);
    let saved = rest.out.lines().count();
    assert!(saved >= 40, "{saved} of 60");
    if saved < 60 {
        assert_eq!(rest.code, 1, "{rest:?}");
        assert!(rest.err.contains(&format!("{saved} messages were saved")), "{}", rest.err);
    }

    fs::write(&path, &whole[..100]).unwrap();
    for args in
        [&["history", "bob", "--json"][..], &["send", "bob", "hi", "--json"], &["export", "--json"]]
    {
        let damaged = stage.run("alice", args);
        assert_eq!(damaged.code, 1, "{damaged:?}");
        let error = &json(&damaged.err)["error"];
        assert_eq!(error["code"], "damaged");
        assert!(error["message"].as_str().unwrap().contains("parlor doctor"), "{error}");
    }
    let doctor = stage.run("alice", &["doctor", "--json"]);
    assert!(!findings(&doctor)["store"].0, "{doctor:?}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(stage.run("alice", &["export"]).out.lines().count(), 60);
}
