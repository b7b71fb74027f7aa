use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::textbook::{Sent, Textbook};
use super::*;
use crate::crypto::fixture::{DATE, TIMER};
use crate::crypto::skipped::{MAX_AGE, MAX_SKIPPED};
use crate::crypto::stored::{DecodeError, Reader};

/// A message on its way: what its header says, and its key.
#[derive(Clone, Debug)]
struct Message {
    key: DhPublicBytes,
    previous: u32,
    number: u32,
    secret: [u8; 32],
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn root() -> Key {
    Key::new([1; 32])
}

/// Both sides after the initiator's first message.
fn pair() -> (Ratchet, Ratchet, Message) {
    let (prekey, mut rng) = (KeyPair::generate(&mut rng()), StdRng::seed_from_u64(2));
    let pair = KeyPair::generate(&mut rng);
    let theirs = pair.public().clone();
    let mut alice = Ratchet::initiator(&root(), pair, prekey.public());
    let bob = Ratchet::responder(&root(), &prekey, theirs);
    let first = send(&mut alice, TIMER);
    (alice, bob, first)
}

/// Both sides, each of which has heard the other; Bob's ratchet key is the latest.
fn acquainted() -> (Ratchet, Ratchet) {
    let (mut alice, mut bob, first) = pair();
    assert_eq!(receive(&mut bob, &first).unwrap(), first.secret);
    let answer = send(&mut bob, TIMER);
    assert_eq!(receive(&mut alice, &answer).unwrap(), answer.secret);
    (alice, bob)
}

fn send(ratchet: &mut Ratchet, timer: Timestamp) -> Message {
    let (key, previous, number, secret) = ratchet.next_to_send(timer, &mut rng()).unwrap();
    Message { key, previous, number, secret: *secret.expose_bytes() }
}

fn send_many(ratchet: &mut Ratchet, count: usize) -> Vec<Message> {
    (0..count).map(|_| send(ratchet, TIMER)).collect()
}

/// Lets a ratchet make its next step ready.
fn prepare(ratchet: &mut Ratchet, seed: u64) {
    if let Some(stride) = ratchet.stride() {
        ratchet.prepare(stride.run(&mut StdRng::seed_from_u64(seed)));
    }
}

fn attempt(ratchet: &mut Ratchet, message: &Message, turned: Option<Turned>) -> Tried {
    let Message { key, previous, number, secret } = message;
    let header = RatchetHeader { key, previous: *previous, number: *number };
    ratchet.attempt(header, turned, DATE, |key| {
        if key.expose_bytes() == secret { Ok(*secret) } else { Err(Failed::WrongKey) }
    })
}

type Tried = Result<[u8; 32], Failed>;

#[derive(Debug)]
enum Failed {
    NoKey(NoKey),
    WrongKey,
}

impl From<NoKey> for Failed {
    fn from(reason: NoKey) -> Self {
        Self::NoKey(reason)
    }
}

fn receive(ratchet: &mut Ratchet, message: &Message) -> Tried {
    match attempt(ratchet, message, None) {
        Err(Failed::NoKey(NoKey::NeedsTurn(turn))) => attempt(ratchet, message, Some(turn.run())),
        tried => tried,
    }
}

fn stored(ratchet: &Ratchet) -> Vec<u8> {
    let mut stored = Vec::new();
    ratchet.encode(&mut stored);
    assert_eq!(stored.len(), ratchet.encoded_len());
    stored
}

fn restored(ratchet: &Ratchet) -> Ratchet {
    Ratchet::decode(&mut Reader(&stored(ratchet))).unwrap()
}

fn assert_used(tried: &Tried) {
    assert!(matches!(tried, Err(Failed::NoKey(NoKey::Used))), "{tried:?}");
}

fn assert_too_far(tried: &Tried) {
    assert!(matches!(tried, Err(Failed::NoKey(NoKey::TooFarAhead))), "{tried:?}");
}

#[test]
fn a_step_is_taken_with_the_first_message_after_the_other_side_s_new_key() {
    let (mut alice, mut bob) = acquainted();
    prepare(&mut alice, 3);
    let (one, two) = (send(&mut alice, TIMER), send(&mut alice, TIMER));
    assert_eq!((one.previous, one.number), (1, 0), "after a chain of one message");
    assert_eq!((&two.key, two.number), (&one.key, 1), "and not again before an answer");
    for message in [one, two] {
        assert_eq!(receive(&mut bob, &message).unwrap(), message.secret);
    }
}

#[test]
fn steps_are_taken_at_most_once_a_second() {
    let (mut alice, mut bob) = acquainted();
    prepare(&mut alice, 3);
    let first = send(&mut alice, TIMER);
    receive(&mut bob, &first).unwrap();
    prepare(&mut bob, 4);
    let soon = send(&mut bob, TIMER + RATCHET_INTERVAL - Duration::from_millis(1));
    assert_ne!(soon.number, 0, "Bob's last step was less than a second ago");
    let due = send(&mut bob, TIMER + RATCHET_INTERVAL);
    assert_eq!((due.number, due.previous), (0, 2));
    for message in [soon, due] {
        assert_eq!(receive(&mut alice, &message).unwrap(), message.secret);
    }
}

#[test]
fn who_restarts_may_step_at_once_and_a_message_does_without_what_is_not_ready() {
    let (mut alice, _) = acquainted();
    prepare(&mut alice, 3);
    let before = send(&mut restored(&alice), TIMER);
    assert_ne!(before.number, 0, "a step that was made ready is not stored");
    let mut alice = restored(&alice);
    prepare(&mut alice, 3);
    assert_eq!(send(&mut alice, Timestamp::default()).number, 0);
}

#[test]
fn a_responder_sends_nothing_before_its_first_step() {
    let (_, mut bob, first) = pair();
    receive(&mut bob, &first).unwrap();
    assert!(bob.is_step_due(TIMER) && !bob.is_prepared());
    let answer = send(&mut bob, TIMER);
    assert_eq!((answer.previous, answer.number), (0, 0));
}

#[test]
fn the_old_private_key_is_gone_when_the_other_side_s_new_key_arrives() {
    let (mut alice, mut bob, first) = pair();
    let secret = alice.sending.as_ref().unwrap().pair.as_ref().unwrap().secret().copy();
    let holds = |ratchet: &Ratchet| {
        let stored = stored(ratchet);
        stored.windows(35).any(|window| window == secret.expose_bytes())
    };
    receive(&mut bob, &first).unwrap();
    let answer = send(&mut bob, TIMER);
    assert!(holds(&alice));
    receive(&mut alice, &answer).unwrap();
    assert!(!holds(&alice));
    // And a further new key, which cannot be honest, has nothing to agree with.
    let forged = Message { key: first.key.clone(), ..answer };
    let refused = receive(&mut alice, &forged);
    assert!(matches!(refused, Err(Failed::NoKey(NoKey::UnknownKey))), "{refused:?}");
}

#[test]
fn what_the_chain_before_left_behind_opens_later() {
    let (mut alice, mut bob) = acquainted();
    let late = send_many(&mut alice, 3);
    prepare(&mut alice, 3);
    let next = send_many(&mut alice, 3);
    assert_eq!((next[0].previous, next[0].number), (4, 0));
    for message in [&next[2], &late[1], &next[0], &late[0], &late[2], &next[1]] {
        assert_eq!(receive(&mut bob, message).unwrap(), message.secret);
    }
    for message in late.iter().chain(&next) {
        assert_used(&receive(&mut bob, message));
    }
}

#[test]
fn a_message_may_overtake_1000_others_of_each_chain_and_not_1001() {
    let (mut alice, mut bob) = acquainted();
    let old = send_many(&mut alice, 1000);
    let mut too_old = restored(&alice);
    prepare(&mut alice, 3);
    let new = send_many(&mut alice, 1002);
    let before = stored(&bob);
    assert_too_far(&receive(&mut bob, &new[1001]));
    assert_eq!(stored(&bob), before);
    assert_eq!(receive(&mut restored(&bob), &new[1000]).unwrap(), new[1000].secret);
    assert_eq!(receive(&mut bob, &new[0]).unwrap(), new[0].secret);
    assert_eq!(receive(&mut bob, &old[0]).unwrap(), old[0].secret);

    let mut bob = Ratchet::decode(&mut Reader(&before)).unwrap();
    send_many(&mut too_old, 1);
    prepare(&mut too_old, 3);
    assert_too_far(&receive(&mut bob, &send(&mut too_old, TIMER)));
    assert_eq!(stored(&bob), before);
}

#[test]
fn of_overtaken_messages_the_latest_2000_can_be_opened() {
    let (mut alice, mut bob) = acquainted();
    let messages = send_many(&mut alice, 3003);
    for index in [1000, 2001, 3002] {
        receive(&mut bob, &messages[index]).unwrap();
    }
    assert_eq!(bob.skipped.len(), MAX_SKIPPED);
    let mut bob = restored(&bob);
    let forgotten = receive(&mut bob, &messages[0]);
    assert!(matches!(forgotten, Err(Failed::NoKey(NoKey::Forgotten))), "{forgotten:?}");
    assert_eq!(receive(&mut bob, &messages[1001]).unwrap(), messages[1001].secret);
    assert_eq!(receive(&mut bob, &messages[3001]).unwrap(), messages[3001].secret);
}

#[test]
fn keys_are_kept_for_30_days_whatever_the_clock_does() {
    let (mut alice, mut bob) = acquainted();
    let messages = send_many(&mut alice, 6);
    let year = Duration::from_secs(365 * 24 * 3600);
    let at = |bob: &mut Ratchet, message: &Message, date| -> Tried {
        let Message { key, previous, number, .. } = message;
        let header = RatchetHeader { key, previous: *previous, number: *number };
        bob.attempt(header, None, date, |key| Ok(*key.expose_bytes()))
    };
    at(&mut bob, &messages[1], DATE).unwrap();
    at(&mut bob, &messages[3], DATE - year).unwrap();
    // The clock was a year ahead, and is right again: what was kept grows old from now.
    at(&mut bob, &messages[4], DATE - year + MAX_AGE).unwrap();
    assert_eq!(bob.skipped.len(), 2);
    at(&mut bob, &messages[5], DATE - year + MAX_AGE + Duration::from_millis(1)).unwrap();
    assert_eq!(bob.skipped.len(), 0);
    let late = at(&mut bob, &messages[0], DATE);
    assert!(matches!(late, Err(Failed::NoKey(NoKey::Forgotten))), "{late:?}");
}

#[test]
fn a_failed_attempt_leaves_no_trace() {
    let (mut alice, mut bob) = acquainted();
    let messages = send_many(&mut alice, 6);
    prepare(&mut alice, 3);
    let turning = send(&mut alice, TIMER);
    receive(&mut bob, &messages[3]).unwrap();
    let before = stored(&bob);
    for message in [&messages[0], &messages[3], &messages[5], &turning] {
        let forged = Message { secret: [7; 32], ..message.clone() };
        assert!(receive(&mut bob, &forged).is_err());
        assert_eq!(stored(&bob), before);
    }
    for message in [&messages[0], &messages[5], &turning] {
        assert_eq!(receive(&mut bob, message).unwrap(), message.secret);
    }
}

#[test]
fn what_was_computed_for_another_turn_is_not_used() {
    let (mut alice, mut bob) = acquainted();
    prepare(&mut alice, 3);
    let message = send(&mut alice, TIMER);
    let Err(Failed::NoKey(NoKey::NeedsTurn(turn))) = attempt(&mut bob, &message, None) else {
        panic!("it is a new key");
    };
    let turned = turn.run();
    let forged =
        Turned { theirs: Box::new(alice.receiving.as_ref().unwrap().public.clone()), ..turned };
    let refused = attempt(&mut bob, &message, Some(forged));
    assert!(matches!(refused, Err(Failed::NoKey(NoKey::NeedsTurn(_)))), "{refused:?}");
}

#[test]
fn a_step_that_was_made_ready_for_an_older_key_is_not_taken() {
    let (mut alice, mut bob) = acquainted();
    let stale = alice.stride().unwrap().run(&mut rng());
    prepare(&mut alice, 3);
    let one = send(&mut alice, TIMER);
    receive(&mut bob, &one).unwrap();
    prepare(&mut bob, 4);
    let answer = send(&mut bob, TIMER + RATCHET_INTERVAL);
    receive(&mut alice, &answer).unwrap();
    alice.prepare(stale);
    assert!(!alice.is_prepared());
}

#[test]
fn the_end_of_a_chain_is_refused_and_not_overflowed() {
    let (mut alice, mut bob) = acquainted();
    let message = send(&mut alice, TIMER);
    let end = RemoteChainKey::new(Key::new([2; 32]), u32::MAX - 1);
    bob.receiving.as_mut().unwrap().chain = end;
    let at = |number| Message { number, ..message.clone() };
    assert_too_far(&attempt(&mut bob, &at(u32::MAX), None));
    let wrong = attempt(&mut bob, &at(u32::MAX - 1), None);
    assert!(matches!(wrong, Err(Failed::WrongKey)), "{wrong:?}");
    alice.sending.as_mut().unwrap().chain = ChainKey::new(Key::new([2; 32]), u32::MAX);
    assert!(alice.next_to_send(TIMER, &mut rng()).is_none());
}

#[test]
fn malformed_stored_forms_are_refused() {
    let (mut alice, mut bob) = acquainted();
    let messages = send_many(&mut alice, 4);
    receive(&mut bob, &messages[3]).unwrap();
    let whole = stored(&bob);
    let decode = |bytes: &[u8]| Ratchet::decode(&mut Reader(bytes)).map(drop);
    assert_eq!(decode(&whole), Ok(()));
    for len in 0..whole.len() {
        assert_eq!(decode(&whole[..len]), Err(DecodeError::Malformed));
    }
    let count = whole.len() - 3 * (8 + 4 + 8 + 32) - 2;
    assert_eq!(whole[count..count + 2], [0, 3]);
    let mut many = whole.clone();
    many.resize(whole.len() + 2001 * 52, 0);
    many[count..count + 2].copy_from_slice(&2001_u16.to_be_bytes());
    assert_eq!(decode(&many), Err(DecodeError::Malformed));
    let mut out_of_range = whole.clone();
    out_of_range[33..33 + 384].fill(0xff);
    assert_eq!(decode(&out_of_range), Err(DecodeError::Malformed));
    let mut kind = whole;
    kind[32] = 3;
    assert_eq!(decode(&kind), Err(DecodeError::Malformed));
}

/// What happens next between a lazy sender and a receiver by the book.
#[derive(Clone, Copy, Debug)]
enum Happening {
    LazySends,
    BookSends,
    /// The message at this place, of those on their way, arrives.
    Arrives(usize),
    Lost(usize),
    Restart,
}

fn happenings() -> impl Strategy<Value = Vec<(u64, Happening)>> {
    let happening = prop_oneof![
        4 => Just(Happening::LazySends),
        4 => Just(Happening::BookSends),
        8 => any::<usize>().prop_map(Happening::Arrives),
        1 => any::<usize>().prop_map(Happening::Lost),
        1 => Just(Happening::Restart),
    ];
    proptest::collection::vec((0..900_u64, happening), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_receiver_by_the_book_follows_a_lazy_sender_and_the_other_way_round(
        happenings in happenings()
    ) {
        let (prekey, mut rng) = (KeyPair::generate(&mut rng()), StdRng::seed_from_u64(9));
        let mut lazy = Ratchet::initiator(&root(), KeyPair::generate(&mut rng), prekey.public());
        let mut book = Textbook::responder(&root(), prekey);
        let first = send(&mut lazy, TIMER);
        let opened = book.receive(&sent(&first), &mut rng);
        prop_assert_eq!(opened, first.secret);
        let mut timer = TIMER;
        let mut on_its_way: Vec<(bool, Message)> = Vec::new();
        for (pause, happening) in happenings {
            timer = timer + Duration::from_millis(pause);
            match happening {
                Happening::LazySends => {
                    prepare(&mut lazy, pause);
                    on_its_way.push((true, send(&mut lazy, timer)));
                }
                Happening::BookSends => {
                    let (Sent { dh, pn, n }, secret) = book.send();
                    let message = Message { key: dh, previous: pn, number: n, secret };
                    on_its_way.push((false, message));
                }
                Happening::Arrives(place) if !on_its_way.is_empty() => {
                    let (to_book, message) = on_its_way.remove(place % on_its_way.len());
                    if to_book {
                        let opened = book.receive(&sent(&message), &mut rng);
                        prop_assert_eq!(opened, message.secret);
                    } else {
                        prop_assert_eq!(receive(&mut lazy, &message).unwrap(), message.secret);
                    }
                }
                Happening::Lost(place) if !on_its_way.is_empty() => {
                    on_its_way.remove(place % on_its_way.len());
                }
                Happening::Restart => lazy = restored(&lazy),
                Happening::Arrives(_) | Happening::Lost(_) => {}
            }
        }
    }
}

fn sent(message: &Message) -> Sent {
    Sent { dh: message.key.clone(), pn: message.previous, n: message.number }
}
