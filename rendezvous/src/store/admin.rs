//! What who runs the server changes: each change and its row in the audit trail are one.

use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;

use super::interface::{Interfaces, QueryError};
use crate::admin::UserChange;
use crate::audit::{AuditEvent, Entry, Reason};
use crate::invitation::InvitationId;
use crate::server::{InvitationMade, Tidied, Tidying};

/// How long an invitation is still listed when it is good no more.
const EXPIRED_INVITATIONS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Changes a user; returns its devices, if there is such a user.
pub(super) fn change_user(
    db: &dyn Interfaces,
    name: &Username,
    change: UserChange,
    at: Timestamp,
) -> Result<Option<Vec<DeviceKey>>, QueryError> {
    let Some(devices) = db.devices_of_user(name)? else { return Ok(None) };
    let event = match change {
        UserChange::Disable => {
            db.set_disabled(name, Some(at))?;
            AuditEvent::UserDisabled
        }
        UserChange::Enable => {
            db.set_disabled(name, None)?;
            AuditEvent::UserEnabled
        }
        UserChange::Unlock => {
            db.forget_tries(name)?;
            AuditEvent::UserUnlocked
        }
    };
    db.append_audit(&Entry::new(event, at).of(name.clone()))?;
    Ok(Some(devices))
}

/// Keeps an invitation, unless there is one of its id.
pub(super) fn create_invitation(
    db: &dyn Interfaces,
    made: &InvitationMade,
) -> Result<bool, QueryError> {
    let kept = db.create_invitation(made)?;
    if kept {
        let reason = Reason::Invitation(made.hash.id());
        let entry = Entry::new(AuditEvent::InvitationCreated, made.at).because(reason);
        db.append_audit(&Entry { account: made.by.clone(), ..entry })?;
    }
    Ok(kept)
}

/// Takes an invitation back; returns whether there is such a one.
pub(super) fn revoke_invitation(
    db: &dyn Interfaces,
    id: &InvitationId,
    at: Timestamp,
) -> Result<bool, QueryError> {
    let known = db.revoke_invitation(id, at)?;
    if known {
        let reason = Reason::Invitation(id.clone());
        db.append_audit(&Entry::new(AuditEvent::InvitationRevoked, at).because(reason))?;
    }
    Ok(known)
}

/// Removes what has had its time.
pub(super) fn tidy(db: &dyn Interfaces, tidying: &Tidying) -> Result<Tidied, QueryError> {
    let audit_rows = match tidying.audit_before {
        Some(before) => db.cut_audit(before, tidying.at)?,
        None => 0,
    };
    let invitations = db.forget_invitations(tidying.at - EXPIRED_INVITATIONS_KEPT)?;
    db.forget_email_codes(tidying.at)?;
    let envelopes = db.expire_envelopes(tidying.envelopes_before, tidying.at)?;
    Ok(Tidied { audit_rows, invitations, envelopes })
}
