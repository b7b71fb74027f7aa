use super::*;
use crate::crypto::aead::AeadKey;
use crate::crypto::fixture::{DATE, FIRST, TIMER, acquainted, flipped, rng, sessions};

fn assert_refused(session: &mut Session, envelope: &Envelope) {
    let before = session.encode();
    assert!(session.open_at_once(envelope, DATE).is_err());
    assert_eq!(session.encode(), before);
}

#[test]
fn the_initiator_greets_until_it_has_heard() {
    let (mut alice, mut bob) = sessions();
    assert!(!alice.has_heard() && !bob.has_heard());
    let second = alice.seal(b"second", TIMER, &mut rng()).unwrap();
    assert_eq!(second.header().first, FIRST.envelope.header().first);
    assert_eq!(&*bob.open_at_once(&second, DATE).unwrap(), b"second");
    let answer = bob.seal(b"answer", TIMER, &mut rng()).unwrap();
    assert_eq!(answer.header().first, None);
    assert_eq!(&*alice.open_at_once(&answer, DATE).unwrap(), b"answer");
    assert!(alice.has_heard() && bob.has_heard());
    assert_eq!(alice.seal(b"third", TIMER, &mut rng()).unwrap().header().first, None);
    assert_eq!(&*bob.open_at_once(&FIRST.envelope, DATE).unwrap(), b"first");
}

#[test]
fn a_change_of_any_byte_of_a_first_envelope_is_refused() {
    let (_, mut bob) = sessions();
    for byte in 0..FIRST.envelope.as_bytes().len() {
        if let Some(changed) = flipped(&FIRST.envelope, 8 * byte + byte % 8) {
            assert_refused(&mut bob, &changed);
        }
    }
    assert!(bob.open_at_once(&FIRST.envelope, DATE).is_ok());
}

#[test]
fn a_change_of_any_bit_of_a_following_envelope_is_refused() {
    let (mut alice, mut bob) = acquainted();
    let envelope = alice.seal(b"hello", TIMER, &mut rng()).unwrap();
    for bit in 0..8 * envelope.as_bytes().len() {
        if let Some(changed) = flipped(&envelope, bit) {
            assert_refused(&mut bob, &changed);
        }
    }
    assert_eq!(&*bob.open_at_once(&envelope, DATE).unwrap(), b"hello");
}

/// Alice's next envelope, sealed in another way.
fn forged(
    alice: &Session,
    seal: impl FnOnce(&AeadKey, &[u8; IV_LEN], &[&[u8]]) -> Vec<u8>,
) -> Envelope {
    let mut alice = Session::decode(&alice.encode()).unwrap();
    let (ratchet, previous, number, key) = alice.ratchet.next_to_send(TIMER, &mut rng()).unwrap();
    let header = Header { session: alice.id, first: None, ratchet, previous, number };
    let (bytes, iv) = (header.encode(), [3; IV_LEN]);
    let sealed = seal(&key.aead_key(), &iv, &[&bytes, &alice.transcript]);
    Envelope::new(header, &bytes, &iv, &sealed)
}

#[test]
fn bad_padding_a_bad_tag_and_another_session_are_one_error() {
    let (alice, mut bob) = acquainted();
    let hello = [b"hello\x80".as_slice(), &[0; 250]].concat();
    let right = |key: &_, iv: &_, ad: &[&[u8]]| aead::seal(key, iv, ad, &hello);
    // Decrypted these are random bytes, which have no padding.
    let unpadded = |key: &_, iv: &_, ad: &[&[u8]]| aead::with_tag(key, iv, ad, vec![7; 272]);
    let unmarked = |key: &_, iv: &_, ad: &[&[u8]]| aead::seal(key, iv, ad, &[0; 256]);
    let bad_tag = |key: &_, iv: &_, ad: &[&[u8]]| {
        let mut sealed = right(key, iv, ad);
        *sealed.last_mut().unwrap() ^= 1;
        sealed
    };
    let mut elsewhere = Session::decode(&alice.encode()).unwrap();
    elsewhere.id = SessionId([0; 16]);
    let before = bob.encode();
    for envelope in [
        forged(&alice, unpadded),
        forged(&alice, unmarked),
        forged(&alice, bad_tag),
        forged(&bob, right),
        forged(&elsewhere, right),
    ] {
        let refused = bob.open_at_once(&envelope, DATE).unwrap_err();
        assert!(matches!(refused, OpenError::Refused), "{refused:?}");
        assert_eq!(refused.to_string(), "the envelope was refused");
        assert_eq!(bob.encode(), before);
    }
    assert_eq!(&*bob.open_at_once(&forged(&alice, right), DATE).unwrap(), b"hello");
}

#[test]
fn a_message_opens_once() {
    let (_, mut bob) = sessions();
    assert_eq!(&*bob.open_at_once(&FIRST.envelope, DATE).unwrap(), b"first");
    let before = bob.encode();
    assert!(matches!(bob.open_at_once(&FIRST.envelope, DATE), Err(OpenError::Duplicate)));
    assert_eq!(bob.encode(), before);
}

#[test]
fn what_is_reflected_or_of_another_session_is_refused() {
    let (mut alice, mut bob) = acquainted();
    let from_alice = alice.seal(b"hello", TIMER, &mut rng()).unwrap();
    assert_refused(&mut alice, &from_alice);
    assert_refused(&mut alice, &FIRST.envelope);
    bob.id = SessionId([0; 16]);
    assert_refused(&mut bob, &from_alice);
}

#[test]
fn messages_under_another_transcript_are_refused() {
    let (mut alice, mut bob) = acquainted();
    alice.transcript[0] ^= 1;
    assert_refused(&mut bob, &alice.seal(b"hello", TIMER, &mut rng()).unwrap());
}

#[test]
fn a_gap_of_1001_is_refused_at_once() {
    let (mut alice, mut bob) = acquainted();
    let envelopes: Vec<_> =
        (0..1002).map(|_| alice.seal(b"hello", TIMER, &mut rng()).unwrap()).collect();
    assert!(matches!(bob.open_at_once(&envelopes[1001], DATE), Err(OpenError::TooFarAhead)));
    assert!(bob.open_at_once(&envelopes[1000], DATE).is_ok());
    assert!(bob.open_at_once(&envelopes[1001], DATE).is_ok());
    assert!(bob.open_at_once(&envelopes[0], DATE).is_ok());
}

#[test]
fn the_longest_plaintext_fits_an_envelope_and_a_longer_one_changes_nothing() {
    let (mut alice, mut bob) = sessions();
    let before = alice.encode();
    let too_long = alice.seal(&vec![1; MAX_PLAINTEXT + 1], TIMER, &mut rng());
    assert_eq!(too_long.unwrap_err(), SealError::TooLong);
    assert_eq!(alice.encode(), before);
    let longest = vec![1; MAX_PLAINTEXT];
    let sealed = alice.seal(&longest, TIMER, &mut rng()).unwrap();
    assert!(sealed.header().first.is_some());
    let envelope = Envelope::parse(sealed.into_bytes()).unwrap();
    assert_eq!(*bob.open_at_once(&envelope, DATE).unwrap(), *longest);
}

#[test]
fn the_same_text_is_never_sealed_the_same_way() {
    let (mut alice, _) = acquainted();
    let rng = &mut rng();
    let one = alice.seal(b"hello", TIMER, rng).unwrap();
    let two = alice.seal(b"hello", TIMER, rng).unwrap();
    assert_ne!(one.iv(), two.iv());
    assert_ne!(one.ciphertext(), two.ciphertext());
}
