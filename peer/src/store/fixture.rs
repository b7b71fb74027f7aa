//! Values for tests of the store.

use parlor_common::device_list::{DeviceEntry, DeviceList, ListHash, SignedDeviceList};
use parlor_common::id::{DeviceId, Incarnation, MessageId, SessionId, Username};
use parlor_common::identity::{AccountKey, AccountSecret, DeviceSecret};
use parlor_common::link::{Link, ServerAddress};
use parlor_common::prekey::DhPublicBytes;
use parlor_common::time::Timestamp;

use super::Store;
use crate::crypto::group::{KeyPair, Secret};
use crate::node::record::{
    Carrier, ChainId, Change, Contact, ContactState, EnvelopeRef, Identity, MessageState,
    OutboxMessage, Policy, ReceivedMessage, Saved, Sealed, Timers,
};

/// alice, on a server whose key is all zeros.
pub(crate) fn identity() -> Identity {
    let device = DeviceSecret::from_seed(&[2; 32]);
    let dh = KeyPair::of(Secret::from_bytes(&[3; Secret::LEN]).unwrap());
    Identity {
        name: name("alice"),
        server: server(),
        account_key: account(1),
        devices: device_list("alice", 1),
        device,
        dh,
    }
}

pub(crate) fn server() -> ServerAddress {
    format!("parlor://{}@[::1]:4433", "A".repeat(43)).parse::<Link>().unwrap().server
}

pub(crate) fn store() -> Store {
    Store::in_memory(&identity()).unwrap()
}

pub(crate) fn name(name: &str) -> Username {
    name.parse().unwrap()
}

pub(crate) fn account(seed: u8) -> AccountKey {
    AccountSecret::from_seed(&[seed; 32]).public()
}

pub(crate) fn device_list(name: &str, seed: u8) -> SignedDeviceList {
    let dh = DhPublicBytes(Box::new([seed; DhPublicBytes::LEN]));
    let device = DeviceSecret::from_seed(&[seed + 1; 32]).public();
    let entry = DeviceEntry::new(device, dh, Timestamp::from_millis(1));
    let account = AccountSecret::from_seed(&[seed; 32]);
    let list = DeviceList::first(
        name.parse().unwrap(),
        account.public(),
        entry,
        Timestamp::from_millis(1),
    );
    list.sign(&account, None)
}

pub(crate) fn contact(of: &str) -> Contact {
    Contact {
        name: name(of),
        state: ContactState::Mutual,
        verified: true,
        account_key: Some(account(9)),
        changed_key: None,
        devices: Some(device_list(of, 9)),
        unsigned: [DeviceId([6; 16])].into(),
        refused: Some(ListHash([5; 32])),
        policy: Policy::Direct,
        timers: Timers { ours: Some(60), theirs: None },
    }
}

pub(crate) fn id(incarnation: u8, number: u64) -> MessageId {
    MessageId::new(Incarnation([incarnation; 8]), number)
}

/// Message `number` of alice's incarnation 1 to bob.
pub(crate) fn queued(number: u64) -> OutboxMessage {
    OutboxMessage {
        id: id(1, number),
        to: name("bob"),
        account_key: Some(account(9)),
        text: format!("out {number}"),
        sent_at: Timestamp::from_millis(100 + number),
        after: None,
        disappears: None,
        sealed: None,
        posted: None,
        state: MessageState::Queued,
    }
}

pub(crate) fn sealed(byte: u8) -> Sealed {
    Sealed { device: DeviceId([8; 16]), session: SessionId([7; 16]), envelope: vec![byte; 900] }
}

/// Message `number` of bob's incarnation 2, in the envelope of that number.
pub(crate) fn received(number: u32) -> ReceivedMessage {
    ReceivedMessage {
        id: id(2, number.into()),
        from: name("bob"),
        account_key: account(9),
        text: format!("in {number}"),
        sent_at: Timestamp::from_millis(50),
        received_at: Timestamp::from_millis(60),
        carrier: Carrier::Direct,
        after: None,
        disappears: None,
        envelope: envelope(number),
    }
}

/// The envelope `number` of a chain.
pub(crate) fn envelope(number: u32) -> EnvelopeRef {
    let (session, chain) = (SessionId([7; 16]), ChainId([6; 8]));
    EnvelopeRef { session, chain, number, tag: [5; 8] }
}

pub(crate) fn queue(message: OutboxMessage) -> Change {
    Change::QueueMessage(Box::new(message))
}

pub(crate) fn receive(message: ReceivedMessage) -> Change {
    Change::Receive(Box::new(message))
}

pub(crate) fn put(contact: Contact) -> Change {
    Change::PutContact(Box::new(contact))
}

/// The answer of one change.
pub(crate) fn answer(store: &mut Store, change: Change) -> Saved {
    store.commit(&[change]).unwrap().remove(0)
}
