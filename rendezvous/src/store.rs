//! What the server keeps. Answers the core's queries and decides nothing that is not an invariant of
//! what is stored.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `admin.rs` | what who runs the server changes, each change with its row in the audit trail |
//! | `interface.rs` | what a database must do, a small interface for each concern |
//! | `admissions.rs` | whether a registration or a login may begin |
//! | `changes.rs` | what goes together: a change and its row in the audit trail |
//! | `sqlite.rs` | the embedded database that does it |
//! | `suite.rs` | what any implementation must pass |
//!
//! All queries of a driver's turn run in one transaction, each in a savepoint of its own: one that
//! fails changes nothing, and nobody hears of any before all are committed.

mod admin;
mod admissions;
mod changes;
mod interface;
mod sqlite;
#[cfg(test)]
mod suite;

use std::path::Path;

pub use self::interface::{
    Accounts, Audit, Blocks, Contacts, Database, DatabaseError, Devices, EmailCodes, Guard,
    HeldItems, Interfaces, Invitations, Mailboxes, Prekeys, QueryError, Run, Users,
};
pub use self::sqlite::{MigrateError, OpenError, Sqlite, read_note};
use crate::server::{Answer, Query, QueryId};

/// The database's file within the data folder.
pub const FILE: &str = "rendezvous.db";

/// The store, over whatever database.
#[derive(Debug)]
pub struct Store<D: Database = Sqlite> {
    pub(crate) database: D,
}

impl Store {
    /// Opens the embedded database in a file, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { database: Sqlite::open(path)? })
    }

    /// A database that is gone with its value.
    pub fn in_memory() -> Result<Self, OpenError> {
        Ok(Self { database: Sqlite::in_memory()? })
    }

    /// A copy of the embedded database as it is now, which is gone with its value.
    pub fn copy_in_memory(&self) -> Result<Self, OpenError> {
        Ok(Self { database: self.database.copy_in_memory()? })
    }
}

impl<D: Database> Store<D> {
    /// A store over a database.
    pub fn over(database: D) -> Self {
        Self { database }
    }

    /// Answers queries in one transaction. If that cannot be committed, nothing was changed and
    /// every answer is [`Answer::Unavailable`].
    pub fn answer(&mut self, queries: Vec<(QueryId, Query)>) -> Vec<(QueryId, Answer)> {
        let ids: Vec<QueryId> = queries.iter().map(|(id, _)| *id).collect();
        let scrub = queries.iter().any(|(_, query)| matches!(query, Query::Scrub));
        let answers = self.database.transact(queries, run).unwrap_or_else(|error| {
            tracing::error!(%error, "the database did not take a transaction");
            ids.into_iter().map(|id| (id, Answer::Unavailable)).collect()
        });
        if scrub && let Err(error) = self.database.scrub() {
            tracing::error!(%error, "what was erased is not overwritten");
        }
        answers
    }

    /// Keeps a note under a name of its own.
    pub fn put_note(&self, name: &str, value: &str) -> Result<(), DatabaseError> {
        self.database.put_note(name, value)
    }

    /// Writes everything out and closes the database.
    pub fn close(self) -> Result<(), DatabaseError> {
        self.database.close()
    }
}

