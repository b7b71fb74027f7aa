//! Who knows whom: contact requests and their answers, held until they are fetched.

use parlor_common::card::{Card, CardError};
use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Contacts, ErrorCode, ErrorReply, Event, HeldItems, MAX_HELD_AT_ONCE,
};

use super::connections::Identity;
use super::output::Asker;
use super::query::{Answer, Answering, Asking, ContactAsked, Query};
use super::reply::{Handled, done, malformed, ok, refusal, too_fast, unavailable};
use super::{After, Server};

/// `held.ack` names at most this many items: each is a write, and `held.get` returns no more.
const MAX_IDS: usize = MAX_HELD_AT_ONCE;

impl Server {
    pub(super) fn contact_list(&mut self, asker: Asker) -> Handled {
        let of = self.name(asker)?;
        self.ask(asker, Query::Contacts { of }, After::ContactList)
    }

    pub(super) fn contact_listed(answer: Answer) -> Handled {
        let Answer::Contacts(contacts) = answer else { return Err(unavailable()) };
        ok(Contacts { contacts })
    }

    pub(super) fn contact_request(
        &mut self,
        asker: Asker,
        to: Username,
        card: Card,
        now: Timestamp,
    ) -> Handled {
        let from = self.checked_card(asker, &to, &card)?;
        let limits = self.params.contacts;
        let after = After::ContactRequest { from: from.clone(), to: to.clone() };
        let request = ContactAsked { from, to, card, at: now, limits };
        self.ask(asker, Query::AskContact(Box::new(request)), after)
    }

    /// Done, whatever becomes of the request: whether somebody wants to know the asker is told by
    /// that somebody alone.
    pub(super) fn contact_requested(
        &mut self,
        from: &Username,
        to: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Asked(asking) = answer else { return Err(unavailable()) };
        match *asking {
            Asking::Accepted(versions) => {
                tracing::info!(%from, %to, "contacts");
                self.tell_held(from);
                self.tell_held(to);
                self.introduce(from, to, versions);
                done()
            }
            Asking::Held => {
                tracing::info!(%from, %to, "contact request");
                self.tell_held(to);
                done()
            }
            Asking::Nothing => done(),
            Asking::RecipientFull => Err(refusal(
                ErrorCode::Unavailable,
                "too many requests wait for them already; try again another day",
            )),
            Asking::TooManyContacts => Err(too_many_contacts()),
            Asking::TooMany { until } => {
                Err(too_fast("that is enough contact requests for a day", until))
            }
        }
    }

    pub(super) fn contact_answer(
        &mut self,
        asker: Asker,
        name: Username,
        card: Option<Box<Card>>,
    ) -> Handled {
        let by = match &card {
            Some(card) => self.checked_card(asker, &name, card)?,
            None => self.name(asker)?,
        };
        let after = After::ContactAnswer { by: by.clone(), asker: name.clone() };
        let max_contacts = self.params.contacts.contacts;
        self.ask(asker, Query::AnswerContact { asker: name, by, card, max_contacts }, after)
    }

    pub(super) fn contact_answered(
        &mut self,
        by: &Username,
        asker: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Answered(answering) = answer else { return Err(unavailable()) };
        match *answering {
            Answering::Accepted(versions) => {
                tracing::info!(%by, %asker, "contact request accepted");
                self.tell_held(asker);
                self.introduce(by, asker, versions);
                done()
            }
            Answering::Declined => {
                tracing::info!(%by, %asker, "contact request declined");
                self.tell_held(asker);
                done()
            }
            Answering::Nothing => done(),
            Answering::NoRequest => {
                Err(refusal(ErrorCode::UnknownUser, "there is no open request of that name"))
            }
            Answering::TooManyContacts => Err(too_many_contacts()),
        }
    }

    pub(super) fn contact_remove(&mut self, asker: Asker, contact: Username) -> Handled {
        let of = self.name(asker)?;
        let after = After::ContactRemove { of: of.clone(), contact: contact.clone() };
        self.ask(asker, Query::RemoveContact { of, contact }, after)
    }

    /// A contact that was removed sees the remover go offline, and nothing more.
    pub(super) fn contact_removed(
        &mut self,
        of: &Username,
        contact: &Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Removed(was_mutual) = answer else { return Err(unavailable()) };
        if let Some(list_version) = was_mutual {
            self.tell_gone(contact, of, *list_version);
        }
        done()
    }

    pub(super) fn held_get(&mut self, asker: Asker) -> Handled {
        let of = self.name(asker)?;
        self.ask(asker, Query::Held { of }, After::HeldGet)
    }

    pub(super) fn held_got(answer: Answer) -> Handled {
        let Answer::Held(items) = answer else { return Err(unavailable()) };
        ok(HeldItems { items })
    }

    pub(super) fn held_ack(&mut self, asker: Asker, ids: Vec<u64>) -> Handled {
        let of = self.name(asker)?;
        if ids.len() > MAX_IDS {
            return Err(malformed("acknowledge fewer items at once"));
        }
        self.ask(asker, Query::ForgetHeld { of, ids }, After::HeldAck)
    }

    pub(super) fn held_acked(answer: &Answer) -> Handled {
        let Answer::Forgotten = answer else { return Err(unavailable()) };
        done()
    }

    /// Checks that a card is the asker's own, for `to`; returns the asker's name.
    fn checked_card(
        &self,
        asker: Asker,
        to: &Username,
        card: &Card,
    ) -> Result<Username, ErrorReply> {
        let Identity { name, account_key } = self.identity(asker)?;
        if name == to {
            return Err(refusal(ErrorCode::BadCard, "that is your own name"));
        }
        card.clone().verify(name, to, account_key).map_err(bad_card)?;
        Ok(name.clone())
    }

    fn tell_held(&mut self, name: &Username) {
        for conn in self.connections.of_account(name) {
            self.tell(conn, &Event::Held {});
        }
    }
}

fn bad_card(error: CardError) -> ErrorReply {
    refusal(ErrorCode::BadCard, &error.to_string())
}

fn too_many_contacts() -> ErrorReply {
    refusal(ErrorCode::TooFast, "an account holds no more contacts; remove one first")
}
