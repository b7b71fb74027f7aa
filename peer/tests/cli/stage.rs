//! A rendezvous and people's profiles, by the binary alone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A rendezvous, and folders for the profiles of some people.
pub(crate) struct Stage {
    folder: TempDir,
    host: Option<Child>,
    /// Where the rendezvous listens.
    pub(crate) listen: String,
    pub(crate) link: String,
}

impl Stage {
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "correct horse\n").unwrap();
        std::fs::write(folder.path().join("wrong"), "battery staple\n").unwrap();
        let listen = "127.0.0.1:0".to_owned();
        let mut stage = Self { folder, host: None, listen, link: String::new() };
        stage.start_rendezvous();
        stage
    }

    /// Starts the rendezvous; again at the address that it had.
    pub(crate) fn start_rendezvous(&mut self) {
        let mut host = parlor(&self.path("host"))
            .args(["host", "--json", "--listen", &self.listen, "--data"])
            .arg(self.path("rendezvous"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
        let ready = json(&lines.next().unwrap().unwrap());
        let word = |key: &str| ready[key].as_str().unwrap().to_owned();
        (self.listen, self.link) = (word("listen"), word("link"));
        self.host = Some(host);
    }

    /// `kill -9`.
    pub(crate) fn kill_rendezvous(&mut self) {
        let mut host = self.host.take().unwrap();
        host.kill().unwrap();
        host.wait().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on the profile in folder `home`.
    pub(crate) fn run(&self, home: &str, args: &[&str]) -> Ended {
        Ended::of(parlor(&self.path(home)).args(args).output().unwrap())
    }

    /// The same, with the passphrase of the profile in file `passphrase`.
    pub(crate) fn unlocked(&self, home: &str, passphrase: &str, args: &[&str]) -> Ended {
        let file = self.path(passphrase);
        let output =
            parlor(&self.path(home)).env("PARLOR_PASSPHRASE_FILE", file).args(args).output();
        Ended::of(output.unwrap())
    }

    pub(crate) fn account(
        &self,
        home: &str,
        command: &str,
        name: &str,
        server: &str,
        password: &str,
    ) -> Ended {
        let password = self.path(password);
        let password = password.to_str().unwrap();
        self.run(home, &[command, name, "--server", server, "--password-file", password, "--json"])
    }

    pub(crate) fn register(&self, name: &str) {
        let ended = self.account(name, "register", name, &self.link, "password");
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.err.contains("recovery code"), "{ended:?}");
    }

    pub(crate) fn befriend(&self, one: &str, other: &str) {
        assert_eq!(self.run(one, &["contact", "add", other]).code, 0);
        assert_eq!(self.run(other, &["contact", "accept", one]).code, 0);
    }

    pub(crate) fn listen(&self, name: &str) -> Listener {
        let mut child = parlor(&self.path(name))
            .args(["listen", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut listener = Listener { child, lines };
        assert_eq!(listener.next()["event"], "ready");
        listener
    }
}

impl Stage {
    pub(crate) fn stop_rendezvous(&mut self) {
        if let Some(mut host) = self.host.take() {
            end(&mut host);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop_rendezvous();
    }
}

pub(crate) struct Listener {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Listener {
    pub(crate) fn next(&mut self) -> Value {
        json(&self.lines.next().unwrap().unwrap())
    }

    pub(crate) fn next_message(&mut self) -> Value {
        loop {
            let event = self.next();
            if event["event"] == "message" {
                return event;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

pub(crate) fn parlor(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.arg("--home").arg(home).stdin(Stdio::null());
    for variable in [
        "PARLOR_HOME",
        "PARLOR_LOG",
        "PARLOR_NEW_PASSWORD_FILE",
        "PARLOR_PASSPHRASE_FILE",
        "PARLOR_PASSWORD_FILE",
    ] {
        command.env_remove(variable);
    }
    command
}

pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// Asks a process to end, and checks that it ended in order.
pub(crate) fn end(child: &mut Child) {
    let asked = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    let status = child.wait().unwrap();
    if !std::thread::panicking() {
        assert!(status.success(), "{status}");
    }
}
