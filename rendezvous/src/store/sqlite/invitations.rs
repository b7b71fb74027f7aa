//! Invitations.

use parlor_common::time::Timestamp;
use rusqlite::{Connection, Row, params};

use super::accounts::{AccountId, find, parse_name};
use super::{QueryError, Tables, loaded, stored};
use crate::admin::KnownInvitation;
use crate::invitation::{InvitationHash, InvitationId};
use crate::server::InvitationMade;
use crate::store::interface::Invitations;

impl Invitations for Tables<'_> {
    fn create_invitation(&self, made: &InvitationMade) -> Result<bool, QueryError> {
        create(self.0, made)
    }

    fn invitation_holds(&self, hash: &InvitationHash, at: Timestamp) -> Result<bool, QueryError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM invitations
             WHERE code_hash = ?1 AND used < uses AND expires_at > ?2 AND revoked_at IS NULL)";
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.query_row(params![hash.0, stored(at.as_millis())], |row| row.get(0))?)
    }

    fn use_invitation(
        &self,
        hash: &InvitationHash,
        at: Timestamp,
    ) -> Result<Option<InvitationId>, QueryError> {
        let sql = "UPDATE invitations SET used = used + 1
                   WHERE code_hash = ?1 AND used < uses AND expires_at > ?2 AND revoked_at IS NULL";
        let used = self.0.prepare_cached(sql)?.execute(params![hash.0, stored(at.as_millis())])?;
        Ok((used > 0).then(|| hash.id()))
    }

    fn invitations(
        &self,
        after: Option<&InvitationId>,
        limit: u32,
    ) -> Result<Vec<KnownInvitation>, QueryError> {
        list(self.0, after, limit)
    }

    fn revoke_invitation(&self, id: &InvitationId, at: Timestamp) -> Result<bool, QueryError> {
        let sql = "UPDATE invitations SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1";
        let known =
            self.0.prepare_cached(sql)?.execute(params![id.as_str(), stored(at.as_millis())])?;
        Ok(known > 0)
    }

    fn forget_invitations(&self, before: Timestamp) -> Result<u64, QueryError> {
        let sql = "DELETE FROM invitations WHERE expires_at < ?1";
        let gone = self.0.prepare_cached(sql)?.execute([stored(before.as_millis())])?;
        Ok(u64::try_from(gone).unwrap_or(u64::MAX))
    }
}

fn create(db: &Connection, made: &InvitationMade) -> Result<bool, QueryError> {
    let by = made.by.as_ref().map(|name| find(db, name)).transpose()?.flatten();
    if made.by.is_some() && by.is_none() {
        return Ok(false);
    }
    if let Some(by) = by {
        let open = open_uses(db, by.id, made.at)?.saturating_add(u64::from(made.uses));
        if open > u64::from(made.max_open) {
            return Ok(false);
        }
    }
    let mut statement = db.prepare_cached(
        "INSERT OR IGNORE INTO invitations (id, code_hash, uses, made_at, expires_at, made_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (id, hash) = (made.hash.id(), made.hash.0);
    let (at, expires_at) = (stored(made.at.as_millis()), stored(made.expires_at.as_millis()));
    let by = by.map(|row| row.id.0);
    let kept = statement.execute(params![id.as_str(), hash, made.uses, at, expires_at, by])?;
    Ok(kept > 0)
}

/// How many accounts the invitations of a user still let in.
fn open_uses(db: &Connection, by: AccountId, at: Timestamp) -> Result<u64, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT coalesce(sum(uses - used), 0) FROM invitations
         WHERE made_by = ?1 AND expires_at > ?2 AND revoked_at IS NULL",
    )?;
    let at = stored(at.as_millis());
    Ok(statement.query_row(params![by.0, at], |row| row.get(0).map(loaded))?)
}

fn list(
    db: &Connection,
    after: Option<&InvitationId>,
    limit: u32,
) -> Result<Vec<KnownInvitation>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT i.id, i.uses, i.used, a.name, i.made_at, i.expires_at, i.revoked_at IS NOT NULL
         FROM invitations i LEFT JOIN accounts a ON a.id = i.made_by
         WHERE i.id > ?1 ORDER BY i.id LIMIT ?2",
    )?;
    let after = after.map_or("", InvitationId::as_str);
    let mut rows = statement.query(params![after, limit])?;
    let mut invitations = Vec::new();
    while let Some(row) = rows.next()? {
        invitations.push(read(row)?);
    }
    Ok(invitations)
}

