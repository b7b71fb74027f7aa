//! Codes that are mailed, and how many mails have left.

use parlor_common::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::day::{DAY, Day};
use super::{QueryError, Tables, stored};
use crate::email::{Address, EmailCodeHash};
use crate::limits::MailLimits;
use crate::server::{EmailCodeAsked, EmailCodeTried};
use crate::store::interface::EmailCodes;

impl EmailCodes for Tables<'_> {
    fn keep_email_code(&self, asked: &EmailCodeAsked) -> Result<Option<Timestamp>, QueryError> {
        let limits = scopes(&asked.address, asked.limits);
        let until = charge(self.0, &limits, asked.origin.at)?;
        if until.is_none() {
            keep(self.0, asked)?;
        }
        Ok(until)
    }

    fn take_mail_back(&self, address: &Address, hash: &EmailCodeHash) -> Result<(), QueryError> {
        let sql = "DELETE FROM email_codes WHERE address = ?1 AND code_hash = ?2";
        self.0.prepare_cached(sql)?.execute(params![address.folded(), hash.0])?;
        let sql = "UPDATE mails_sent SET count = count - 1 WHERE scope = ?1 AND count > 0";
        let mut statement = self.0.prepare_cached(sql)?;
        for scope in scope_names(address) {
            statement.execute([scope])?;
        }
        Ok(())
    }

    fn try_email_code(&self, tried: &EmailCodeTried, at: Timestamp) -> Result<bool, QueryError> {
        let address = tried.address.folded();
        let sql = "SELECT code_hash FROM email_codes
                   WHERE address = ?1 AND expires_at > ?2 AND attempts < ?3";
        let mut statement = self.0.prepare_cached(sql)?;
        let hash = |row: &Row<'_>| row.get(0).map(EmailCodeHash);
        let good = params![address, stored(at.as_millis()), tried.max_attempts];
        let Some(kept) = statement.query_row(good, hash).optional()? else { return Ok(false) };
        let right = kept == tried.hash;
        if !right {
            let sql = "UPDATE email_codes SET attempts = attempts + 1 WHERE address = ?1";
            self.0.prepare_cached(sql)?.execute([address])?;
        }
        Ok(right)
    }

    fn use_email_code(&self, address: &Address) -> Result<(), QueryError> {
        let sql = "DELETE FROM email_codes WHERE address = ?1";
        self.0.prepare_cached(sql)?.execute([address.folded()])?;
        Ok(())
    }

    fn forget_email_codes(&self, at: Timestamp) -> Result<(), QueryError> {
        let sql = "DELETE FROM email_codes WHERE expires_at <= ?1";
        self.0.prepare_cached(sql)?.execute([stored(at.as_millis())])?;
        let sql = "DELETE FROM mails_sent WHERE since <= ?1";
        self.0.prepare_cached(sql)?.execute([stored((at - DAY).as_millis())])?;
        Ok(())
    }
}

/// What mails to an address are counted under: all of them, its domain's, its own.
fn scope_names(address: &Address) -> [String; 3] {
    let domain = format!("domain:{}", address.domain());
    ["all".to_owned(), domain, format!("address:{}", address.folded())]
}

/// The same, each with how many may leave in a day.
fn scopes(address: &Address, limits: MailLimits) -> [(String, u32); 3] {
    let [all, domain, own] = scope_names(address);
    [(all, limits.in_all), (domain, limits.per_domain), (own, limits.per_address)]
}

/// Counts a mail under every scope, or under none: then says until when.
fn charge(
    db: &Connection,
    scopes: &[(String, u32)],
    at: Timestamp,
) -> Result<Option<Timestamp>, QueryError> {
    let mut read = db.prepare_cached("SELECT since, count FROM mails_sent WHERE scope = ?1")?;
    let mut days = Vec::with_capacity(scopes.len());
    for (scope, limit) in scopes {
        let day = read.query_row([scope], Day::load).optional()?.unwrap_or_default();
        match day.charge(at, *limit) {
            Ok(day) => days.push((scope, day)),
            Err(until) => return Ok(Some(until)),
        }
    }
    let mut write = db.prepare_cached(
        "INSERT INTO mails_sent (scope, since, count) VALUES (?1, ?2, ?3)
         ON CONFLICT (scope) DO UPDATE SET since = excluded.since, count = excluded.count",
    )?;
    for (scope, day) in days {
        write.execute(params![scope, stored(day.since.as_millis()), stored(day.count)])?;
    }
    Ok(None)
}

