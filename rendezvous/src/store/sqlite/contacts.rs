//! Who holds whom as a contact, and the requests that are open.
//!
//! A row of an owner and a contact is open while it has the owner's card: the owner has asked and
//! nobody has answered. Two are mutual when both rows are there and neither is open.

use parlor_common::card::Card;
use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::KnownContact;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::accounts::{AccountId, AccountRow, find, parse_name};
use super::day::charge_account;
use super::held::{self, Item};
use super::{QueryError, Tables, blocks, loaded};
use crate::limits::ContactLimits;
use crate::server::{Answering, Asking, ContactAsked, ListVersions, MutualContact, MutualContacts};
use crate::store::interface::Contacts;

impl Contacts for Tables<'_> {
    fn contacts(&self, of: &Username) -> Result<Vec<KnownContact>, QueryError> {
        all(self.0, of)
    }

    fn mutual_contacts(&self, of: &Username) -> Result<MutualContacts, QueryError> {
        mutual(self.0, of)
    }

    fn are_mutual(&self, one: &Username, other: &Username) -> Result<bool, QueryError> {
        are_mutual(self.0, one, other)
    }

    fn ask_contact(&self, asked: &ContactAsked) -> Result<Asking, QueryError> {
        ask(self.0, asked)
    }

    fn answer_contact(
        &self,
        asker: &Username,
        by: &Username,
        card: Option<&Card>,
        max_contacts: u32,
    ) -> Result<Answering, QueryError> {
        answer(self.0, asker, by, card, max_contacts)
    }

    fn remove_contact(&self, of: &Username, contact: &Username) -> Result<Option<u64>, QueryError> {
        remove(self.0, of, contact)
    }
}

/// How one account holds another.
enum Hold {
    None,
    /// With a request that is open; its card in JSON.
    Asking(String),
    Contact,
}

pub(super) fn all(db: &Connection, of: &Username) -> Result<Vec<KnownContact>, QueryError> {
    let mut statement = db.prepare_cached(
        "SELECT a.name, c.card IS NULL AND EXISTS (
             SELECT 1 FROM contacts d
             WHERE d.owner = c.contact AND d.contact = c.owner AND d.card IS NULL),
             EXISTS (SELECT 1 FROM blocks WHERE owner = c.owner AND blocked = c.contact)
         FROM contacts c JOIN accounts a ON a.id = c.contact JOIN accounts o ON o.id = c.owner
         WHERE o.name = ?1
         UNION ALL
         SELECT a.name, FALSE, TRUE
         FROM blocks b JOIN accounts a ON a.id = b.blocked JOIN accounts o ON o.id = b.owner
         WHERE o.name = ?1 AND NOT EXISTS (
             SELECT 1 FROM contacts WHERE owner = b.owner AND contact = b.blocked)
         ORDER BY 1",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let mut contacts = Vec::new();
    for row in statement.query_map([of.as_str()], row)? {
        let (name, mutual, blocked): (String, bool, bool) = row?;
        contacts.push(KnownContact { name: parse_name(&name)?, mutual, blocked });
    }
    Ok(contacts)
}

pub(super) fn mutual(db: &Connection, of: &Username) -> Result<MutualContacts, QueryError> {
    let Some(own) = find(db, of)? else { return Ok(MutualContacts::default()) };
    let mut statement = db.prepare_cached(
        "SELECT a.name, a.list_version, EXISTS (
             SELECT 1 FROM blocks
             WHERE (owner = c.owner AND blocked = c.contact)
                OR (owner = c.contact AND blocked = c.owner))
         FROM contacts c
         JOIN contacts d ON d.owner = c.contact AND d.contact = c.owner AND d.card IS NULL
         JOIN accounts a ON a.id = c.contact
         WHERE c.owner = ?1 AND c.card IS NULL ORDER BY a.name",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let mut contacts = Vec::new();
    for row in statement.query_map([own.id.0], row)? {
        let (name, version, hidden): (String, i64, bool) = row?;
        let (name, list_version) = (parse_name(&name)?, loaded(version));
        contacts.push(MutualContact { name, list_version, hidden });
    }
    Ok(MutualContacts { list_version: own.list_version, contacts })
}

