//! What a connection has begun and not finished: one exchange at a time, each used once.

use parlor_common::id::Username;
use parlor_common::identity::AccountKey;
use parlor_common::wire::rendezvous::{ErrorCode, ErrorReply};

use super::output::Asker;
use super::query::{Admission, Origin, Query};
use super::reply::{malformed, refusal};
use super::{Pending, Server};
use crate::audit::Entry;
use crate::opaque::{CredentialId, PendingLogin};

/// A registration, a login or a new password between its flights.
#[derive(Debug)]
pub(super) enum Exchange {
    Registration { name: Username, credential: CredentialId, admission: Admission },
    Login { name: Username, pending: PendingLogin, origin: Origin },
    Recovery { name: Username, account_key: Option<AccountKey>, origin: Origin },
    Password { name: Username, credential: CredentialId },
}

impl Exchange {
    /// The entry of a login that was begun and not finished: its client noticed that the password,
    /// or the recovery code, is wrong.
    fn failure(self) -> Option<Entry> {
        match self {
            Self::Login { name, origin, .. } | Self::Recovery { name, origin, .. } => {
                Some(origin.failed_login(name, ErrorCode::WrongPassword))
            }
            Self::Registration { .. } | Self::Password { .. } => None,
        }
    }
}

impl Server {
    /// Remembers an exchange; one that was open before is given up.
    pub(super) fn begin(&mut self, asker: Asker, exchange: Exchange) {
        let Some(connection) = self.connections.get_mut(asker.conn) else { return };
        if let Some(before) = connection.exchange.replace(exchange) {
            self.give_up(before);
        }
    }

    /// An exchange that is to be finished now, in whatever way.
    pub(super) fn take_exchange(&mut self, asker: Asker) -> Option<Exchange> {
        self.connections.get_mut(asker.conn)?.exchange.take()
    }

    /// Writes down that an exchange came to nothing, where that is worth a word.
    pub(super) fn give_up(&mut self, exchange: Exchange) {
        if let Some(entry) = exchange.failure() {
            self.record_refusal(entry);
        }
    }

    /// Writes into the audit trail that somebody was refused.
    pub(super) fn record_refusal(&mut self, entry: Entry) {
        let (entry, limits) = (Box::new(entry), Box::new(self.params.limits));
        self.query(Query::RecordRefusal { entry, limits }, Pending::Nothing);
    }
}

pub(super) fn bad_opaque() -> ErrorReply {
    malformed("that is not a message of OPAQUE (RFC 9807)")
}

pub(super) fn no_exchange(first: &str) -> ErrorReply {
    let message = format!("nothing to finish: begin with {first} on this connection");
    refusal(ErrorCode::NoExchange, &message)
}
