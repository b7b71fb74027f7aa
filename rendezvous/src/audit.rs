//! The audit trail: what happened to whom, in rows that hang together by their hashes.
//!
//! Each row's hash covers the row and the hash of the row before it, so that a row that was
//! removed, edited, moved or put in is noticed by [`Chain`]. The [`Head`], the number and hash of
//! the newest row, is kept apart from the rows and logged each day: a trail whose end was cut off,
//! or that was written anew as a whole, does not contain the head that was logged.
//!
//! Old rows go by [`Row::anchor`]: the newest of them keeps its place with nothing but its hash,
//! and a new row, [`AuditEvent::AuditCut`], says so.
//!
//! Nothing here knows a password, a key, a code or a message, and so none can get in.

mod chain;
mod hash;
mod log;

use std::fmt;
use std::net::IpAddr;

use parlor_common::Fields;
use parlor_common::id::{DeviceId, Username};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::ErrorCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::chain::{Broken, Chain, Verified};
pub use self::hash::{Claim, Head, ParseHeadError, RowHash};
use crate::invitation::InvitationId;

/// What a row's hash starts with.
const LABEL: &[u8] = b"parlor/v1/audit";

/// What stands in the place of an event in a row that was cut down to its hash.
const ANCHOR: &str = "anchor";

/// Characters that a text of a row has at most. Honest ones are shorter by far; a longer one was
/// tampered with, and is read cut off.
pub const MAX_TEXT: usize = 256;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuditEvent {
    /// An account was created.
    Registered,
    /// Somebody was not let in as a new account.
    RegistrationRefused,
    /// A device came in by the password.
    LoggedIn,
    /// A login, by password or by recovery code, was refused.
    LoginFailed,
    /// So many failures that the next tries are not even looked at.
    LockedOut,
    /// A device came in by the recovery code.
    Recovered,
    /// The account has another password.
    PasswordChanged,
    /// The account's owner deleted it.
    AccountDeleted,
    /// The account has another key.
    AccountRekeyed,
    /// A device joined the account.
    DeviceAdded,
    /// A device was taken off the account.
    DeviceRemoved,
    /// An earlier device signed for a newer one.
    DeviceConfirmed,
    /// An admin shut the account.
    UserDisabled,
    /// An admin opened it again.
    UserEnabled,
    /// An admin cleared an account's failed logins and locks.
    UserUnlocked,
    /// An admin deleted the account.
    UserDeleted,
    /// An invitation was made.
    InvitationCreated,
    /// An invitation was taken back.
    InvitationRevoked,
    /// The oldest rows were removed; the reason names what is left of them.
    AuditCut,
}

impl AuditEvent {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Registered,
        Self::RegistrationRefused,
        Self::LoggedIn,
        Self::LoginFailed,
        Self::LockedOut,
        Self::Recovered,
        Self::PasswordChanged,
        Self::AccountDeleted,
        Self::AccountRekeyed,
        Self::DeviceAdded,
        Self::DeviceRemoved,
        Self::DeviceConfirmed,
        Self::UserDisabled,
        Self::UserEnabled,
        Self::UserUnlocked,
        Self::UserDeleted,
        Self::InvitationCreated,
        Self::InvitationRevoked,
        Self::AuditCut,
    ];

    /// The event's name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::RegistrationRefused => "registration_refused",
            Self::LoggedIn => "logged_in",
            Self::LoginFailed => "login_failed",
            Self::LockedOut => "locked_out",
            Self::Recovered => "recovered",
            Self::PasswordChanged => "password_changed",
            Self::AccountDeleted => "account_deleted",
            Self::AccountRekeyed => "account_rekeyed",
            Self::DeviceAdded => "device_added",
            Self::DeviceRemoved => "device_removed",
            Self::DeviceConfirmed => "device_confirmed",
            Self::UserDisabled => "user_disabled",
            Self::UserEnabled => "user_enabled",
            Self::UserUnlocked => "user_unlocked",
            Self::UserDeleted => "user_deleted",
            Self::InvitationCreated => "invitation_created",
            Self::InvitationRevoked => "invitation_revoked",
            Self::AuditCut => "audit_cut",
        }
    }

    /// Whether a stranger's try failed or was refused: what fail2ban counts.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::LoginFailed | Self::RegistrationRefused)
    }
}

impl fmt::Display for AuditEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What more there is to say of an event: why a try was refused, or what the event is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The code that the client was told.
    Refused(ErrorCode),
    /// The device that came or went.
    Device(DeviceId),
    /// The invitation that was made, used or taken back.
    Invitation(InvitationId),
    /// The row that is left of those that were cut.
    Cut(Head),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => code.fmt(f),
            Self::Device(device) => device.fmt(f),
            Self::Invitation(id) => id.fmt(f),
            Self::Cut(anchor) => anchor.fmt(f),
        }
    }
}

