//! The rendezvous protocol: one request and one reply on a bidirectional stream of their own;
//! events from the server on one unidirectional stream. All of it JSON in frames.
//!
//! Unknown fields are ignored and unknown requests answered with `unsupported`, so that versions
//! can live together.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::candidate::Offer;
use crate::card::Card;
use crate::device_list::SignedDeviceList;
use crate::encoding::Blob;
use crate::envelope::MAX_ENVELOPE;
use crate::id::{DeviceId, Username};
use crate::identity::Signature;
use crate::prekey::{PrekeyBundle, PrekeyPair};
use crate::time::Timestamp;

/// A request has at most this many bytes, but for `envelope.post`.
pub const MAX_REQUEST: usize = 64 * 1024;
/// An `envelope.post` has at most this many bytes: the longest envelope alone as base64url, and
/// what stands around it. Only a connection whose device belongs to an account may send one.
pub const MAX_POST: usize = MAX_ENVELOPE.div_ceil(3) * 4 + 1024;
/// The envelopes of one reply to `envelope.get` have at most this many bytes together, but for one
/// that has more alone.
pub const MAX_ENVELOPE_BYTES_AT_ONCE: usize = 256 * 1024;
/// A reply to `envelope.get` has at most this many envelopes.
pub const MAX_ENVELOPES_AT_ONCE: usize = 256;
/// A reply has at most this many bytes.
pub const MAX_REPLY: usize = 1024 * 1024;
/// An event has at most this many bytes.
pub const MAX_EVENT: usize = 64 * 1024;
/// `prekeys.put` takes at most this many one-time pairs at once: they fit a request.
pub const MAX_PAIRS_AT_ONCE: usize = 16;
/// A device's name has at most this many bytes.
pub const MAX_DEVICE_NAME: usize = 64;
/// `held.get` returns at most this many items at once.
pub const MAX_HELD_AT_ONCE: usize = 16;

