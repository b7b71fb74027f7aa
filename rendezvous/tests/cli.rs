//! The binary as scripts and service managers see it.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parlor_common::identity::DeviceSecret;
use parlor_common::link::{Link, Target};
use parlor_common::quic::{self, ALPN_RENDEZVOUS, Transport};
use quinn::{ConnectionError, Endpoint};
use serde::Deserialize;
use serde_json::Value;

/// Signals end a server within this time.
const PATIENCE: Duration = Duration::from_secs(5);

fn command(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor-rendezvous"));
    command.env_clear().args(args).arg("--data").arg(data);
    command
}

fn run(data: &Path, args: &[&str]) -> Output {
    command(data, args).output().unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A server that is killed when the test ends.
struct Running {
    child: Child,
    ready: Value,
}

impl Running {
    fn start(data: &Path, listen: &str) -> Self {
        Self::try_start(data, listen).unwrap_or_else(|| panic!("it did not start"))
    }

    fn try_start(data: &Path, listen: &str) -> Option<Self> {
        let mut command = command(data, &["serve", "--json", "--listen", listen]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            return None;
        }
        Some(Self { child, ready: json(line.as_bytes()) })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::deserialize(self.ready.get("listen").unwrap()).unwrap()
    }

    fn link(&self) -> Link {
        Link::deserialize(self.ready.get("link").unwrap()).unwrap()
    }

    /// Sends a signal and waits for the end.
    fn signal(mut self, name: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(self.child.wait()));
        end.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it did not end")).unwrap()
    }
}

#[test]
fn a_server_says_where_it_is_and_ends_cleanly() {
    let data = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let server = Running::start(data.path(), "127.0.0.1:0");
        assert_eq!(server.ready["event"], "ready");
        assert_eq!(server.link().server.at, server.address().into());
        let link = run(data.path(), &["link", "--json"]);
        assert_eq!(json(&link.stdout)["link"], server.ready["link"]);
        assert_eq!(server.signal(signal).code(), Some(0));
    }
    let link = run(data.path(), &["link"]);
    assert!(String::from_utf8(link.stdout).unwrap().starts_with("parlor://"));
}

#[test]
fn a_client_of_a_server_that_was_killed_hears_of_it_from_the_next() {
    let data = tempfile::tempdir().unwrap();
    let server = Running::start(data.path(), "127.0.0.1:0");
    let (link, address) = (server.link(), server.address());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let device = DeviceSecret::from_seed(&[1; 32]);
        let transport = Transport::TO_RENDEZVOUS.config();
        let key = link.server.key.unwrap();
        let config = quic::client_config(&device, &key, ALPN_RENDEZVOUS, transport).unwrap();
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, address, quic::SERVER_NAME).unwrap();
        let connection = connecting.await.unwrap();
        connection.accept_uni().await.unwrap();

        assert_eq!(server.signal("KILL").code(), None);
        let next = Running::start(data.path(), &address.to_string());
        assert_eq!(next.link(), link);
        let (mut send, _) = connection.open_bi().await.unwrap();
        send.write_all(b"anybody there?").await.unwrap();
        assert_eq!(connection.closed().await, ConnectionError::Reset);
        next.signal("TERM");
    });
}

#[test]
fn failures_have_exit_codes_and_say_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let usage = run(data.path(), &["serve", "--listen", "nowhere", "--json"]);
    assert_eq!(usage.status.code(), Some(2));
    assert_eq!(json(&usage.stderr)["error"]["code"], "usage");

    let nobody = run(data.path(), &["link", "--json"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(json(&nobody.stderr)["error"]["code"], "no_server");

    let server = Running::start(data.path(), "127.0.0.1:0");
    let second = run(data.path(), &["serve", "--listen", "127.0.0.1:0", "--json"]);
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(json(&second.stderr)["error"]["code"], "in_use");
    server.signal("TERM");
}

#[test]
fn who_may_register_is_never_everybody_by_omission_and_mail_needs_a_server() {
    let data = tempfile::tempdir().unwrap();
    let by_email = || {
        let mut command = command(data.path(), &["config", "check", "--json"]);
        command.env("PARLOR_RENDEZVOUS_REGISTRATION", "email");
        command
    };
    let refused = by_email().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let error = json(&refused.stderr)["error"].clone();
    assert_eq!(error["code"], "bad_config");
    assert!(error["message"].as_str().unwrap().contains("[email]"), "{error}");

    let file = data.path().join("config.toml");
    let text = "[email]\nfrom = \"Parlor <p@chat.example>\"\ndomains = [\"Isb.nu.edu.pk\"]\n";
    std::fs::write(&file, text).unwrap();
    let with_server = |mut command: Command| {
        let smtp = "smtps://parlor:secret@mail.example";
        command.arg("--config").arg(&file).env("PARLOR_RENDEZVOUS_SMTP", smtp).output().unwrap()
    };
    assert_eq!(with_server(by_email()).status.code(), Some(0));
    let shown = with_server(command(data.path(), &["config", "show"]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("registration = \"invite\""), "{shown}");
    assert!(shown.contains("smtps://parlor:***@mail.example:465"), "{shown}");
    assert!(shown.contains("isb.nu.edu.pk") && !shown.contains("secret"), "{shown}");
}

#[test]
fn flags_stand_over_the_environment_and_that_over_the_file() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("config.toml");
    let mut written = std::fs::File::create(&file).unwrap();
    writeln!(written, "listen = \"127.0.0.1:1\"\npublic = \"file.example\"").unwrap();
    let shown = command(data.path(), &["config", "show", "--json"])
        .arg("--config")
        .arg(&file)
        .env("PARLOR_RENDEZVOUS_LISTEN", "127.0.0.1:2")
        .env("PARLOR_RENDEZVOUS_DATA", "/nowhere")
        .output()
        .unwrap();
    let shown = json(&shown.stdout);
    assert_eq!(shown["listen"], "127.0.0.1:2");
    assert_eq!(shown["public"], "file.example");
    assert_eq!(shown["data"].as_str(), data.path().to_str());

    writeln!(written, "colour = \"red\"").unwrap();
    let refused =
        command(data.path(), &["config", "check"]).arg("--config").arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("line 3") && text.contains("colour"), "{text}");
}

