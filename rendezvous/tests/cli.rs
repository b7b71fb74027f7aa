//! The binary as scripts and service managers see it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parlor_common::identity::DeviceSecret;
use parlor_common::link::Link;
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
        let mut command = command(data, &["serve", "--json", "--listen", listen]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, ready: json(line.as_bytes()) }
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
