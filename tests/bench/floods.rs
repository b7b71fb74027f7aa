//! What honest users wait while somebody floods the server from another address: a connection and a
//! look-up, beside the same in quiet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harness::real::Real;
use parlor::driver::os_rng;
use parlor::opaque::Login;
use parlor::profile::Home;
use parlor_common::identity::{DeviceSecret, ServerKey};
use parlor_common::link::ServerAddress;
use parlor_common::quic::{self, ALPN_RENDEZVOUS, SERVER_NAME, Transport};
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{MAX_REPLY, Reply, Request, User};
use quinn::{Connection, Endpoint, VarInt};
use rand::Rng as _;
use tokio::time::timeout;

use crate::Effort;
use crate::lookups::registered;
use crate::process::{Process, beside, input_ends, rest, tell};
use crate::report::{Figure, Report};
use crate::timing::quantile;

/// Where honest users come from.
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where the flood comes from.
const FLOODING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

const USERS: usize = 4;
/// Connections of a flood of logins, each with as many at once as the server takes.
const FLOODERS: u8 = 32;
/// First packets of a flood of handshakes, sent again and again.
const FLIGHTS: usize = 500;
/// So many packets in a millisecond, at most: some 100 Mbit/s.
const PACKETS: usize = 10;

/// What the server is flooded with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Flood {
    Logins,
    Handshakes,
}

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let mut real = Real::new();
    let homes = registered(&mut real, USERS);
    let visits = effort.of(100, 400);
    for (figure, flood) in [("flood_login_p99", "logins"), ("flood_handshake_p99", "handshakes")] {
        let (mut flooded, mut quiet) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            quiet.extend(visit(&real, &homes, visits)?);
            let home = homes.first().context("a home")?.clone();
            let flood = beside(&real, move || {
                let mut flood = Process::behind(["flood-server", flood, &home])?;
                let _: () = flood.hear()?;
                Ok(flood)
            })?;
            flooded.extend(visit(&real, &homes, visits)?);
            let sent: u64 = beside(&real, move || flood.ended())?;
            report.note(&format!("{figure}: {sent} of the flood"));
        }
        let p99 = |samples: &mut Vec<f64>| quantile(samples, 99) * 1e3;
        report.tell(&Figure::new(figure, "ms", p99(&mut flooded), p99(&mut quiet)));
    }
    Ok(())
}

fn visit(real: &Real, homes: &[String], visits: usize) -> anyhow::Result<Vec<f64>> {
    let (homes, visits) = (homes.to_vec(), visits.to_string());
    beside(real, move || {
        let homes = homes.iter().map(String::as_str);
        Process::start(["visit", &visits].into_iter().chain(homes))?.told()
    })
}

/// Tells how many seconds each visit took, of all users in turn.
pub async fn visitors(homes: &[PathBuf], visits: usize) -> anyhow::Result<()> {
    let mut users = Vec::new();
    for home in homes {
        users.push(Home::new(home).open_read_only()?.identity()?);
    }
    let request = Request::UserGet { name: "user0".parse()? };
    let mut samples = Vec::new();
    for user in users.iter().cycle().take(visits) {
        rest(Duration::from_millis(5)).await;
        let started = Instant::now();
        let (endpoint, connection) = dial(HONEST, &user.device, &user.server).await?;
        let reply = call(&connection, &request).await?;
        samples.push(started.elapsed().as_secs_f64());
        let reply: Reply<User> = serde_json::from_slice(reply.get(4..).context("no reply")?)?;
        ensure!(matches!(reply, Reply::Ok(_)), "an honest user was refused: {reply:?}");
        connection.close(VarInt::from_u32(0), b"");
        endpoint.wait_idle().await;
    }
    tell(&samples)
}

/// Floods the server of a user, until the input ends; tells when it has begun, and how much it was.
pub async fn flood(what: Flood, home: PathBuf) -> anyhow::Result<()> {
    let server = Home::new(home).open_read_only()?.identity()?.server;
    let sent = Arc::new(AtomicU64::new(0));
    match what {
        Flood::Logins => {
            for seed in 1..=FLOODERS {
                tokio::spawn(flood_logins(seed, server.clone(), Arc::clone(&sent)));
            }
        }
        Flood::Handshakes => {
            let flights = first_flights(&server).await?;
            let (to, sent) = (socket(&server)?, Arc::clone(&sent));
            std::thread::spawn(move || flood_packets(&flights, to, &sent));
            for seed in 1..=FLOODERS {
                tokio::spawn(flood_handshakes(seed, server.clone()));
            }
        }
    }
    while sent.load(Ordering::Relaxed) < 1_000 {
        rest(Duration::from_millis(1)).await;
    }
    tell(&())?;
    input_ends().await;
    tell(&sent.load(Ordering::Relaxed))
}