/// Runs a command that must succeed; the lines of JSON that it prints.
fn lines(data: &Path, args: &[&str]) -> Vec<Value> {
    let output = command(data, args).arg("--json").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| json(line.as_bytes())).collect()
}

/// Runs a command that must fail; its exit code, and the code of its error.
fn failure(data: &Path, args: &[&str]) -> (i32, String) {
    let output = command(data, args).arg("--json").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let last = json(errors.lines().last().unwrap_or_else(|| panic!("no error")).as_bytes());
    (output.status.code().unwrap(), last["error"]["code"].as_str().unwrap().to_owned())
}

fn database(data: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(data.join("rendezvous.db")).unwrap()
}

/// Writes an account into a database that no server has open.
fn add_account(data: &Path, name: &str) {
    let sql = "INSERT INTO accounts (name, account_key, credential, record, memory_kib, passes,
                   lanes, account_box, recovery_box, devices, list_version, list_hash, created_at)
               VALUES (?1, zeroblob(32), zeroblob(32), zeroblob(192), 65536, 3, 4, x'07', x'08',
                   '[]', 1, zeroblob(32), 1800000000000)";
    database(data).execute(sql, [name]).unwrap();
}

/// A data folder that a server has run on, with two accounts.
fn used_folder() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    assert!(Running::start(data.path(), "127.0.0.1:0").signal("TERM").success());
    add_account(data.path(), "alice");
    add_account(data.path(), "bob");
    data
}

/// What the tests of admin commands do with a running server and without one.
fn with_and_without_a_server(test: impl Fn(&Path)) {
    let data = used_folder();
    test(data.path());
    let data = used_folder();
    let server = Running::start(data.path(), "127.0.0.1:0");
    test(data.path());
    assert_eq!(lines(data.path(), &["status"])[0]["running"], true);
    assert!(server.signal("TERM").success());
    assert_eq!(lines(data.path(), &["status"])[0]["running"], false);
}

#[test]
fn users_are_looked_after_whether_a_server_runs_or_not() {
    with_and_without_a_server(|data| {
        let names = |data: &Path| {
            let users = lines(data, &["user", "list"]);
            users.iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(data), ["alice", "bob"]);
        let shown = |name: &str| lines(data, &["user", "show", name]).remove(0);
        let alice = shown("alice");
        assert_eq!((&alice["disabled"], &alice["online"]), (&false.into(), &false.into()));
        assert_eq!(alice["created_at"], "2027-01-15T08:00:00.000Z");
        lines(data, &["user", "disable", "alice"]);
        assert_eq!(shown("alice")["disabled"], true);
        lines(data, &["user", "enable", "ALICE"]);
        assert_eq!(shown("alice")["disabled"], false);
        lines(data, &["user", "unlock", "alice"]);
        lines(data, &["user", "delete", "bob"]);
        assert_eq!(names(data), ["alice"]);
        let unknown = (1, "unknown_user".to_owned());
        for what in ["show", "disable", "enable", "unlock", "delete"] {
            assert_eq!(failure(data, &["user", what, "nobody"]), unknown);
        }
        assert_eq!(failure(data, &["user", "show", "../x"]), (2, "usage".to_owned()));
        assert_eq!(lines(data, &["status"])[0]["accounts"], 1);

        let rows = lines(data, &["audit", "tail"]);
        let seen: Vec<_> = rows.iter().map(|row| (&row["event"], &row["account"])).collect();
        let expected = ["user_disabled", "user_enabled", "user_unlocked", "user_deleted"];
        let accounts = ["alice", "alice", "alice", "bob"].map(Value::from);
        let expected = expected.map(Value::from);
        assert_eq!(seen, expected.iter().zip(&accounts).collect::<Vec<_>>());
        assert_eq!(lines(data, &["audit", "verify"])[0]["rows"], 4);
        assert_eq!(lines(data, &["audit", "tail", "--limit", "1"])[0]["event"], "user_deleted");
    });
}

