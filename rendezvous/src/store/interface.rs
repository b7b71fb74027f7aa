//! What a database must do to be the rendezvous' store: a small interface for each concern.
//!
//! Each method is atomic and keeps its invariant by itself: a name is given out once, a one-time
//! prekey leaves once, two contacts are mutual or not. What a method promises is said here and
//! tested in `suite.rs`, which any implementation must pass; nothing above knows which it is.

use std::error::Error;
use std::fmt;

use parlor_common::card::Card;
use parlor_common::device_list::{ListHash, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Held, KnownContact, PrekeysHeld, PrekeysKept, Started, WaitingEnvelope,
};
use thiserror::Error;

use crate::admin::{KnownInvitation, User, UserLine};
use crate::audit::{Entry, Page, Row};
use crate::bucket::Bucket;
use crate::email::{Address, EmailCodeHash};
use crate::guard::Tries;
use crate::invitation::{InvitationHash, InvitationId};
use crate::server::{
    Account, Answer, Answering, Asking, Blocking, BundlesAsked, ContactAsked, Creation,
    Credentials, EmailCodeAsked, EmailCodeTried, EnvelopesPosted, InvitationMade, KnownDevice,
    MutualContacts, NamedDevice, NewAccount, PasswordChange, Posting, PrekeysPut, Query, QueryId,
    Rekey, Taking,
};

