use parlor_common::Fields;
use parlor_common::envelope::Envelope;
use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::PrekeyBundle;
use sha2::{Digest, Sha256};

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

/// The secrets and keys of an agreement of Alice with Bob, for a transcript of one's choice.
struct Forge {
    shared: Shared,
    exchange: Exchange,
}

impl Forge {
    fn new(with_one_time: bool) -> Self {
        let (bundle, rng) = (BOB.bundle(with_one_time), &mut rng());
        let of = |bytes: &DhPublicBytes| PublicValue::try_from(bytes).unwrap();
        let (signed, ephemeral) = (of(&bundle.signed().dh), KeyPair::generate(rng));
        let (ciphertext, kem) = kem::encapsulate(&bundle.of_kem().kem, rng).unwrap();
        let shared = Shared {
            dh1: ALICE.local.dh.agree(&signed),
            dh2: ephemeral.agree(&of(&BOB.party().device.dh)),
            dh3: ephemeral.agree(&signed),
            dh4: bundle.one_time().map(|pair| ephemeral.agree(&of(&pair.dh))),
            kem,
        };
        let exchange = Exchange {
            ephemeral: ephemeral.public().to_bytes(),
            signed: dh_half(bundle.signed()),
            one_time: bundle.one_time().map(dh_half),
            kem: (bundle.of_kem().kem.clone(), ciphertext),
        };
        Self { shared, exchange }
    }

    /// The transcript's fields as the protocol lists them.
    fn fields(&self) -> Vec<Option<Vec<u8>>> {
        let Exchange { ephemeral, signed, one_time, kem } = &self.exchange;
        let suite = b"pqxdh-ffdhe3072-mlkem768-hkdf-sha256-a128cbc-hs256".to_vec();
        let mut fields = vec![b"parlor/v1".to_vec(), suite];
        for (role, party) in [("initiator", ALICE.party()), ("responder", BOB.party())] {
            fields.extend([role.into(), party.name.as_str().into()]);
            fields.extend([party.account_key.as_bytes().to_vec()]);
            fields.extend([party.device.fields().as_bytes().to_vec()]);
        }
        let number = |id: u32| u64::from(id).to_be_bytes().to_vec();
        fields.extend([ephemeral.0.to_vec(), number(signed.0), signed.1.0.to_vec()]);
        let mut fields: Vec<_> = fields.into_iter().map(Some).collect();
        fields.push(one_time.as_ref().map(|(id, _)| number(*id)));
        fields.push(one_time.as_ref().map(|(_, key)| key.0.to_vec()));
        fields.extend([Some(kem.0.0.to_vec()), Some(kem.1.0.to_vec())]);
        fields
    }

    /// The header of a first message to Bob that is right in everything but these fields.
    fn header(&self, fields: &[Option<Vec<u8>>]) -> Header {
        let Self { shared, exchange } = self;
        let all = fields.iter().fold(Fields::new(), |all, field| all.optional(field.as_ref()));
        let dhs = [&shared.dh1, &shared.dh2, &shared.dh3].into_iter().chain(&shared.dh4);
        let transcript = Sha256::digest(all.as_bytes()).into();
        let session = kdf::session_id(&kdf::agreed_secret(dhs, &shared.kem, &transcript));
        let context = sender_context(session, BOB.party(), exchange);
        let key = kdf::sender_key(&shared.dh2, &shared.kem, &context);
        let first = FirstHeader {
            ephemeral: exchange.ephemeral.clone(),
            signed_prekey: exchange.signed.0,
            one_time_prekey: exchange.one_time.as_ref().map(|(id, _)| *id),
            kem: exchange.kem.1.clone(),
            sealed_sender: seal_sender(ALICE.party(), &key, &mut rng()).unwrap(),
        };
        let ratchet = exchange.ephemeral.clone();
        Header { session, first: Some(first), ratchet, previous: 0, number: 0 }
    }
}

/// A transcript's fields, as somebody saw them.
type View = Vec<Option<Vec<u8>>>;

/// The fields with one changed at a few places, left out, or in the place of its neighbour; and the
/// two sides in each other's roles.
fn other_views(fields: &[Option<Vec<u8>>]) -> Vec<View> {
    let mut views = Vec::new();
    let mut view = |change: &dyn Fn(&mut View)| {
        let mut view = fields.to_vec();
        change(&mut view);
        views.push(view);
    };
    for (index, field) in fields.iter().enumerate() {
        let len = field.as_ref().map_or(0, Vec::len);
        // Of a device entry: id, key, DH key; and its last byte, of the time.
        let places =
            [0, 10, 30, 70, len.saturating_sub(1)].into_iter().filter(|place| *place < len);
        for place in places {
            view(&|view| view[index].as_mut().unwrap()[place] ^= 1);
        }
        let other = field.is_none().then(Vec::new);
        view(&|view| view[index].clone_from(&other));
        if index + 1 < fields.len() && fields[index] != fields[index + 1] {
            view(&|view| view.swap(index, index + 1));
        }
    }
    view(&|view| view.swap(2, 6));
    view(&|view| view[2..10].rotate_left(4));
    view(&|view| (3..6).for_each(|index| view.swap(index, index + 4)));
    views
}