fn keep(db: &Connection, asked: &EmailCodeAsked) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO email_codes (address, name, code_hash, sent_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    statement.execute(params![
        asked.address.folded(),
        asked.name.as_str(),
        asked.hash.0,
        stored(asked.origin.at.as_millis()),
        stored(asked.expires_at.as_millis()),
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::{Answer, CodeAsking, Origin, Query};
    use crate::store::Store;
    use crate::store::sqlite::tests::{account, ask, origin};

    const LIMITS: MailLimits = MailLimits { per_address: 2, per_domain: 3, in_all: 4 };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    fn wish(address: &str, hash: u8, millis: u64) -> EmailCodeAsked {
        EmailCodeAsked {
            name: "alice".parse().unwrap(),
            address: address.parse().unwrap(),
            hash: EmailCodeHash([hash; 32]),
            expires_at: at(millis + 100),
            origin: Origin { at: at(millis), ..origin(1) },
            limits: LIMITS,
        }
    }

    fn keep(store: &mut Store, address: &str, hash: u8, millis: u64) -> CodeAsking {
        let wish = wish(address, hash, millis);
        let answer = ask(store, Query::AskEmailCode(Box::new(wish)));
        let Answer::EmailCodeAsked(asking) = answer else { panic!("{answer:?}") };
        asking
    }

    fn tries(store: &Store, address: &str, hash: u8, millis: u64) -> bool {
        let (address, hash) = (address.parse().unwrap(), EmailCodeHash([hash; 32]));
        let tried = EmailCodeTried { address, hash, max_attempts: 3 };
        Tables(&store.database.connection).try_email_code(&tried, at(millis)).unwrap()
    }

    #[test]
    fn a_code_is_good_for_its_address_and_its_time_and_in_place_of_the_one_before() {
        let mut store = Store::in_memory().unwrap();
        assert_eq!(keep(&mut store, "a@x.example", 1, 10), CodeAsking::Kept);
        assert!(tries(&store, "a@x.example", 1, 109));
        assert!(!tries(&store, "a@x.example", 1, 110));
        assert!(!tries(&store, "b@x.example", 1, 20));
        assert_eq!(keep(&mut store, "A@X.example", 2, 20), CodeAsking::Kept);
        assert!(!tries(&store, "a@x.example", 1, 30));
        assert!(tries(&store, "a@x.example", 2, 30));
        let tables = Tables(&store.database.connection);
        tables.use_email_code(&"a@x.example".parse().unwrap()).unwrap();
        assert!(!tries(&store, "a@x.example", 2, 30));
    }

    #[test]
    fn wrong_codes_are_counted_until_the_right_one_is_refused_too() {
        let mut store = Store::in_memory().unwrap();
        keep(&mut store, "a@x.example", 1, 10);
        for _ in 0..2 {
            assert!(!tries(&store, "a@x.example", 9, 20));
            assert!(tries(&store, "a@x.example", 1, 20));
        }
        assert!(!tries(&store, "a@x.example", 9, 20));
        assert!(!tries(&store, "a@x.example", 1, 20));
        // A new code is tried anew.
        keep(&mut store, "a@x.example", 2, 30);
        assert!(tries(&store, "a@x.example", 2, 40));
    }

    #[test]
    fn so_many_mails_leave_in_a_day_for_an_address_a_domain_and_in_all() {
        let mut store = Store::in_memory().unwrap();
        let day = u64::try_from(DAY.as_millis()).unwrap();
        let too_many = CodeAsking::TooMany { until: at(10) + DAY };
        assert_eq!(keep(&mut store, "a@x.example", 1, 10), CodeAsking::Kept);
        assert_eq!(keep(&mut store, "A@x.example", 2, 11), CodeAsking::Kept);
        assert_eq!(keep(&mut store, "a@x.example", 3, 12), too_many);
        // What was refused took nobody's place and left the code as it was.
        assert!(tries(&store, "A@x.example", 2, 13));
        assert_eq!(keep(&mut store, "b@x.example", 4, 14), CodeAsking::Kept);
        assert_eq!(keep(&mut store, "c@x.example", 5, 15), too_many);
        assert_eq!(keep(&mut store, "a@y.example", 6, 16), CodeAsking::Kept);
        assert_eq!(keep(&mut store, "a@z.example", 7, 17), too_many);
        // A mail that did not leave does not count, and its code is none.
        let unsent = "b@x.example".parse().unwrap();
        let tables = Tables(&store.database.connection);
        tables.take_mail_back(&unsent, &EmailCodeHash([4; 32])).unwrap();
        assert!(!tries(&store, "b@x.example", 4, 18));
        assert_eq!(keep(&mut store, "c@x.example", 5, 18), CodeAsking::Kept);
        assert_eq!(keep(&mut store, "c@z.example", 8, 19), too_many);
        assert_eq!(keep(&mut store, "a@x.example", 9, 10 + day), CodeAsking::Kept);
    }

    #[test]
    fn a_code_that_was_asked_for_again_outlives_the_mail_that_did_not_leave() {
        let mut store = Store::in_memory().unwrap();
        keep(&mut store, "a@x.example", 1, 10);
        keep(&mut store, "a@x.example", 2, 11);
        let tables = Tables(&store.database.connection);
        tables.take_mail_back(&"a@x.example".parse().unwrap(), &EmailCodeHash([1; 32])).unwrap();
        assert!(tries(&store, "a@x.example", 2, 12));
    }

    #[test]
    fn nothing_is_mailed_for_a_name_that_is_taken() {
        let mut store = Store::in_memory().unwrap();
        ask(&mut store, account("alice", 1));
        assert_eq!(keep(&mut store, "a@x.example", 1, 10), CodeAsking::NameTaken);
        assert!(!tries(&store, "a@x.example", 1, 20));
    }

    #[test]
    fn what_has_had_its_time_is_forgotten() {
        let mut store = Store::in_memory().unwrap();
        keep(&mut store, "a@x.example", 1, 10);
        let count = |store: &Store| {
            let sql =
                "SELECT (SELECT count(*) FROM email_codes), (SELECT count(*) FROM mails_sent)";
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            store.database.connection.query_row(sql, [], row).unwrap()
        };
        let forget = |store: &Store, at| {
            Tables(&store.database.connection).forget_email_codes(at).unwrap();
        };
        forget(&store, at(109));
        assert_eq!(count(&store), (1, 3));
        forget(&store, at(110));
        assert_eq!(count(&store), (0, 3));
        forget(&store, at(10) + DAY - Duration::from_millis(1));
        assert_eq!(count(&store), (0, 3));
        forget(&store, at(10) + DAY);
        assert_eq!(count(&store), (0, 0));
    }
}
