//! `serve`: a server until SIGTERM or SIGINT.

use std::io;
use std::net::SocketAddr;

use parlor_common::link::Link;
use serde::Serialize;

use super::{CommandError, logs, print_json, print_line};
use crate::config::Config;
use crate::driver::Rendezvous;

pub(super) fn run(config: &Config, json: bool) -> Result<(), CommandError> {
    logs::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listened to before anything is promised: a signal right after the first line counts.
        let interrupted = interrupted()?;
        let server = Rendezvous::start(config)?;
        announce(&server, json)?;
        Ok(server.run(interrupted).await?)
    })
}

/// The first line on standard output.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    listen: SocketAddr,
    link: &'a Link,
}

fn announce(server: &Rendezvous, json: bool) -> Result<(), CommandError> {
    let (listen, link) = (server.address(), server.link());
    if json {
        return print_json(&Ready { event: "ready", listen, link });
    }
    print_line(&format!("serving on {listen}: {link}"))
}

#[cfg(unix)]
pub(super) fn interrupted() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
pub(super) fn interrupted() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}
