//! `parlor demo`: a rendezvous and two peers in one process. A real run of the parts that
//! everybody uses, with every step shown.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use data_encoding::HEXLOWER;
use parlor_common::id::Username;
use parlor_common::link::ServerAddress;
use parlor_rendezvous::Rendezvous;
use parlor_rendezvous::config::{Config, DataPlace};
use rand::Rng;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::Context;
use super::account::make_account;
use super::error::CliError;
use super::print::Printer;
use super::session::interruptible;
use crate::account::Password;
use crate::driver::{Engine, os_rng};
use crate::node::input::{Intent, Token};
use crate::node::output::{Event, Incoming};
use crate::node::record::MessageState;
use crate::profile::{Home, ProfileLock};

/// No step takes this long; what does is a fault to be told.
const STEP_TIME: Duration = Duration::from_secs(30);

/// What the two say, in turn.
const CONVERSATION: [&str; 6] = [
    "Hello Bob! Can anybody else read this?",
    "Hello Alice. Nobody: it went straight to me, encrypted for me alone.",
    "Not even the rendezvous?",
    "It helped us find each other. It has neither the keys nor the message.",
    "And my password?",
    "Never left your machine.",
];

pub(super) async fn run(context: &Context) -> Result<ExitCode, CliError> {
    let folder = tempfile::Builder::new().prefix("parlor-demo-").tempdir()?;
    let shown = interruptible(Box::pin(show(context.printer, &folder))).await;
    folder.close()?;
    shown??;
    Ok(ExitCode::SUCCESS)
}

