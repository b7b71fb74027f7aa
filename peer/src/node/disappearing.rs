//! Messages that disappear: after a time on which both sides agree, the text is erased on both.
//!
//! Each side says its wish with every message. A message disappears if both wished it when it was
//! sent; that a copy elsewhere is erased cannot be enforced.

use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::time::Timestamp;

use super::input::{Now, Token};
use super::output::IntentError;
use super::record::{Change, Contact, Timers};
use super::{Awaiting, Node};

impl Node {
    /// The person would have messages with a contact disappear after so many seconds, or never.
    pub(super) fn set_timer(&mut self, token: Token, name: &Username, ours: Option<u32>) {
        let Some(known) = self.contacts.get(name).map(|known| known.record.clone()) else {
            return self.done(token, Err(IntentError::UnknownContact(name.clone())));
        };
        let timers = Timers { ours, ..known.timers };
        self.keep_contact(Contact { timers, ..known });
        self.done(token, Ok(()));
    }

    /// What a contact's message says of its wish.
    pub(super) fn handle_timer(&mut self, name: &Username, theirs: Option<u32>) {
        let known = self.contacts.get(name).map(|known| known.record.clone());
        if let Some(known) = known.filter(|known| known.timers.theirs != theirs) {
            let timers = Timers { theirs, ..known.timers };
            self.keep_contact(Contact { timers, ..known });
        }
    }

    /// A message that is saved now is erased after so many seconds.
    pub(super) fn expires_in(&mut self, seconds: Option<u32>, now: Now) {
        let Some(seconds) = seconds else { return };
        let at = now.date + Duration::from_secs(seconds.into());
        self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
    }

    /// Erases what is due.
    pub(super) fn erase_expired(&mut self, now: Now) {
        if self.next_expiry.take_if(|at| *at <= now.date).is_some() {
            self.changes.push(Change::EraseExpired(now.date));
            self.awaiting.push_back(Awaiting::NextExpiry);
        }
    }

    /// When something is next to be erased, by the timer's clock.
    pub(super) fn expiry_timeout(&self, now: Now) -> Option<Timestamp> {
        self.next_expiry.map(|at| now.timer + at.since(now.date))
    }
}
