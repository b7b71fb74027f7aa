//! What goes out of the core, and the numbers by which the driver knows what it belongs to.

use std::fmt;

use super::bus::Notice;
use super::query::Query;
use crate::admin::AdminReply;
use crate::email::Mail;

/// Defines a number that one side counts up and the other only gives back.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counted! {
    /// A connection, counted up by the driver and never used again.
    ConnId
}

counted! {
    /// A request's stream within its connection, counted up by the driver.
    StreamId
}

counted! {
    /// A request of who runs the server, counted up by the driver.
    AdminId
}

counted! {
    /// A question to the store, counted up by the core.
    QueryId
}

counted! {
    /// A mail, counted up by the core.
    MailId
}

/// Where a request came from and its reply goes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Asker {
    pub(super) conn: ConnId,
    pub(super) stream: StreamId,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Ask the store, and bring the answer to [`Server::handle_answer`](super::Server).
    Query(QueryId, Query),
    /// Let every node hear it, and bring what is heard to
    /// [`Server::handle_notice`](super::Server).
    Publish(Notice),
    /// Send a mail, and tell [`Server::handle_mailed`](super::Server) whether it left.
    Mail {
        /// Which.
        id: MailId,
        /// To whom, and its text.
        mail: Mail,
    },
    /// Write the reply to a request: JSON, without its frame.
    Reply {
        /// The request's connection.
        conn: ConnId,
        /// The request's stream.
        stream: StreamId,
        /// At most [`MAX_REPLY`](parlor_common::wire::rendezvous::MAX_REPLY) bytes.
        payload: Vec<u8>,
    },
    /// Write an event to a connection: JSON, without its frame.
    Event {
        /// The connection.
        conn: ConnId,
        /// At most [`MAX_EVENT`](parlor_common::wire::rendezvous::MAX_EVENT) bytes.
        payload: Vec<u8>,
    },
    /// Answer who runs the server.
    Admin {
        /// The request.
        id: AdminId,
        /// The reply to it.
        reply: AdminReply,
    },
    /// Close a connection once what was written before has gone. The core has forgotten it.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why the server closes a connection: the QUIC application error code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The client keeps sending what is no request.
    Misbehaved,
    /// The same device key connected again.
    Replaced,
    /// The server is stopping.
    Stopping,
    /// The client does not take its events.
    TooSlow,
    /// The database cannot answer.
    Unavailable,
    /// The device belongs to its account no more, or the account is no more.
    CutOff,
    /// The account has too many connections.
    TooMany,
}

impl CloseReason {
    /// The application error code (RFC 9000 §20.2).
    pub const fn code(self) -> u32 {
        match self {
            Self::Stopping => 1,
            Self::Replaced => 2,
            Self::Misbehaved => 3,
            Self::TooSlow => 4,
            Self::Unavailable => 5,
            Self::CutOff => 6,
            Self::TooMany => 7,
        }
    }

    /// The reason for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Misbehaved => "misbehaved",
            Self::Replaced => "replaced",
            Self::Stopping => "stopping",
            Self::TooSlow => "too_slow",
            Self::Unavailable => "unavailable",
            Self::CutOff => "cut_off",
            Self::TooMany => "too_many",
        }
    }

    /// The reason in the close frame.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Replaced => "replaced",
            Self::Misbehaved => "too many malformed requests",
            Self::TooSlow => "events were not taken",
            Self::Unavailable => "unavailable",
            Self::CutOff => "this device belongs to the account no more",
            Self::TooMany => "the account has too many connections",
        }
    }
}