#[test]
fn who_saw_another_transcript_in_any_field_is_refused() {
    for with_one_time in [true, false] {
        let forge = Forge::new(with_one_time);
        let one_time = with_one_time.then_some(&BOB.one_time);
        let tried = |fields: &[_]| accept(&BOB.local, &BOB.signed, one_time, &forge.header(fields));
        let fields = forge.fields();
        assert_eq!(tried(&fields).unwrap().sender, *ALICE.party());
        for view in other_views(&fields) {
            assert_eq!(tried(&view).unwrap_err(), AgreementError::Refused, "{view:02x?}");
        }
    }
}

#[test]
fn a_recipient_that_sees_itself_or_its_prekeys_otherwise_refuses() {
    let changes: [fn(&mut Party); 6] = [
        |us| us.name = "robert".parse().unwrap(),
        |us| us.account_key = CAROL.party().account_key,
        |us| us.device.id = CAROL.party().device.id,
        |us| us.device.key = CAROL.party().device.key,
        |us| us.device.dh = CAROL.party().device.dh.clone(),
        |us| us.device.added_at = DATE,
    ];
    for change in changes {
        let mut us = BOB.local_with("bob", &BOB.local.dh);
        change(&mut us.party);
        assert_eq!(refusal(&us, &FIRST.envelope), AgreementError::Refused);
    }
    let copy = |of: &LocalPrekeys| LocalPrekeys::decode(&of.encode()).unwrap();
    for (of, stranger) in [(&BOB.signed, &CAROL.signed), (&BOB.one_time, &CAROL.one_time)] {
        let stranger = copy(stranger);
        let views = [
            (AgreementError::WrongPrekeys, LocalPrekeys { id: 9, ..copy(of) }),
            (AgreementError::Refused, LocalPrekeys { dh: stranger.dh, ..copy(of) }),
            (AgreementError::Refused, LocalPrekeys { kem: stranger.kem, ..copy(of) }),
        ];
        for (expected, view) in views {
            let (signed, one_time) =
                if of.id == BOB.signed.id { (&view, &BOB.one_time) } else { (&BOB.signed, &view) };
            let tried = accept(&BOB.local, signed, Some(one_time), FIRST.envelope.header());
            // The signed pair's KEM half has no part where there is a one-time pair.
            let unused = of.id == BOB.signed.id && view.kem.expose_bytes() != of.kem.expose_bytes();
            assert_eq!(tried.map(drop), if unused { Ok(()) } else { Err(expected) });
        }
    }
}

#[test]
fn an_initiator_that_was_told_other_prekeys_is_refused() {
    let (device, added_at) = (&BOB.party().device, BOB.party().device.added_at);
    let secret = DeviceSecret::from_seed(&[2; 32]);
    let sign = |mut pair: PrekeyPair, change: fn(&mut PrekeyPair), used| {
        change(&mut pair);
        PrekeyPair::sign(&secret, used, pair.id, pair.made_at, pair.dh, pair.kem)
    };
    let changes: [fn(&mut PrekeyPair); 3] = [
        |pair| pair.id = 9,
        |pair| pair.dh = CAROL.bundle.signed.dh.clone(),
        |pair| pair.kem = CAROL.bundle.signed.kem.clone(),
    ];
    let of_signed = |change| {
        let signed = sign(BOB.bundle.signed.clone(), change, PrekeyUse::Signed);
        PrekeyBundle { signed, one_time: None, ..BOB.bundle.clone() }
    };
    let of_one_time = |change| {
        let pair = BOB.bundle.one_time.clone().unwrap();
        PrekeyBundle {
            one_time: Some(sign(pair, change, PrekeyUse::OneTime)),
            ..BOB.bundle.clone()
        }
    };
    for change in changes {
        for bundle in [of_signed(change), of_one_time(change)] {
            let one_time = bundle.one_time.as_ref().map(|_| &BOB.one_time);
            let bundle = bundle.verify(device, None, added_at).unwrap();
            let mut alice = initiate(&ALICE.local, BOB.party(), &bundle, &mut rng()).unwrap();
            let first = alice.seal(b"hello", TIMER, &mut rng()).unwrap();
            assert!(accept(&BOB.local, &BOB.signed, one_time, first.header()).is_err());
        }
    }
}
