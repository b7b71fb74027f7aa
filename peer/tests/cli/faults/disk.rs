//! A disk that is full, at whatever write: the peer ends with a clear error, what was acknowledged
//! is there when there is space again, and the conversation goes on.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::rpc::{Rpc, friends, request};
use crate::stage::Stage;

/// A file system of its own, of a size that can be changed, in a mount namespace that a process
/// keeps: nothing of it is seen outside, and no rights are needed.
struct Disk {
    keeper: Child,
    path: PathBuf,
}

impl Disk {
    /// None where the system does not let everybody have such namespaces.
    fn new(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let script = r#"mount -t tmpfs -o size=64m,mode=700 none "$0" && echo mounted && exec cat"#;
        let mut keeper = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take()?).read_line(&mut line).ok()?;
        (line == "mounted\n").then_some(Self { keeper, path })
    }

    /// A program that sees the disk.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        command.arg(self.keeper.id().to_string()).arg(program);
        command
    }

    fn parlor(&self) -> Command {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_parlor")));
        command.arg("--json").arg("--home").arg(self.path.join("home"));
        command.stderr(Stdio::piped());
        command
    }

    fn shell(&self, script: &str, argument: &str) -> String {
        let mut command = self.command(Path::new("sh"));
        let ended = command.args(["-ec", script]).arg(&self.path).arg(argument).output().unwrap();
        assert!(ended.status.success(), "{script}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    }

    /// Leaves so many KiB free.
    fn leaves(&self, free: u64) {
        let used = self.shell(r#"df --output=used "$0" | tail -1"#, "");
        let size = used.parse::<u64>().unwrap() + free;
        self.shell(r#"mount -o remount,size="$1"k "$0""#, &size.to_string());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// What somebody wrote, and how much of it was said to be saved.
#[derive(Default)]
struct Written {
    texts: Vec<String>,
    saved: usize,
}

impl Written {
    /// Writes until the disk is full. The peer says so, and ends.
    fn fill(&mut self, disk: &Disk) {
        let mut child = disk.parlor();
        let mut child =
            child.arg("rpc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answered = |id: usize| {
            let answers = lines.by_ref().map_while(Result::ok).map(|line| json_of(&line));
            answers.into_iter().any(|line| line["id"] == id && line["result"]["state"] == "queued")
        };
        loop {
            let number = self.texts.len();
            self.texts.push(format!("{number} {}", "x".repeat(700 * (number % 5))));
            let params = json!({"contact": "bob", "text": self.texts[number]});
            let id = u32::try_from(number).unwrap();
            // It may have ended.
            let _ = input.write_all(request(id, "send", &params).as_bytes());
            if !answered(number) {
                break;
            }
            self.saved = number + 1;
        }
        drop(input);
        let ended = child.wait_with_output().unwrap();
        let complaint = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{complaint}");
        let error = json_of(complaint.lines().last().unwrap())["error"].take();
        let error = error["message"].as_str().unwrap();
        // A database that can write nothing at all cannot be opened.
        let says = ["disk is full", "database cannot be opened"];
        assert!(says.iter().any(|part| error.contains(part)), "{complaint}");
    }

    /// Looks what was saved, when there is space: what was answered, and perhaps the one after.
    fn is_there(&mut self, disk: &Disk) {
        let mut peer = disk.parlor();
        peer.arg("rpc").stderr(Stdio::inherit());
        let mut peer = Rpc::run(peer);
        let history = peer.history("bob");
        assert!(history.len() >= self.saved, "{} of {} are there", history.len(), self.saved);
        assert_eq!(history, self.texts[..history.len()]);
        self.texts.truncate(history.len());
        assert!(peer.finish().1.success());
    }
}

fn json_of(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

fn moved(stage: &Stage) -> Option<Disk> {
    let disk = Disk::new(stage.path("disk"))?;
    let home = stage.path("alice");
    disk.shell(r#"cp -a "$1" "$0"/home"#, home.to_str()?);
    Some(disk)
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let stage = friends();
    let Some(disk) = moved(&stage) else {
        let told = writeln!(io::stderr(), "NOT CHECKED: there are no user namespaces here");
        return told.unwrap();
    };
    let mut written = Written::default();
    for free in [0, 4, 8, 20, 36, 100, 300, 1000] {
        disk.leaves(free);
        written.fill(&disk);
        disk.leaves(64 * 1024);
        written.is_there(&disk);
    }
    let mut alice = disk.parlor();
    alice.args(["send", "bob", "the end", "--wait", "none"]);
    assert!(alice.status().unwrap().success());
    written.texts.push("the end".to_owned());
    let mut command = disk.parlor();
    command.args(["listen"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut alice = command.spawn().unwrap();
    let mut bob = Rpc::start(&stage, "bob");
    for text in &written.texts {
        assert_eq!(&bob.text(), text);
    }
    crate::stage::end(&mut alice);
}
