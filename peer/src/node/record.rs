//! What is stored, as values: the node makes changes of them, the store keeps them.

use std::collections::BTreeSet;

use parlor_common::device_list::{ListHash, SignedDeviceList};
use parlor_common::id::{DeviceId, MessageId, SessionId, Username};
use parlor_common::identity::{AccountKey, DeviceSecret};
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::content::IdRange;
pub use super::replays::EphemeralHash;
use crate::crypto::group::KeyPair;
pub use crate::crypto::session::ChainId;

/// How far two people are with becoming contacts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// Asked by us; their answer is awaited.
    Asked,
    /// They asked and await our answer.
    Asking,
    /// Both agreed.
    Mutual,
    /// Blocked by us.
    Blocked,
}

/// Which carriers a contact may be reached by.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Addresses are exchanged and links are direct.
    #[default]
    Direct,
}

/// A contact, or somebody on the way to become one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Contact {
    /// The contact's name.
    pub name: Username,
    /// How far it is.
    pub state: ContactState,
    /// Whether the person has verified the account key, by a link or a safety number.
    pub verified: bool,
    /// The account key that is trusted. Absent until one was seen.
    pub account_key: Option<AccountKey>,
    /// Another account key that was seen since: nothing is sent until the person decides.
    pub changed_key: Option<AccountKey>,
    /// The newest device list that was seen under `account_key`.
    pub devices: Option<SignedDeviceList>,
    /// Devices of the list that were added by password alone: no earlier device has signed them
    /// and the person has not accepted them.
    pub unsigned: BTreeSet<DeviceId>,
    /// The last list that was refused, which is told once.
    pub refused: Option<ListHash>,
    /// Which carriers may be used.
    pub policy: Policy,
    /// After how many seconds each side would have messages disappear.
    pub timers: Timers,
}

/// After how many seconds each side would have messages disappear; absent for never.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Timers {
    /// The person's own wish.
    pub ours: Option<u32>,
    /// The contact's, as its messages say.
    pub theirs: Option<u32>,
}

impl Timers {
    /// After how many seconds messages disappear: when both sides want it, and not before either
    /// wants it.
    pub fn agreed(&self) -> Option<u32> {
        Some(self.ours?.max(self.theirs?))
    }
}

impl Contact {
    /// Whether a device of the contact is held: nothing is sealed for it, and nothing of it is
    /// believed. That is the lot of unsigned devices of a verified contact.
    pub fn holds(&self, device: DeviceId) -> bool {
        self.verified && self.unsigned.contains(&device)
    }
}

/// The state of a message that was sent from here.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// In the outbox.
    Queued,
    /// A link has taken it.
    Sent,
    /// The recipient's device has saved it.
    Delivered,
    /// The recipient has seen it.
    Read,
    /// It will not be delivered.
    Failed,
}

impl MessageState {
    /// Whether a message in this state is in the outbox.
    pub const fn waits(self) -> bool {
        match self {
            Self::Queued | Self::Sent => true,
            Self::Delivered | Self::Read | Self::Failed => false,
        }
    }
}

/// A way for envelopes to reach a device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// Straight from peer to peer.
    Direct,
    /// By way of the rendezvous, where it waits until the recipient has it.
    Mailbox,
}

/// A message that was sent from here and has not been acknowledged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutboxMessage {
    /// Its id.
    pub id: MessageId,
    /// To whom.
    pub to: Username,
    /// The account key that the contact had when the person sent it: it is sealed for no other.
    /// Absent if none was known yet.
    pub account_key: Option<AccountKey>,
    /// What was written.
    pub text: String,
    /// When.
    pub sent_at: Timestamp,
    /// The last message before it to the same recipient, if it is the first of an incarnation.
    pub after: Option<MessageId>,
    /// After how many seconds both sides erase it, if at all.
    pub disappears: Option<u32>,
    /// The sealed form, once there is one: resent as the same bytes while its session lives.
    pub sealed: Option<Sealed>,
    /// When the recipient's mailbox has taken this sealed form, if it has.
    pub posted: Option<Timestamp>,
    /// `Queued` or `Sent`.
    pub state: MessageState,
}

impl OutboxMessage {
    /// What was sealed is lost: it is sealed anew before it goes again.
    pub fn unseal(&mut self) {
        self.sealed = None;
        self.posted = None;
    }
}

