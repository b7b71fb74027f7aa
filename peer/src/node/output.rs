//! What a [`Node`](super::Node) says: orders to the network, and events for front ends.

use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::id::{DeviceId, MessageId, SessionId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::prekey::PrekeyError;
use parlor_common::time::Timestamp;
use parlor_common::wire::peer::PeerFrame;
use parlor_common::wire::rendezvous::{AccountChange, Request};
use serde::Serialize;
use thiserror::Error;

use super::input::{LinkId, RequestId, ServerDown, Token};
use super::record::{Carrier, FailReason, MessageState};

/// An order to the network.
#[derive(Clone, Debug, PartialEq)]
pub enum Transmit {
    /// Try to reach the rendezvous. Answered by `ServerUp` or `ServerDown`.
    ConnectServer,
    /// Ask the rendezvous. Answered by `ServerReply` or `RequestFailed`, once.
    Request {
        /// The node's number for it.
        id: RequestId,
        /// The request.
        request: Box<Request>,
    },
    /// Try to reach a device. Answered by `LinkUp` or `DialFailed`.
    Dial {
        /// Whom to expect: any other key is refused by the handshake.
        device: DeviceKey,
        /// Where.
        address: SocketAddr,
    },
    /// Send a frame.
    Frame {
        /// On which link.
        link: LinkId,
        /// The frame.
        frame: PeerFrame,
    },
    /// Close a link, after what was sent on it has left.
    CloseLink {
        /// Which.
        link: LinkId,
    },
}

/// What front ends are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The own account was changed, by another of its devices or by who runs the rendezvous.
    AccountChanged(AccountChange),
    /// An intent is done, or refused.
    Done {
        /// Which intent.
        token: Token,
        /// What came of it.
        result: Result<(), IntentError>,
    },
    /// A message is in the outbox, durably.
    Queued {
        /// Which intent.
        token: Token,
        /// The message's id.
        id: MessageId,
    },
    /// The rendezvous shows this device online, and what it held has been fetched and saved.
    Online,
    /// The rendezvous is out of reach. Told once for each time.
    Offline(ServerDown),
    /// A contact wrote something new.
    Message(Incoming),
    /// A message that was sent from here has changed its state.
    Receipt {
        /// The message.
        id: MessageId,
        /// To whom it was sent.
        to: Username,
        /// Its new state.
        state: MessageState,
        /// The carrier of the copy that counts.
        carrier: Option<Carrier>,
        /// Why it failed, if it did.
        reason: Option<FailReason>,
    },
    /// A contact's mailbox at the rendezvous takes no more. Told once until it does again; what
    /// waits for the contact stays in the outbox, and goes when there is room or a link.
    MailboxFull {
        /// Whose.
        contact: Username,
    },
    /// A contact is writing.
    Typing {
        /// Who.
        contact: Username,
    },
    /// Somebody asks to become a contact.
    ContactRequest {
        /// Who.
        from: Username,
    },
    /// Somebody who was asked has accepted, or accepting somebody is complete.
    ContactAccepted {
        /// Who.
        name: Username,
    },
    /// A contact came or went.
    Presence {
        /// Who.
        contact: Username,
        /// Whether the contact is online now.
        online: bool,
    },
    /// A session with a contact's device was agreed on.
    Agreed {
        /// With whom.
        contact: Username,
        /// The session, derived alike on both sides.
        session: SessionId,
    },
    /// Envelopes to a contact take another way now.
    Path {
        /// Who.
        contact: Username,
        /// The way.
        carrier: Carrier,
        /// The address at its end.
        address: SocketAddr,
        /// Its round-trip time.
        rtt: Duration,
    },
    /// Prekeys that were served for a contact's device do not hold, or are old.
    BundleRefused {
        /// Whose.
        contact: Username,
        /// Why.
        error: PrekeyError,
    },
    /// A contact's account key is not the one that was known.
    IdentityChanged {
        /// Who.
        contact: Username,
    },
    /// A contact's devices changed, or an earlier one has signed for those that did. A change that
    /// an earlier device signed at once is not told.
    ContactDevices {
        /// Whose.
        contact: Username,
        /// Who vouches for the new ones.
        trust: DeviceTrust,
    },
    /// Something is wrong with a device list: the known one stays in force.
    ListFault {
        /// Whose list: a contact's, or one's own account's.
        of: Username,
        /// What is wrong.
        fault: ListFault,
        /// The contact whose word shows it; absent where the rendezvous' own does.
        by: Option<Username>,
    },
    /// This account was opened on a newer device, which receives from now on; or an earlier device
    /// has signed for it.
    NewDevice {
        /// The newest device.
        device: DeviceId,
        /// Whether an earlier device has signed for it: if not, it was added by password alone.
        signed: bool,
    },
    /// Another copy of this very profile is connected.
    Replaced,
}