fn read(row: &Row<'_>) -> Result<KnownInvitation, QueryError> {
    let id: String = row.get(0)?;
    let made_by: Option<String> = row.get(3)?;
    let time = |index| row.get(index).map(|millis| Timestamp::from_millis(loaded(millis)));
    Ok(KnownInvitation {
        id: id.parse().map_err(|_| QueryError::Corrupt("invitation"))?,
        uses: row.get(1)?,
        used: row.get(2)?,
        made_by: made_by.map(|name| parse_name(&name)).transpose()?,
        made_at: time(4)?,
        expires_at: time(5)?,
        revoked: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::invitation::InvitationCode;
    use crate::server::{Answer, Query};
    use crate::store::Store;
    use crate::store::sqlite::tests::{account, ask};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn hash(seed: u8) -> InvitationHash {
        InvitationCode::generate(&mut StdRng::from_seed([seed; 32])).hash()
    }

    fn make(store: &mut Store, seed: u8, uses: u32, by: Option<&str>) -> bool {
        let by = by.map(|name| name.parse().unwrap());
        let made = InvitationMade {
            hash: hash(seed),
            uses,
            by,
            max_open: 5,
            at: at(1),
            expires_at: at(100),
        };
        let answer = ask(store, Query::CreateInvitation(Box::new(made)));
        let Answer::InvitationKept(kept) = answer else { panic!("{answer:?}") };
        kept
    }

    fn list(store: &mut Store) -> Vec<KnownInvitation> {
        let answer = ask(store, Query::Invitations { after: None, limit: 10 });
        let Answer::Invitations(list) = answer else { panic!("{answer:?}") };
        list
    }

    fn used(store: &Store, seed: u8, millis: u64) -> bool {
        let tables = Tables(&store.database.connection);
        tables.use_invitation(&hash(seed), at(millis)).unwrap().is_some()
    }

    #[test]
    fn an_invitation_is_used_as_often_as_it_is_good_for() {
        let mut store = Store::in_memory().unwrap();
        assert!(make(&mut store, 1, 2, None));
        assert!(!make(&mut store, 1, 5, None));
        assert!(used(&store, 1, 2));
        assert!(used(&store, 1, 99));
        assert!(!used(&store, 1, 3));
        assert_eq!((list(&mut store)[0].uses, list(&mut store)[0].used), (2, 2));
    }

    #[test]
    fn a_user_makes_as_many_as_are_allowed_and_more_when_they_are_used() {
        let mut store = Store::in_memory().unwrap();
        ask(&mut store, account("alice", 1));
        assert!(make(&mut store, 1, 3, Some("alice")));
        assert!(!make(&mut store, 2, 3, Some("alice")));
        assert!(make(&mut store, 3, 2, Some("alice")));
        assert!(!make(&mut store, 4, 1, Some("alice")));
        assert!(used(&store, 1, 2));
        assert!(make(&mut store, 4, 1, Some("alice")));
        assert!(!make(&mut store, 5, 1, Some("ghost")));
    }

    #[test]
    fn one_that_is_expired_revoked_or_unknown_is_not_used() {
        let mut store = Store::in_memory().unwrap();
        make(&mut store, 1, 9, None);
        make(&mut store, 2, 9, None);
        assert!(!used(&store, 1, 100));
        assert!(!used(&store, 3, 2));
        let revoke = |store: &mut Store, seed| {
            let answer = ask(store, Query::RevokeInvitation { id: hash(seed).id(), at: at(2) });
            let Answer::InvitationRevoked(known) = answer else { panic!("{answer:?}") };
            known
        };
        assert!(revoke(&mut store, 2));
        assert!(!revoke(&mut store, 3));
        assert!(!used(&store, 2, 3));
        assert!(used(&store, 1, 3));
        let revoked =
            |id| list(&mut store).iter().find(|known| known.id == id).map(|known| known.revoked);
        let mut revoked = revoked;
        assert_eq!(revoked(hash(2).id()), Some(true));
        assert_eq!(revoked(hash(1).id()), Some(false));
    }

    #[test]
    fn who_made_it_is_listed_and_the_code_is_nowhere() {
        let mut store = Store::in_memory().unwrap();
        ask(&mut store, account("alice", 1));
        assert!(make(&mut store, 1, 1, Some("alice")));
        assert!(!make(&mut store, 2, 1, Some("nobody")));
        assert_eq!(list(&mut store)[0].made_by, Some("alice".parse().unwrap()));
        let tables = Tables(&store.database.connection);
        assert_eq!(tables.forget_invitations(at(100)).unwrap(), 0);
        assert_eq!(tables.forget_invitations(at(101)).unwrap(), 1);
    }

    #[test]
    fn several_nodes_use_an_invitation_no_more_often() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        make(&mut Store::open(&path).unwrap(), 1, 5, None);
        let tries = |path: &std::path::Path| {
            let store = Store::open(path).unwrap();
            (0..4).filter(|_| used(&store, 1, 2)).count()
        };
        let all: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| tries(&path)));
            threads.map(|thread| thread.join().unwrap()).into_iter().sum()
        });
        assert_eq!(all, 5);
    }
}