/// What a client asks, in JSON as `{"request":"user.get","name":"bob"}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "request")]
pub enum Request {
    /// OPAQUE registration, first flight (RFC 9807 §5): replied to with [`RegisterStarted`].
    /// Says nothing about whether the name is taken, but for a ticket by e-mail without its code:
    /// that has a code sent, and is refused with `email_code_needed`.
    #[serde(rename = "register.start")]
    RegisterStart {
        /// The wanted name.
        name: Username,
        /// OPAQUE's registration request.
        message: Blob,
        /// What lets the newcomer in, where not everybody may register.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<Ticket>,
    },
    /// OPAQUE registration, last flight; on the connection of the first. Replied to with [`Done`].
    #[serde(rename = "register.finish")]
    RegisterFinish(Box<Registration>),
    /// OPAQUE login, first flight (RFC 9807 §6): replied to with [`LoginStarted`].
    #[serde(rename = "login.start")]
    LoginStart {
        /// The account's name.
        name: Username,
        /// OPAQUE's first message (KE1).
        message: Blob,
    },
    /// OPAQUE login, last flight; on the connection of the first. Replied to with [`LoggedIn`].
    #[serde(rename = "login.finish")]
    LoginFinish {
        /// OPAQUE's third message (KE3).
        message: Blob,
    },
    /// The way in without a password, first flight: replied to with [`RecoveryStarted`], for a
    /// name that nobody has as well.
    #[serde(rename = "recovery.start")]
    RecoveryStart {
        /// The account's name.
        name: Username,
    },
    /// The account key's word for this connection: [`recovery_proof`](crate::recovery). As good as
    /// a login, and replied to like one, with [`LoggedIn`].
    #[serde(rename = "recovery.finish")]
    RecoveryFinish {
        /// The account key's signature.
        proof: Signature,
    },
    /// A new password, first flight (RFC 9807 §5); needs a fresh login. Replied to with
    /// [`RegisterStarted`].
    #[serde(rename = "password.start")]
    PasswordStart {
        /// OPAQUE's registration request.
        message: Blob,
    },
    /// A new password, last flight: takes the place of the one before, with the account key sealed
    /// under it. Replied to with [`Done`].
    #[serde(rename = "password.finish")]
    PasswordFinish {
        /// OPAQUE's registration record.
        upload: Blob,
        /// The account key, sealed under OPAQUE's new export key.
        account_box: Blob,
    },
    /// Gives the account a new key, and this connection's device as its only one; needs a fresh
    /// login, on a device of the account. Replied to with [`Done`].
    #[serde(rename = "account.rekey")]
    AccountRekey(Box<Rekeying>),
    /// Deletes the account, whose name is not given out again; needs a fresh login. Replied to
    /// with [`Done`].
    #[serde(rename = "account.delete")]
    AccountDelete {},
    /// The account's devices as the rendezvous knows them. Replied to with [`Devices`].
    #[serde(rename = "device.list")]
    DeviceList {},
    /// Names a device of the account, for the account's own eyes. Replied to with [`Done`].
    #[serde(rename = "device.name")]
    DeviceName {
        /// Which.
        device: DeviceId,
        /// How it is called; at most [`MAX_DEVICE_NAME`] bytes, empty to take the name off.
        name: String,
    },
    /// Replaces the account's device list by one without some of its devices, which are cut off at
    /// once; needs a fresh login, on a device that stays. Replied to with [`Done`].
    #[serde(rename = "device.remove")]
    DeviceRemove {
        /// The next list.
        devices: SignedDeviceList,
    },
    /// Replaces the account's device list by one that adds this connection's device; needs a
    /// login finished on this connection in the last five minutes. Replied to with [`Done`].
    #[serde(rename = "device.add")]
    DeviceAdd {
        /// The next list.
        devices: SignedDeviceList,
    },
    /// Puts the signature of this connection's device on the account's list in force, which no
    /// device has signed; it must not be the newest device. Replied to with [`Done`].
    #[serde(rename = "device.cosign")]
    DeviceCosign {
        /// The list in force, with the cosignature.
        devices: SignedDeviceList,
    },
    /// Replied to with [`User`].
    #[serde(rename = "user.get")]
    UserGet {
        /// Whose account key and devices.
        name: Username,
    },
    /// The account's contacts, for a new device. Replied to with [`Contacts`].
    #[serde(rename = "contact.list")]
    ContactList {},
    /// Asks somebody to become a contact; replied to with [`Done`] whatever becomes of it.
    #[serde(rename = "contact.request")]
    ContactRequest {
        /// Whom.
        name: Username,
        /// What the asker shows of itself.
        card: Box<Card>,
    },
    /// Answers somebody's request. Replied to with [`Done`].
    #[serde(rename = "contact.answer")]
    ContactAnswer {
        /// Who asked.
        name: Username,
        /// The card of who accepts; absent to decline.
        #[serde(default)]
        card: Option<Box<Card>>,
    },
    /// Takes somebody off the account's contacts. Replied to with [`Done`].
    #[serde(rename = "contact.remove")]
    ContactRemove {
        /// Whom.
        name: Username,
    },
    /// Blocks somebody, contact or not: what they send to this account ends at the rendezvous, and
    /// they are not told. Replied to with [`Done`].
    #[serde(rename = "contact.block")]
    ContactBlock {
        /// Whom.
        name: Username,
    },
    /// Takes a block back. Replied to with [`Done`].
    #[serde(rename = "contact.unblock")]
    ContactUnblock {
        /// Whom.
        name: Username,
    },
    /// Makes an invitation, where users may. Replied to with [`Invitation`].
    #[serde(rename = "invite.create")]
    InviteCreate {
        /// How many accounts it is good for.
        uses: u32,
    },
    /// The oldest requests and answers that are held. Replied to with [`HeldItems`].
    #[serde(rename = "held.get")]
    HeldGet {},
    /// Forgets held items that this client has saved. Replied to with [`Done`].
    #[serde(rename = "held.ack")]
    HeldAck {
        /// Their ids.
        ids: Vec<u64>,
    },
    /// Presence of all mutual contacts, now and in events from now on. Replied to with [`Present`].
    #[serde(rename = "presence.watch")]
    PresenceWatch {},
    /// Passes an offer on to a mutual contact's devices. Replied to with [`Done`], always.
    #[serde(rename = "path.offer")]
    PathOffer {
        /// To whom.
        name: Username,
        /// The signed offer.
        offer: Box<Offer>,
    },
    /// Keeps prekeys of this connection's device, to be handed out. Replied to with
    /// [`PrekeysKept`].
    #[serde(rename = "prekeys.put")]
    PrekeysPut {
        /// The signed pair, which takes the place of the one before; absent to leave that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed: Option<Box<PrekeyPair>>,
        /// More one-time pairs, at most [`MAX_PAIRS_AT_ONCE`].
        #[serde(default)]
        one_time: Vec<PrekeyPair>,
        /// Whether the one-time pairs that are there are to be dropped: they are of an earlier
        /// state of the device.
        #[serde(default)]
        replace: bool,
    },
    /// What the rendezvous holds of this device's prekeys. Replied to with [`PrekeysHeld`].
    #[serde(rename = "prekeys.count")]
    PrekeysCount {},
    /// A bundle for each device of a contact, or of somebody who is about to be asked. Replied to
    /// with [`Bundles`].
    #[serde(rename = "prekeys.get")]
    PrekeysGet {
        /// Whose.
        name: Username,
    },
    /// Leaves envelopes in the mailbox of a mutual contact's device, in this order, where they wait
    /// until that device has saved them. All are taken or none. Replied to with [`Done`] once they
    /// are stored, also where the contact has blocked this account and nothing is.
    #[serde(rename = "envelope.post")]
    EnvelopePost {
        /// Whose device.
        name: Username,
        /// Which.
        device: DeviceId,
        /// The envelopes' bytes, of the same bounds as a reply to `envelope.get`.
        envelopes: Vec<Blob>,
    },
    /// The oldest envelopes in this device's mailbox. Replied to with [`Envelopes`].
    #[serde(rename = "envelope.get")]
    EnvelopeGet {
        /// Only those with a greater number than this.
        #[serde(default)]
        after: u64,
    },
    /// Erases envelopes of this device's mailbox that it has saved. Replied to with [`Done`].
    #[serde(rename = "envelope.ack")]
    EnvelopeAck {
        /// Their numbers; at most [`MAX_ENVELOPES_AT_ONCE`].
        ids: Vec<u64>,
    },
    /// Tells how often this device has started. Replied to with [`Started`].
    #[serde(rename = "device.start")]
    DeviceStart {
        /// Grows with every start.
        count: u64,
    },
    /// A request that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What lets a newcomer register.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticket {
    /// An invitation.
    Invite {
        /// Its code.
        code: String,
    },
    /// An e-mail address at which the newcomer can be reached.
    Email {
        /// The address.
        address: String,
        /// The code that was sent to it; absent to have one sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
}

/// A new account key.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Rekeying {
    /// The list that follows the one in force, signed by the new key.
    pub devices: SignedDeviceList,
    /// The new key, sealed under OPAQUE's export key.
    pub account_box: Blob,
    /// The new key, sealed under a new recovery code.
    pub recovery_box: Blob,
}

