//! What who runs a rendezvous asks of it over its socket, and types on its command line.

use parlor_common::time::Timestamp;
use parlor_rendezvous::admin::{AdminAnswer, AdminReply, AdminRequest, UserChange};
use parlor_rendezvous::audit::{AuditEvent, Claim, Entry, Head, Page, Row};
use parlor_rendezvous::invitation::{InvitationCode, InvitationId};

use super::{Outcome, Seed, json, refused, taken, to_json};

/// A line that arrives at the socket.
pub(super) fn request(bytes: &[u8]) -> Outcome {
    Outcome::of(json::<AdminRequest>(bytes))
}

pub(super) fn request_seeds() -> Vec<Seed> {
    let name = || "alice".parse().expect("a name");
    let id = "0123abcd".parse().expect("an id");
    let change = AdminRequest::UserChange { name: name(), change: UserChange::Disable };
    vec![
        taken("user-list", to_json(&AdminRequest::UserList { after: Some(name()) })),
        taken("user-change", to_json(&change)),
        taken("user-delete", to_json(&AdminRequest::UserDelete { name: name() })),
        taken("invite-create", to_json(&AdminRequest::InviteCreate { uses: 1, days: 7 })),
        taken("invite-revoke", to_json(&AdminRequest::InviteRevoke { id })),
        taken("audit-after", to_json(&AdminRequest::AuditAfter { seq: 7 })),
        taken("status", to_json(&AdminRequest::Status {})),
        refused("unknown-field", br#"{"request":"status","x":1}"#),
        refused("unknown-request", br#"{"request":"user_list_all"}"#),
    ]
}

/// A line that comes back.
pub(super) fn reply(bytes: &[u8]) -> Outcome {
    Outcome::of(json::<AdminReply>(bytes))
}

pub(super) fn reply_seeds() -> Vec<Seed> {
    let entry = Entry::new(AuditEvent::LoggedIn, Timestamp::from_millis(1));
    let row = Row::following(&Head::default(), &entry);
    let page = Page { head: row.head(), rows: vec![row] };
    vec![
        taken("done", to_json(&AdminReply::Ok(AdminAnswer::Done))),
        taken("audit", to_json(&AdminReply::Ok(AdminAnswer::Audit(page)))),
        taken("error", br#"{"error":{"code":"unknown_user","message":"nobody has that name"}}"#),
        refused("both", br#"{"ok":"done","error":{"code":"unknown_user","message":""}}"#),
    ]
}

/// The head of an audit trail that somebody kept, as it was logged.
pub(super) fn audit_head(bytes: &[u8]) -> Outcome {
    let text = str::from_utf8(bytes).unwrap_or_default();
    let claim: Option<Claim> = text.parse().ok();
    if let Some(claim) = claim {
        assert_eq!(claim.to_string().parse(), Ok(claim));
    }
    Outcome::of(claim)
}

pub(super) fn audit_head_seeds() -> Vec<Seed> {
    let hash = "ab".repeat(32);
    vec![
        taken("head", format!("12:{hash}")),
        taken("hash", hash.to_uppercase()),
        refused("no-hash", "12:"),
        refused("negative", format!("-1:{hash}")),
    ]
}

/// An invitation's code, or its id.
pub(super) fn invitation(bytes: &[u8]) -> Outcome {
    let text = str::from_utf8(bytes).unwrap_or_default();
    let id: Option<InvitationId> = text.parse().ok();
    if let Some(id) = &id {
        assert_eq!(id.as_str().parse().as_ref(), Ok(id));
    }
    if let Ok(code) = text.parse::<InvitationCode>() {
        assert_eq!(code.expose().parse().as_ref(), Ok(&code));
        assert_eq!(Some(code.hash().id()), id);
    }
    Outcome::of(id)
}

pub(super) fn invitation_seeds() -> Vec<Seed> {
    vec![
        taken("code", "ABCD-EFGH-JKLM-NPQR"),
        taken("code-without-hyphens", "abcdefghjklmnpqr"),
        taken("id", "0123abcd"),
        refused("zero", "ABCD-EFGH-JKLM-NPQ0"),
        refused("short", "ABCD-EFGH"),
    ]
}