/// Begins logins with fresh names, and never ends one.
async fn flood_logins(seed: u8, server: ServerAddress, sent: Arc<AtomicU64>) -> anyhow::Result<()> {
    let device = DeviceSecret::from_seed(&[seed; 32]);
    let (_endpoint, connection) = dial(FLOODING, &device, &server).await?;
    let (_, message) = Login::start(b"guess", &mut os_rng())?;
    loop {
        let name = format!("ghost{}", os_rng().next_u32()).parse()?;
        let request = Request::LoginStart { name, message: message.clone().into() };
        let connection = connection.clone();
        let (mut outgoing, mut incoming) = connection.open_bi().await?;
        outgoing.write_all(&frame(&serde_json::to_vec(&request)?)).await?;
        outgoing.finish()?;
        sent.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move { incoming.read_to_end(MAX_REPLY).await });
    }
}

/// Connects again and again, as an honest client does.
async fn flood_handshakes(seed: u8, server: ServerAddress) {
    let device = DeviceSecret::from_seed(&[seed; 32]);
    loop {
        // Being refused is what it is about.
        let _ = timeout(Duration::from_secs(1), dial(FLOODING, &device, &server)).await;
    }
}

/// Sends first packets, and takes no answer.
fn flood_packets(
    flights: &[Vec<Vec<u8>>],
    to: SocketAddr,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    loop {
        let socket = UdpSocket::bind((FLOODING, 0))?;
        for flights in flights.chunks(PACKETS / 2) {
            for packet in flights.iter().flatten() {
                socket.send_to(packet, to)?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// First packets of many clients, which hear nothing.
async fn first_flights(server: &ServerAddress) -> anyhow::Result<Vec<Vec<Vec<u8>>>> {
    let deaf = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (at, key) = (deaf.local_addr()?, key(server)?);
    let mut flights = Vec::new();
    for _ in 0..FLIGHTS {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let device = DeviceSecret::from_seed(&[1; 32]);
        let transport = Transport::TO_RENDEZVOUS.config();
        let config = quic::client_config(&device, &key, ALPN_RENDEZVOUS, transport)?;
        let _connecting = endpoint.connect_with(config, at, SERVER_NAME)?;
        let mut flight = Vec::new();
        let mut packet = [0; 2048];
        // A client hello with a post-quantum key takes two packets.
        for _ in 0..2 {
            let len = timeout(Duration::from_millis(100), deaf.recv(&mut packet)).await??;
            flight.push(packet.get(..len).unwrap_or_default().to_vec());
        }
        flights.push(flight);
    }
    Ok(flights)
}

async fn dial(
    from: Ipv4Addr,
    device: &DeviceSecret,
    server: &ServerAddress,
) -> anyhow::Result<(Endpoint, Connection)> {
    let endpoint = Endpoint::client((from, 0).into())?;
    let transport = Transport::TO_RENDEZVOUS.config();
    let config = quic::client_config(device, &key(server)?, ALPN_RENDEZVOUS, transport)?;
    let connection = endpoint.connect_with(config, socket(server)?, SERVER_NAME)?.await?;
    Ok((endpoint, connection))
}

async fn call(connection: &Connection, request: &Request) -> anyhow::Result<Vec<u8>> {
    let (mut outgoing, mut incoming) = connection.open_bi().await?;
    outgoing.write_all(&frame(&serde_json::to_vec(request)?)).await?;
    outgoing.finish()?;
    Ok(incoming.read_to_end(MAX_REPLY).await?)
}

fn key(server: &ServerAddress) -> anyhow::Result<ServerKey> {
    server.key.context("a link without a key")
}

fn socket(server: &ServerAddress) -> anyhow::Result<SocketAddr> {
    let ip: IpAddr = server.at.host.parse()?;
    Ok((ip, server.at.port).into())
}
