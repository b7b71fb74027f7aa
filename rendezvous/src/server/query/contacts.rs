//! Contacts: what is asked of the store, and answered.

use parlor_common::card::Card;
use parlor_common::id::Username;
use parlor_common::time::Timestamp;

use crate::limits::ContactLimits;

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
