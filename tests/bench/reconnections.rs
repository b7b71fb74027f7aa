//! Known devices that come back to a server: full handshakes, up to the welcome.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use harness::real::Real;
use parlor::net::ServerSession;
use parlor::profile::Home;
use tokio::task::JoinSet;

use crate::Effort;
use crate::lookups::{registered, unbounded};
use crate::process::{Process, beside, tell};
use crate::report::{Figure, Report};
use crate::timing::median;

/// Devices that come back at the same time.
const DEVICES: usize = 8;

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let mut real = Real::limited(unbounded());
    let homes = registered(&mut real, DEVICES);
    let each = effort.of(100, 500);
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let homes = homes.clone();
        values.push(beside(&real, move || come_back(&homes, each))?);
        baselines.push(come_back_bare(each)?);
    }
    let rate = |times: &mut [f64]| (each * DEVICES) as f64 / median(times);
    let (value, bare) = (rate(&mut values), rate(&mut baselines));
    report.tell(&Figure::new("reconnections", "1/s", value, bare));
    Ok(())
}

fn come_back(homes: &[String], each: usize) -> anyhow::Result<f64> {
    let each = each.to_string();
    let homes = homes.iter().map(String::as_str);
    Process::start(["reconnect", &each].into_iter().chain(homes))?.told()
}

fn come_back_bare(each: usize) -> anyhow::Result<f64> {
    let mut server = Process::start(["bare-server"])?;
    let address: String = server.hear()?;
    let (each, lanes) = (each.to_string(), DEVICES.to_string());
    let took = Process::start(["bare-reconnect", &address, &each, &lanes])?.told()?;
    server.end()?;
    Ok(took)
}

/// Tells how many seconds it took until every device had been welcomed so often.
pub async fn clients(homes: &[PathBuf], each: usize) -> anyhow::Result<()> {
    let mut identities = Vec::new();
    for home in homes {
        identities.push(Home::new(home).open_read_only()?.identity()?);
    }
    let started = Instant::now();
    let mut devices = JoinSet::new();
    for identity in identities {
        devices.spawn(async move {
            let device = Arc::new(identity.device);
            for _ in 0..each {
                let session = ServerSession::connect(Arc::clone(&device), &identity.server).await?;
                drop(session);
            }
            anyhow::Ok(())
        });
    }
    while let Some(device) = devices.join_next().await {
        device??;
    }
    tell(&started.elapsed().as_secs_f64())
}
