//! `parlor doctor`: what works, what does not, and what to do about it. It changes nothing.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use parlor_common::identity::DeviceSecret;
use parlor_common::time::Timestamp;
use parlor_common::visible::Visible;
use parlor_common::wire::rendezvous::Event;
use rand::Rng;
use serde_json::json;
use zeroize::Zeroizing;

use super::Context;
use super::error::CliError;
use super::print::Printer;
use super::session::interruptible;
use crate::crypto::self_test::self_test;
use crate::driver::{date, os_rng};
use crate::net::ServerSession;
use crate::node::input::ServerDown;
use crate::node::record::Identity;
use crate::profile::{KeyProtection, LockError, ProfileError};
use crate::store::Company;

/// Offers and prekeys carry times: a clock that is wrong by more, in seconds, is in the way.
const MAX_CLOCK_ERROR: u64 = 30;

const AFTER_DAMAGE: &str = "restore a copy of the profile's folder. Without one: parlor export \
    --output FILE saves the messages that are left; then log in anew with another --home, and \
    parlor import FILE there";

/// What came of a check, and what to say.
type Finding = Result<String, String>;

/// The checks, one after the other.
struct Doctor {
    printer: Printer,
    all_well: bool,
}

impl Doctor {
    fn tell(&mut self, check: &str, finding: Finding) -> io::Result<()> {
        let ok = finding.is_ok();
        self.all_well &= ok;
        let (Ok(detail) | Err(detail)) = finding;
        let mark = if ok { "ok" } else { "NOT OK" };
        let text = format!("{mark:<6}  {check:<12}  {}", Visible(&detail));
        self.printer.line(&json!({ "check": check, "ok": ok, "detail": detail }), &text)
    }
}

pub(super) async fn run(context: &Context) -> Result<ExitCode, CliError> {
    let mut doctor = Doctor { printer: context.printer, all_well: true };
    doctor.tell("cryptography", cryptography())?;
    doctor.tell("config", config(context))?;
    doctor.tell("key", key(context))?;
    let company = company(context);
    doctor.tell("store", store(context, &company))?;
    let identity = context.home.open_read_only().and_then(|reader| Ok(reader.identity()?));
    let connected = interruptible(connect(identity, &company)).await?;
    let (reached, welcome) = match connected {
        Ok((text, welcome)) => (Ok(text), Some(welcome)),
        Err(error) => (Err(error), None),
    };
    doctor.tell("rendezvous", reached)?;
    let unknown = || Err("not known: there is no connection to the rendezvous".to_owned());
    let by_welcome =
        |finding: fn(&Welcome) -> Finding| welcome.as_ref().map_or_else(unknown, finding);
    doctor.tell("clock", by_welcome(clock))?;
    doctor.tell("nat", by_welcome(nat))?;
    Ok(if doctor.all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cryptography() -> Finding {
    match self_test() {
        Ok(()) => Ok("every algorithm gives the known answers".to_owned()),
        Err(error) => Err(format!("{error}: this build must not be used; install another one")),
    }
}

fn config(context: &Context) -> Finding {
    match context.home.config() {
        Ok(_) => Ok("nothing is set that is not known".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn key(context: &Context) -> Finding {
    match context.home.key_protection() {
        Ok(KeyProtection::Passphrase) => Ok("the database's key is behind a passphrase".to_owned()),
        Ok(KeyProtection::PlainFile) => Ok("the database's key lies in a plain file beside the \
            database: a key beside the lock. It keeps out who has the database alone; who copies \
            the folder reads everything. parlor store passphrase puts it behind a passphrase"
            .to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether another process has the profile. While this is kept, none takes it.
enum Others {
    /// None.
    Kept { _lock: crate::profile::ProfileLock },
    /// One, as it says.
    Using(String),
    /// Nobody knows.
    Unknown(String),
}

fn company(context: &Context) -> Others {
    // The folder of a profile that is not there is not made.
    if let Err(error @ ProfileError::NoProfile) = context.home.open_read_only() {
        return Others::Unknown(error.to_string());
    }
    match context.home.lock("parlor doctor") {
        Ok(lock) => Others::Kept { _lock: lock },
        Err(LockError::Held { by }) => Others::Using(by),
        Err(error) => Others::Unknown(error.to_string()),
    }
}

fn store(context: &Context, others: &Others) -> Finding {
    let (company, whose) = match others {
        Others::Kept { .. } => (Company::Alone, String::new()),
        Others::Using(by) => (Company::Shared, format!(", while it is in use by {by}")),
        Others::Unknown(error) => return Err(error.clone()),
    };
    match context.home.faults(company) {
        Ok(faults) if faults.is_empty() => Ok(format!("every page is as it was written{whose}")),
        Ok(faults) => Err(format!("damaged: {}. {AFTER_DAMAGE}", faults.join("; "))),
        Err(error @ ProfileError::Damaged(_)) => Err(format!("{error}: {AFTER_DAMAGE}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What the rendezvous says of this machine.
struct Welcome {
    observed: std::net::SocketAddr,
    local: Vec<std::net::SocketAddr>,
    theirs: Timestamp,
    ours: Timestamp,
}

/// Connects: as this device, unless that would end the connection of another process of it.
async fn connect(
    identity: Result<Identity, ProfileError>,
    others: &Others,
) -> Result<(String, Welcome), String> {
    let identity =
        identity.map_err(|error| format!("which it is stands in the profile: {error}"))?;
    let alone = matches!(others, Others::Kept { .. });
    let mut seed = Zeroizing::new([0; 32]);
    os_rng().fill_bytes(seed.as_mut_slice());
    let seed = if alone { identity.device.expose_seed() } else { seed };
    let device = Arc::new(DeviceSecret::from_seed(&seed));
    let session = ServerSession::connect(device, &identity.server).await;
    let session = session.map_err(|error| error.to_string())?;
    let Event::Welcome { name, observed, now, .. } = session.welcome().clone() else {
        return Err("it says nothing that makes sense".to_owned());
    };
    let welcome = Welcome { observed, local: session.local_addresses(), theirs: now, ours: date() };
    session.close().await;
    if alone && name != Some(identity.name) {
        return Err(CliError::Server(ServerDown::UnknownDevice).to_string());
    }
    Ok((format!("reached: {}", identity.server), welcome))
}

fn clock(welcome: &Welcome) -> Finding {
    let Welcome { ours, theirs, .. } = welcome;
    let error = ours.distance(*theirs);
    let side = if ours > theirs { "ahead of" } else { "behind" };
    let text = format!("{}.{:03} s {side} the rendezvous", error.as_secs(), error.subsec_millis());
    if error.as_secs() < MAX_CLOCK_ERROR {
        return Ok(text);
    }
    Err(format!("{text}: set this machine's clock, or ask whoever runs the rendezvous to"))
}

/// One rendezvous sees one address: what can be said of that.
#[expect(clippy::unnecessary_wraps, reason = "a check like the others")]
fn nat(welcome: &Welcome) -> Finding {
    let Welcome { observed, local, .. } = welcome;
    let ip = observed.ip().to_canonical();
    let port_kept = local.iter().any(|address| address.port() == observed.port());
    Ok(if local.iter().any(|address| address.ip().to_canonical() == ip) {
        format!("none: {observed} is an address of this machine")
    } else if port_kept {
        format!("behind one that keeps ports: seen as {observed}")
    } else {
        format!("behind one that changes ports: seen as {observed}")
    })
}