/// The last flight of a registration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Registration {
    /// OPAQUE's registration record.
    pub upload: Blob,
    /// The first device list, with this connection's device.
    pub devices: SignedDeviceList,
    /// The account key, sealed under OPAQUE's export key.
    pub account_box: Blob,
    /// The account key, sealed under the recovery code.
    pub recovery_box: Blob,
}

/// Argon2id (RFC 9106) as the client runs it on the password; kept with the account.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Argon2Params {
    /// What new accounts get: the second recommendation of RFC 9106 §4.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// Whether a client may run with them: a server must not be able to weaken a password's
    /// hardening or to exhaust the client.
    pub fn is_acceptable(&self) -> bool {
        (64 * 1024..=1024 * 1024).contains(&self.memory_kib)
            && (3..=10).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }
}

/// Nothing more to say than that it was done.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Done {}

/// Reply to `register.start`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RegisterStarted {
    /// OPAQUE's registration response.
    pub message: Blob,
    /// How to harden the password.
    pub argon2: Argon2Params,
}

/// Reply to `login.start`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LoginStarted {
    /// OPAQUE's second message (KE2).
    pub message: Blob,
    /// How the password was hardened.
    pub argon2: Argon2Params,
}

/// Reply to `recovery.start`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RecoveryStarted {
    /// The account key, sealed under the recovery code.
    pub recovery_box: Blob,
}

/// Reply to `device.list`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Devices {
    /// The account's devices.
    pub devices: Vec<KnownDevice>,
}

/// A device as the rendezvous knows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KnownDevice {
    /// Which.
    pub device: DeviceId,
    /// How the account's owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is connected.
    pub online: bool,
}

/// Reply to `invite.create`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Invitation {
    /// The code, to be passed on. The rendezvous keeps only its hash.
    pub code: String,
    /// How many accounts it is good for.
    pub uses: u32,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Reply to `login.finish` and `recovery.finish`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LoggedIn {
    /// The account key, sealed under OPAQUE's export key.
    pub account_box: Blob,
    /// The account's devices.
    pub devices: SignedDeviceList,
}

/// Reply to `user.get`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct User {
    /// The account's devices; the account key is in it.
    pub devices: SignedDeviceList,
}

/// Reply to `contact.list`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Contacts {
    /// The account's contacts.
    pub contacts: Vec<KnownContact>,
}

