//! Alice and Bob, always the same: what they signed and sealed is genuine, anything else is not.

use parlor_common::candidate::{Candidate, CandidateKind, Offer, OfferBody, OfferId};
use parlor_common::card::Card;
use parlor_common::device_list::{DeviceEntry, DeviceList, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::prekey::{DhPublicBytes, KemPublicBytes, PrekeyBundle, PrekeyPair, PrekeyUse};
use parlor_common::time::Timestamp;

/// When everything happens.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_476_684_042);

pub(crate) fn alice() -> Username {
    "alice".parse().unwrap()
}

pub(crate) fn bob() -> Username {
    "bob".parse().unwrap()
}

/// Alice's account.
pub(crate) fn account() -> AccountSecret {
    AccountSecret::from_seed(&[1; 32])
}

/// Alice's first or second device.
pub(crate) fn device(number: u8) -> DeviceSecret {
    DeviceSecret::from_seed(&[number; 32])
}

pub(crate) fn entry(number: u8) -> DeviceEntry {
    let dh = DhPublicBytes(Box::new([number; DhPublicBytes::LEN]));
    DeviceEntry::new(device(number).public(), dh, NOW)
}

/// Alice's lists: with one device, and with two, co-signed by the first.
pub(crate) fn device_lists() -> [SignedDeviceList; 2] {
    let first =
        DeviceList::first(alice(), account().public(), entry(1), NOW).sign(&account(), None);
    let second = verified(&first).with_device(entry(2), NOW).sign(&account(), Some(&device(1)));
    [first, second]
}

pub(crate) fn verified(list: &SignedDeviceList) -> VerifiedDeviceList {
    list.clone().verify(&alice(), &account().public()).unwrap()
}

/// Alice's card for Bob.
pub(crate) fn card() -> Card {
    let [_, devices] = device_lists();
    Card::sign(&verified(&devices), bob(), NOW, &device(2))
}

/// What Alice offers to the holder of device 3.
pub(crate) fn offer_body() -> OfferBody {
    let host = Candidate { kind: CandidateKind::Host, address: "192.0.2.7:4433".parse().unwrap() };
    let reflexive = Candidate {
        kind: CandidateKind::ServerReflexive,
        address: "[2001:db8::9]:50000".parse().unwrap(),
    };
    OfferBody {
        id: OfferId(7),
        answers: Some(OfferId(6)),
        from: alice(),
        to: entry(3).id,
        at: NOW,
        candidates: vec![host, reflexive],
    }
}

pub(crate) fn offer() -> Offer {
    Offer::sign(offer_body(), &device(1))
}

pub(crate) fn pair(used: PrekeyUse, id: u32) -> PrekeyPair {
    let dh = DhPublicBytes(Box::new([5; DhPublicBytes::LEN]));
    let kem = KemPublicBytes(Box::new([6; KemPublicBytes::LEN]));
    PrekeyPair::sign(&device(1), used, id, NOW, dh, kem)
}

/// The prekeys of Alice's first device.
pub(crate) fn bundle() -> PrekeyBundle {
    PrekeyBundle {
        device: device(1).public(),
        signed: pair(PrekeyUse::Signed, 77),
        one_time: Some(pair(PrekeyUse::OneTime, 78)),
    }
}
