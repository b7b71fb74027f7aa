//! Changes of accounts and their devices, and what has had its time.

use parlor_common::Blob;
use parlor_common::device_list::{ListHash, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountKey, DeviceKey};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::Argon2Params;

use super::{MutualContacts, Origin};
use crate::audit::Entry;
use crate::opaque::{CredentialId, Record};

/// A new password.
#[derive(Debug)]
pub struct PasswordChange {
    /// Whose.
    pub name: Username,
    /// OPAQUE's new credential identifier.
    pub credential: CredentialId,
    /// OPAQUE's new record.
    pub record: Record,
    /// How the client hardened the password.
    pub argon2: Argon2Params,
    /// The account key, sealed under OPAQUE's new export key.
    pub account_box: Blob,
    /// From where.
    pub origin: Origin,
}

/// A new account key.
#[derive(Debug)]
pub struct Rekey {
    /// The hash of the list that the new key's first one follows.
    pub after: ListHash,
    /// That list; name and new key are in it.
    pub devices: VerifiedDeviceList,
    /// The new key, sealed under OPAQUE's export key.
    pub account_box: Blob,
    /// The new key, sealed under a new recovery code.
    pub recovery_box: Blob,
    /// From where.
    pub origin: Origin,
}

/// A new device list.
#[derive(Debug)]
pub struct ListChange {
    /// The hash of the list that it follows.
    pub after: ListHash,
    /// The list.
    pub devices: VerifiedDeviceList,
    /// What it does, and who did that.
    pub entry: Entry,
}

/// A device and its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedDevice {
    /// Its key.
    pub key: DeviceKey,
    /// How its owner calls it.
    pub name: Option<String>,
}

/// Who is to hear that an account is gone.
#[derive(Debug)]
pub struct Deleted {
    /// The devices that it had.
    pub devices: Vec<DeviceKey>,
    /// Its mutual contacts.
    pub mutual: MutualContacts,
}

/// A device that belongs to an account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownDevice {
    /// The account's name.
    pub name: Username,
    /// The account's key.
    pub account_key: AccountKey,
    /// Whether anything is held for the account.
    pub held: bool,
}

/// What is to be removed.
#[derive(Clone, Copy, Debug)]
pub struct Tidying {
    /// The server's clock.
    pub at: Timestamp,
    /// Rows of the audit trail that are older go; absent: none.
    pub audit_before: Option<Timestamp>,
    /// Envelopes that were posted earlier go.
    pub envelopes_before: Timestamp,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tidied {
    /// Rows of the audit trail.
    pub audit_rows: u64,
    /// Invitations.
    pub invitations: u64,
    /// Envelopes that nobody fetched.
    pub envelopes: u64,
}
