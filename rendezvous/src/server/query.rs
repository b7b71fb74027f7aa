//! What the core asks of the store. Each query is atomic and keeps its invariant by itself: between
//! a query and its answer anything may have happened to the connection that it was asked for.
//!
//! | file | what is asked and answered |
//! | --- | --- |
//! | `registrations.rs` | what lets somebody in, and what became of it |
//! | `logins.rs` | from where, how, and what they are judged by |
//! | `changes.rs` | of accounts and their devices |
//! | `contacts.rs`, `mailboxes.rs`, `prekeys.rs` | the same, of those |

mod changes;
mod contacts;
mod logins;
mod mailboxes;
mod prekeys;
mod registrations;

use parlor_common::card::Card;
use parlor_common::device_list::SignedDeviceList;
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Held, KnownContact, PrekeysHeld, PrekeysKept, Started, WaitingEnvelope,
};

pub use self::changes::{
    Deleted, KnownDevice, ListChange, NamedDevice, PasswordChange, Rekey, Tidied, Tidying,
};
pub use self::contacts::{
    Answering, Asking, Blocking, ContactAsked, ListVersions, MutualContact, MutualContacts,
};
pub use self::logins::{Account, Credentials, LoginAttempt, LoginStart, Origin, Way};
pub use self::mailboxes::{EnvelopesPosted, Posting, Share};
pub use self::prekeys::{BundlesAsked, PrekeysPut, Taking};
pub use self::registrations::{
    Admission, CodeAsking, Creation, EmailCodeAsked, EmailCodeTried, InvitationMade, NewAccount,
    RegistrationStart, UnsentMail,
};
use crate::admin::{KnownInvitation, User, UserChange, UserLine};
use crate::audit::{Entry, Page};
use crate::invitation::InvitationId;
use crate::limits::Limits;

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
    /// Hold envelopes for a device of a mutual contact, within the bounds that there are, all of
    /// them or none.
    /// [`Answer::Posted`].
    PostEnvelopes(Box<EnvelopesPosted>),
    /// The oldest envelopes of a device: as many as one reply takes. [`Answer::Envelopes`].
    Envelopes {
        /// Whose.
        of: DeviceKey,
        /// Only those with a greater number.
        after: u64,
    },
    /// Erase envelopes, the device's own only. [`Answer::Forgotten`].
    ForgetEnvelopes {
        /// Whose.
        of: DeviceKey,
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
    /// Overwrite what is left in the files of envelopes that were erased, once everything else is
    /// answered. [`Answer::Scrubbed`].
    Scrub,
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
            | Self::PostEnvelopes(_)
            | Self::ForgetEnvelopes { .. }
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
            | Self::Envelopes { .. }
            | Self::CountPrekeys { .. }
            | Self::Users { .. }
            | Self::User { .. }
            | Self::CountAccounts
            | Self::Invitations { .. }
            | Self::AuditAfter { .. }
            | Self::AuditNewest { .. }
            | Self::Scrub => false,
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
    /// What became of the envelopes.
    Posted(Posting),
    /// The envelopes.
    Envelopes(Vec<WaitingEnvelope>),
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
    /// It is done, as far as it could be now.
    Scrubbed,
    /// The database cannot answer now; nothing was changed.
    Unavailable,
}
