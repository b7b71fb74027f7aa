use parlor_common::envelope::Envelope;

use super::*;
use crate::crypto::fixture::{ALICE, BOB, CAROL, DATE, FIRST, TIMER, flipped, rng};

fn accepted(us: &LocalParty, envelope: &Envelope) -> Result<Accepted, AgreementError> {
    accept(us, &BOB.signed, Some(&BOB.one_time), envelope.header())
}

fn refusal(us: &LocalParty, envelope: &Envelope) -> AgreementError {
    accepted(us, envelope).unwrap_err()
}

fn first_from(us: &LocalParty, them: &Party) -> Envelope {
    let mut session = initiate(us, them, &BOB.bundle(true), &mut rng()).unwrap();
    session.seal(b"hello", TIMER, &mut rng()).unwrap()
}

#[test]
fn both_sides_arrive_at_the_same_session() {
    for with_one_time in [true, false] {
        let bundle = BOB.bundle(with_one_time);
        let mut alice = initiate(&ALICE.local, BOB.party(), &bundle, &mut rng()).unwrap();
        let first = alice.seal(b"hello", TIMER, &mut rng()).unwrap();
        let one_time = with_one_time.then_some(&BOB.one_time);
        let accepted = accept(&BOB.local, &BOB.signed, one_time, first.header()).unwrap();
        assert_eq!(accepted.sender, *ALICE.party());
        let mut bob = accepted.session;
        assert_eq!((alice.id(), alice.transcript()), (bob.id(), bob.transcript()));
        assert_eq!((alice.role(), bob.role()), (Role::Initiator, Role::Responder));
        assert_eq!((alice.peer(), bob.peer()), (BOB.party().device.id, ALICE.party().device.id));
        assert_eq!(&*bob.open_at_once(&first, DATE).unwrap(), b"hello");
        let answer = bob.seal(b"hello yourself", TIMER, &mut rng()).unwrap();
        assert_eq!(&*alice.open_at_once(&answer, DATE).unwrap(), b"hello yourself");
    }
}

#[test]
fn every_session_is_another() {
    let rng = &mut rng();
    let mut start = || initiate(&ALICE.local, BOB.party(), &BOB.bundle(true), rng).unwrap();
    let (one, two) = (start(), start());
    assert_ne!(one.id(), two.id());
    assert_ne!(one.transcript(), two.transcript());
}

#[test]
fn a_changed_first_header_is_refused() {
    // Every byte of the small fields, and samples of the keys, the KEM ciphertext and the sealed
    // sender. What follows, the ratchet's part, is the session's to refuse.
    let small = (0..18).chain(402..410).chain(1498..1500);
    let end = FIRST.envelope.header_bytes().len() - 8 - DhPublicBytes::LEN;
    let sampled =
        (18..402).step_by(31).chain((410..1498).step_by(41)).chain((1500..end).step_by(41));
    for byte in small.chain(sampled) {
        if let Some(changed) = flipped(&FIRST.envelope, 8 * byte + byte % 8) {
            assert!(accepted(&BOB.local, &changed).is_err(), "byte {byte}");
        }
    }
}

#[test]
fn a_first_message_is_for_one_person_under_one_name_only() {
    assert_eq!(refusal(&CAROL.local, &FIRST.envelope), AgreementError::Refused);
    // Bob's very keys, under another name; and his name, device and prekeys with another secret.
    let renamed = BOB.local_with("robert", &BOB.local.dh);
    assert_eq!(refusal(&renamed, &FIRST.envelope), AgreementError::Refused);
    let without = BOB.local_with("bob", &CAROL.local.dh);
    assert_eq!(refusal(&without, &FIRST.envelope), AgreementError::Refused);
    // Alice was told another name for Bob's keys.
    let misled = first_from(&ALICE.local, &renamed.party);
    assert_eq!(refusal(&BOB.local, &misled), AgreementError::Refused);
}

