//! What the core asks of the store. Each query is atomic and keeps its invariant by itself: between
//! a query and its answer anything may have happened to the connection that it was asked for.

use std::net::IpAddr;

use parlor_common::Blob;
use parlor_common::card::Card;
use parlor_common::device_list::{ListHash, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::{AccountKey, DeviceKey};
use parlor_common::prekey::{PrekeyBundle, PrekeyPair};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Argon2Params, ErrorCode, Held, KnownContact, PrekeysHeld, PrekeysKept, Started,
};

use crate::admin::{KnownInvitation, User, UserChange, UserLine};
use crate::audit::{AuditEvent, Entry, Page, Reason};
use crate::email::{Address, EmailCodeHash};
use crate::invitation::{InvitationHash, InvitationId};
use crate::limits::{ContactLimits, Limits, MailLimits, PrekeyLimits};
use crate::opaque::{CredentialId, Known, Record};
use crate::server::Source;

/// A question to the store.
#[derive(Debug)]
pub enum Query {
    /// Whose device is it? Answered by [`Answer::Device`].
    DeviceOwner {
        /// The key that a connection proved.
        device: DeviceKey,
    },
    /// Create an account unless its name or its device is taken. [`Answer::Created`].
    CreateAccount(Box<NewAccount>),
    /// Keep a code for an address, in place of the one before, and count its mail; unless the name
    /// is taken or too many mails have left. [`Answer::EmailCodeAsked`].
    AskEmailCode(Box<EmailCodeAsked>),
    /// Take a code back whose mail did not leave, and the count of it. [`Answer::MailTakenBack`].
    TakeMailBack(Box<UnsentMail>),
    /// Count a registration that begins. [`Answer::RegistrationStarted`].
    StartRegistration(Box<RegistrationStart>),
    /// Count a try to log in, and hand out what it is judged by. [`Answer::LoginStarted`].
    StartLogin(Box<LoginAttempt>),
    /// Take note of a login that succeeded, and hand out the account. [`Answer::Account`].
    FinishLogin(Box<LoginAttempt>),
    /// Replace an account's password. [`Answer::PasswordChanged`].
    ChangePassword(Box<PasswordChange>),
    /// Give an account a new key, if the list that its first list follows is still in force.
    /// [`Answer::Replaced`].
    Rekey(Box<Rekey>),
    /// Delete an account; its name is not given out again. [`Answer::Deleted`].
    DeleteAccount {
        /// Which.
        name: Username,
        /// Who did that.
        entry: Box<Entry>,
    },
    /// An account's device list. [`Answer::Devices`].
    Devices {
        /// Whose.
        name: Username,
    },
    /// Replace an account's device list if the one it follows is still in force and its devices
    /// belong to nobody else. [`Answer::Replaced`].
    ReplaceDevices(Box<ListChange>),
    /// An account's devices and how its owner calls them. [`Answer::NamedDevices`].
    NamedDevices {
        /// Whose.
        name: Username,
    },
    /// Name a device of an account. [`Answer::DeviceNamed`].
    NameDevice {
        /// Whose.
        name: Username,
        /// Which.
        device: DeviceId,
        /// How it is called; absent to take its name off.
        label: Option<String>,
    },
    /// All contacts of an account. [`Answer::Contacts`].
    Contacts {
        /// Whose.
        of: Username,
    },
    /// The mutual contacts of an account. [`Answer::Mutual`].
    MutualContacts {
        /// Whose.
        of: Username,
    },
    /// Whether two accounts hold each other as contacts. [`Answer::AreMutual`].
    AreMutual {
        /// One of them.
        one: Username,
        /// The other.
        other: Username,
    },
    /// Hold a contact request; or make both mutual, and hold each one's card for the other, if the
    /// other has asked already. One open request a pair. [`Answer::Asked`].
    AskContact(Box<ContactAsked>),
    /// Close an open request, and hold the answer for the asker. [`Answer::Answered`].
    AnswerContact {
        /// Who asked.
        asker: Username,
        /// Who answers.
        by: Username,
        /// The card of who accepts; absent to decline.
        card: Option<Box<Card>>,
        /// Contacts that an account may hold.
        max_contacts: u32,
    },
    /// Take a contact, and an open request to it, off an account. [`Answer::Removed`].
    RemoveContact {
        /// Whose contact.
        of: Username,
        /// The contact.
        contact: Username,
    },
    /// Block an account for another. [`Answer::Blocked`].
    Block {
        /// Who wants to hear nothing more.
        owner: Username,
        /// Of whom.
        other: Username,
    },
    /// Take a block back. [`Answer::Blocked`].
    Unblock {
        /// Whose block.
        owner: Username,
        /// Of whom.
        other: Username,
    },
    /// The oldest held items. [`Answer::Held`].
    Held {
        /// For whom.
        of: Username,
    },
    /// Forget held items, the account's own only. [`Answer::Forgotten`].
    ForgetHeld {
        /// Whose.
        of: Username,
        /// Which.
        ids: Vec<u64>,
    },
    /// Keep prekeys of a device: the signed pair in place of the one before, one-time pairs beside
    /// those that are there. A one-time pair is known by its id: one that is kept, or that has
    /// left already, stays as it is. Beyond what is kept for a device the oldest go.
    /// [`Answer::PrekeysKept`].
    PutPrekeys(Box<PrekeysPut>),
    /// How many prekeys of a device there are that are not too old. [`Answer::PrekeysHeld`].
    CountPrekeys {
        /// Whose.
        device: DeviceKey,
        /// The server's clock.
        at: Timestamp,
    },
    /// Take a bundle of each of an account's other devices. A one-time pair leaves once, the
    /// newest first. [`Answer::Bundles`].
    TakeBundles(Box<BundlesAsked>),
    /// Remember the largest count of its starts that a device has told. [`Answer::Started`].
    DeviceStart {
        /// Which device.
        device: DeviceKey,
        /// The count that it tells now.
        count: u64,
    },
    /// Write a refusal down in the audit trail, unless its source has filled enough of that.
    /// [`Answer::RefusalRecorded`].
    RecordRefusal {
        /// What was refused.
        entry: Box<Entry>,
        /// How much of this is too much.
        limits: Box<Limits>,
    },
    /// Write an event down in the audit trail. [`Answer::Recorded`].
    Record(Box<Entry>),
    /// Rows of the audit trail after a number. [`Answer::Audit`].
    AuditAfter {
        /// The number.
        seq: u64,
        /// At most so many.
        limit: u32,
    },
    /// The newest rows of the audit trail. [`Answer::Audit`].
    AuditNewest {
        /// At most so many.
        limit: u32,
    },
    /// A page of the users, by name. [`Answer::Users`].
    Users {
        /// The last of the page before.
        after: Option<Username>,
        /// At most so many.
        limit: u32,
    },
    /// All that is known of a user. [`Answer::User`].
    User {
        /// Whose.
        name: Username,
        /// The server's clock.
        at: Timestamp,
    },
    /// Change a user as an admin wants it, and write that down. [`Answer::UserChanged`].
    ChangeUser {
        /// Whose account.
        name: Username,
        /// How.
        change: UserChange,
        /// The server's clock.
        at: Timestamp,
    },
    /// How many accounts there are. [`Answer::Counted`].
    CountAccounts,
    /// Keep an invitation, and write that down. [`Answer::InvitationKept`].
    CreateInvitation(Box<InvitationMade>),
    /// A page of the invitations, by id. [`Answer::Invitations`].
    Invitations {
        /// The last of the page before.
        after: Option<InvitationId>,
        /// At most so many.
        limit: u32,
    },
    /// Take an invitation back, and write that down. [`Answer::InvitationRevoked`].
    RevokeInvitation {
        /// Which.
        id: InvitationId,
        /// The server's clock.
        at: Timestamp,
    },
    /// Remove what has had its time. [`Answer::Tidied`].
    Tidy(Box<Tidying>),
}