#[test]
fn invitations_are_made_listed_and_revoked() {
    with_and_without_a_server(|data| {
        let made = lines(data, &["invite", "create"]).remove(0);
        let code = made["code"].as_str().unwrap();
        let link: Link = made["link"].as_str().unwrap().parse().unwrap();
        let Target::Invitation { code: linked } = link.target else { panic!("{link}") };
        assert_eq!((linked.as_str(), &made["uses"]), (code, &1.into()));
        let other = lines(data, &["invite", "create", "--uses", "3", "--days", "30"]).remove(0);
        assert!(other["expires_at"].as_str() > made["expires_at"].as_str());

        let listed = lines(data, &["invite", "list"]);
        assert_eq!(listed.len(), 2);
        let keys = ["id", "uses", "used", "made_by", "expires_at", "revoked"];
        assert!(keys.iter().all(|key| listed[0].get(key).is_some()));
        let id = listed.iter().find(|known| known["uses"] == 3).unwrap()["id"].as_str().unwrap();
        lines(data, &["invite", "revoke", id]);
        lines(data, &["invite", "revoke", code]);
        let listed = lines(data, &["invite", "list"]);
        assert!(listed.iter().all(|known| known["revoked"] == true));
        let unknown = (1, "unknown_invitation".to_owned());
        assert_eq!(failure(data, &["invite", "revoke", "00000000"]), unknown);
        assert_eq!(failure(data, &["invite", "revoke", "nonsense"]), (2, "usage".to_owned()));
        assert_eq!(failure(data, &["invite", "create", "--uses", "0"]), (2, "usage".to_owned()));

        // Of the code only a hash is kept.
        let bare = code.replace('-', "");
        for file in std::fs::read_dir(data).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
            for text in [code, &bare] {
                let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!found);
            }
        }
    });
}

#[test]
fn whatever_is_done_to_the_audit_trail_is_noticed() {
    let filled = || {
        let data = used_folder();
        for _ in 0..3 {
            lines(data.path(), &["user", "unlock", "alice"]);
        }
        data
    };
    let data = filled();
    let verified = lines(data.path(), &["audit", "verify"]).remove(0);
    assert_eq!((&verified["ok"], &verified["rows"]), (&true.into(), &3.into()));
    let head = verified["head"].as_str().unwrap();
    let hash = head.split_once(':').unwrap().1;
    lines(data.path(), &["user", "unlock", "bob"]);
    for head in [head, hash] {
        assert_eq!(lines(data.path(), &["audit", "verify", "--head", head])[0]["rows"], 4);
    }
    let usage = failure(data.path(), &["audit", "verify", "--head", "x"]);
    assert_eq!(usage, (2, "usage".to_owned()));

    let broken = (1, "audit_broken".to_owned());
    for sql in [
        "UPDATE audit SET account = 'bob' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT seq + 1, at, event, account, source, reason, hash FROM audit
         WHERE seq = 3",
    ] {
        let data = filled();
        let server = Running::start(data.path(), "127.0.0.1:0");
        database(data.path()).execute_batch(sql).unwrap();
        assert_eq!(failure(data.path(), &["audit", "verify"]), broken, "{sql}");
        server.signal("TERM");
        assert_eq!(failure(data.path(), &["audit", "verify"]), broken, "{sql}");
    }
    // Cut off together with the note of the head: only who kept the head notices.
    let sql = "DELETE FROM audit WHERE seq > 3;
               UPDATE meta SET value = (SELECT seq || ':' || hash FROM audit WHERE seq = 3)
               WHERE name = 'audit_head'";
    let kept = lines(data.path(), &["audit", "verify"]).remove(0);
    let kept = kept["head"].as_str().unwrap();
    database(data.path()).execute_batch(sql).unwrap();
    assert_eq!(lines(data.path(), &["audit", "verify"])[0]["rows"], 3);
    assert_eq!(failure(data.path(), &["audit", "verify", "--head", kept]), broken);
}