/// Who vouches for a contact's newest devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceTrust {
    /// Nobody, and the contact is verified: nothing is sealed for them.
    Held,
    /// An earlier device.
    Signed,
    /// Nobody: they were added by password alone. The newest one receives.
    Unsigned,
}

/// What can be wrong with a device list that was served or heard of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListFault {
    /// It is another list than the known one of the same version.
    Forked,
    /// A contact has not been shown our newest list.
    NotShown,
    /// It is older than the known one.
    RolledBack,
    /// Its signatures do not hold, or it is malformed.
    Unsound,
    /// The rendezvous does not serve a newer one that there is.
    Withheld,
}

/// A message that somebody wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// The row it has in the store.
    pub row: i64,
    /// The message's id.
    pub id: MessageId,
    /// Who wrote it.
    pub from: Username,
    /// What was written.
    pub text: String,
    /// When, by the writer's clock.
    pub sent_at: Timestamp,
    /// How it came.
    pub carrier: Carrier,
    /// The first bytes of its ciphertext, for the curious.
    pub ciphertext: Vec<u8>,
}

/// Why an intent was refused. The messages are for people and say what to do next.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IntentError {
    /// The name is one's own.
    #[error("{0} is your own name")]
    Oneself(Username),
    /// Nobody of that name among the contacts.
    #[error("{0} is not a contact; add them first: parlor contact add {0}")]
    UnknownContact(Username),
    /// The contact is blocked.
    #[error("{0} is blocked; to take that back: parlor contact unblock {0}")]
    Blocked(Username),
    /// The contact has asked and waits for an answer.
    #[error("{0} waits for your answer; accept them first: parlor contact accept {0}")]
    NotAccepted(Username),
    /// There is no request from that name, and no changed key or device, to answer.
    #[error("there is no request from {0}, and no changed key or new device, to accept or decline")]
    NoRequest(Username),
    /// No account key of the contact is known.
    #[error("no account key of {0} is known yet; it comes with their answer")]
    NoKey(Username),
    /// The newest device list needs no signature of this device.
    #[error("there is nothing to confirm: no device was added by password alone")]
    NothingToConfirm,
    /// The newest device cannot vouch for itself.
    #[error("this is the newest device; run it on one that was there before")]
    ConfirmElsewhere,
    /// The device list is not the one that the person was shown.
    #[error("your devices have changed meanwhile; look at them again: parlor devices")]
    DevicesChanged,
    /// There is no such message, or it has left already.
    #[error("that message is not waiting any more; what has left cannot be changed")]
    NotQueued,
    /// The text is empty.
    #[error("the message is empty")]
    EmptyText,
    /// The text is longer than [`MAX_TEXT`](super::input::MAX_TEXT).
    #[error("the message has {0} bytes; 65536 are the most")]
    TextTooLong(usize),
    /// The account key that was served is not the one in the link, or not the known one.
    #[error("the account key of {0} is not the one that is expected; nothing was changed")]
    KeyMismatch(Username),
    /// The contact's account key has changed, and the person has not decided.
    #[error(
        "the account key of {0} has changed; nothing was sent. Compare safety numbers with them \
         (parlor safety-number {0}), then accept the new key: parlor contact accept {0}"
    )]
    KeyChanged(Username),
    /// The rendezvous refused.
    #[error("the rendezvous refused: {message}")]
    Refused {
        /// The rendezvous' code, as it stands in the protocol.
        code: String,
        /// The rendezvous' words.
        message: String,
    },
    /// The rendezvous cannot be reached, and the intent needs it.
    #[error("the rendezvous cannot be reached; is it running, and is this machine online?")]
    Unreachable,
    /// The rendezvous showed another key than the pinned one.
    #[error("the rendezvous has another key than the one that is pinned; nothing was sent")]
    WrongServerKey,
    /// What the rendezvous or a contact served does not hold.
    #[error("what was served about {0} does not hold: {1}")]
    Unsound(Username, String),
}