impl Query {
    /// Whether answering it may change what is stored.
    pub const fn is_write(&self) -> bool {
        match self {
            Self::CreateAccount(_)
            | Self::AskEmailCode(_)
            | Self::TakeMailBack(_)
            | Self::StartRegistration(_)
            | Self::StartLogin(_)
            | Self::FinishLogin(_)
            | Self::ChangePassword(_)
            | Self::Rekey(_)
            | Self::DeleteAccount { .. }
            | Self::ReplaceDevices(_)
            | Self::NameDevice { .. }
            | Self::AskContact(_)
            | Self::AnswerContact { .. }
            | Self::RemoveContact { .. }
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::ForgetHeld { .. }
            | Self::PutPrekeys(_)
            | Self::TakeBundles(_)
            | Self::DeviceStart { .. }
            | Self::RecordRefusal { .. }
            | Self::Record(_)
            | Self::ChangeUser { .. }
            | Self::CreateInvitation(_)
            | Self::RevokeInvitation { .. }
            | Self::Tidy(_) => true,
            Self::DeviceOwner { .. }
            | Self::Devices { .. }
            | Self::NamedDevices { .. }
            | Self::Contacts { .. }
            | Self::MutualContacts { .. }
            | Self::AreMutual { .. }
            | Self::Held { .. }
            | Self::CountPrekeys { .. }
            | Self::Users { .. }
            | Self::User { .. }
            | Self::CountAccounts
            | Self::Invitations { .. }
            | Self::AuditAfter { .. }
            | Self::AuditNewest { .. } => false,
        }
    }
}

