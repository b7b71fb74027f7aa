//! Invitations, by the hashes of their codes.

use parlor_common::time::Timestamp;
use rusqlite::params;

use super::{QueryError, Tables, stored};
use crate::invitation::InvitationHash;
use crate::store::interface::Invitations;

impl Invitations for Tables<'_> {
    fn invitation_holds(&self, hash: &InvitationHash, at: Timestamp) -> Result<bool, QueryError> {
        let mut statement = self.0.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM invitations
             WHERE code_hash = ?1 AND used < uses AND expires_at > ?2 AND revoked_at IS NULL)",
        )?;
        Ok(statement.query_row(params![hash.0, stored(at.as_millis())], |row| row.get(0))?)
    }

    fn use_invitation(&self, hash: &InvitationHash) -> Result<(), QueryError> {
        let mut statement =
            self.0.prepare_cached("UPDATE invitations SET used = used + 1 WHERE code_hash = ?1")?;
        statement.execute([hash.0])?;
        Ok(())
    }
}
