//! Frames, and what comes in them from a rendezvous, a client or a peer.

use parlor_common::Blob;
use parlor_common::envelope::{Envelope, FirstHeader, Header, IV_LEN, MAX_ENVELOPE};
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::identity::DeviceKey;
use parlor_common::prekey::{DhPublicBytes, KemCiphertext, PrekeyUse};
use parlor_common::quic;
use parlor_common::wire::peer::{Hello, PeerFrame};
use parlor_common::wire::rendezvous::{
    Argon2Params, Bundles, Contacts, Done, Envelopes, Event, HeldItems, LoggedIn, LoginStarted,
    PrekeysHeld, PrekeysKept, Present, RegisterStarted, Registration, Reply, Request, Started,
    User, WaitingEnvelope,
};
use parlor_common::wire::{self, FrameDecoder};
use rustls::pki_types::CertificateDer;

use super::people::{self, NOW, alice, bob};
use super::{Outcome, Seed, json, refused, taken, to_json};

/// No frame of the target [`frames`] is longer.
const MAX_FRAME: usize = 64;

/// A stream of frames that arrives in pieces; the first byte says how long they are.
pub(super) fn frames(bytes: &[u8]) -> Outcome {
    let Some((piece, stream)) = bytes.split_first() else { return Outcome::Refused };
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    let mut decoded = Vec::new();
    for piece in stream.chunks(usize::from(*piece) + 1) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => decoded.push(frame),
                Ok(None) => break,
                Err(refusal) => {
                    assert!(refusal.len > MAX_FRAME);
                    return Outcome::Refused;
                }
            }
        }
    }
    let again: Vec<u8> = decoded.iter().flat_map(|frame| wire::frame(frame)).collect();
    assert!(stream.starts_with(&again) && decoded.iter().all(|frame| frame.len() <= MAX_FRAME));
    assert_eq!(decoder.is_empty(), stream.len() == again.len());
    Outcome::Taken
}

pub(super) fn frames_seeds() -> Vec<Seed> {
    let two = [wire::frame(b"one"), wire::frame(&[7; MAX_FRAME])].concat();
    vec![
        taken("two-in-pieces-of-3", [&[2], two.as_slice()].concat()),
        taken("unfinished", [&[255], &two[..9]].concat()),
        refused(
            "one-byte-too-long",
            [&[255], wire::frame(&[7; MAX_FRAME + 1]).as_slice()].concat(),
        ),
        refused("4-gib", [255, 255, 255, 255, 255]),
    ]
}

/// What a client asks of a rendezvous.
pub(super) fn request(bytes: &[u8]) -> Outcome {
    Outcome::of(json::<Request>(bytes))
}

