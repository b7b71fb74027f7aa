//! Whether a registration or a login may begin: token buckets, and what was guessed before. By means
//! of the interfaces alone.

use parlor_common::id::DeviceId;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::ErrorCode;

use super::interface::{Interfaces, QueryError};
use crate::audit::{AuditEvent, Entry, Reason};
use crate::bucket::Rate;
use crate::guard::{Attempt, GuardLimits, Verdict};
use crate::limits::Limits;
use crate::server::{LoginAttempt, LoginStart, Origin, RegistrationStart, Source};

type Result<T> = std::result::Result<T, QueryError>;

/// The source of tries that are counted for a name alone.
const ANY_SOURCE: &str = "";

/// Counts a registration that begins; returns until when there may be none.
pub(super) fn start_registration(
    db: &dyn Interfaces,
    start: &RegistrationStart,
) -> Result<Option<Timestamp>> {
    let RegistrationStart { name, origin, limits } = start;
    let rates = (limits.registrations(), limits.registrations_per_minute_in_all);
    let until = charge_source_and_all(db, "registrations", rates, origin, limits)?;
    if until.is_some() {
        let entry = origin.entry(AuditEvent::RegistrationRefused).of(name.clone());
        let entry = entry.because(Reason::Refused(ErrorCode::TooFast));
        record_refusal(db, &entry, limits)?;
    }
    Ok(until)
}

/// Counts a login that begins, for a name that nobody has as well, and hands out what it is judged
/// by.
pub(super) fn start_login(db: &dyn Interfaces, attempt: &LoginAttempt) -> Result<LoginStart> {
    let LoginAttempt { name, origin, limits, .. } = attempt;
    let own = db.owner(&origin.device)?.is_some_and(|owner| owner.name == *name);
    let verdict = match charge_login(db, attempt, own)? {
        Some(until) => Verdict::TooFast { until },
        // Whoever has a device of the account is not kept from it by strangers.
        None if own => Verdict::Allowed,
        None => guard(db, attempt)?,
    };
    let (start, code) = match verdict {
        Verdict::Allowed => return Ok(LoginStart::Allowed(db.credentials(name)?)),
        Verdict::TooFast { until } => (LoginStart::TooFast { until }, ErrorCode::TooFast),
        Verdict::Locked { until } => (LoginStart::Locked { until }, ErrorCode::Locked),
    };
    record_refusal(db, &origin.failed_login(name.clone(), code), limits)?;
    Ok(start)
}

/// Takes the tokens of a login that begins.
fn charge_login(
    db: &dyn Interfaces,
    attempt: &LoginAttempt,
    own: bool,
) -> Result<Option<Timestamp>> {
    let LoginAttempt { origin, limits, .. } = attempt;
    if own {
        let scope = format!("logins {}", DeviceId::of(&origin.device));
        return charge(db, &scope, limits.logins(), origin.at, limits);
    }
    let rates = (limits.logins(), limits.logins_per_minute_in_all);
    charge_source_and_all(db, "logins", rates, origin, limits)
}

/// Judges a try by those before it: of the name and the source, and of the name alone unless it has
/// logged in from that source before.
fn guard(db: &dyn Interfaces, attempt: &LoginAttempt) -> Result<Verdict> {
    let LoginAttempt { name, origin, limits, .. } = attempt;
    let (now, source, kept) = (origin.at, origin.source.to_string(), limits.login_tries_kept);
    let mut tries = db.tries(name, &source)?;
    let Attempt { verdict, locks } = tries.attempt(now, &GuardLimits::of_source(limits));
    db.keep_tries(name, &source, &tries, kept)?;
    if locks {
        db.append_audit(&origin.entry(AuditEvent::LockedOut).of(name.clone()))?;
    }
    if tries.known || verdict != Verdict::Allowed {
        return Ok(verdict);
    }
    let mut of_name = db.tries(name, ANY_SOURCE)?;
    let Attempt { verdict, locks } = of_name.attempt(now, &GuardLimits::of_name(limits));
    db.keep_tries(name, ANY_SOURCE, &of_name, kept)?;
    if locks {
        // From no source in particular.
        db.append_audit(&Entry::new(AuditEvent::LockedOut, now).of(name.clone()))?;
    }
    Ok(verdict)
}

/// A login has succeeded: what was counted for it is taken back.
pub(super) fn login_succeeded(db: &dyn Interfaces, attempt: &LoginAttempt) -> Result<()> {
    let LoginAttempt { name, origin, limits, .. } = attempt;
    let (source, kept) = (origin.source.to_string(), limits.login_tries_kept);
    let mut tries = db.tries(name, &source)?;
    if !tries.known {
        let mut of_name = db.tries(name, ANY_SOURCE)?;
        of_name.take_back();
        db.keep_tries(name, ANY_SOURCE, &of_name, kept)?;
    }
    tries.succeed(origin.at);
    db.keep_tries(name, &source, &tries, kept)
}

/// Writes a refused or failed try down, unless its source has filled enough of the trail.
pub(super) fn record_refusal(db: &dyn Interfaces, entry: &Entry, limits: &Limits) -> Result<()> {
    let source = entry.source.map(Source::of).map(|source| source.to_string()).unwrap_or_default();
    let scope = format!("refusals {source}");
    if charge(db, &scope, limits.audited_refusals(), entry.at, limits)?.is_none() {
        db.append_audit(entry)?;
    }
    Ok(())
}

/// Takes a token of a source, and one of all sources together, which have so many in a minute.
fn charge_source_and_all(
    db: &dyn Interfaces,
    what: &str,
    (of_source, in_all): (Rate, u32),
    origin: &Origin,
    limits: &Limits,
) -> Result<Option<Timestamp>> {
    let scope = format!("{what} {}", origin.source);
    let until = charge(db, &scope, of_source, origin.at, limits)?;
    if until.is_some() {
        return Ok(until);
    }
    charge(db, what, Rate { at_once: in_all, per_minute: in_all }, origin.at, limits)
}

fn charge(
    db: &dyn Interfaces,
    scope: &str,
    rate: Rate,
    now: Timestamp,
    limits: &Limits,
) -> Result<Option<Timestamp>> {
    match rate.draw(db.bucket(scope)?, now) {
        Ok(bucket) => {
            db.keep_bucket(scope, bucket, limits.login_tries_kept)?;
            Ok(None)
        }
        Err(until) => Ok(Some(until)),
    }
}