pub(super) fn are_mutual(
    db: &Connection,
    one: &Username,
    other: &Username,
) -> Result<bool, QueryError> {
    let (Some(one), Some(other)) = (find(db, one)?, find(db, other)?) else { return Ok(false) };
    Ok(both_hold(db, one.id, other.id)? && !are_hidden(db, one.id, other.id)?)
}

/// Whether one of two has blocked the other: then neither sees the other come and go.
fn are_hidden(db: &Connection, one: AccountId, other: AccountId) -> Result<bool, QueryError> {
    Ok(blocks::has(db, one, other)? || blocks::has(db, other, one)?)
}

pub(super) fn ask(db: &Connection, asked: &ContactAsked) -> Result<Asking, QueryError> {
    let (Some(from), Some(to)) = (find(db, &asked.from)?, find(db, &asked.to)?) else {
        return Ok(Asking::Nothing);
    };
    if blocks::has(db, from.id, to.id)? {
        return Ok(Asking::Blocked);
    }
    let card = serde_json::to_string(&asked.card)?;
    let own = hold_of(db, from.id, to.id)?;
    if matches!(own, Hold::None) && count(db, from.id)? >= asked.limits.contacts {
        return Ok(Asking::TooManyContacts);
    }
    match (own, hold_of(db, to.id, from.id)?) {
        (_, Hold::Asking(theirs)) => {
            held::hold(db, from.id, to.id, Item::Accepted(&theirs))?;
            accept(db, from, to, &card).map(Asking::Accepted)
        }
        (Hold::Contact, Hold::Contact) => Ok(Asking::Nothing),
        (Hold::Asking(_), Hold::None | Hold::Contact) => {
            put(db, from.id, to.id, Some(&card))?;
            held::renew_request(db, to.id, from.id, &card)?;
            Ok(Asking::Nothing)
        }
        (Hold::None | Hold::Contact, Hold::None) | (Hold::None, Hold::Contact) => {
            open_request(db, from.id, to.id, &card, asked.at, &asked.limits)
        }
    }
}

/// Holds a new request, within what is allowed in a day.
fn open_request(
    db: &Connection,
    from: AccountId,
    to: AccountId,
    card: &str,
    at: Timestamp,
    limits: &ContactLimits,
) -> Result<Asking, QueryError> {
    if held::requests(db, to)? >= limits.held_requests {
        return Ok(Asking::RecipientFull);
    }
    if let Some(until) = charge_request(db, from, at, limits.requests_per_day)? {
        return Ok(Asking::TooMany { until });
    }
    put(db, from, to, Some(card))?;
    held::hold(db, to, from, Item::Request(card))?;
    Ok(Asking::Held)
}

/// Counts a new request; or says until when there may be none.
fn charge_request(
    db: &Connection,
    account: AccountId,
    at: Timestamp,
    limit: u32,
) -> Result<Option<Timestamp>, QueryError> {
    let select = "SELECT asking_since, asked FROM accounts WHERE id = ?1";
    let update = "UPDATE accounts SET asking_since = ?2, asked = ?3 WHERE id = ?1";
    charge_account(db, account, (select, update), at, limit)
}

pub(super) fn answer(
    db: &Connection,
    asker: &Username,
    by: &Username,
    card: Option<&Card>,
    max_contacts: u32,
) -> Result<Answering, QueryError> {
    let (Some(asker), Some(by)) = (find(db, asker)?, find(db, by)?) else {
        return Ok(Answering::NoRequest);
    };
    let own = hold_of(db, by.id, asker.id)?;
    match (hold_of(db, asker.id, by.id)?, own, card) {
        (Hold::Asking(_), Hold::None, Some(_)) if count(db, by.id)? >= max_contacts => {
            Ok(Answering::TooManyContacts)
        }
        (Hold::Asking(_), _, Some(card)) => {
            let card = serde_json::to_string(card)?;
            accept(db, by, asker, &card).map(Answering::Accepted)
        }
        (Hold::Asking(_), _, None) => {
            delete(db, asker.id, by.id)?;
            held::drop_request(db, by.id, asker.id)?;
            held::hold(db, asker.id, by.id, Item::Declined)?;
            Ok(Answering::Declined)
        }
        // An answer that is said again, because its reply was lost.
        (Hold::Contact, Hold::Contact, Some(_)) => Ok(Answering::Nothing),
        (Hold::None | Hold::Contact, _, _) => Ok(Answering::NoRequest),
    }
}