pub(super) fn request_seeds() -> Vec<Seed> {
    let [devices, cosigned] = people::device_lists();
    let blob = || Blob(vec![7; 96]);
    let registration =
        Registration { upload: blob(), devices, account_box: blob(), recovery_box: blob() };
    let put = Request::PrekeysPut {
        signed: Some(Box::new(people::pair(PrekeyUse::Signed, 1))),
        one_time: vec![people::pair(PrekeyUse::OneTime, 2)],
        replace: true,
    };
    let asked = Request::ContactRequest { name: bob(), card: Box::new(people::card()) };
    let posted = Request::EnvelopePost {
        name: bob(),
        device: DeviceId([2; 16]),
        envelopes: vec![Blob(first().into_bytes()), Blob(following().into_bytes())],
    };
    let offered = Request::PathOffer { name: bob(), offer: Box::new(people::offer()) };
    vec![
        taken("login-start", to_json(&Request::LoginStart { name: alice(), message: blob() })),
        taken("register-finish", to_json(&Request::RegisterFinish(Box::new(registration)))),
        taken("contact-request", to_json(&asked)),
        taken("device-cosign", to_json(&Request::DeviceCosign { devices: cosigned })),
        taken("path-offer", to_json(&offered)),
        taken("prekeys-put", to_json(&put)),
        taken("held-ack", to_json(&Request::HeldAck { ids: vec![1, u64::MAX] })),
        taken("envelope-post", to_json(&posted)),
        taken("envelope-get", r#"{"request":"envelope.get"}"#),
        taken("envelope-ack", to_json(&Request::EnvelopeAck { ids: vec![1, u64::MAX] })),
        taken("device-start", to_json(&Request::DeviceStart { count: 12 })),
        taken("unknown", r#"{"request":"later.thing","x":[{}]}"#),
        refused("bad-name", r#"{"request":"user.get","name":"../x"}"#),
        refused("no-request", r#"{"name":"bob"}"#),
    ]
}

/// What a rendezvous tells a client.
pub(super) fn event(bytes: &[u8]) -> Outcome {
    Outcome::of(json::<Event>(bytes))
}

pub(super) fn event_seeds() -> Vec<Seed> {
    let welcome = Event::Welcome {
        name: Some(alice()),
        observed: "192.0.2.7:50000".parse().unwrap(),
        now: NOW,
        next_key_hash: Blob(vec![7; 32]),
    };
    let offer = Event::Offer { from: bob(), offer: Box::new(people::offer()) };
    let presence = r#"{"event":"presence","name":"bob","online":true,"list_version":3}"#;
    vec![
        taken("welcome", to_json(&welcome)),
        taken("offer", to_json(&offer)),
        taken("presence", presence),
        taken("held", to_json(&Event::Held {})),
        taken("envelopes", to_json(&Event::Envelopes {})),
        taken("unknown", r#"{"event":"fireworks","colour":"red"}"#),
        refused("no-event", r#"{"name":"bob"}"#),
    ]
}

/// What a rendezvous replies; the first byte says to what.
pub(super) fn reply(bytes: &[u8]) -> Outcome {
    let Some((kind, body)) = bytes.split_first() else { return Outcome::Refused };
    match kind {
        b'a' => Outcome::of(json::<Reply<Done>>(body)),
        b'b' => Outcome::of(json::<Reply<RegisterStarted>>(body)),
        b'c' => Outcome::of(json::<Reply<LoginStarted>>(body)),
        b'd' => Outcome::of(json::<Reply<LoggedIn>>(body)),
        b'e' => Outcome::of(json::<Reply<User>>(body)),
        b'f' => Outcome::of(json::<Reply<Contacts>>(body)),
        b'g' => Outcome::of(json::<Reply<HeldItems>>(body)),
        b'h' => Outcome::of(json::<Reply<PrekeysKept>>(body)),
        b'i' => Outcome::of(json::<Reply<PrekeysHeld>>(body)),
        b'j' => Outcome::of(json::<Reply<Bundles>>(body)),
        b'k' => Outcome::of(json::<Reply<Started>>(body)),
        b'l' => Outcome::of(json::<Reply<Present>>(body)),
        b'm' => Outcome::of(json::<Reply<Envelopes>>(body)),
        _ => Outcome::Refused,
    }
}

pub(super) fn reply_seeds() -> Vec<Seed> {
    let [first, second] = people::device_lists();
    let blob = || Blob(vec![7; 128]);
    let started = LoginStarted { message: blob(), argon2: Argon2Params::DEFAULT };
    let logged_in = LoggedIn { account_box: blob(), devices: first };
    let waiting = WaitingEnvelope { id: 7, envelope: Blob(following().into_bytes()) };
    let card = String::from_utf8(to_json(&people::card())).unwrap();
    let held = format!(
        r#"g{{"ok":{{"items":[{{"id":1,"from":"alice","what":{{"kind":"request","card":{card}}}}},{{"id":2,"from":"bob","what":{{"kind":"declined"}}}},{{"id":3,"from":"bob","what":{{"kind":"new"}}}}]}}}}"#
    );
    vec![
        taken("done", reply_to(b'a', Done {})),
        taken("error", r#"a{"error":{"code":"too_fast","message":"wait","until":1}}"#),
        taken("login-started", reply_to(b'c', started)),
        taken("logged-in", reply_to(b'd', logged_in)),
        taken("user", reply_to(b'e', User { devices: second })),
        taken("contacts", r#"f{"ok":{"contacts":[{"name":"bob","mutual":true}]}}"#),
        taken("held", held),
        taken("prekeys-held", reply_to(b'i', PrekeysHeld { one_time: 37, signed: None })),
        taken("bundles", reply_to(b'j', Bundles { bundles: vec![people::bundle()] })),
        taken("present", r#"l{"ok":{"contacts":[{"name":"bob","online":true,"list_version":2}]}}"#),
        taken("envelopes", reply_to(b'm', Envelopes { envelopes: vec![waiting] })),
        refused("both", r#"a{"ok":{},"error":{"code":"malformed","message":""}}"#),
    ]
}

fn reply_to<T: serde::Serialize>(kind: u8, reply: T) -> Vec<u8> {
    [vec![kind], to_json(&Reply::Ok(reply))].concat()
}

/// What comes over a link to a peer.
pub(super) fn peer_frame(bytes: &[u8]) -> Outcome {
    let Ok(frame) = PeerFrame::parse(bytes) else { return Outcome::Refused };
    let written = frame.encode();
    if let PeerFrame::Envelope(_) = &frame {
        assert_eq!(written, bytes);
    }
    assert_eq!(PeerFrame::parse(&written), Ok(frame));
    Outcome::Taken
}

pub(super) fn peer_frame_seeds() -> Vec<Seed> {
    let bundle = PeerFrame::Bundle(Box::new(people::bundle()));
    vec![
        taken("hello", PeerFrame::Hello(Hello { version: 1 }).encode()),
        taken("bundle-request", PeerFrame::BundleRequest.encode()),
        taken("bundle", bundle.encode()),
        taken("envelope", PeerFrame::Envelope(following()).encode()),
        taken("unknown", [200, 1, 2]),
        refused("empty", []),
        refused("half-a-bundle", &bundle.encode()[..300]),
    ]
}

/// An envelope, from a peer or the rendezvous.
pub(super) fn envelope(bytes: &[u8]) -> Outcome {
    let Ok(envelope) = Envelope::parse(bytes.to_vec()) else { return Outcome::Refused };
    assert!(bytes.len() <= MAX_ENVELOPE);
    assert_eq!(envelope.header().encode(), envelope.header_bytes());
    assert_eq!(envelope.iv().len(), IV_LEN);
    let parts = [envelope.header_bytes(), envelope.iv(), envelope.sealed()].concat();
    assert!(parts == bytes && envelope.as_bytes() == bytes);
    assert!(envelope.sealed().starts_with(envelope.ciphertext()));
    Outcome::Taken
}

pub(super) fn envelope_seeds() -> Vec<Seed> {
    let (first, following) = (first().into_bytes(), following().into_bytes());
    let mut newer = following.clone();
    newer[0] = 2;
    let mut long_sender = first.clone();
    long_sender[1498] = 0xff;
    vec![
        refused("no-whole-block", &following[..following.len() - 1]),
        refused("no-ciphertext", &following[..following.len() - 48]),
        refused("newer-version", newer),
        refused("sender-too-long", long_sender),
        taken("first", first),
        taken("following", following),
    ]
}

fn first() -> Envelope {
    sealed(Some(FirstHeader {
        ephemeral: DhPublicBytes(Box::new([3; DhPublicBytes::LEN])),
        signed_prekey: 7,
        one_time_prekey: Some(8),
        kem: KemCiphertext(Box::new([9; KemCiphertext::LEN])),
        sealed_sender: vec![4; 48],
    }))
}

fn following() -> Envelope {
    sealed(None)
}

fn sealed(first: Option<FirstHeader>) -> Envelope {
    let ratchet = DhPublicBytes(Box::new([2; DhPublicBytes::LEN]));
    let header = Header { session: SessionId([1; 16]), first, ratchet, previous: 3, number: 258 };
    let bytes = header.encode();
    Envelope::new(header, &bytes, &[5; IV_LEN], &[6; 48])
}

/// The key that the other side of a connection shows in TLS (RFC 7250).
pub(super) fn raw_key(bytes: &[u8]) -> Outcome {
    let key: Option<DeviceKey> = quic::raw_key(&[CertificateDer::from(bytes)]);
    Outcome::of(key.inspect(|key| {
        assert_eq!(bytes.len(), SPKI_PREFIX.len() + 32);
        assert_eq!(bytes.strip_prefix(&SPKI_PREFIX), Some(key.as_bytes().as_slice()));
    }))
}

/// RFC 8410, §4.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

pub(super) fn raw_key_seeds() -> Vec<Seed> {
    let spki = [SPKI_PREFIX.as_slice(), people::device(1).public().as_bytes()].concat();
    let mut other_curve = spki.clone();
    other_curve[8] = 0x6e;
    vec![
        refused("too-short", &spki[..43]),
        refused("too-long", [spki.as_slice(), &[0]].concat()),
        refused("another-algorithm", other_curve),
        taken("ed25519", spki),
    ]
}
