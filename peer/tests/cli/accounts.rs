//! What changes an account, as scripts see it.

use std::fs;

use parlor::node::record::{Change, Identity};
use parlor::profile::Home;
use parlor_common::device_list::SignedDeviceList;
use parlor_rendezvous::Rendezvous;
use parlor_rendezvous::config::{Config, DataPlace, Registration};
use parlor_rendezvous::limits::Limits;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::stage::{Ended, Stage, json};

const NEW: &str = "tulip tractor marble nine";

impl Stage {
    /// Runs a command with a password from the file that `open` made, and more arguments.
    fn with_password(&self, home: &str, args: &[&str], password: &str) -> Ended {
        let password = self.path(password);
        let more = ["--password-file", password.to_str().unwrap(), "--json"];
        self.run(home, &[args, &more].concat())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Registers, and returns the recovery code that was shown.
    fn register_with_code(&self, name: &str) -> String {
        let ended = self.account(name, "register", name, &self.link, "password");
        assert_eq!(ended.code, 0, "{ended:?}");
        recovery_code(&ended)
    }

    fn devices(&self, home: &str) -> Vec<Value> {
        let ended = self.run(home, &["devices", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out.lines().map(json).collect()
    }
}

fn recovery_code(ended: &Ended) -> String {
    let (_, rest) = ended.err.split_once("shown this once: ").unwrap();
    rest.lines().next().unwrap().to_owned()
}

fn code(ended: &Ended) -> Value {
    let line = ended.err.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    json(line)["error"]["code"].clone()
}

#[test]
fn a_password_that_is_easy_to_guess_is_refused_where_it_is_chosen() {
    let stage = Stage::open();
    stage.write("weak", "alice2024\n");
    let weak = stage.account("alice", "register", "alice", &stage.link, "weak");
    assert_eq!((weak.code, code(&weak)), (1, "password".into()), "{weak:?}");
    assert!(!weak.err.contains("alice2024"), "{weak:?}");
    stage.register("alice");
    let new = stage.path("weak");
    let new = new.to_str().unwrap();
    let weak = stage.with_password("alice", &["password", "--new-password-file", new], "password");
    assert_eq!((weak.code, code(&weak)), (1, "password".into()), "{weak:?}");
    // A login is not asked.
    let wrong = stage.account("second", "login", "alice", &stage.link, "weak");
    assert_eq!((wrong.code, code(&wrong)), (3, "wrong_password".into()));
}

#[test]
fn a_new_password_counts_and_the_old_one_does_not() {
    let stage = Stage::open();
    stage.register("alice");
    let new = stage.write("new", NEW);
    let change = ["password", "--new-password-file", &new];
    let wrong = stage.with_password("alice", &change, "wrong");
    assert_eq!((wrong.code, code(&wrong)), (3, "wrong_password".into()), "{wrong:?}");
    let changed = stage.with_password("alice", &change, "password");
    assert_eq!(changed.code, 0, "{changed:?}");
    let old = stage.account("phone", "login", "alice", &stage.link, "password");
    assert_eq!((old.code, code(&old)), (3, "wrong_password".into()));
    let login = stage.account("phone", "login", "alice", &stage.link, "new");
    assert_eq!(login.code, 0, "{login:?}");
}

#[test]
fn the_recovery_code_opens_the_account_on_a_new_device_with_a_new_password() {
    let stage = Stage::open();
    let shown = stage.register_with_code("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    let (right, new) = (stage.write("code", &shown), stage.write("new", NEW));
    let recover = |name: &str, file: &str| {
        let args = ["login", name, "--server", &stage.link, "--recovery", "--recovery-file", file];
        stage.with_password("phone", &args, "new")
    };
    let other = "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GA\n";
    let wrong = recover("alice", &stage.write("other", other));
    assert_eq!((wrong.code, code(&wrong)), (3, "wrong_recovery_code".into()), "{wrong:?}");
    let nobody = recover("nobody", &right);
    assert_eq!((nobody.code, &nobody.err), (3, &wrong.err), "nobody is told which it was");
    let no_code = recover("alice", &new);
    assert_eq!((no_code.code, code(&no_code)), (3, "wrong_recovery_code".into()));
    assert_eq!(stage.run("phone", &["whoami"]).code, 1, "no profile was made");

    let mut listener = stage.listen("alice");
    let recovered = recover("alice", &right);
    assert_eq!(recovered.code, 0, "{recovered:?}");
    let told: Vec<Value> = std::iter::repeat_with(|| listener.next())
        .filter(|event| event["event"] == "account_changed")
        .map(|event| event["change"].clone())
        .take(2)
        .collect();
    assert_eq!(told, ["recovered", "password"]);
    drop(listener);
    let contacts = json(&stage.run("phone", &["contact", "list", "--json"]).out);
    assert_eq!((&contacts["name"], &contacts["state"]), (&"bob".into(), &"mutual".into()));
    let old = stage.account("tablet", "login", "alice", &stage.link, "password");
    assert_eq!(old.code, 3, "{old:?}");
    assert_eq!(stage.account("tablet", "login", "alice", &stage.link, "new").code, 0);
    assert!(fs::read_to_string(new).is_ok());
}

#[test]
fn a_device_has_a_name_and_is_cut_off_when_it_is_removed() {
    let stage = Stage::open();
    stage.register("bob");
    assert_eq!(stage.account("phone", "login", "bob", &stage.link, "password").code, 0);
    let mut phone = stage.listen("phone");
    let listed = stage.devices("bob");
    let (this, other) = (listed[0]["device"].clone(), listed[1]["device"].clone());
    let (this, other) = (this.as_str().unwrap(), other.as_str().unwrap());
    assert_eq!(listed[1]["online"], true);
    let (short, _) = other.split_at(8);
    assert_eq!(stage.run("bob", &["devices", "name", short, "the phone"]).code, 0);
    assert_eq!(stage.devices("bob")[1]["name"], "the phone");
    assert_eq!(stage.run("bob", &["devices", "name", other, ""]).code, 0);
    assert_eq!(stage.devices("bob")[1]["name"], Value::Null);

    let itself = stage.with_password("bob", &["devices", "remove", this], "password");
    assert_eq!(itself.code, 1, "{itself:?}");
    let wrong = stage.with_password("bob", &["devices", "remove", other], "wrong");
    assert_eq!((wrong.code, code(&wrong)), (3, "wrong_password".into()));
    let removed = stage.with_password("bob", &["devices", "remove", short], "password");
    assert_eq!(removed.code, 0, "{removed:?}");
    loop {
        let event = phone.next();
        if event["event"] == "account_changed" {
            assert_eq!(event["change"], "device_removed");
            break;
        }
    }
    drop(phone);
    let cut_off = stage.run("phone", &["contact", "add", "bob"]);
    assert_eq!(cut_off.code, 3, "{cut_off:?}");
    let listed = stage.devices("bob");
    assert_eq!((listed.len(), &listed[0]["device"]), (1, &this.into()));
    let unknown = stage.with_password("bob", &["devices", "remove", other], "password");
    assert_eq!(unknown.code, 1, "{unknown:?}");
}

#[test]
fn a_deleted_account_leaves_its_name_to_nobody() {
    let stage = Stage::open();
    stage.register("alice");
    let asked = stage.with_password("alice", &["account", "delete"], "password");
    assert_eq!(asked.code, 1, "nobody was asked: {asked:?}");
    let wrong = stage.with_password("alice", &["account", "delete", "--yes"], "wrong");
    assert_eq!((wrong.code, code(&wrong)), (3, "wrong_password".into()));
    let deleted = stage.with_password("alice", &["account", "delete", "--yes"], "password");
    assert_eq!(deleted.code, 0, "{deleted:?}");
    assert_eq!(stage.run("alice", &["contact", "add", "bob"]).code, 3);
    assert_eq!(stage.run("alice", &["whoami"]).code, 0, "the profile stays readable");
    let login = stage.account("second", "login", "alice", &stage.link, "password");
    assert_eq!((login.code, code(&login)), (3, "wrong_password".into()));
    let again = stage.account("second", "register", "alice", &stage.link, "password");
    assert_eq!((again.code, code(&again)), (3, "name_taken".into()));
}

#[test]
fn a_new_account_key_holds_contacts_until_they_accept_it() {
    let stage = Stage::open();
    let old_code = stage.register_with_code("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    assert_eq!(stage.account("phone", "login", "alice", &stage.link, "password").code, 0);
    let key = |home: &str| json(&stage.run(home, &["whoami", "--json"]).out)["account_key"].clone();
    let old = key("alice");
    let rekeyed = stage.with_password("alice", &["account", "rekey", "--yes"], "password");
    assert_eq!(rekeyed.code, 0, "{rekeyed:?}");
    assert_ne!(recovery_code(&rekeyed), old_code);
    assert_eq!(json(&rekeyed.out)["account_key"], key("alice"));
    assert_ne!(key("alice"), old);
    assert_eq!(stage.run("phone", &["contact", "add", "carol"]).code, 3, "it is cut off");
    assert_eq!(stage.devices("alice").len(), 1);

    let contact = json(&stage.run("bob", &["contact", "list", "--json"]).out);
    assert_eq!(contact["key_changed"], true, "{contact}");
    assert_eq!(stage.run("bob", &["contact", "accept", "alice"]).code, 0);
    let mut listener = stage.listen("bob");
    let sent = stage.run("alice", &["send", "bob", "it is me"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(listener.next_message()["text"], "it is me");
    drop(listener);

    // The password stays; the old recovery code opens nothing.
    assert_eq!(stage.account("new", "login", "alice", &stage.link, "password").code, 0);
    let (file, _) = (stage.write("code", &old_code), stage.write("new password", NEW));
    let args = ["login", "alice", "--server", &stage.link, "--recovery", "--recovery-file", &file];
    let refused = stage.with_password("third", &args, "new password");
    assert_eq!((refused.code, code(&refused)), (3, "wrong_recovery_code".into()));
    let file = stage.write("code", &recovery_code(&rekeyed));
    let args = ["login", "alice", "--server", &stage.link, "--recovery", "--recovery-file", &file];
    let recovered = stage.with_password("third", &args, "new password");
    assert_eq!(recovered.code, 0, "{recovered:?}");
}

/// A profile as a process left it that had asked for a new account key and ended before the answer.
fn ended_midway(stage: &Stage, devices: SignedDeviceList) {
    let mut store = Home::new(stage.path("alice")).lock("a test").unwrap().open().unwrap();
    store.commit(&[Change::PutRekeying(Box::new(devices))]).unwrap();
}

fn identity(stage: &Stage, home: &str) -> Identity {
    Home::new(stage.path(home)).open_read_only().unwrap().identity().unwrap()
}

#[test]
fn a_new_account_key_that_was_asked_for_is_settled_at_the_next_start() {
    let mut stage = Stage::open();
    stage.register("alice");
    let before = identity(&stage, "alice");
    fs::create_dir(stage.path("copy")).unwrap();
    for file in ["profile.db", "profile.key"] {
        fs::copy(stage.path("alice").join(file), stage.path("copy").join(file)).unwrap();
    }
    let rekeyed = stage.with_password("alice", &["account", "rekey", "--yes"], "password");
    assert_eq!(rekeyed.code, 0, "{rekeyed:?}");
    let after = identity(&stage, "alice");
    assert_ne!(before.account_key, after.account_key);

    // The rendezvous has it, and the profile did not hear that.
    fs::remove_dir_all(stage.path("alice")).unwrap();
    fs::rename(stage.path("copy"), stage.path("alice")).unwrap();
    ended_midway(&stage, after.devices.clone());
    assert_eq!(identity(&stage, "alice").account_key, before.account_key);
    let asked = stage.run("alice", &["contact", "add", "nobody", "--json"]);
    assert_eq!(code(&asked), "unknown_user", "{asked:?}");
    assert_eq!(identity(&stage, "alice").account_key, after.account_key);

    // The rendezvous does not have it.
    ended_midway(&stage, before.devices);
    let asked = stage.run("alice", &["contact", "add", "nobody", "--json"]);
    assert_eq!(code(&asked), "unknown_user", "{asked:?}");
    assert_eq!(identity(&stage, "alice").account_key, after.account_key);
    let reader = Home::new(stage.path("alice")).open_read_only().unwrap();
    assert_eq!(reader.rekeying().unwrap(), None);

    // Whether it does cannot be known.
    ended_midway(&stage, after.devices);
    stage.stop_rendezvous();
    assert_eq!(stage.run("alice", &["send", "bob", "hi"]).code, 4);
    assert_eq!(stage.run("alice", &["whoami"]).code, 0);
}

#[test]
fn nothing_of_a_blocked_contact_arrives_and_they_are_not_told() {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    let shown = |home: &str| {
        let listed = stage.run(home, &["contact", "list", "--json"]).out;
        listed.lines().next().map(|line| json(line)["state"].clone()).unwrap_or_default()
    };
    assert_eq!(stage.run("bob", &["contact", "block", "alice"]).code, 0);
    assert_eq!(shown("bob"), "blocked");
    assert_eq!(shown("alice"), "mutual", "she is not told");
    let refused = stage.run("bob", &["send", "alice", "hi"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("alice is blocked"), "{refused:?}");
    let listener = stage.listen("bob");
    let sent = stage.run("alice", &["send", "bob", "hello?", "--json", "--timeout", "2"]);
    assert_eq!((sent.code, &json(&sent.out)["state"]), (5, &"sent".into()), "{sent:?}");
    drop(listener);
    assert_eq!(stage.run("bob", &["history", "alice"]).out, "");

    // A new device of bob's has the block.
    assert_eq!(stage.account("phone", "login", "bob", &stage.link, "password").code, 0);
    assert_eq!(shown("phone"), "blocked");
    assert_eq!(stage.run("phone", &["contact", "unblock", "alice"]).code, 0);
    assert_eq!(shown("phone"), "mutual");
    let mut listener = stage.listen("phone");
    assert_eq!(stage.run("alice", &["send", "bob", "back again"]).code, 0);
    assert_eq!(listener.next_message()["text"], "hello?");
    assert_eq!(listener.next_message()["text"], "back again");
}

#[test]
fn a_stranger_can_be_blocked_and_asks_in_vain() {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    assert_eq!(stage.run("bob", &["contact", "block", "nobody"]).code, 3);
    assert_eq!(stage.run("bob", &["contact", "block", "bob"]).code, 1);
    assert_eq!(stage.run("bob", &["contact", "block", "alice"]).code, 0);
    assert_eq!(stage.run("alice", &["contact", "add", "bob"]).code, 0, "she is not told");
    assert_eq!(stage.run("bob", &["contact", "requests"]).out, "");
    assert_eq!(stage.run("bob", &["contact", "add", "alice"]).code, 1);
    assert_eq!(stage.run("bob", &["contact", "unblock", "alice"]).code, 0);
    assert_eq!(stage.run("bob", &["contact", "list"]).out, "");
    assert_eq!(stage.run("alice", &["contact", "add", "bob"]).code, 0);
    assert_eq!(stage.run("bob", &["contact", "decline", "alice"]).code, 0);
    assert_eq!(stage.run("bob", &["contact", "requests"]).out, "");
}

#[test]
fn an_invitation_lets_a_newcomer_in() {
    let mut stage = Stage::open();
    stage.register("alice");
    let refused = stage.run("alice", &["invite", "--json"]);
    assert_eq!((refused.code, code(&refused)), (3, "invitations_closed".into()), "{refused:?}");
    stage.stop_rendezvous();
    let (runtime, server) = closed(&stage);
    let invited = stage.run("alice", &["invite", "--json"]);
    assert_eq!(invited.code, 0, "{invited:?}");
    let invited = json(&invited.out);
    assert_eq!(invited["uses"], 1);
    assert!(invited["expires_at"].as_str().unwrap().ends_with('Z'));
    let (code_alone, link) = (invited["code"].as_str().unwrap(), invited["link"].as_str().unwrap());

    let refused = stage.account("bob", "register", "bob", &stage.link, "password");
    assert_eq!((refused.code, code(&refused)), (3, "invitation_needed".into()), "{refused:?}");
    let register = |home: &str, server: &str, more: &[&str]| {
        let args = [&["register", home, "--server", server][..], more].concat();
        stage.with_password(home, &args, "password")
    };
    let bad = register("bob", &stage.link, &["--invite", "ABCD-EFGH-JKLM"]);
    assert_eq!((bad.code, code(&bad)), (3, "bad_invitation".into()), "{bad:?}");
    assert_eq!(register("bob", link, &[]).code, 0);
    let used = register("carol", &stage.link, &["--invite", code_alone]);
    assert_eq!((used.code, code(&used)), (3, "bad_invitation".into()), "{used:?}");
    runtime.block_on(server.stop());
}

/// The stage's rendezvous, now for those who have an invitation; and users make them.
fn closed(stage: &Stage) -> (Runtime, Rendezvous) {
    // A thread of its own answers while the test waits for commands.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_, at) = stage.link.split_once('@').unwrap();
    let config = Config {
        registration: Registration::Invite,
        listen: at.parse().unwrap(),
        data: DataPlace::Folder(stage.path("rendezvous")),
        limits: Limits { invitations_per_user: 2, ..Limits::default() },
        ..Config::in_memory()
    };
    let server = {
        let _entered = runtime.enter();
        Rendezvous::start(&config).unwrap()
    };
    (runtime, server)
}