/// Why a query was not answered.
#[derive(Debug, Error)]
pub enum QueryError {
    /// What is stored is not what this program wrote.
    #[error("a stored {0} is corrupt")]
    Corrupt(&'static str),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A value cannot be written.
    #[error("a value does not serialize: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// What a database said, in its own words.
#[derive(Debug)]
pub struct DatabaseError(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for DatabaseError {}

/// How a query is answered by means of the interfaces.
pub type Run = fn(&dyn Interfaces, Query) -> Result<Answer, QueryError>;

/// A database, or one node's connection to it.
pub trait Database: fmt::Debug + Send {
    /// Answers queries in one transaction that other connections see whole or not at all. Each
    /// query is atomic by itself: one that fails changes nothing, is answered
    /// [`Answer::Unavailable`], and does its neighbours no harm.
    fn transact(
        &mut self,
        queries: Vec<(QueryId, Query)>,
        run: Run,
    ) -> Result<Vec<(QueryId, Answer)>, DatabaseError>;

    /// Makes sure, as far as it can now, that nothing can be read any more of envelopes that were
    /// erased, by somebody either who has the database's files. Nobody is served meanwhile, so what
    /// stands in its way is left for the next time.
    fn scrub(&mut self) -> Result<(), DatabaseError>;

    /// Keeps a note under a name of its own, in place of the one before.
    fn put_note(&self, name: &str, value: &str) -> Result<(), DatabaseError>;

    /// Writes everything out and lets go.
    fn close(self) -> Result<(), DatabaseError>;
}

/// Every interface together, within a transaction.
pub trait Interfaces:
    Accounts
    + Devices
    + Users
    + Invitations
    + EmailCodes
    + Prekeys
    + Contacts
    + Blocks
    + HeldItems
    + Mailboxes
    + Audit
    + Guard
{
}

impl<T> Interfaces for T where
    T: Accounts
        + Devices
        + Users
        + Invitations
        + EmailCodes
        + Prekeys
        + Contacts
        + Blocks
        + HeldItems
        + Mailboxes
        + Audit
        + Guard
{
}

/// Accounts: a name is given out once, and not again after its account was deleted.
pub trait Accounts {
    /// Creates an account unless its name or its device is taken.
    fn create(&self, account: &NewAccount) -> Result<Creation, QueryError>;

    /// Whether nobody has a name, nor had it.
    fn is_free(&self, name: &Username) -> Result<bool, QueryError>;

    /// What is needed to start a login.
    fn credentials(&self, name: &Username) -> Result<Option<Box<Credentials>>, QueryError>;

    /// What a login that succeeded hands out, and when it was; nothing for an account that is
    /// shut.
    fn log_in(&self, name: &Username, at: Timestamp) -> Result<Option<Box<Account>>, QueryError>;

    /// Replaces record, credential identifier and sealed account key together; of the ones before
    /// nothing stays. Returns whether there is such an account.
    fn replace_password(&self, change: &PasswordChange) -> Result<bool, QueryError>;

    /// Replaces the account key with its boxes and its device list, if that follows the one in
    /// force. Returns the devices that left.
    fn replace_key(&self, rekey: &Rekey) -> Result<Option<Vec<DeviceKey>>, QueryError>;

    /// Deletes an account with all that is kept of it but its name, which is taken for ever.
    /// Returns the devices that it had.
    fn delete(&self, name: &Username, at: Timestamp) -> Result<Option<Vec<DeviceKey>>, QueryError>;
}

/// The devices of accounts: a device belongs to one account at most.
pub trait Devices {
    /// Whose device it is; nobody's while its account is shut.
    fn owner(&self, device: &DeviceKey) -> Result<Option<KnownDevice>, QueryError>;

    /// An account's device list.
    fn devices(&self, name: &Username) -> Result<Option<Box<SignedDeviceList>>, QueryError>;

    /// Replaces an account's list if the one with the hash `after` is in force, and no other
    /// account has one of its devices. What is kept of devices that left it goes with them.
    /// Returns those.
    fn replace_devices(
        &self,
        after: ListHash,
        devices: &VerifiedDeviceList,
    ) -> Result<Option<Vec<DeviceKey>>, QueryError>;

    /// An account's devices and how its owner calls them.
    fn named_devices(&self, name: &Username) -> Result<Vec<NamedDevice>, QueryError>;

    /// Names a device, or takes its name off. Returns whether the account has that device.
    fn name_device(
        &self,
        name: &Username,
        device: &DeviceId,
        label: Option<&str>,
    ) -> Result<bool, QueryError>;

    /// Remembers the largest count of starts that a device has told; returns the one before.
    fn start_device(&self, device: &DeviceKey, count: u64) -> Result<Option<Started>, QueryError>;
}

/// Prekeys of devices: a one-time pair leaves once, for ever.
pub trait Prekeys {
    /// Keeps prekeys of a device; see [`Query::PutPrekeys`].
    fn put_prekeys(&self, put: &PrekeysPut) -> Result<Option<PrekeysKept>, QueryError>;

    /// How many prekeys of a device there are that are not too old.
    fn count_prekeys(
        &self,
        device: &DeviceKey,
        at: Timestamp,
    ) -> Result<Option<PrekeysHeld>, QueryError>;

    /// Takes a bundle of each of an account's other devices.
    fn take_bundles(&self, wish: &BundlesAsked) -> Result<Taking, QueryError>;
}

/// Contacts: one open request a pair, and two are mutual or not, for both.
pub trait Contacts {
    /// All contacts of an account.
    fn contacts(&self, of: &Username) -> Result<Vec<KnownContact>, QueryError>;

    /// The mutual ones.
    fn mutual_contacts(&self, of: &Username) -> Result<MutualContacts, QueryError>;

    /// Whether two accounts hold each other.
    fn are_mutual(&self, one: &Username, other: &Username) -> Result<bool, QueryError>;

    /// Holds a request, or makes both mutual if the other has asked already.
    fn ask_contact(&self, asked: &ContactAsked) -> Result<Asking, QueryError>;

    /// Closes an open request, and holds the answer for the asker.
    fn answer_contact(
        &self,
        asker: &Username,
        by: &Username,
        card: Option<&Card>,
        max_contacts: u32,
    ) -> Result<Answering, QueryError>;

    /// Takes a contact, and an open request to it, off an account. Returns the remover's list
    /// version if the two had been mutual.
    fn remove_contact(&self, of: &Username, contact: &Username) -> Result<Option<u64>, QueryError>;
}

/// Blocks: what a blocked account sends is neither held nor passed on.
pub trait Blocks {
    /// Blocks `other` for `owner`, and drops what waits of it.
    fn block(&self, owner: &Username, other: &Username) -> Result<Blocking, QueryError>;

    /// Takes a block back.
    fn unblock(&self, owner: &Username, other: &Username) -> Result<Blocking, QueryError>;
}

/// What waits for accounts until they have saved it.
pub trait HeldItems {
    /// The oldest items.
    fn held(&self, of: &Username) -> Result<Vec<Held>, QueryError>;

    /// Forgets items, the account's own only.
    fn forget_held(&self, of: &Username, ids: &[u64]) -> Result<(), QueryError>;
}

/// Envelopes that wait for devices until those have saved them. Who sent one is not kept. They go
/// with their device, with their account, and with their account's key.
pub trait Mailboxes {
    /// Holds envelopes for a device of a mutual contact, in their order, if there is room for all of
    /// them in the contact's mailbox, in the sender's part of it and in the sender's day; none, if
    /// the contact has blocked the sender.
    fn post(&self, posted: &EnvelopesPosted) -> Result<Posting, QueryError>;

    /// The oldest envelopes of a device with a number greater than `after`: as many as one reply
    /// takes, one at least if there is one.
    fn envelopes(&self, of: &DeviceKey, after: u64) -> Result<Vec<WaitingEnvelope>, QueryError>;

    /// Erases envelopes, the device's own only.
    fn forget_envelopes(&self, of: &DeviceKey, ids: &[u64]) -> Result<(), QueryError>;

    /// Erases what was posted before `before`, and counts of what was posted in a day that is over
    /// at `at`. Returns how many envelopes.
    fn expire_envelopes(&self, before: Timestamp, at: Timestamp) -> Result<u64, QueryError>;
}

/// The audit trail: rows are only ever added at its end, each after its predecessor, and removed
/// only at its start, where an anchor says so.
pub trait Audit {
    /// Writes an entry down, and logs it.
    fn append_audit(&self, entry: &Entry) -> Result<Row, QueryError> {
        entry.log();
        self.insert_audit(entry)
    }

    /// Adds the row that follows the head, and moves the head to it.
    fn insert_audit(&self, entry: &Entry) -> Result<Row, QueryError>;

    /// The rows after the one of number `seq`, at most `limit`.
    fn audit_after(&self, seq: u64, limit: u32) -> Result<Page, QueryError>;

    /// The newest rows, at most `limit`.
    fn newest_audit(&self, limit: u32) -> Result<Page, QueryError>;

    /// Cuts off the rows at the start that are older than `before`: the newest of them becomes the
    /// anchor, and a row of the time `at` names it. Returns how many rows were lost to it.
    fn cut_audit(&self, before: Timestamp, at: Timestamp) -> Result<u64, QueryError>;
}

/// Accounts as who runs the server sees them. An account that is disabled has no credentials, and
/// its devices belong to nobody, for everybody else.
pub trait Users {
    /// The users after `after` by name, at most `limit`.
    fn users(&self, after: Option<&Username>, limit: u32) -> Result<Vec<UserLine>, QueryError>;

    /// All that is known of a user.
    fn user(&self, name: &Username, at: Timestamp) -> Result<Option<Box<User>>, QueryError>;

    /// The keys of a user's devices, if there is such a user.
    fn devices_of_user(&self, name: &Username) -> Result<Option<Vec<DeviceKey>>, QueryError>;

    /// Disables a user from `since` on, or enables it.
    fn set_disabled(&self, name: &Username, since: Option<Timestamp>) -> Result<(), QueryError>;

    /// How many accounts there are.
    fn count_accounts(&self) -> Result<u64, QueryError>;
}

/// What is counted against guessing and flooding, across restarts. Bounded: beyond `most` rows
/// those go that were not touched for the longest time, but for those that are locked.
pub trait Guard {
    /// The tries of a name and a source, or of the name alone where the source is empty.
    fn tries(&self, name: &Username, source: &str) -> Result<Tries, QueryError>;

    /// Keeps them.
    fn keep_tries(
        &self,
        name: &Username,
        source: &str,
        tries: &Tries,
        most: u32,
    ) -> Result<(), QueryError>;

    /// Forgets all tries of a name.
    fn forget_tries(&self, name: &Username) -> Result<(), QueryError>;

    /// The token bucket of a scope; a full one where none is kept.
    fn bucket(&self, scope: &str) -> Result<Bucket, QueryError>;

    /// Keeps it.
    fn keep_bucket(&self, scope: &str, bucket: Bucket, most: u32) -> Result<(), QueryError>;
}

/// Invitations: each lets in as many accounts as it is good for, and no more.
pub trait Invitations {
    /// Keeps an invitation, unless there is one of its id.
    fn create_invitation(&self, made: &InvitationMade) -> Result<bool, QueryError>;

    /// Whether an invitation is good at `at`.
    fn invitation_holds(&self, hash: &InvitationHash, at: Timestamp) -> Result<bool, QueryError>;

    /// Uses an invitation once, if it is good. Returns its id if it was.
    fn use_invitation(
        &self,
        hash: &InvitationHash,
        at: Timestamp,
    ) -> Result<Option<InvitationId>, QueryError>;

    /// The invitations after `after` by id, at most `limit`.
    fn invitations(
        &self,
        after: Option<&InvitationId>,
        limit: u32,
    ) -> Result<Vec<KnownInvitation>, QueryError>;

    /// Takes an invitation back. Returns whether there is such a one.
    fn revoke_invitation(&self, id: &InvitationId, at: Timestamp) -> Result<bool, QueryError>;

    /// Forgets the invitations that expired before `before`. Returns how many.
    fn forget_invitations(&self, before: Timestamp) -> Result<u64, QueryError>;
}

/// Codes that are mailed to addresses: an address has one at most, which is good once, for a while
/// and for a few tries; and mails, of which so many leave in 24 hours. Addresses that differ in
/// case alone are one.
pub trait EmailCodes {
    /// Keeps a code in place of the one before, and counts its mail; or says until when too many
    /// have left.
    fn keep_email_code(&self, asked: &EmailCodeAsked) -> Result<Option<Timestamp>, QueryError>;

    /// Forgets a code whose mail did not leave, if it is still the address', and does not count
    /// the mail.
    fn take_mail_back(&self, address: &Address, hash: &EmailCodeHash) -> Result<(), QueryError>;

    /// Whether a code is the address' and good at `at`. A wrong one is counted.
    fn try_email_code(&self, tried: &EmailCodeTried, at: Timestamp) -> Result<bool, QueryError>;

    /// Forgets the code of an address: it was used.
    fn use_email_code(&self, address: &Address) -> Result<(), QueryError>;

    /// Forgets codes whose time is over, and counts of mails of another day.
    fn forget_email_codes(&self, at: Timestamp) -> Result<(), QueryError>;
}