/// A contact as the rendezvous knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KnownContact {
    /// The contact's name.
    pub name: Username,
    /// Whether the contact holds this account too.
    pub mutual: bool,
    /// Whether this account has blocked it.
    #[serde(default)]
    pub blocked: bool,
}

/// Reply to `held.get`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HeldItems {
    /// Oldest first, at most [`MAX_HELD_AT_ONCE`].
    pub items: Vec<Held>,
}

/// A contact request or answer that waits for its recipient.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Held {
    /// The server's number for it.
    pub id: u64,
    /// Who sent it.
    pub from: Username,
    /// What it is.
    pub what: HeldKind,
}

/// What a held item is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HeldKind {
    /// Somebody asks to become a contact.
    Request {
        /// The asker's card.
        card: Box<Card>,
    },
    /// Somebody accepted.
    Accepted {
        /// The accepter's card.
        card: Box<Card>,
    },
    /// Somebody declined.
    Declined {},
    /// A kind that this version does not know; it is acknowledged and dropped.
    #[serde(other)]
    Unknown,
}

/// Reply to `prekeys.put`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PrekeysKept {
    /// How many one-time pairs of the device there are now.
    pub one_time: u32,
}

/// Reply to `prekeys.count`. Pairs that are too old to be handed out do not count.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PrekeysHeld {
    /// How many one-time pairs of the device there are.
    pub one_time: u32,
    /// The id of its signed pair, if there is one.
    pub signed: Option<u32>,
}

/// Reply to `prekeys.get`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Bundles {
    /// One for each device that has put a signed pair.
    pub bundles: Vec<PrekeyBundle>,
}

/// Reply to `envelope.get`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Envelopes {
    /// In the order in which they were posted; none if there are no more.
    pub envelopes: Vec<WaitingEnvelope>,
}

/// An envelope in a mailbox. Who left it there is not kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WaitingEnvelope {
    /// The server's number for it: grows with each, and is not used again.
    pub id: u64,
    /// Its bytes.
    pub envelope: Blob,
}

/// Reply to `device.start`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Started {
    /// The largest count that this device had told before; 0 if it had told none. A device that
    /// hears its own count, or a larger one, was copied or put back to an earlier state.
    pub largest: u64,
}

/// Reply to `presence.watch`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Present {
    /// The mutual contacts.
    pub contacts: Vec<Presence>,
}

/// Whether a contact is online, and the version of its device list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Presence {
    /// The contact.
    pub name: Username,
    /// Whether a device of the contact is connected.
    pub online: bool,
    /// The version of the contact's device list.
    pub list_version: u64,
}

/// A reply: `{"ok":…}` or `{"error":{"code":…,"message":…}}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Reply<T> {
    /// What was asked for.
    #[serde(rename = "ok")]
    Ok(T),
    /// Why not.
    #[serde(rename = "error")]
    Error(ErrorReply),
}

/// Why a request was refused.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorReply {
    /// For programs.
    pub code: ErrorCode,
    /// For people, in plain words; it says what to do next where there is something to do.
    pub message: String,
    /// For `too_fast`: when the next try is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The words for people, with the time where there is one.
impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.until.map_or(Ok(()), |until| write!(f, " (until {until})"))
    }
}

/// Why a request was refused, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not as the protocol says.
    Malformed,
    /// This server does not know the request.
    Unsupported,
    /// The connection's device key belongs to no account.
    UnknownDevice,
    /// A last flight without its first, or the same exchange again.
    NoExchange,
    /// Wrong password, or no such account: nobody is told which.
    WrongPassword,
    /// The account's device list does not follow from the known one, or not for this device.
    BadDeviceList,
    /// The name is taken.
    NameTaken,
    /// Registration needs an invitation.
    InvitationNeeded,
    /// The invitation is none, used up, expired or revoked.
    BadInvitation,
    /// Registration needs an e-mail address.
    EmailNeeded,
    /// The address is none, or not one that may register here.
    BadEmail,
    /// A code was sent to the address: register again with it.
    EmailCodeNeeded,
    /// The code is not the one that was sent, too old, or was tried too often.
    BadEmailCode,
    /// The mail with the code could not be sent.
    MailFailed,
    /// Users of this server make no invitations, or this one has made enough.
    InvitationsClosed,
    /// Nobody of that name.
    UnknownUser,
    /// A card that does not say who asks, or whom.
    BadCard,
    /// Prekeys that are not this device's, too old, of a time to come, or too many at once.
    BadPrekeys,
    /// The change of the account needs a fresh login.
    LoginNeeded,
    /// Too many requests; see `until`.
    TooFast,
    /// Too many failed logins; see `until`.
    Locked,
    /// Not while the contact is blocked.
    Blocked,
    /// The two are no mutual contacts, or there is no such account.
    NoContact,
    /// The device is not on its account's list now.
    NoDevice,
    /// The recipient's mailbox takes no more until some of it was fetched.
    MailboxFull,
    /// The server cannot answer now.
    Unavailable,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The code as it stands in JSON.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        f.write_str(json.as_str().ok_or(fmt::Error)?)
    }
}