/// What the store answers to a [`Query`].
#[derive(Debug)]
pub enum Answer {
    /// The device's account, if it has one.
    Device(Option<KnownDevice>),
    /// Whether the account was created.
    Created(Creation),
    /// Whether the code may be mailed.
    EmailCodeAsked(CodeAsking),
    /// It is as if there had been no mail.
    MailTakenBack,
    /// A refusal is written down, or is one too many.
    RefusalRecorded,
    /// Until when no registration may begin; absent if this one may.
    RegistrationStarted(Option<Timestamp>),
    /// What became of a try to log in.
    LoginStarted(LoginStart),
    /// The account, if there is one of that name and it is not shut.
    Account(Option<Box<Account>>),
    /// Whether there was an account whose password could be replaced.
    PasswordChanged(bool),
    /// Who is to hear that the account is gone; nothing if there was none.
    Deleted(Option<Box<Deleted>>),
    /// The account's devices, if there is such an account.
    Devices(Option<Box<SignedDeviceList>>),
    /// The devices that left with the new list; nothing if it was not put in force.
    Replaced(Option<Vec<DeviceKey>>),
    /// The devices and their names.
    NamedDevices(Vec<NamedDevice>),
    /// Whether the account has that device.
    DeviceNamed(bool),
    /// The contacts.
    Contacts(Vec<KnownContact>),
    /// The mutual contacts.
    Mutual(MutualContacts),
    /// Whether they hold each other.
    AreMutual(bool),
    /// What became of the contact request.
    Asked(Asking),
    /// What became of the answer to one.
    Answered(Answering),
    /// The remover's list version if the two had been mutual.
    Removed(Option<u64>),
    /// What became of a block, or of taking one back.
    Blocked(Blocking),
    /// The held items.
    Held(Vec<Held>),
    /// They are forgotten.
    Forgotten,
    /// What is kept now; nothing if the device belongs to no account any more.
    PrekeysKept(Option<PrekeysKept>),
    /// What there is; nothing if the device belongs to no account any more.
    PrekeysHeld(Option<PrekeysHeld>),
    /// The bundles, or why there are none.
    Bundles(Taking),
    /// What the device told before; nothing if it belongs to no account any more.
    Started(Option<Started>),
    /// The event is written down, as the row of this number.
    Recorded(u64),
    /// Rows of the audit trail.
    Audit(Page),
    /// Users.
    Users(Vec<UserLine>),
    /// A user, if there is one of that name.
    User(Option<Box<User>>),
    /// The devices of the user that was changed, if there is one of that name.
    UserChanged(Option<Vec<DeviceKey>>),
    /// How many there are.
    Counted(u64),
    /// Whether the invitation is kept; it is not if there is one of its id.
    InvitationKept(bool),
    /// Invitations.
    Invitations(Vec<KnownInvitation>),
    /// Whether there is such an invitation.
    InvitationRevoked(bool),
    /// What had its time is removed.
    Tidied(Tidied),
    /// The database cannot answer now; nothing was changed.
    Unavailable,
}

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

