//! A program that runs, and what it says.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::Context as _;
use serde_json::Value;

/// Who runs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    Alice,
    Bob,
    Rendezvous,
}

/// A number for each process that was ever started.
pub type Life = u64;

/// What a process said.
#[derive(Debug)]
pub struct Heard {
    pub from: Part,
    pub life: Life,
    /// A line; none at the end of them all.
    pub line: Option<Value>,
}

/// A process. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    pub life: Life,
}

impl Process {
    /// Starts a program; what it says is told to `heard`, what it complains of is in a file.
    pub fn start(
        mut command: Command,
        (part, life): (Part, Life),
        complaints: &Path,
        heard: Sender<Heard>,
    ) -> anyhow::Result<Self> {
        let complaints = File::options().create(true).append(true).open(complaints)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("there is no pipe")?;
        let input = child.stdin.take();
        thread::spawn(move || listen(output, (part, life), &heard));
        Ok(Self { child, input, life })
    }

    /// Writes to its input, if it still reads.
    pub fn write(&mut self, lines: &str) {
        if let Some(input) = &mut self.input {
            // It may have been killed, which is what this is about.
            let _ = input.write_all(lines.as_bytes());
        }
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        drop(self.input.take());
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.kill();
    }
}

/// Tells what a process says. The last line of one that was killed may be half a line.
fn listen(output: ChildStdout, (from, life): (Part, Life), heard: &Sender<Heard>) {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    for line in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
        if heard.send(Heard { from, life, line: Some(line) }).is_err() {
            return;
        }
    }
    // Nobody may listen any more.
    let _ = heard.send(Heard { from, life, line: None });
}
