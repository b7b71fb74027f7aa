//! Bare quinn with the same mutual raw keys, key exchange and transport, and nothing above it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlor_common::identity::{DeviceSecret, ServerSecret};
use parlor_common::quic::{self, ALPN_PEER, ALPN_RENDEZVOUS, SERVER_NAME, Transport};
use parlor_common::wire::frame;
use parlor_common::wire::rendezvous::{MAX_REPLY, MAX_REQUEST};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;

use crate::message::SIZE;
use crate::process::{input_ends, rest, tell};

/// As long as a server's welcome.
const WELCOME: [u8; 200] = [b'x'; 200];

fn recipient() -> DeviceSecret {
    DeviceSecret::from_seed(&[2; 32])
}

fn sender() -> DeviceSecret {
    DeviceSecret::from_seed(&[1; 32])
}

fn server() -> ServerSecret {
    ServerSecret::from_seed(&[3; 32])
}

/// Both directions of a connection between peers.
struct Link {
    connection: Connection,
    outgoing: SendStream,
    incoming: RecvStream,
    /// Lives as long as the connection is to.
    _endpoint: Endpoint,
}

impl Link {
    async fn dial(address: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())?;
        let transport = Transport::BETWEEN_PEERS.config();
        let config = quic::client_config(&sender(), &recipient().public(), ALPN_PEER, transport)?;
        let connection = endpoint.connect_with(config, address, SERVER_NAME)?.await?;
        Self::greet(connection, endpoint).await
    }

    /// A byte each way: streams are known to the other side by what comes on them.
    async fn greet(connection: Connection, endpoint: Endpoint) -> anyhow::Result<Self> {
        let mut outgoing = connection.open_uni().await?;
        outgoing.write_all(&[0]).await?;
        let mut incoming = connection.accept_uni().await?;
        incoming.read_exact(&mut [0]).await?;
        Ok(Self { connection, outgoing, incoming, _endpoint: endpoint })
    }
}

/// Takes messages of one peer, and sends each back where asked to.
pub async fn answer(echo: bool) -> anyhow::Result<()> {
    let transport = Transport::BETWEEN_PEERS.config();
    let config = quic::server_config(&recipient(), ALPN_PEER, transport)?;
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    tell(&endpoint.local_addr()?)?;
    tokio::select! {
        answered = answer_one(endpoint, echo) => answered?,
        () = input_ends() => return Ok(()),
    }
    input_ends().await;
    Ok(())
}

async fn answer_one(endpoint: Endpoint, echo: bool) -> anyhow::Result<()> {
    let connection = endpoint.accept().await.context("the endpoint closed")?.await?;
    let mut link = Link::greet(connection, endpoint).await?;
    if !echo {
        let mut buffer = vec![0; 64 * 1024];
        while link.incoming.read(&mut buffer).await?.is_some() {}
        link.outgoing.write_all(&[0]).await?;
        link.connection.closed().await;
        return Ok(());
    }
    let mut message = [0; SIZE];
    loop {
        link.incoming.read_exact(&mut message).await?;
        link.outgoing.write_all(&message).await?;
    }
}

/// Tells how many seconds each round trip took, after a pause each; the first ones are not counted.
pub async fn ping(address: SocketAddr, rounds: usize, pause: Duration) -> anyhow::Result<()> {
    let mut link = Link::dial(address).await?;
    let mut message = [b'x'; SIZE];
    let mut samples = Vec::with_capacity(rounds);
    for round in 0..rounds + rounds / 10 {
        rest(pause).await;
        let started = Instant::now();
        link.outgoing.write_all(&message).await?;
        link.incoming.read_exact(&mut message).await?;
        if round >= rounds / 10 {
            samples.push(started.elapsed().as_secs_f64());
        }
    }
    tell(&samples)?;
    link.connection.close(VarInt::from_u32(0), b"");
    Ok(())
}

/// Tells how many seconds it took until the other side had read all messages.
pub async fn flood(address: SocketAddr, count: usize) -> anyhow::Result<()> {
    let mut link = Link::dial(address).await?;
    let message = [b'x'; SIZE];
    let started = Instant::now();
    for _ in 0..count {
        link.outgoing.write_all(&message).await?;
    }
    link.outgoing.finish()?;
    link.incoming.read_exact(&mut [0]).await?;
    tell(&started.elapsed().as_secs_f64())?;
    link.connection.close(VarInt::from_u32(0), b"");
    Ok(())
}

/// Welcomes every client, until the input ends.
pub async fn serve() -> anyhow::Result<()> {
    let transport = Transport::AT_RENDEZVOUS.config();
    let config = quic::server_config(&server(), ALPN_RENDEZVOUS, transport)?;
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    tell(&endpoint.local_addr()?)?;
    let accept = async {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await?;
                let mut events = connection.open_uni().await?;
                events.write_all(&frame(&WELCOME)).await?;
                while let Ok((outgoing, incoming)) = connection.accept_bi().await {
                    tokio::spawn(reply(outgoing, incoming));
                }
                anyhow::Ok(())
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = input_ends() => {}
    }
    Ok(())
}

/// Answers a request with as many bytes as its first four say.
async fn reply(mut outgoing: SendStream, mut incoming: RecvStream) -> anyhow::Result<()> {
    let mut len = [0; 4];
    incoming.read_exact(&mut len).await?;
    incoming.read_to_end(MAX_REQUEST).await?;
    let len = usize::try_from(u32::from_be_bytes(len))?.min(MAX_REPLY);
    outgoing.write_all(&vec![b'x'; len]).await?;
    Ok(outgoing.finish()?)
}

/// Tells how many seconds it took until each client had been answered so often, one after the
/// other, with requests and replies of these sizes.
pub async fn look_up(
    address: SocketAddr,
    each: usize,
    lanes: usize,
    (request, answer): (usize, usize),
) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for _ in 0..lanes {
        clients.push(be_welcomed(address).await?);
    }
    let mut payload = u32::try_from(answer)?.to_be_bytes().to_vec();
    payload.resize(request, b'x');
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    for (endpoint, connection) in clients {
        let payload = payload.clone();
        lanes.spawn(async move {
            for _ in 0..each {
                let (mut outgoing, mut incoming) = connection.open_bi().await?;
                outgoing.write_all(&payload).await?;
                outgoing.finish()?;
                incoming.read_to_end(MAX_REPLY).await?;
            }
            drop(endpoint);
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    tell(&started.elapsed().as_secs_f64())
}

/// Tells how many seconds it took until all clients had been welcomed so often.
pub async fn reconnect(address: SocketAddr, each: usize, lanes: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..lanes {
        clients.spawn(async move {
            for _ in 0..each {
                be_welcomed(address).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    tell(&started.elapsed().as_secs_f64())
}

async fn be_welcomed(address: SocketAddr) -> anyhow::Result<(Endpoint, Connection)> {
    let endpoint = Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())?;
    let transport = Transport::TO_RENDEZVOUS.config();
    let config = quic::client_config(&sender(), &server().public(), ALPN_RENDEZVOUS, transport)?;
    let connection = endpoint.connect_with(config, address, SERVER_NAME)?.await?;
    let mut events = connection.accept_uni().await?;
    let mut header = [0; 4];
    events.read_exact(&mut header).await?;
    events.read_exact(&mut [0; WELCOME.len()]).await?;
    Ok((endpoint, connection))
}