/// An account's mutual contacts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MutualContacts {
    /// The version of the account's own device list.
    pub list_version: u64,
    /// The contacts.
    pub contacts: Vec<MutualContact>,
}

/// A mutual contact of an account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MutualContact {
    /// The contact.
    pub name: Username,
    /// The version of its device list.
    pub list_version: u64,
    /// Whether one of the two has blocked the other: neither sees the other come and go.
    pub hidden: bool,
}

/// What became of a block, or of taking one back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blocking {
    /// It is done, and the two are contacts.
    Contacts(ListVersions),
    /// It is done, and they are none.
    Strangers,
    /// Nobody has that name.
    UnknownUser,
}

/// A contact request.
#[derive(Debug)]
pub struct ContactAsked {
    /// Who asks.
    pub from: Username,
    /// Whom.
    pub to: Username,
    /// The asker's card.
    pub card: Card,
    /// When.
    pub at: Timestamp,
    /// How much of this is too much.
    pub limits: ContactLimits,
}

/// What became of a contact request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asking {
    /// The other had asked, too: both are contacts now.
    Accepted(ListVersions),
    /// They are contacts already, or nobody has that name, or the same request is open.
    Nothing,
    /// It is held for the other.
    Held,
    /// The asker has blocked the other.
    Blocked,
    /// Too many requests are held for the other.
    RecipientFull,
    /// The asker holds as many contacts as an account may.
    TooManyContacts,
    /// The asker has asked too often today.
    TooMany {
        /// When the next one is taken.
        until: Timestamp,
    },
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answering {
    /// Both are contacts now.
    Accepted(ListVersions),
    /// The request is declined.
    Declined,
    /// The two are contacts already.
    Nothing,
    /// There is no open request.
    NoRequest,
    /// The accepter holds as many contacts as an account may.
    TooManyContacts,
}

/// The device list versions of two accounts that became contacts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListVersions {
    /// Of who asked last, or of who answered.
    pub own: u64,
    /// Of the other.
    pub other: u64,
    /// Whether one of the two has blocked the other.
    pub hidden: bool,
}

/// Prekeys of a device whose signatures hold, to be kept.
#[derive(Debug)]
pub struct PrekeysPut {
    /// The device that signed them.
    pub device: DeviceKey,
    /// Its next signed pair; absent to leave the one before.
    pub signed: Option<PrekeyPair>,
    /// More one-time pairs.
    pub one_time: Vec<PrekeyPair>,
    /// Whether those that are there are dropped first.
    pub replace: bool,
    /// The server's clock.
    pub at: Timestamp,
    /// One-time pairs that are kept for a device.
    pub max_one_time: u32,
}

/// A wish to start sessions with an account's devices.
#[derive(Debug)]
pub struct BundlesAsked {
    /// The device that asks, for its account. It gets no bundle of itself.
    pub asker: DeviceKey,
    /// Whose devices.
    pub of: Username,
    /// The server's clock.
    pub at: Timestamp,
    /// How much of this is too much.
    pub limits: PrekeyLimits,
}

/// What became of a wish for bundles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taking {
    /// One of each device with a signed pair that is not too old.
    Taken(Vec<PrekeyBundle>),
    /// The asking device belongs to no account any more.
    NoAccount,
    /// The account has asked too often today.
    TooMany {
        /// When it may ask again.
        until: Timestamp,
    },
    /// Nobody has that name.
    UnknownUser,
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

/// What is to be removed.
#[derive(Clone, Copy, Debug)]
pub struct Tidying {
    /// The server's clock.
    pub at: Timestamp,
    /// Rows of the audit trail that are older go; absent: none.
    pub audit_before: Option<Timestamp>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tidied {
    /// Rows of the audit trail.
    pub audit_rows: u64,
    /// Invitations.
    pub invitations: u64,
}
