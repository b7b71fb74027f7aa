//! What is believed of others because it is signed. Nobody but the fixtures can sign, so whatever
//! is verified must say what they signed.

use parlor_common::candidate::Offer;
use parlor_common::card::Card;
use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::prekey::PrekeyBundle;

use super::people::{self, NOW, account, alice, bob};
use super::{Outcome, Seed, json, refused, taken, to_json};

fn assert_genuine(verified: &VerifiedDeviceList) {
    let genuine = people::device_lists();
    assert!(genuine.iter().any(|list| people::verified(list).list() == verified.list()));
}

/// A device list, of which account and key are known.
pub(super) fn device_list(bytes: &[u8]) -> Outcome {
    let list = json::<SignedDeviceList>(bytes);
    let verified = list.and_then(|list| list.verify(&alice(), &account().public()).ok());
    Outcome::of(verified.inspect(assert_genuine))
}

pub(super) fn device_list_seeds() -> Vec<Seed> {
    let [first, second] = people::device_lists().map(|list| to_json(&list));
    let renamed = replaced(&first, "alice", "alicia");
    let reversioned = replaced(&first, r#""version":1"#, r#""version":2"#);
    vec![
        taken("first", first),
        taken("second-cosigned", second),
        refused("renamed", renamed),
        refused("another-version", reversioned),
    ]
}

/// A contact request's card, with the key that it claims as on first use.
pub(super) fn card(bytes: &[u8]) -> Outcome {
    let Some(card) = json::<Card>(bytes) else { return Outcome::Refused };
    let claimed = card.claimed_account_key();
    let verified = card.verify(&alice(), &bob(), &claimed).ok();
    Outcome::of(verified.inspect(assert_genuine))
}

pub(super) fn card_seeds() -> Vec<Seed> {
    let card = to_json(&people::card());
    let to_other = replaced(&card, r#""to":"bob""#, r#""to":"bib""#);
    vec![taken("for-bob", card), refused("for-another", to_other)]
}

/// An offer of addresses.
pub(super) fn offer(bytes: &[u8]) -> Outcome {
    let offer = json::<Offer>(bytes);
    let body = offer.and_then(|offer| offer.verify(people::entry(3).id, NOW).ok());
    Outcome::of(body.inspect(|body| assert_eq!(*body, people::offer_body())))
}

pub(super) fn offer_seeds() -> Vec<Seed> {
    let offer = to_json(&people::offer());
    let redirected = replaced(&offer, "192.0.2.7", "192.0.2.8");
    vec![taken("two-candidates", offer), refused("another-address", redirected)]
}

/// A bundle of prekeys, of which the device is known.
pub(super) fn bundle(bytes: &[u8]) -> Outcome {
    let bundle = json::<PrekeyBundle>(bytes);
    let verified = bundle.and_then(|bundle| bundle.verify(&people::entry(1), Some(NOW), NOW).ok());
    Outcome::of(verified.inspect(|verified| {
        let genuine = people::bundle();
        assert_eq!(*verified.signed(), genuine.signed);
        assert!(verified.one_time().is_none_or(|pair| Some(pair) == genuine.one_time.as_ref()));
    }))
}

pub(super) fn bundle_seeds() -> Vec<Seed> {
    let whole = people::bundle();
    let without = PrekeyBundle { one_time: None, ..whole.clone() };
    // The one-time pair shown as the signed one: labels and uses must tell them apart.
    let swapped = PrekeyBundle { signed: whole.one_time.clone().unwrap(), ..without.clone() };
    vec![
        taken("whole", to_json(&whole)),
        taken("without-one-time-pair", to_json(&without)),
        refused("one-time-pair-as-signed", to_json(&swapped)),
    ]
}

fn replaced(json: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = str::from_utf8(json).unwrap();
    assert!(text.contains(from));
    text.replace(from, to).into_bytes()
}
