//! What a [`Node`](super::Node) is told: what the person wants, what the network did, what came
//! of work.

use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::device_list::ListHash;
use parlor_common::id::{MessageId, Username};
use parlor_common::identity::{AccountKey, DeviceKey};
use parlor_common::time::Timestamp;
use parlor_common::wire::peer::PeerFrame;
use parlor_common::wire::rendezvous;

use super::record::Carrier;
use super::work::WorkDone;

/// Marks what a front end asked for, so that it knows the answer when it comes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Token(pub u64);

/// What a person, or a program on a person's behalf, wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Intent {
    /// Ask somebody to become a contact, or accept them if they have asked.
    AddContact {
        /// Whom.
        name: Username,
        /// The account key that a link named: the contact is thereby verified.
        account_key: Option<AccountKey>,
    },
    /// Accept a request, a changed account key, or devices that were added by password alone.
    AcceptContact {
        /// Whose.
        name: Username,
    },
    /// Decline a request.
    DeclineContact {
        /// Whose.
        name: Username,
    },
    /// Take somebody off the contacts.
    RemoveContact {
        /// Whom.
        name: Username,
    },
    /// Block somebody, contact or not.
    BlockContact {
        /// Whom.
        name: Username,
    },
    /// Take a block back.
    UnblockContact {
        /// Whom.
        name: Username,
    },
    /// Mark a contact's known account key as verified: the person has compared safety numbers.
    VerifyContact {
        /// Whose.
        name: Username,
    },
    /// Sign the own account's newest device list with this device.
    ConfirmDevices {
        /// The list that the person was shown: no other is signed.
        list: ListHash,
    },
    /// Send a message. Answered by [`Event::Queued`](super::output::Event::Queued).
    Send {
        /// To whom.
        to: Username,
        /// The text, at most [`MAX_TEXT`] bytes, not empty.
        text: String,
    },
    /// Take a message back that has not left yet.
    TakeBack {
        /// Which.
        id: MessageId,
    },
    /// Give a message that has not left yet another text.
    Edit {
        /// Which.
        id: MessageId,
        /// The new text, bounded as for [`Intent::Send`].
        text: String,
    },
    /// Tell a contact that the person has seen messages of theirs.
    Read {
        /// Whom.
        contact: Username,
        /// Which messages.
        ids: Vec<MessageId>,
    },
    /// Tell a contact that the person is writing, if there is a link.
    Typing {
        /// Whom.
        contact: Username,
    },
    /// Have messages with a contact disappear, once the contact wants it too.
    SetTimer {
        /// With whom.
        name: Username,
        /// After how many seconds; absent for never.
        seconds: Option<u32>,
    },
    /// Remember that a `listen` has printed these messages of others.
    Printed {
        /// Rows of the store, see [`StoredMessage`](super::record::StoredMessage).
        rows: Vec<i64>,
    },
}

/// A message's text has at most this many bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// The node's number for a request to the rendezvous.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RequestId(pub u64);

/// The network's number for a link to a peer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// How an envelope came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// On a link.
    Link(LinkId),
    /// It waited at the rendezvous, under this number.
    Mailbox(u64),
}

impl Source {
    /// The carrier.
    pub const fn carrier(self) -> Carrier {
        match self {
            Self::Link(_) => Carrier::Direct,
            Self::Mailbox(_) => Carrier::Mailbox,
        }
    }
}

/// What the network did.
#[derive(Clone, Debug, PartialEq)]
pub enum NetInput {
    /// The connection to the rendezvous stands; its welcome follows as an event.
    ServerUp,
    /// The rendezvous says something.
    ServerEvent(Box<rendezvous::Event>),
    /// The rendezvous answered a request: the JSON of a reply, at most
    /// [`MAX_REPLY`](rendezvous::MAX_REPLY) bytes.
    ServerReply {
        /// Which request.
        id: RequestId,
        /// The reply's payload.
        payload: Vec<u8>,
    },
    /// A request got no answer: its stream was cut or took too long. The connection may stand.
    RequestFailed {
        /// Which request.
        id: RequestId,
    },
    /// There is no connection to the rendezvous any more, or an attempt at one failed.
    ServerDown(ServerDown),
    /// The addresses of this machine's interfaces, with the port that the socket has: host
    /// candidates. Told at start and when they change.
    LocalAddresses(Vec<LocalAddress>),
    /// A link stands: the other side's hello has arrived.
    LinkUp {
        /// The link.
        link: LinkId,
        /// The key that the other side proved.
        device: DeviceKey,
        /// Where it is.
        address: SocketAddr,
        /// Whether this side dialed.
        dialed: bool,
        /// The round-trip time of the handshake.
        rtt: Duration,
    },
    /// A frame arrived on a link.
    LinkFrame {
        /// The link.
        link: LinkId,
        /// The frame.
        frame: PeerFrame,
    },
    /// A link is gone.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Who was expected there.
        device: DeviceKey,
        /// Where.
        address: SocketAddr,
    },
}

/// Why there is no connection to the rendezvous.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerDown {
    /// It said that it would stop, or closed the connection in order.
    Closed,
    /// Nothing answers there, or what answers is no rendezvous.
    Unreachable,
    /// It does not know this device: the account is gone, disabled or has another key, or the
    /// device was removed.
    UnknownDevice,
    /// Another key than the pinned one.
    WrongKey,
}

/// An address of an own interface, and the length of its network's prefix in bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAddress {
    /// Address and port of the socket.
    pub address: SocketAddr,
    /// 0–32 or 0–128.
    pub prefix_len: u8,
}

/// The time, by two clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// For waiting: never goes back and never jumps.
    pub timer: Timestamp,
    /// For dates: what the machine believes, which may be wrong.
    pub date: Timestamp,
}

/// Everything that a node is told, one at a time.
#[derive(Debug)]
pub enum Input {
    /// A front end wants something.
    Intent(Token, Intent),
    /// The network did something.
    Net(NetInput),
    /// Work that was handed out is done.
    Work(WorkDone),
}
