//! What goes together: a change of an account and its row in the audit trail, a registration and
//! what let it in. By means of the interfaces alone, whatever database is below.

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::wire::rendezvous::ErrorCode;

use super::admissions;
use super::interface::{Interfaces, QueryError};
use crate::audit::{AuditEvent, Entry, Reason};
use crate::server::{
    Account, Admission, CodeAsking, Creation, Deleted, EmailCodeAsked, ListChange, LoginAttempt,
    NewAccount, PasswordChange, Rekey, UnsentMail, Way,
};

type Result<T> = std::result::Result<T, QueryError>;

/// Creates an account if what was shown lets it in.
pub(super) fn create_account(db: &dyn Interfaces, account: &NewAccount) -> Result<Creation> {
    let creation = match refused(db, account)? {
        Some(refused) => refused,
        None => db.create(account)?,
    };
    let refused = match creation {
        Creation::Created => None,
        Creation::DeviceTaken => Some(ErrorCode::BadDeviceList),
        Creation::NameTaken => Some(ErrorCode::NameTaken),
        Creation::BadInvitation => Some(ErrorCode::BadInvitation),
        Creation::BadEmailCode => Some(ErrorCode::BadEmailCode),
    };
    let event = refused.map_or(AuditEvent::Registered, |_| AuditEvent::RegistrationRefused);
    let entry = account.origin.entry(event).of(account.devices.list().name.clone());
    db.append_audit(&Entry { reason: refused.map(Reason::Refused), ..entry })?;
    if creation == Creation::Created {
        use_up(db, account)?;
    }
    Ok(creation)
}

/// Why what was shown does not let an account in, if it does not. A wrong code is counted.
fn refused(db: &dyn Interfaces, account: &NewAccount) -> Result<Option<Creation>> {
    let at = account.origin.at;
    let (holds, otherwise) = match &account.admission {
        Admission::Open => return Ok(None),
        Admission::Invitation(hash) => (db.invitation_holds(hash, at)?, Creation::BadInvitation),
        Admission::Email(tried) => (db.try_email_code(tried, at)?, Creation::BadEmailCode),
    };
    Ok((!holds).then_some(otherwise))
}

fn use_up(db: &dyn Interfaces, account: &NewAccount) -> Result<()> {
    match &account.admission {
        Admission::Open => Ok(()),
        Admission::Invitation(hash) => db.use_invitation(hash, account.origin.at).map(|_| ()),
        Admission::Email(tried) => db.use_email_code(&tried.address),
    }
}

/// Keeps a code that is to be mailed, after every check that costs less than a mail.
pub(super) fn ask_email_code(db: &dyn Interfaces, asked: &EmailCodeAsked) -> Result<CodeAsking> {
    let (asking, refused) = if !db.is_free(&asked.name)? {
        (CodeAsking::NameTaken, ErrorCode::NameTaken)
    } else if let Some(until) = db.keep_email_code(asked)? {
        (CodeAsking::TooMany { until }, ErrorCode::TooFast)
    } else {
        return Ok(CodeAsking::Kept);
    };
    let entry = asked.origin.entry(AuditEvent::RegistrationRefused).of(asked.name.clone());
    db.append_audit(&entry.because(Reason::Refused(refused)))?;
    Ok(asking)
}

/// Undoes what was done for a mail that did not leave.
pub(super) fn take_mail_back(db: &dyn Interfaces, unsent: &UnsentMail) -> Result<()> {
    db.take_mail_back(&unsent.address, &unsent.hash)?;
    db.append_audit(&unsent.entry).map(|_| ())
}

/// Ends a login that succeeded.
pub(super) fn finish_login(
    db: &dyn Interfaces,
    attempt: &LoginAttempt,
) -> Result<Option<Box<Account>>> {
    let (origin, name) = (&attempt.origin, &attempt.name);
    let Some(account) = db.log_in(name, origin.at)? else { return Ok(None) };
    admissions::login_succeeded(db, attempt)?;
    let event = match attempt.way {
        Way::Password => AuditEvent::LoggedIn,
        Way::Recovery => AuditEvent::Recovered,
    };
    db.append_audit(&origin.entry(event).of(name.clone()))?;
    Ok(Some(account))
}

pub(super) fn change_password(db: &dyn Interfaces, change: &PasswordChange) -> Result<bool> {
    let changed = db.replace_password(change)?;
    if changed {
        let entry = change.origin.entry(AuditEvent::PasswordChanged);
        db.append_audit(&entry.of(change.name.clone()))?;
    }
    Ok(changed)
}

pub(super) fn replace_devices(
    db: &dyn Interfaces,
    change: &ListChange,
) -> Result<Option<Vec<DeviceKey>>> {
    let left = db.replace_devices(change.after, &change.devices)?;
    if left.is_some() {
        db.append_audit(&change.entry)?;
    }
    Ok(left)
}

pub(super) fn rekey(db: &dyn Interfaces, rekey: &Rekey) -> Result<Option<Vec<DeviceKey>>> {
    let left = db.replace_key(rekey)?;
    if left.is_some() {
        let entry = rekey.origin.entry(AuditEvent::AccountRekeyed);
        db.append_audit(&entry.of(rekey.devices.list().name.clone()))?;
    }
    Ok(left)
}

pub(super) fn delete_account(
    db: &dyn Interfaces,
    name: &Username,
    entry: &Entry,
) -> Result<Option<Box<Deleted>>> {
    let mutual = db.mutual_contacts(name)?;
    let Some(devices) = db.delete(name, entry.at)? else { return Ok(None) };
    db.append_audit(entry)?;
    Ok(Some(Box::new(Deleted { devices, mutual })))
}
