//! What who runs the server asks of it, and is told: a line of JSON each way over the owner-only
//! socket of a running server, or a call where none runs.

use std::collections::BTreeMap;

use parlor_common::id::{DeviceId, Username};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{ErrorCode, Invitation};
use serde::{Deserialize, Serialize};

use crate::audit::Page;
use crate::invitation::InvitationId;
use crate::server::CloseReason;

/// The longest request in bytes, without its line end.
pub const MAX_ADMIN_REQUEST: usize = 1024;

/// The longest reply in bytes, without its line end: a page of the longest rows.
pub const MAX_ADMIN_REPLY: usize = 4 * 1024 * 1024;

/// What comes in one page: users, invitations, or rows of the audit trail.
pub const PAGE: u32 = 500;

/// A request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// A page of the users, by name. [`AdminAnswer::Users`].
    UserList {
        /// The last of the page before.
        after: Option<Username>,
    },
    /// All that is known of a user. [`AdminAnswer::User`].
    UserShow {
        /// Whose.
        name: Username,
    },
    /// Change a user. [`AdminAnswer::Done`].
    UserChange {
        /// Whose account.
        name: Username,
        /// How.
        change: UserChange,
    },
    /// Remove a user for ever; the name is not given out again. [`AdminAnswer::Done`].
    UserDelete {
        /// Whose account.
        name: Username,
    },
    /// Make an invitation. [`AdminAnswer::Invitation`].
    InviteCreate {
        /// For so many accounts.
        uses: u32,
        /// For so many days.
        days: u32,
    },
    /// A page of the invitations, by id. [`AdminAnswer::Invitations`].
    InviteList {
        /// The last of the page before.
        after: Option<InvitationId>,
    },
    /// Take an invitation back. [`AdminAnswer::Done`].
    InviteRevoke {
        /// Which.
        id: InvitationId,
    },
    /// The newest rows of the audit trail, [`PAGE`] at most. [`AdminAnswer::Audit`].
    AuditNewest {
        /// How many.
        limit: u32,
    },
    /// A page of the audit trail. [`AdminAnswer::Audit`].
    AuditAfter {
        /// The number of the last row of the page before, 0 for the first.
        seq: u64,
    },
    /// How the server is doing. [`AdminAnswer::Status`].
    Status {},
}

impl AdminRequest {
    /// Whether asking it again, where nobody knows whether it was done, comes to the same.
    pub const fn may_be_repeated(&self) -> bool {
        match self {
            Self::UserDelete { .. } | Self::InviteCreate { .. } => false,
            Self::UserList { .. }
            | Self::UserShow { .. }
            | Self::UserChange { .. }
            | Self::InviteList { .. }
            | Self::InviteRevoke { .. }
            | Self::AuditNewest { .. }
            | Self::AuditAfter { .. }
            | Self::Status {} => true,
        }
    }
}

/// A change of a user.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserChange {
    /// Cut its connections and let no device of it in any more.
    Disable,
    /// Let it in again.
    Enable,
    /// Forget its failed logins and their delays and locks.
    Unlock,
}

/// A reply.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum AdminReply {
    /// What was asked for.
    #[serde(rename = "ok")]
    Ok(AdminAnswer),
    /// Why not.
    #[serde(rename = "error")]
    Error(AdminError),
}

/// What was asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    /// The change is made.
    Done,
    /// Users, [`PAGE`] at most.
    Users(Vec<UserLine>),
    /// A user.
    User(Box<User>),
    /// The new invitation.
    Invitation(Invitation),
    /// Invitations, [`PAGE`] at most.
    Invitations(Vec<KnownInvitation>),
    /// Rows of the audit trail, [`PAGE`] at most.
    Audit(Page),
    /// How the server is doing.
    Status(Box<Status>),
}

/// Why a request was refused.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AdminError {
    /// For programs.
    pub code: AdminErrorCode,
    /// For people.
    pub message: String,
}

/// Why a request was refused, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminErrorCode {
    /// The line is no request.
    Malformed,
    /// Nobody of that name.
    UnknownUser,
    /// No such invitation.
    UnknownInvitation,
    /// The database cannot answer now.
    Unavailable,
}

impl AdminErrorCode {
    /// The code as it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownUser => "unknown_user",
            Self::UnknownInvitation => "unknown_invitation",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A user in the list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserLine {
    /// The account's name.
    pub name: Username,
    /// When it registered.
    pub created_at: Timestamp,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    /// When a device last came in by password or recovery code.
    pub last_login: Option<Timestamp>,
    /// How many devices it has.
    pub devices: u32,
    /// Whether one of them is connected.
    #[serde(default)]
    pub online: bool,
}

/// All that is known of a user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct User {
    /// As in the list.
    #[serde(flatten)]
    pub line: UserLine,
    /// The address that it registered by, if it did by one.
    pub email: Option<String>,
    /// Its devices.
    pub known_devices: Vec<UserDevice>,
    /// Where its logins fail.
    pub tries: Vec<UserTries>,
    /// What waits in its mailbox.
    #[serde(default)]
    pub mailbox: Waiting,
}

/// How much waits in a mailbox.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Waiting {
    /// Envelopes, for all devices together.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A device of a user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserDevice {
    /// Which.
    pub device: DeviceId,
    /// How its owner calls it.
    pub name: Option<String>,
    /// Whether it is connected.
    #[serde(default)]
    pub online: bool,
}

/// Failed logins of a user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserTries {
    /// From where; absent for all sources together.
    pub source: Option<String>,
    /// How many.
    pub failures: u32,
    /// Until when no try is taken, if it is locked.
    pub locked_until: Option<Timestamp>,
}

/// An invitation as it is kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KnownInvitation {
    /// Its public name.
    pub id: InvitationId,
    /// For so many accounts.
    pub uses: u32,
    /// So many have used it.
    pub used: u32,
    /// The user that made it; absent for an admin.
    pub made_by: Option<Username>,
    /// When.
    pub made_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// How the server is doing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Clients that are connected.
    pub connections: u64,
    /// Accounts.
    pub accounts: u64,
    /// Accounts with a device that is connected.
    pub online: u64,
    /// What was counted since the start.
    #[serde(flatten)]
    pub counters: Counters,
}

/// What the core counts since its start.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Requests that were refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Connections that were closed by the server, by reason.
    pub cut: BTreeMap<String, u64>,
}

impl Counters {
    /// A request was refused.
    pub fn refused(&mut self, code: ErrorCode) {
        *self.refused.entry(code.to_string()).or_default() += 1;
    }

    /// A connection was closed.
    pub fn cut(&mut self, reason: CloseReason) {
        *self.cut.entry(reason.name().to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_and_replies_stand_in_json_as_documented() {
        let json = r#"{"request":"user_change","name":"alice","change":"disable"}"#;
        let request: AdminRequest = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        let reply = AdminReply::Ok(AdminAnswer::Done);
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"ok":"done"}"#);
        for code in [AdminErrorCode::UnknownUser, AdminErrorCode::UnknownInvitation] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    proptest! {
        #[test]
        fn any_line_parses_or_is_refused(text in "\\PC{0,120}") {
            let _ = serde_json::from_str::<AdminRequest>(&text);
            let _ = serde_json::from_str::<AdminReply>(&text);
        }
    }
}