#[test]
fn a_server_logs_the_head_of_its_audit_trail_when_it_starts_and_when_it_stops() {
    let data = used_folder();
    lines(data.path(), &["user", "unlock", "alice"]);
    let mut child = command(data.path(), &["serve", "--json", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let stderr = child.stderr.take().unwrap();
    let logged = thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map(|line| line.unwrap());
        lines.filter(|line| line.contains("audit head")).collect::<Vec<_>>()
    });
    lines(data.path(), &["user", "unlock", "bob"]);
    Running { child, ready: json(line.as_bytes()) }.signal("TERM");
    let logged = logged.join().unwrap();
    assert_eq!(logged.len(), 2, "{logged:?}");
    for (line, seq) in logged.iter().zip(["1:", "2:"]) {
        let head = line.split_once("head=").unwrap().1;
        assert!(head.starts_with(seq), "{head}");
        lines(data.path(), &["audit", "verify", "--head", head]);
    }
}

#[test]
fn old_rows_of_the_audit_trail_go_as_the_configuration_says() {
    let data = used_folder();
    for name in ["alice", "bob"] {
        lines(data.path(), &["user", "unlock", name]);
    }
    let file = data.path().join("config.toml");
    std::fs::write(&file, "[limits]\naudit_days = 0\n").unwrap();
    let mut command = command(data.path(), &["serve", "--json", "--listen", "127.0.0.1:0"]);
    command.arg("--config").arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let server = Running { child, ready: json(line.as_bytes()) };
    let events = || {
        let rows = lines(data.path(), &["audit", "tail"]);
        rows.iter().map(|row| row["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The first reply comes after the first turn.
    assert_eq!(events(), ["anchor", "audit_cut"]);
    assert_eq!(lines(data.path(), &["audit", "verify"])[0]["rows"], 1);
    server.signal("TERM");
}

#[test]
fn the_admin_socket_is_its_owners_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;

    let data = used_folder();
    let socket = data.path().join("admin.sock");
    let server = Running::start(data.path(), "127.0.0.1:0");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for junk in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", &[b'x'; 5000], &[b'['; 5000]] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // A server that has read enough may close before the rest has come.
        let _ = stream.write_all(junk);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        let _ = BufReader::new(stream).read_until(b'\n', &mut reply);
        if !reply.is_empty() {
            assert_eq!(json(&reply)["error"]["code"], "malformed");
        }
    }
    // Those who say nothing take room, and no more.
    let silent: Vec<_> = (0..15).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(lines(data.path(), &["user", "list"]).len(), 2);
    drop(silent);
    server.signal("KILL");
    assert!(socket.exists());
    // Nobody listens there: the command opens the database itself.
    assert_eq!(lines(data.path(), &["user", "list"]).len(), 2);
    let server = Running::start(data.path(), "127.0.0.1:0");
    assert_eq!(lines(data.path(), &["user", "list"]).len(), 2);
    server.signal("TERM");
    assert!(!socket.exists());
}

#[test]
fn a_folder_whose_path_is_too_long_for_a_socket_is_served_as_well() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("d".repeat(120));
    let server = Running::start(&data, "127.0.0.1:0");
    assert_eq!(lines(&data, &["status"])[0]["running"], true);
    server.signal("TERM");
    assert_eq!(lines(&data, &["status"])[0]["running"], false);
}

#[test]
fn commands_find_the_core_while_a_server_starts_and_stops() {
    let data = used_folder();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(lines(data.path(), &["user", "list"]).len(), 2);
                asked += 1;
            }
            asked
        });
        for _ in 0..5 {
            // A command has the folder now and then: the server says so, and is started again.
            let server = loop {
                if let Some(server) = Running::try_start(data.path(), "127.0.0.1:0") {
                    break server;
                }
            };
            server.signal("TERM");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(asked > 0);
}

#[test]
fn a_damaged_database_and_an_open_folder_are_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;

    let data = used_folder();
    let file = data.path().join("rendezvous.db");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["user", "list"]] {
        assert_eq!(failure(data.path(), args), (1, "damaged_database".to_owned()));
    }
    std::fs::write(&file, &whole).unwrap();
    lines(data.path(), &["user", "list"]);
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = run(data.path(), &["serve", "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("chmod 700"), "{text}");
}

#[test]
fn admin_commands_need_a_folder_that_a_server_has_run_on() {
    let data = tempfile::tempdir().unwrap();
    for args in [&["user", "list"][..], &["invite", "create"], &["audit", "tail"], &["status"]] {
        assert_eq!(failure(data.path(), args), (1, "no_server".to_owned()));
    }
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn audit_tail_follows_until_it_is_interrupted() {
    let data = used_folder();
    let mut child = command(data.path(), &["audit", "tail", "--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut rows = BufReader::new(child.stdout.take().unwrap()).lines();
    for name in ["alice", "bob"] {
        lines(data.path(), &["user", "unlock", name]);
        assert_eq!(json(rows.next().unwrap().unwrap().as_bytes())["account"], name);
    }
    assert_eq!(Running { child, ready: Value::Null }.signal("INT").code(), Some(0));
}
