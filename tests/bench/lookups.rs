//! Accounts that are looked up: small requests over connections that stay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use harness::Stage as _;
use harness::real::Real;
use parlor::net::ServerSession;
use parlor::profile::Home;
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{Reply, Request, User};
use parlor_rendezvous::limits::Limits;
use tokio::task::JoinSet;

use crate::Effort;
use crate::process::{Process, beside, tell};
use crate::report::{Figure, Report};
use crate::timing::median;

/// Connections that ask at the same time.
const DEVICES: usize = 8;

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let mut real = Real::limited(unbounded());
    let homes = registered(&mut real, DEVICES);
    let each = effort.of(500, 3_000);
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let homes = homes.clone();
        let (took, sizes) = beside(&real, move || look_up(&homes, each))?;
        values.push(took);
        baselines.push(look_up_bare(each, sizes)?);
    }
    let rate = |times: &mut [f64]| (each * DEVICES) as f64 / median(times);
    let (value, bare) = (rate(&mut values), rate(&mut baselines));
    report.tell(&Figure::new("lookups", "1/s", value, bare));
    Ok(())
}

/// Registers `user0`, `user1` … and stops them; returns their folders.
pub fn registered(real: &mut Real, devices: usize) -> Vec<String> {
    let register = |number| {
        let name = format!("user{number}");
        real.register(&name);
        real.stop(&name);
        real.home(&name).to_string_lossy().into_owned()
    };
    (0..devices).map(register).collect()
}

/// A benchmark asks more than anybody.
pub fn unbounded() -> Limits {
    const MOST: u32 = 1_000_000;
    Limits {
        unproved_handshakes_at_once: MOST,
        handshakes_at_once: MOST,
        requests_at_once: MOST,
        lookups_at_once: MOST,
        ..Limits::default()
    }
}

/// Seconds, and the bytes of a request and its reply.
type Looked = (f64, (usize, usize));

fn look_up(homes: &[String], each: usize) -> anyhow::Result<Looked> {
    let each = each.to_string();
    let homes = homes.iter().map(String::as_str);
    Process::start(["look-up", &each].into_iter().chain(homes))?.told()
}

fn look_up_bare(each: usize, (request, reply): (usize, usize)) -> anyhow::Result<f64> {
    let mut server = Process::start(["bare-server"])?;
    let address: String = server.hear()?;
    let numbers = [each, DEVICES, request, reply].map(|number| number.to_string());
    let numbers = numbers.iter().map(String::as_str);
    let took = Process::start(["bare-look-up", &address].into_iter().chain(numbers))?.told()?;
    server.end()?;
    Ok(took)
}

/// Each device looks somebody up so often, one time after the other.
pub async fn clients(homes: &[PathBuf], each: usize) -> anyhow::Result<()> {
    let request = Request::UserGet { name: "user0".parse()? };
    let mut sessions = Vec::new();
    for home in homes {
        let identity = Home::new(home).open_read_only()?.identity()?;
        let device = Arc::new(identity.device);
        sessions.push(ServerSession::connect(device, &identity.server).await?);
    }
    let user: User = sessions.first().expect("a session").call(&request).await?;
    let sizes = [serde_json::to_vec(&request)?, serde_json::to_vec(&Reply::Ok(user))?]
        .map(|payload| frame(&payload).len());
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    for session in sessions {
        let request = request.clone();
        lanes.spawn(async move {
            for _ in 0..each {
                session.call::<User>(&request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    let looked: Looked = (started.elapsed().as_secs_f64(), sizes.into());
    tell(&looked)
}