/// Why a message will not be delivered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The recipient was blocked.
    ContactBlocked,
    /// The recipient was taken off the contacts.
    ContactRemoved,
    /// It was written for an account key that the recipient no longer has.
    KeyChanged,
    /// This account got a new key while it was under way.
    OwnKeyChanged,
}

/// A message as it was sealed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sealed {
    /// The device that it was sealed for.
    pub device: DeviceId,
    /// The session that sealed it.
    pub session: SessionId,
    /// The envelope's bytes.
    #[serde(with = "super::bytes")]
    pub envelope: Vec<u8>,
}

/// A session as it is stored.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct StoredSession {
    /// The contact's device.
    pub device: DeviceId,
    /// The session.
    pub id: SessionId,
    /// When it was made, or a message was last opened on it, as a count.
    pub used: u64,
    /// When a message was last opened on it, or it was made.
    pub opened_at: Timestamp,
    /// The session's state, as [`Session::encode`](crate::crypto::session::Session::encode) wrote it.
    #[serde(with = "super::bytes")]
    pub state: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, id, used, opened_at, state: _ } = self;
        f.debug_struct("StoredSession")
            .field("device", device)
            .field("id", id)
            .field("used", used)
            .field("opened_at", opened_at)
            .finish_non_exhaustive()
    }
}

/// A message of others that just arrived.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReceivedMessage {
    /// Its id.
    pub id: MessageId,
    /// Who wrote it.
    pub from: Username,
    /// The writer's account key.
    pub account_key: AccountKey,
    /// What was written.
    pub text: String,
    /// When, by the writer's clock.
    pub sent_at: Timestamp,
    /// When it arrived, by ours.
    pub received_at: Timestamp,
    /// How it came.
    pub carrier: Carrier,
    /// The writer's last message before it, if it is the first of an incarnation.
    pub after: Option<MessageId>,
    /// After how many seconds it is erased here, if at all.
    pub disappears: Option<u32>,
    /// Which envelope it was in, so that the same envelope can be acknowledged again.
    pub envelope: EnvelopeRef,
}

/// Names an envelope that was opened. Two envelopes can have the same number of a chain where their
/// sender was put back to an earlier state; then their tags differ.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EnvelopeRef {
    /// The session.
    pub session: SessionId,
    /// The chain of the session.
    pub chain: ChainId,
    /// The number in the chain.
    pub number: u32,
    /// The first 8 bytes of the tag.
    pub tag: [u8; 8],
}

/// A change to what is stored. All changes of a turn are saved together or not at all.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Change {
    /// Keep a contact in this form.
    PutContact(Box<Contact>),
    /// Forget a contact; the conversation's history stays.
    RemoveContact(Username),
    /// Keep whether a contact was last seen online.
    SetOnline(Username, bool),
    /// Keep the own account's newest device list.
    PutOwnDevices(Box<SignedDeviceList>),
    /// Keep the list that a new account key of one's own has signed and the rendezvous may have
    /// soon.
    PutRekeying(Box<SignedDeviceList>),
    /// The rendezvous has that list: the account has its new key. Sessions were agreed under the
    /// old one and are erased; what was sealed on them may have arrived, and counts as failed.
    AdoptRekeying,
    /// The rendezvous does not have that list.
    ForgetRekeying,
    /// Keep a message that the person sent.
    QueueMessage(Box<OutboxMessage>),
    /// Keep a message's sealed form.
    SealMessage(MessageId, Sealed),
    /// Keep a sent message's state and the carrier of the copy that counts; from `Delivered` on,
    /// its sealed form is erased.
    SetMessageState(MessageId, MessageState, Option<Carrier>),
    /// Keep when the recipient's mailbox has taken a message's sealed form.
    Posted(MessageId, Timestamp),
    /// Keep that a sent message will not be delivered, and why.
    Fail(MessageId, FailReason),
    /// Erase a message that is still queued: the person has taken it back.
    TakeBack(MessageId),
    /// Keep another text of a message that is still queued.
    Edit(MessageId, String),
    /// Keep which messages to a contact were seen there, of those that were delivered. Answered by
    /// [`Saved::Read`].
    MarkRead(Username, Vec<IdRange>),
    /// Erase the texts of messages whose time is over. Answered by [`Saved::NextExpiry`].
    EraseExpired(Timestamp),
    /// Keep a received message, unless its writer and id are known. Answered by
    /// [`Saved::Received`].
    Receive(Box<ReceivedMessage>),
    /// Look up which message an envelope held that was opened before. Answered by
    /// [`Saved::Opened`].
    FindOpened(EnvelopeRef),
    /// Remember that an envelope without a message was opened, while its session is kept.
    RememberOpened(EnvelopeRef),
    /// Look up which messages of a contact were received last, this many at most. Answered by
    /// [`Saved::LastReceived`].
    FindLastReceived(Username, u32),
    /// Remember that a `listen` has printed these rows.
    MarkPrinted(Vec<i64>),
    /// Keep a session in this form.
    PutSession(StoredSession),
    /// Erase a session.
    RemoveSession(DeviceId, SessionId),
    /// Keep a pair's secret halves, encoded by
    /// [`LocalPrekeys`](crate::crypto::prekey::LocalPrekeys).
    PutPrekey(u32, #[serde(with = "super::bytes")] Zeroizing<Vec<u8>>),
    /// Erase a pair's secret halves.
    RemovePrekey(u32),
    /// Remember that a first message with this ephemeral key was accepted, and when.
    RememberEphemeral(EphemeralHash, Timestamp),
    /// Forget that.
    ForgetEphemeral(EphemeralHash),
    /// Remember when the newest signed prekey that was seen of a device was made.
    SawPrekey(DeviceId, Timestamp),
    /// Keep how often this profile was started, as the rendezvous has it.
    PutStarts(u64),
}

