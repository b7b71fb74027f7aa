//! Logins: from where, how, and what they are judged by.

use std::net::IpAddr;

use parlor_common::Blob;
use parlor_common::device_list::SignedDeviceList;
use parlor_common::id::Username;
use parlor_common::identity::{AccountKey, DeviceKey};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Argon2Params, ErrorCode};

use crate::audit::{AuditEvent, Entry, Reason};
use crate::limits::Limits;
use crate::opaque::{CredentialId, Known, Record};
use crate::server::Source;

/// Where a request came from, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The address.
    pub remote: IpAddr,
    /// What it counts as.
    pub source: Source,
    /// The device that its connection proved.
    pub device: DeviceKey,
    /// The server's clock.
    pub at: Timestamp,
}

impl Origin {
    /// The start of an entry in the audit trail about it.
    pub fn entry(&self, event: AuditEvent) -> Entry {
        Entry::new(event, self.at).from(self.remote)
    }

    /// The entry of a login of `name` that was refused with `code`.
    pub fn failed_login(&self, name: Username, code: ErrorCode) -> Entry {
        self.entry(AuditEvent::LoginFailed).of(name).because(Reason::Refused(code))
    }
}

/// How somebody logs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By the password.
    Password,
    /// By the recovery code.
    Recovery,
}

/// A try to log in.
#[derive(Debug)]
pub struct LoginAttempt {
    /// As whom; there may be no such account.
    pub name: Username,
    /// How.
    pub way: Way,
    /// From where.
    pub origin: Origin,
    /// How much of this is too much.
    pub limits: Limits,
}

/// What became of a try to log in.
#[derive(Debug)]
pub enum LoginStart {
    /// It may go on, whether there is such an account or not.
    Allowed(Option<Box<Credentials>>),
    /// It came too soon after others, and counts.
    TooFast {
        /// When the next one is taken.
        until: Timestamp,
    },
    /// Too many have failed.
    Locked {
        /// When the next one is taken.
        until: Timestamp,
    },
}

/// What the server keeps to check a password that it never sees.
#[derive(Debug)]
pub struct Credentials {
    /// OPAQUE's credential identifier.
    pub credential: CredentialId,
    /// OPAQUE's record.
    pub record: Record,
    /// How the client hardened the password.
    pub argon2: Argon2Params,
    /// The account key, sealed under the recovery code.
    pub recovery_box: Blob,
    /// The account key's public half.
    pub account_key: AccountKey,
    /// Whether an admin has shut the account: every password is wrong then.
    pub shut: bool,
}

impl Credentials {
    /// As the password exchange takes them.
    pub const fn known(&self) -> Known<'_> {
        let credential = &self.credential;
        if self.shut {
            Known::Shut { credential }
        } else {
            Known::Account { credential, record: &self.record }
        }
    }
}

/// What a finished login hands out.
#[derive(Debug)]
pub struct Account {
    /// The account key, sealed under OPAQUE's export key.
    pub account_box: Blob,
    /// The account's devices.
    pub devices: SignedDeviceList,
}
