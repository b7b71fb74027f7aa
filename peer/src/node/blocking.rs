//! Blocks: with somebody who is blocked this account has nothing to do, and they are not told.
//!
//! The rendezvous keeps blocks for all devices of the account and lets nothing through; the node
//! keeps them too, and believes nothing that comes through all the same.

use parlor_common::id::Username;
use parlor_common::wire::rendezvous::{Contacts, KnownContact, Request};

use super::Node;
use super::contacts::stranger;
use super::input::Token;
use super::output::IntentError;
use super::record::{Contact, ContactState, FailReason};
use super::server::Purpose;

impl Node {
    pub(super) fn block_contact(&mut self, token: Token, name: Username) {
        if name == self.me.name {
            return self.done(token, Err(IntentError::Oneself(name)));
        }
        let request = Request::ContactBlock { name: name.clone() };
        self.ask_for(token, request, Purpose::Block(token, name));
    }

    /// The rendezvous has the block. What was known of the contact is kept for when it is taken
    /// back; what waits for it will not be delivered.
    pub(super) fn blocked(&mut self, name: &Username) {
        self.close_links(name);
        self.give_up(name, FailReason::ContactBlocked);
        self.offers.forget(name);
        self.set_online(name, false);
        let known = self.contacts.get(name).map(|known| known.record.clone());
        let known = known.unwrap_or_else(|| stranger(name.clone()));
        self.keep_contact(Contact { state: ContactState::Blocked, ..known });
    }

    /// A block that another device of the account has set can be taken back here, too.
    pub(super) fn unblock_contact(&mut self, token: Token, name: Username) {
        let request = Request::ContactUnblock { name: name.clone() };
        self.ask_for(token, request, Purpose::Unblock(token, name));
    }

    /// The rendezvous has taken the block back: how far it is with the contact is for it to say.
    pub(super) fn unblocked(&mut self, token: Token, name: Username) {
        self.ask_for(token, Request::ContactList {}, Purpose::Unblocked(token, name));
    }

    /// Puts somebody who was blocked where the rendezvous has them now.
    pub(super) fn block_taken_back(&mut self, name: &Username, served: &Contacts) {
        let known = self.contacts.get(name).map(|known| known.record.clone());
        let Some(known) = known.filter(|known| known.state == ContactState::Blocked) else {
            return;
        };
        let served = served.contacts.iter().find(|served| served.name == *name);
        match served.filter(|_| known.account_key.is_some()) {
            Some(KnownContact { mutual: true, .. }) => self.complete_contact(known),
            Some(_) => self.keep_contact(Contact { state: ContactState::Asked, ..known }),
            None => self.forget_contact(name),
        }
    }

    pub(super) fn is_blocked(&self, name: &Username) -> bool {
        self.contacts.state(name) == Some(ContactState::Blocked)
    }
}