#[test]
fn nobody_passes_for_another_without_the_identity_key() {
    let mallory = ALICE.local_with("alice", &CAROL.local.dh);
    let forged = first_from(&mallory, BOB.party());
    assert_eq!(refusal(&BOB.local, &forged), AgreementError::Refused);
}

#[test]
fn a_first_message_is_accepted_with_the_prekeys_it_names_only() {
    let header = FIRST.envelope.header();
    let with = |signed, one_time| accept(&BOB.local, signed, one_time, header).unwrap_err();
    assert_eq!(with(&BOB.signed, None), AgreementError::WrongPrekeys);
    assert_eq!(with(&BOB.one_time, Some(&BOB.one_time)), AgreementError::WrongPrekeys);
    assert_eq!(with(&BOB.signed, Some(&BOB.signed)), AgreementError::WrongPrekeys);
    // The same ids, other keys.
    assert_eq!(with(&CAROL.signed, Some(&BOB.one_time)), AgreementError::Refused);
    assert_eq!(with(&BOB.signed, Some(&CAROL.one_time)), AgreementError::Refused);
    let following = Header { first: None, ..header.clone() };
    let refused = accept(&BOB.local, &BOB.signed, None, &following).unwrap_err();
    assert_eq!(refused, AgreementError::Refused);
}

#[test]
fn public_values_out_of_range_are_refused_wherever_they_come_from() {
    let mut one = [0; DhPublicBytes::LEN];
    one[DhPublicBytes::LEN - 1] = 1;
    let one = DhPublicBytes(Box::new(one));

    let mut header = FIRST.envelope.header().clone();
    header.first.as_mut().unwrap().ephemeral = one.clone();
    let refused = accept(&BOB.local, &BOB.signed, Some(&BOB.one_time), &header).unwrap_err();
    assert_eq!(refused, AgreementError::Refused);

    let mut sender = ALICE.local_with("alice", &ALICE.local.dh);
    sender.party.device.dh = one.clone();
    let refused = refusal(&BOB.local, &first_from(&sender, BOB.party()));
    assert_eq!(refused, AgreementError::Refused);

    let mut them = BOB.party().clone();
    them.device.dh = one;
    let bundle = BOB.bundle.clone().verify(&them.device, None, them.device.added_at).unwrap();
    let refused = initiate(&ALICE.local, &them, &bundle, &mut rng()).unwrap_err();
    assert_eq!(refused, AgreementError::MalformedKey);
}

#[test]
fn a_bundle_is_used_for_its_own_device_and_never_for_oneself() {
    let with = |us, them| initiate(us, them, &BOB.bundle(true), &mut rng()).unwrap_err();
    assert_eq!(with(&ALICE.local, CAROL.party()), AgreementError::WrongDevice);
    assert_eq!(with(&BOB.local, BOB.party()), AgreementError::WithItself);
}

#[test]
fn the_sender_is_hidden_and_names_of_all_lengths_look_alike() {
    let sealed = |name| {
        let us = ALICE.local_with(name, &ALICE.local.dh);
        let header = first_from(&us, BOB.party()).header().clone();
        header.first.unwrap().sealed_sender
    };
    let (short, long) = (sealed("ali"), sealed("alice.with.a.name.of.32.letters."));
    assert_eq!(short.len(), long.len());
    let bytes = FIRST.envelope.as_bytes();
    let device = &ALICE.party().device;
    for part in [b"alice".as_slice(), device.key.as_bytes(), device.dh.as_ref()] {
        assert!(!bytes.windows(part.len()).any(|window| window == part));
    }
}

#[test]
fn nothing_secret_prints() {
    let accepted = accepted(&BOB.local, &FIRST.envelope).unwrap();
    let printed = format!("{:?}", accepted.session);
    assert!(printed.starts_with("Session { id: "), "{printed}");
    assert!(printed.ends_with(", .. }"), "{printed}");
    assert!(!format!("{:?}", BOB.local).contains("secret"));
}