/// What came of changes that answer, in their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Saved {
    /// Of [`Change::Receive`]: the new row, or `None` for a message that was known.
    Received(Option<i64>),
    /// Of [`Change::FindOpened`].
    Opened(Opened),
    /// Of [`Change::FindLastReceived`]: the messages' ids.
    LastReceived(Vec<MessageId>),
    /// Of [`Change::MarkRead`]: the messages whose state that changed, at most [`MAX_READ`].
    Read(Vec<MessageId>),
    /// Of [`Change::EraseExpired`]: when the next message is to be erased.
    NextExpiry(Option<Timestamp>),
}

/// At most so many messages become read by one receipt.
pub const MAX_READ: u32 = 1024;

/// What is known of an envelope whose key was used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opened {
    /// It held this message, which is saved.
    Message(MessageId),
    /// It was opened and held no message.
    Other,
    /// Another one was opened with its key.
    Unknown,
}

/// A message as front ends read it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredMessage {
    /// Its row: grows in the order of a conversation.
    pub row: i64,
    /// Its id.
    pub id: MessageId,
    /// The other side of the conversation.
    pub contact: Username,
    /// Which way it went.
    pub direction: Direction,
    /// What was written.
    pub text: String,
    /// When, by the writer's clock.
    pub sent_at: Timestamp,
    /// Of a sent message: its state. A received one is `Delivered`.
    pub state: MessageState,
    /// How it went, if it went.
    pub carrier: Option<Carrier>,
    /// Why it failed, if it did.
    pub reason: Option<FailReason>,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the contact.
    In,
    /// To the contact.
    Out,
}

/// Who this device is: made at registration or login, and never changed by the node but for its
/// device list.
#[derive(Debug)]
pub struct Identity {
    /// The account's name.
    pub name: Username,
    /// The rendezvous that it is registered at.
    pub server: ServerAddress,
    /// The account's key.
    pub account_key: AccountKey,
    /// The account's newest device list.
    pub devices: SignedDeviceList,
    /// This device's key: its TLS identity; it signs prekeys, cards and offers.
    pub device: DeviceSecret,
    /// This device's identity key for Diffie–Hellman.
    pub dh: KeyPair,
}

/// What a node starts from.
#[derive(Debug)]
pub struct Start {
    /// Who this device is.
    pub identity: Identity,
    /// All contacts.
    pub contacts: Vec<Contact>,
    /// All sessions.
    pub sessions: Vec<StoredSession>,
    /// The secret halves of all pairs of prekeys, by id.
    pub prekeys: Vec<(u32, Zeroizing<Vec<u8>>)>,
    /// All messages that are not acknowledged, in the order in which they were queued.
    pub outbox: Vec<OutboxMessage>,
    /// The last message to each contact, of those that were sent lately.
    pub last_sent: Vec<(Username, MessageId)>,
    /// When the next message is to be erased.
    pub next_expiry: Option<Timestamp>,
    /// The ephemeral keys of first messages that were accepted, and when.
    pub ephemerals: Vec<(EphemeralHash, Timestamp)>,
    /// When the newest signed prekeys that were seen of devices were made.
    pub prekeys_seen: Vec<(DeviceId, Timestamp)>,
    /// How often this profile was started, this time included.
    pub starts: u64,
}