/// Answers one query, by whatever database.
fn run(db: &dyn Interfaces, query: Query) -> Result<Answer, QueryError> {
    Ok(match query {
        Query::DeviceOwner { device } => Answer::Device(db.owner(&device)?),
        Query::CreateAccount(account) => Answer::Created(changes::create_account(db, &account)?),
        Query::AskEmailCode(asked) => Answer::EmailCodeAsked(changes::ask_email_code(db, &asked)?),
        Query::TakeMailBack(unsent) => {
            changes::take_mail_back(db, &unsent)?;
            Answer::MailTakenBack
        }
        Query::StartRegistration(start) => {
            Answer::RegistrationStarted(admissions::start_registration(db, &start)?)
        }
        Query::StartLogin(attempt) => Answer::LoginStarted(admissions::start_login(db, &attempt)?),
        Query::FinishLogin(attempt) => Answer::Account(changes::finish_login(db, &attempt)?),
        Query::ChangePassword(change) => {
            Answer::PasswordChanged(changes::change_password(db, &change)?)
        }
        Query::Rekey(rekey) => Answer::Replaced(changes::rekey(db, &rekey)?),
        Query::DeleteAccount { name, entry } => {
            Answer::Deleted(changes::delete_account(db, &name, &entry)?)
        }
        Query::Devices { name } => Answer::Devices(db.devices(&name)?),
        Query::ReplaceDevices(change) => Answer::Replaced(changes::replace_devices(db, &change)?),
        Query::NamedDevices { name } => Answer::NamedDevices(db.named_devices(&name)?),
        Query::NameDevice { name, device, label } => {
            Answer::DeviceNamed(db.name_device(&name, &device, label.as_deref())?)
        }
        Query::Contacts { of } => Answer::Contacts(db.contacts(&of)?),
        Query::MutualContacts { of } => Answer::Mutual(db.mutual_contacts(&of)?),
        Query::AreMutual { one, other } => Answer::AreMutual(db.are_mutual(&one, &other)?),
        Query::AskContact(asked) => Answer::Asked(db.ask_contact(&asked)?),
        Query::AnswerContact { asker, by, card, max_contacts } => {
            Answer::Answered(db.answer_contact(&asker, &by, card.as_deref(), max_contacts)?)
        }
        Query::RemoveContact { of, contact } => Answer::Removed(db.remove_contact(&of, &contact)?),
        Query::Block { owner, other } => Answer::Blocked(db.block(&owner, &other)?),
        Query::Unblock { owner, other } => Answer::Blocked(db.unblock(&owner, &other)?),
        Query::Held { of } => Answer::Held(db.held(&of)?),
        Query::ForgetHeld { of, ids } => {
            db.forget_held(&of, &ids)?;
            Answer::Forgotten
        }
        Query::PostEnvelopes(posted) => Answer::Posted(db.post(&posted)?),
        Query::Envelopes { of, after } => Answer::Envelopes(db.envelopes(&of, after)?),
        Query::ForgetEnvelopes { of, ids } => {
            db.forget_envelopes(&of, &ids)?;
            Answer::Forgotten
        }
        Query::PutPrekeys(put) => Answer::PrekeysKept(db.put_prekeys(&put)?),
        Query::CountPrekeys { device, at } => Answer::PrekeysHeld(db.count_prekeys(&device, at)?),
        Query::TakeBundles(wish) => Answer::Bundles(db.take_bundles(&wish)?),
        Query::DeviceStart { device, count } => Answer::Started(db.start_device(&device, count)?),
        Query::RecordRefusal { entry, limits } => {
            admissions::record_refusal(db, &entry, &limits)?;
            Answer::RefusalRecorded
        }
        Query::Record(entry) => Answer::Recorded(db.append_audit(&entry)?.seq),
        Query::AuditAfter { seq, limit } => Answer::Audit(db.audit_after(seq, limit)?),
        Query::AuditNewest { limit } => Answer::Audit(db.newest_audit(limit)?),
        Query::Users { after, limit } => Answer::Users(db.users(after.as_ref(), limit)?),
        Query::User { name, at } => Answer::User(db.user(&name, at)?),
        Query::ChangeUser { name, change, at } => {
            Answer::UserChanged(admin::change_user(db, &name, change, at)?)
        }
        Query::CountAccounts => Answer::Counted(db.count_accounts()?),
        Query::CreateInvitation(made) => {
            Answer::InvitationKept(admin::create_invitation(db, &made)?)
        }
        Query::Invitations { after, limit } => {
            Answer::Invitations(db.invitations(after.as_ref(), limit)?)
        }
        Query::RevokeInvitation { id, at } => {
            Answer::InvitationRevoked(admin::revoke_invitation(db, &id, at)?)
        }
        Query::Tidy(tidying) => Answer::Tidied(admin::tidy(db, &tidying)?),
        // It is done after the transaction.
        Query::Scrub => Answer::Scrubbed,
    })
}
