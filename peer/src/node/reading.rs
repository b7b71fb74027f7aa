//! What the person has seen, and that the person is writing: said to contacts where the front end
//! wants it said. Neither is kept: what cannot be said soon is not said.

use std::collections::BTreeSet;

use parlor_common::id::{MessageId, Username};
use rand::CryptoRng;

use super::Node;
use super::content::{Content, IdRange, MAX_RANGES};
use super::input::{Now, Token};
use super::posting::Way;

impl Node {
    /// The person has seen these messages of a contact: it is told with this turn, or on the next
    /// way to it.
    pub(super) fn have_read(&mut self, token: Token, contact: Username, ids: Vec<MessageId>) {
        self.read.entry(contact).or_default().extend(ids);
        self.done(token, Ok(()));
    }

    /// Tells contacts what was seen.
    pub(super) fn say_read(&mut self, now: Now, rng: &mut dyn CryptoRng) {
        for (contact, ids) in std::mem::take(&mut self.read) {
            if !self.say_read_to(&contact, &ids, now, rng) {
                self.unsaid_read.entry(contact).or_default().extend(ids);
            }
        }
    }

    fn say_read_to(
        &mut self,
        contact: &Username,
        ids: &BTreeSet<MessageId>,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) -> bool {
        let Some(device) = self.contacts.recipient(contact).map(|device| device.id) else {
            return false;
        };
        let Some(way) = self.way_to(device, None) else { return false };
        for read in IdRange::cover(ids).chunks(MAX_RANGES) {
            let (delivered, read) = (Vec::new(), read.to_vec());
            let content = Content::Receipt { delivered, carrier: None, read, lists: None };
            match self.sessions.seal(device, &content.encode(), now.timer, rng) {
                Some(Ok(sealed)) => self.carry(device, way, sealed.envelope),
                Some(Err(_)) | None => return false,
            }
        }
        true
    }

    /// The person is writing to a contact, who is told if there is a link.
    pub(super) fn typing(
        &mut self,
        token: Token,
        contact: &Username,
        now: Now,
        rng: &mut dyn CryptoRng,
    ) {
        self.done(token, Ok(()));
        let Some(device) = self.contacts.recipient(contact).map(|device| device.id) else { return };
        let Some(way @ Way::Link(_)) = self.way_to(device, None) else { return };
        let content = Content::Typing {}.encode();
        if let Some(Ok(sealed)) = self.sessions.seal(device, &content, now.timer, rng) {
            self.carry(device, way, sealed.envelope);
        }
    }
}
