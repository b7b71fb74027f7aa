//! Offers of addresses, passed between contacts and kept nowhere.

use parlor_common::candidate::Offer;
use parlor_common::id::Username;
use parlor_common::wire::rendezvous::Event;

use super::output::Asker;
use super::query::{Answer, Query};
use super::reply::{Handled, done, unavailable};
use super::{After, Server};

impl Server {
    pub(super) fn path_offer(&mut self, asker: Asker, to: Username, offer: Box<Offer>) -> Handled {
        let from = self.name(asker)?;
        let query = Query::AreMutual { one: from.clone(), other: to.clone() };
        self.ask(asker, query, After::PathOffer { from, to, offer })
    }

    /// Every connected device of the account gets the offer, and the one that it is for answers.
    /// Who is no contact, or not online, gets nothing, and the sender is not told.
    pub(super) fn pass_offer(
        &mut self,
        from: &Username,
        to: &Username,
        offer: Box<Offer>,
        answer: &Answer,
    ) -> Handled {
        let Answer::AreMutual(mutual) = answer else { return Err(unavailable()) };
        if *mutual {
            let event = Event::Offer { from: from.clone(), offer };
            for conn in self.connections.of_account(to) {
                self.tell(conn, &event);
            }
        }
        done()
    }
}