/// An event that is to be written down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What happened.
    pub event: AuditEvent,
    /// When.
    pub at: Timestamp,
    /// To which account; for a try, the name that was tried.
    pub account: Option<Username>,
    /// Where the request came from; absent for what an admin or the server itself did.
    pub source: Option<IpAddr>,
    /// Why, or what.
    pub reason: Option<Reason>,
}

impl Entry {
    /// An event of which no more is known.
    pub const fn new(event: AuditEvent, at: Timestamp) -> Self {
        Self { event, at, account: None, source: None, reason: None }
    }

    /// Of an account.
    #[must_use]
    pub fn of(self, account: Username) -> Self {
        Self { account: Some(account), ..self }
    }

    /// From an address. An IPv4 address that came mapped into IPv6 is written as IPv4.
    #[must_use]
    pub fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source.to_canonical()), ..self }
    }

    /// For a reason.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }
}

/// A row of the trail, as it is stored and shown. Its texts are whatever the table says: only
/// [`Chain`] tells whether they are what was written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Row {
    /// Counts from 1.
    pub seq: u64,
    /// When; milliseconds since the epoch.
    pub at: Timestamp,
    /// [`AuditEvent`]'s name.
    pub event: String,
    /// The account, or the name that was tried.
    pub account: Option<String>,
    /// The address that the request came from.
    pub source: Option<String>,
    /// [`Reason`]'s text.
    pub reason: Option<String>,
    /// SHA-256 in 64 hexadecimal digits, in lower case.
    pub hash: String,
}

impl Row {
    /// The row that writes an entry down after `head`.
    pub fn following(head: &Head, entry: &Entry) -> Self {
        let mut row = Self {
            seq: head.seq.saturating_add(1),
            at: entry.at,
            event: entry.event.to_string(),
            account: entry.account.as_ref().map(Username::to_string),
            source: entry.source.map(|source| source.to_string()),
            reason: entry.reason.as_ref().map(Reason::to_string),
            hash: String::new(),
        };
        row.hash = row.hash_after(&head.hash).to_string();
        row
    }

    /// What is left in the place of the newest of the rows that are cut: its number and its hash.
    pub fn anchor(head: &Head) -> Self {
        Self {
            seq: head.seq,
            at: Timestamp::default(),
            event: ANCHOR.to_owned(),
            account: None,
            source: None,
            reason: None,
            hash: head.hash.to_string(),
        }
    }

    /// The row as a head, if its hash is one.
    pub fn head(&self) -> Option<Head> {
        let hash = self.hash.parse().ok().filter(|hash: &RowHash| hash.to_string() == self.hash)?;
        Some(Head { seq: self.seq, hash })
    }

    /// The hash that the row has if it follows a row of hash `previous`.
    fn hash_after(&self, previous: &RowHash) -> RowHash {
        let fields = Fields::new()
            .field(LABEL)
            .field(previous.as_bytes())
            .number(self.seq)
            .number(self.at.as_millis())
            .field(&self.event)
            .optional(self.account.as_ref())
            .optional(self.source.as_ref())
            .optional(self.reason.as_ref());
        RowHash::new(Sha256::digest(fields.as_bytes()).into())
    }
}

/// Rows in the order of their numbers, and the trail's head at the same moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Page {
    /// Oldest first.
    pub rows: Vec<Row>,
    /// The newest row of all; absent if there is none, or the note of it is gone.
    pub head: Option<Head>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_names_of_their_own() {
        let mut names: Vec<_> = AuditEvent::ALL.iter().map(|event| event.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), AuditEvent::ALL.len());
        assert!(!names.contains(&ANCHOR));
    }

    #[test]
    fn a_row_says_what_the_entry_said() {
        let entry = Entry::new(AuditEvent::LoginFailed, Timestamp::from_millis(7))
            .of("alice".parse().unwrap())
            .from("::ffff:192.0.2.7".parse().unwrap())
            .because(Reason::Refused(ErrorCode::TooFast));
        let row = Row::following(&Head::default(), &entry);
        assert_eq!((row.seq, row.at.as_millis()), (1, 7));
        assert_eq!(row.event, "login_failed");
        assert_eq!(row.account.as_deref(), Some("alice"));
        assert_eq!(row.source.as_deref(), Some("192.0.2.7"));
        assert_eq!(row.reason.as_deref(), Some("too_fast"));
    }

    /// The hash is part of the format: a trail that one version wrote, the next one verifies.
    #[test]
    fn the_hash_is_the_documented_one() {
        let entry = Entry::new(AuditEvent::Registered, Timestamp::from_millis(1))
            .of("alice".parse().unwrap());
        let bytes = [
            b"\0\0\0\x0fparlor/v1/audit\0\0\0\x20".as_slice(),
            &[0; 32],
            b"\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x01",
            b"\0\0\0\x0aregistered\0\0\0\x05alice\xff\xff\xff\xff\xff\xff\xff\xff",
        ];
        let hash = RowHash::new(Sha256::digest(bytes.concat()).into());
        assert_eq!(Row::following(&Head::default(), &entry).hash, hash.to_string());
    }
}
