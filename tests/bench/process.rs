//! This program again, as one end of a conversation or as the clients of a server.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use harness::real::Real;
use parlor_common::id::Username;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

use crate::floods::{self, Flood as FloodOf};
use crate::message::peer::{self, Keeping};
use crate::{bare, lookups, reconnections};

/// What this program does when it was started by itself. It prints JSON, a value a line.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// A peer that takes messages, and answers each where asked to, until its input ends.
    #[command(hide = true)]
    Answer {
        home: PathBuf,
        #[arg(long)]
        echo: bool,
        /// Nothing is kept on the disk.
        #[arg(long)]
        in_memory: bool,
    },
    /// A peer that sends a message and waits for its echo, again and again, after so many
    /// milliseconds each time.
    #[command(hide = true)]
    Ping {
        home: PathBuf,
        to: Username,
        rounds: usize,
        pause: u64,
        /// Nothing is kept on the disk.
        #[arg(long)]
        in_memory: bool,
    },
    /// A peer that sends messages and waits until all are delivered.
    #[command(hide = true)]
    Flood {
        home: PathBuf,
        to: Username,
        count: usize,
        /// A message is delivered before the time starts.
        #[arg(long)]
        warm: bool,
    },
    /// Devices that connect to their rendezvous again and again.
    #[command(hide = true)]
    Reconnect { each: usize, homes: Vec<PathBuf> },
    /// Devices that look somebody up again and again.
    #[command(hide = true)]
    LookUp { each: usize, homes: Vec<PathBuf> },
    /// Honest users who connect and look somebody up, so often in all.
    #[command(hide = true)]
    Visit { visits: usize, homes: Vec<PathBuf> },
    /// Somebody who floods the server of a user, until the input ends.
    #[command(hide = true)]
    FloodServer { what: FloodOf, home: PathBuf },
    #[command(hide = true)]
    BareAnswer {
        #[arg(long)]
        echo: bool,
    },
    #[command(hide = true)]
    BarePing { address: SocketAddr, rounds: usize, pause: u64 },
    #[command(hide = true)]
    BareFlood { address: SocketAddr, count: usize },
    #[command(hide = true)]
    BareServer,
    #[command(hide = true)]
    BareReconnect { address: SocketAddr, each: usize, lanes: usize },
    #[command(hide = true)]
    BareLookUp { address: SocketAddr, each: usize, lanes: usize, request: usize, reply: usize },
}

impl Role {
    /// Plays it on the runtime that Parlor's programs use.
    pub fn play(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = runtime.block_on(self.run());
        // Reading standard input blocks a thread that nothing can end.
        runtime.shutdown_background();
        end
    }

    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Answer { home, echo, in_memory } => {
                peer::answer(&home, Keeping::of(in_memory), echo).await
            }
            Self::Ping { home, to, rounds, pause, in_memory } => {
                let pause = Duration::from_millis(pause);
                peer::ping(&home, Keeping::of(in_memory), &to, rounds, pause).await
            }
            Self::Flood { home, to, count, warm } => peer::flood(&home, &to, count, warm).await,
            Self::Reconnect { each, homes } => reconnections::clients(&homes, each).await,
            Self::LookUp { each, homes } => lookups::clients(&homes, each).await,
            Self::Visit { visits, homes } => floods::visitors(&homes, visits).await,
            Self::FloodServer { what, home } => floods::flood(what, home).await,
            Self::BareAnswer { echo } => bare::answer(echo).await,
            Self::BarePing { address, rounds, pause } => {
                bare::ping(address, rounds, Duration::from_millis(pause)).await
            }
            Self::BareFlood { address, count } => bare::flood(address, count).await,
            Self::BareServer => bare::serve().await,
            Self::BareReconnect { address, each, lanes } => {
                bare::reconnect(address, each, lanes).await
            }
            Self::BareLookUp { address, each, lanes, request, reply } => {
                bare::look_up(address, each, lanes, (request, reply)).await
            }
        }
    }
}

/// Tells the program that started this one.
pub fn tell(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Waits until the program that started this one has heard enough.
pub async fn input_ends() {
    // Nothing is ever written there.
    let _ = tokio::io::stdin().read_u8().await;
}

/// Waits for so long, and not at all for no time: a timer would take a millisecond.
pub async fn rest(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// A process of this program. It is ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    /// Starts one in a role, as on the command line.
    pub fn start<'a>(role: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        Self::run(Command::new(std::env::current_exe()?), role)
    }

    /// Starts one that has the processor when nobody else wants it: who floods a server does it on
    /// a machine of his own.
    pub fn behind<'a>(role: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?);
        Self::run(command, role)
    }

    fn run<'a>(
        mut command: Command,
        role: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<Self> {
        command.args(role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("there is no pipe")?);
        Ok(Self { child, lines })
    }

    /// The system's number for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for what it tells next.
    pub fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a process said {line:?}"))
    }

    /// Waits for the last that it tells, and for its end.
    pub fn told<T: DeserializeOwned>(mut self) -> anyhow::Result<T> {
        let last = self.hear()?;
        self.end()?;
        Ok(last)
    }

    /// Lets it end, and waits for the last that it tells.
    pub fn ended<T: DeserializeOwned>(mut self) -> anyhow::Result<T> {
        drop(self.child.stdin.take());
        self.told()
    }

    /// Lets it end in order.
    pub fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "a process ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for processes while this one plays the rendezvous.
pub fn beside<T: Send + 'static>(
    real: &Real,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    real.block_on(async { tokio::task::spawn_blocking(work).await })?
}
