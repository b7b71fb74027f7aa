//! Registrations: what lets somebody in, and what became of it.

use parlor_common::Blob;
use parlor_common::device_list::VerifiedDeviceList;
use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::Argon2Params;

use super::Origin;
use crate::audit::Entry;
use crate::email::{Address, EmailCodeHash};
use crate::invitation::InvitationHash;
use crate::limits::{Limits, MailLimits};
use crate::opaque::{CredentialId, Record};

/// A registration that begins.
#[derive(Debug)]
pub struct RegistrationStart {
    /// The wanted name.
    pub name: Username,
    /// From where.
    pub origin: Origin,
    /// How much of this is too much.
    pub limits: Limits,
}

/// What lets a newcomer in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Nothing: anybody may register.
    Open,
    /// An invitation.
    Invitation(InvitationHash),
    /// A code that was mailed to an address.
    Email(EmailCodeTried),
}

/// A code that somebody says was mailed to an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EmailCodeTried {
    /// The address.
    pub address: Address,
    /// Of the code.
    pub hash: EmailCodeHash,
    /// Wrong codes after which the right one is refused, too.
    pub max_attempts: u32,
}

/// A wish for a code by e-mail.
#[derive(Debug)]
pub struct EmailCodeAsked {
    /// The name that is to be registered.
    pub name: Username,
    /// Where to.
    pub address: Address,
    /// Of the code.
    pub hash: EmailCodeHash,
    /// Until when the code is good.
    pub expires_at: Timestamp,
    /// From where.
    pub origin: Origin,
    /// How many mails are too many.
    pub limits: MailLimits,
}

/// What became of a wish for a code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodeAsking {
    /// The code is kept and the mail counted: it may leave.
    Kept,
    /// There is, or was, an account of that name.
    NameTaken,
    /// Too many mails have left: to the address, to its domain or in all.
    TooMany {
        /// When the next one may leave.
        until: Timestamp,
    },
}

/// A mail that did not leave.
#[derive(Debug)]
pub struct UnsentMail {
    /// To whom it was.
    pub address: Address,
    /// Of the code in it.
    pub hash: EmailCodeHash,
    /// What is written down of that.
    pub entry: Entry,
}

/// An account to be created.
#[derive(Debug)]
pub struct NewAccount {
    /// The first device list; name and account key are in it.
    pub devices: VerifiedDeviceList,
    /// OPAQUE's credential identifier.
    pub credential: CredentialId,
    /// OPAQUE's record.
    pub record: Record,
    /// How the client hardened the password.
    pub argon2: Argon2Params,
    /// The account key, sealed under OPAQUE's export key.
    pub account_box: Blob,
    /// The account key, sealed under the recovery code.
    pub recovery_box: Blob,
    /// What lets it in.
    pub admission: Admission,
    /// From where, and when.
    pub origin: Origin,
}

/// Whether an account was created.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Creation {
    /// It was.
    Created,
    /// The device belongs to another account.
    DeviceTaken,
    /// There is, or was, an account of that name.
    NameTaken,
    /// The invitation is none, or is used up, expired or revoked.
    BadInvitation,
    /// The code is not the one that was mailed, or its time or its tries are over.
    BadEmailCode,
}

/// An invitation to be kept.
#[derive(Debug)]
pub struct InvitationMade {
    /// Of its code.
    pub hash: InvitationHash,
    /// For so many accounts.
    pub uses: u32,
    /// The user that makes it; absent for an admin.
    pub by: Option<Username>,
    /// So many accounts may the open invitations of a user be good for together.
    pub max_open: u32,
    /// The server's clock.
    pub at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
}