/// What the server tells a connected client.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every connection.
    Welcome {
        /// The account that the connection's device belongs to, if to any.
        name: Option<Username>,
        /// The address that the client has as seen from here: a server-reflexive candidate.
        observed: SocketAddr,
        /// The server's clock.
        now: Timestamp,
        /// SHA-256 of the server's next key (base64url).
        next_key_hash: Blob,
    },
    /// A contact came or went, or changed its device list.
    Presence(Presence),
    /// Something is held for this account: fetch it.
    Held {},
    /// Something new is in this device's mailbox: fetch it.
    Envelopes {},
    /// A contact offers addresses.
    Offer {
        /// The contact.
        from: Username,
        /// Its signed offer.
        offer: Box<Offer>,
    },
    /// The account's device list has changed: it has a newer device, or an earlier one has signed
    /// for the newest.
    NewDevice {},
    /// The account was changed, by another of its devices or by who runs the server.
    AccountChanged {
        /// How.
        change: AccountChange,
    },
    /// The same device key connected again: this connection ends.
    Replaced {},
    /// The server is stopping and will be back.
    Stopping {},
    /// An event that this version does not know; it is ignored.
    #[serde(other)]
    Unknown,
}

/// How an account was changed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountChange {
    /// It has another password.
    Password,
    /// It has another account key; this device belongs to it no more.
    Rekeyed,
    /// Somebody came in by the recovery code.
    Recovered,
    /// This device was removed.
    DeviceRemoved,
    /// The account was deleted.
    Deleted,
    /// The account was disabled by who runs the server.
    Disabled,
    /// A change that this version does not know.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_stand_in_json_as_documented() {
        let request = Request::UserGet { name: "bob".parse().unwrap() };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(json, r#"{"request":"user.get","name":"bob"}"#);
        let json = r#"{"request":"user.get","name":"bob","later":[1]}"#;
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request);
        let json = r#"{"request":"later.thing","x":{}}"#;
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), Request::Unknown);
        assert!(
            serde_json::from_str::<Request>(r#"{"request":"user.get","name":"../x"}"#).is_err()
        );
    }

    #[test]
    fn replies_and_events_stand_in_json_as_documented() {
        let reply = Reply::Ok(Done {});
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"ok":{}}"#);
        let error =
            ErrorReply { code: ErrorCode::NameTaken, message: "taken".to_owned(), until: None };
        let reply: Reply<Done> = Reply::Error(error.clone());
        let json = r#"{"error":{"code":"name_taken","message":"taken"}}"#;
        assert_eq!(ErrorCode::NameTaken.to_string(), "name_taken");
        assert_eq!(error.to_string(), "taken");
        let later = ErrorReply { until: Some(Timestamp::from_millis(1000)), ..error };
        assert_eq!(later.to_string(), "taken (until 1970-01-01T00:00:01.000Z)");
        assert_eq!(serde_json::to_string(&reply).unwrap(), json);
        let json = r#"{"event":"fireworks","colour":"red"}"#;
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), Event::Unknown);
        let json = serde_json::to_string(&Event::Held {}).unwrap();
        assert_eq!(json, r#"{"event":"held"}"#);
    }

    #[test]
    fn a_server_cannot_weaken_or_exhaust_a_client() {
        let params = Argon2Params::DEFAULT;
        assert!(params.is_acceptable());
        assert!(!Argon2Params { memory_kib: 64 * 1024 - 1, ..params }.is_acceptable());
        assert!(!Argon2Params { memory_kib: 1024 * 1024 + 1, ..params }.is_acceptable());
        assert!(!Argon2Params { passes: 2, ..params }.is_acceptable());
        assert!(!Argon2Params { passes: 11, ..params }.is_acceptable());
        assert!(!Argon2Params { lanes: 0, ..params }.is_acceptable());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,120}") {
            let _ = serde_json::from_str::<Request>(&text);
            let _ = serde_json::from_str::<Event>(&text);
            let _ = serde_json::from_str::<Reply<User>>(&text);
        }
    }
}