async fn show(printer: Printer, folder: &TempDir) -> Result<(), CliError> {
    let started = Instant::now();
    let config =
        Config { data: DataPlace::Folder(folder.path().join("rendezvous")), ..Config::in_memory() };
    let server = Rendezvous::start(&config).map_err(|error| CliError::Host(error.to_string()))?;
    let (listen, link) = (server.address(), server.link().clone());
    printer.line(
        &json!({ "event": "rendezvous", "listen": listen, "link": link }),
        &format!("A rendezvous listens on {listen}.\n  {link}\n"),
    )?;
    let mut alice = Peer::register("alice", &link.server, folder, printer).await?;
    let mut bob = Peer::register("bob", &link.server, folder, printer).await?;
    become_contacts(&mut alice, &mut bob, printer).await?;
    printer.text("\nThey talk:\n")?;
    let mut times = Vec::new();
    for (turn, text) in CONVERSATION.iter().enumerate() {
        let (from, to) =
            if turn % 2 == 0 { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
        times.push(say(from, to, text, printer).await?);
    }
    let same = alice.session.is_some() && alice.session == bob.session;
    alice.engine.stop().await?;
    bob.engine.stop().await?;
    server.stop().await;
    if !same {
        return Err(CliError::Demo("the two do not have the same session"));
    }
    summary(printer, &times, started)
}

/// One of the two, with a profile folder, an engine and a socket of its own.
struct Peer {
    name: Username,
    engine: Engine,
    _lock: ProfileLock,
    /// Where the other one is reached.
    address: Option<SocketAddr>,
    /// The session that was agreed on, as text.
    session: Option<String>,
}

impl Peer {
    async fn register(
        name: &str,
        server: &ServerAddress,
        folder: &TempDir,
        printer: Printer,
    ) -> Result<Self, CliError> {
        let started = Instant::now();
        let name: Username = name.parse().map_err(|_| CliError::Demo("a name was refused"))?;
        let lock = Home::new(folder.path().join(name.as_str())).lock("parlor demo")?;
        let account = make_account(&lock, name.clone(), server.clone(), &password()?, None).await?;
        let ms = millis(started);
        let key = account.identity.account_key;
        printer.line(
            &json!({ "event": "registered", "name": name, "account_key": key, "ms": ms }),
            &format!("{name} registers by OPAQUE: the rendezvous never sees the password ({ms:.0} ms).\n  account key {key}"),
        )?;
        let engine = Engine::start(lock.open()?)?;
        let mut peer = Self { name, engine, _lock: lock, address: None, session: None };
        peer.until(|event| matches!(event, Event::Online)).await?;
        Ok(peer)
    }

    /// Waits for an event, and keeps note of what is shown later.
    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event, CliError> {
        loop {
            let next = timeout(STEP_TIME, self.engine.next()).await;
            let event = next.map_err(|_| CliError::Demo("a step took too long"))?;
            let event = event.ok_or(CliError::Demo("an engine ended"))?;
            match &event {
                Event::Path { address, .. } => self.address = Some(*address),
                Event::Agreed { session, .. } => self.session = Some(session.to_string()),
                _ => {}
            }
            if wanted(&event) {
                return Ok(event);
            }
        }
    }

    async fn done(&mut self, wanted: Token) -> Result<(), CliError> {
        let is_done =
            |event: &Event| matches!(event, Event::Done { token, .. } if *token == wanted);
        match self.until(is_done).await? {
            Event::Done { result, .. } => Ok(result?),
            _ => Ok(()),
        }
    }
}

/// A password that nobody needs to know.
fn password() -> Result<Password, CliError> {
    let mut bytes = Zeroizing::new(vec![0; 24]);
    os_rng().fill_bytes(&mut bytes);
    Password::new(bytes).map_err(|error| CliError::Password(error.to_string()))
}

async fn become_contacts(
    alice: &mut Peer,
    bob: &mut Peer,
    printer: Printer,
) -> Result<(), CliError> {
    let asked =
        alice.engine.intend(Intent::AddContact { name: bob.name.clone(), account_key: None });
    alice.done(asked).await?;
    bob.until(|event| matches!(event, Event::ContactRequest { .. })).await?;
    let accepted = bob.engine.intend(Intent::AcceptContact { name: alice.name.clone() });
    bob.done(accepted).await?;
    alice.until(|event| matches!(event, Event::ContactAccepted { .. })).await?;
    let (alice, bob) = (&alice.name, &bob.name);
    printer.line(
        &json!({ "event": "contact", "asked": alice, "accepted": bob }),
        &format!("{alice} asks {bob} to become a contact; {bob} accepts."),
    )?;
    Ok(())
}

/// One message, from the intent to the recipient's receipt. Returns its time in milliseconds.
async fn say(
    from: &mut Peer,
    to: &mut Peer,
    text: &str,
    printer: Printer,
) -> Result<f64, CliError> {
    let started = Instant::now();
    from.engine.intend(Intent::Send { to: to.name.clone(), text: text.to_owned() });
    let delivered =
        |event: &Event| matches!(event, Event::Receipt { state: MessageState::Delivered, .. });
    let arrived = |event: &Event| matches!(event, Event::Message(_));
    let (receipt, message) = tokio::join!(from.until(delivered), to.until(arrived));
    receipt?;
    let ms = millis(started);
    let Event::Message(Incoming { text, carrier, ciphertext, .. }) = message? else {
        return Err(CliError::Demo("no message arrived"));
    };
    let ciphertext = HEXLOWER.encode(&ciphertext);
    let address = from.address.map(|address| address.to_string()).unwrap_or_default();
    printer.line(
        &json!({
            "event": "message", "from": from.name, "to": to.name, "text": text,
            "ciphertext": ciphertext, "carrier": carrier, "address": address, "ms": ms,
        }),
        &format!(
            "{} → {}  {text}\n  on the wire  {ciphertext}…\n  direct to {address}, acknowledged in {ms:.1} ms",
            from.name, to.name,
        ),
    )?;
    Ok(ms)
}

fn summary(printer: Printer, times: &[f64], started: Instant) -> Result<(), CliError> {
    let (first, rest) = times.split_first().ok_or(CliError::Demo("nothing was said"))?;
    let fastest = rest.iter().copied().fold(f64::INFINITY, f64::min);
    let total = millis(started);
    let json = json!({ "event": "done", "messages": times.len(), "first_ms": first, "fastest_ms": fastest, "ms": total });
    let text = format!(
        "
{} messages, each under a key of its own: AES-128-CBC with a fresh IV, authenticated by
HMAC-SHA-256. The first took {first:.1} ms with finding a way and the Diffie–Hellman agreement
(ffdhe3072); the fastest after it {fastest:.1} ms. All of it took {total:.0} ms, and nothing is left behind.

Next, with two terminals:
  parlor host --listen 127.0.0.1:4433                  # prints the link
  parlor --home a register alice --server LINK
  parlor --home b register bob --server LINK
  parlor --home a contact add bob && parlor --home b contact accept alice
  parlor --home a chat bob                             # and in the other: parlor --home b chat alice",
        times.len(),
    );
    Ok(printer.line(&json, &text)?)
}

fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e5).round() / 100.0
}