/// Makes contacts of `by` and of `asker`, who had asked, and holds the card of `by` for `asker`.
fn accept(
    db: &Connection,
    by: AccountRow,
    asker: AccountRow,
    card: &str,
) -> Result<ListVersions, QueryError> {
    put(db, asker.id, by.id, None)?;
    put(db, by.id, asker.id, None)?;
    held::drop_request(db, by.id, asker.id)?;
    held::drop_request(db, asker.id, by.id)?;
    held::hold(db, asker.id, by.id, Item::Accepted(card))?;
    let hidden = are_hidden(db, by.id, asker.id)?;
    Ok(ListVersions { own: by.list_version, other: asker.list_version, hidden })
}

/// How two see each other, if they are mutual contacts.
pub(super) fn mutual_versions(
    db: &Connection,
    own: AccountRow,
    other: AccountRow,
) -> Result<Option<ListVersions>, QueryError> {
    if !both_hold(db, own.id, other.id)? {
        return Ok(None);
    }
    let hidden = are_hidden(db, own.id, other.id)?;
    Ok(Some(ListVersions { own: own.list_version, other: other.list_version, hidden }))
}

/// Drops a request of `owner` that nobody has answered.
pub(super) fn drop_open_request(
    db: &Connection,
    owner: AccountId,
    contact: AccountId,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "DELETE FROM contacts WHERE owner = ?1 AND contact = ?2 AND card IS NOT NULL",
    )?;
    statement.execute([owner.0, contact.0])?;
    Ok(())
}

pub(super) fn remove(
    db: &Connection,
    of: &Username,
    contact: &Username,
) -> Result<Option<u64>, QueryError> {
    let (Some(own), Some(contact)) = (find(db, of)?, find(db, contact)?) else { return Ok(None) };
    let was_mutual = both_hold(db, own.id, contact.id)?;
    delete(db, own.id, contact.id)?;
    held::drop_request(db, contact.id, own.id)?;
    Ok(was_mutual.then_some(own.list_version))
}

/// Whether two are mutual contacts, blocked or not.
pub(super) fn both_hold(
    db: &Connection,
    one: AccountId,
    other: AccountId,
) -> Result<bool, QueryError> {
    let holds = (hold_of(db, one, other)?, hold_of(db, other, one)?);
    Ok(matches!(holds, (Hold::Contact, Hold::Contact)))
}

fn hold_of(db: &Connection, owner: AccountId, contact: AccountId) -> Result<Hold, QueryError> {
    let mut statement =
        db.prepare_cached("SELECT card FROM contacts WHERE owner = ?1 AND contact = ?2")?;
    let found: Option<Option<String>> =
        statement.query_row([owner.0, contact.0], |row| row.get(0)).optional()?;
    Ok(match found {
        None => Hold::None,
        Some(Some(card)) => Hold::Asking(card),
        Some(None) => Hold::Contact,
    })
}

fn put(
    db: &Connection,
    owner: AccountId,
    contact: AccountId,
    card: Option<&str>,
) -> Result<(), QueryError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO contacts (owner, contact, card) VALUES (?1, ?2, ?3)
         ON CONFLICT (owner, contact) DO UPDATE SET card = excluded.card",
    )?;
    statement.execute(params![owner.0, contact.0, card])?;
    Ok(())
}

fn delete(db: &Connection, owner: AccountId, contact: AccountId) -> Result<(), QueryError> {
    let mut statement =
        db.prepare_cached("DELETE FROM contacts WHERE owner = ?1 AND contact = ?2")?;
    statement.execute([owner.0, contact.0])?;
    Ok(())
}

fn count(db: &Connection, owner: AccountId) -> Result<u32, QueryError> {
    let mut statement = db.prepare_cached("SELECT count(*) FROM contacts WHERE owner = ?1")?;
    Ok(statement.query_row([owner.0], |row| row.get(0))?)
}
