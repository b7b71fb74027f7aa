//! Strangers, and contacts who mean harm: what they learn, what they can make a peer do.

use std::net::SocketAddr;
use std::time::Duration;

use harness::world::Visitor;
use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor_common::candidate::{Candidate, CandidateKind, Offer, OfferBody, OfferId};
use parlor_common::envelope::{Envelope, Header};
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::DhPublicBytes;
use parlor_common::wire::frame;
use parlor_common::wire::peer::{Hello, PeerFrame};
use parlor_common::wire::rendezvous::{Done, Event, Present, Request};

fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world
}

/// Connects as a peer's device; the peer itself is gone.
fn impersonate(world: &mut World, who: &str) -> (DeviceSecret, Visitor) {
    world.kill(who);
    let device = DeviceSecret::from_seed(&world.device(who).expose_seed());
    let visitor = world.visit(device.public());
    (device, visitor)
}

/// An offer from one to another, signed by `device`.
fn offer(
    world: &World,
    (from, to): (&str, &str),
    device: &DeviceSecret,
    id: u64,
    addresses: &[SocketAddr],
) -> Request {
    let candidate =
        |address: &SocketAddr| Candidate { kind: CandidateKind::Host, address: *address };
    let body = OfferBody {
        id: OfferId(id),
        // As an answer, so that nothing is sent back.
        answers: Some(OfferId(0)),
        from: world.name(from),
        to: DeviceId::of(&world.device(to).public()),
        at: world.date(),
        candidates: addresses.iter().map(candidate).collect(),
    };
    Request::PathOffer { name: world.name(to), offer: Box::new(Offer::sign(body, device)) }
}

fn public(count: u16) -> Vec<SocketAddr> {
    (0..count).map(|number| ([198, 18, 7, 7], 1000 + number).into()).collect()
}

#[test]
fn a_stranger_asks_for_an_address_and_gets_nothing() {
    let mut world = friends(50);
    world.register("mallory");
    let before = world.dialed("bob").len();
    let (device, mut visitor) = impersonate(&mut world, "mallory");
    let present: Present = world.ask(&mut visitor, &Request::PresenceWatch {}).unwrap();
    assert_eq!(present.contacts, []);
    let request = offer(&world, ("mallory", "bob"), &device, 1, &public(3));
    assert_eq!(world.ask::<Done>(&mut visitor, &request), Ok(Done {}), "nobody is told");
    // Not even while she waits for an answer to her request.
    world.stop("bob");
    world.start("bob");
    world.run_until_quiet();
    let offers = |event: &Event| matches!(event, Event::Offer { .. } | Event::Presence(_));
    assert!(!world.heard(&visitor).iter().any(offers), "{:?}", world.heard(&visitor));
    assert_eq!(world.dialed("bob").len(), before);
}

#[test]
fn whoever_is_asked_shows_nothing_before_they_accept() {
    let mut world = World::new(51);
    world.register("alice");
    world.register("bob");
    let ask = Intent::AddContact { name: "bob".parse().unwrap(), account_key: None };
    world.asks_for("alice", ask).unwrap();
    world.says("alice", "bob", "where are you?");
    world.is_asked("bob", "alice");
    world.run_until_quiet();
    assert!(!world.shows_online("alice", "bob"));
    assert_eq!(world.dialed("alice"), []);
    assert_eq!(world.dialed("bob"), []);
}

#[test]
fn addresses_that_scan_or_flood_are_not_dialed() {
    let mut world = friends(52);
    let (device, mut visitor) = impersonate(&mut world, "alice");
    let bad = [
        "127.0.0.1:22",
        "[::1]:22",
        "10.0.0.1:80",
        "192.168.1.1:80",
        "172.16.0.1:53",
        "169.254.169.254:80",
        "100.64.0.1:80",
        "0.0.0.0:9",
        "224.0.0.251:5353",
        "255.255.255.255:9",
        "198.51.100.255:9",
        "198.18.7.7:0",
        "[ff02::fb]:5353",
        "[fe80::1]:80",
        "[fd00::1]:80",
        "[::ffff:10.0.0.1]:80",
    ];
    let bad = bad.map(|address| address.parse().unwrap());
    let before = world.dialed("bob").to_vec();
    let request = offer(&world, ("alice", "bob"), &device, 1, &bad);
    let Done {} = world.ask(&mut visitor, &request).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.dialed("bob"), before);

    let request = offer(&world, ("alice", "bob"), &device, 2, &public(17));
    let Done {} = world.ask(&mut visitor, &request).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.dialed("bob"), before, "seventeen candidates are too many");

    let request = offer(&world, ("alice", "bob"), &device, 3, &public(2));
    let Done {} = world.ask(&mut visitor, &request).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.dialed("bob")[before.len()..], public(2), "an honest offer is followed");
}

#[test]
fn six_offers_a_minute_are_followed_and_a_silent_address_is_dialed_once() {
    let mut world = friends(53);
    let (device, mut visitor) = impersonate(&mut world, "alice");
    world.run_for(Duration::from_secs(120));
    let before = world.dialed("bob").len();
    for id in 0..7 {
        let address = public(100)[usize::try_from(id).unwrap()];
        let request = offer(&world, ("alice", "bob"), &device, id, &[address]);
        let Done {} = world.ask(&mut visitor, &request).unwrap();
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.dialed("bob")[before..], public(6));
    world.run_for(Duration::from_secs(61));
    let before = world.dialed("bob").len();
    for id in 10..15 {
        let request = offer(&world, ("alice", "bob"), &device, id, &public(1));
        let Done {} = world.ask(&mut visitor, &request).unwrap();
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.dialed("bob").len() - before, 1);
}

#[test]
fn an_offer_in_another_name_by_another_device_or_of_yesterday_is_not_followed() {
    let mut world = friends(54);
    world.register("carol");
    world.befriend("carol", "bob");
    let old = offer(&world, ("alice", "bob"), world.device("alice"), 1, &public(1));
    world.run_for(Duration::from_secs(24 * 3600));
    let before = world.dialed("bob").to_vec();
    let (carol, mut visitor) = impersonate(&mut world, "carol");
    let as_alice = offer(&world, ("alice", "bob"), &carol, 2, &public(1));
    let other = DeviceSecret::from_seed(&[99; 32]);
    let by_other = offer(&world, ("carol", "bob"), &other, 3, &public(1));
    let to_other = offer(&world, ("carol", "alice"), &carol, 4, &public(1));
    let Request::PathOffer { offer: misdirected, .. } = to_other else { panic!() };
    let misdirected = Request::PathOffer { name: world.name("bob"), offer: misdirected };
    for request in [old, as_alice, by_other, misdirected] {
        let Done {} = world.ask(&mut visitor, &request).unwrap();
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.dialed("bob"), before);
    }
}

#[test]
fn a_device_that_is_on_no_contacts_list_gets_no_link_and_nothing_through() {
    let mut world = friends(55);
    world.register("mallory");
    let mallory = world.device("mallory").public();
    let unknown = DeviceSecret::from_seed(&[98; 32]).public();
    for key in [mallory, unknown] {
        let rogue = world.rogue_dials(key, "bob");
        for frame in [hello(), frame(&PeerFrame::BundleRequest.encode()), envelope(0)] {
            world.rogue_sends(rogue, &frame);
        }
        world.run_until_quiet();
        let heard = world.rogue_heard(rogue);
        assert!(heard.is_closed && heard.frames.is_empty(), "{heard:?}");
    }
    world.says("alice", "bob", "still here?");
    world.sees("bob", &["still here?"]);
}

#[test]
fn what_is_no_frame_ends_the_link_and_nothing_else() {
    let mut world = friends(56);
    world.kill("alice");
    let key = world.device("alice").public();
    let too_long = u32::MAX.to_be_bytes().to_vec();
    let no_envelope = frame(&[3, 9, 9, 9]);
    let no_bundle = frame(b"\x02{");
    for bytes in [too_long, frame(&[]), no_envelope, no_bundle] {
        let rogue = world.rogue_dials(key, "bob");
        world.rogue_sends(rogue, &hello());
        world.rogue_sends(rogue, &bytes);
        world.run_for(Duration::from_secs(1));
        assert!(world.rogue_heard(rogue).is_closed, "{bytes:?}");
    }
    // A frame that never ends, and one of a type that is not known, cost the other side nothing.
    let rogue = world.rogue_dials(key, "bob");
    world.rogue_sends(rogue, &frame(&PeerFrame::Unknown(200).encode()));
    world.rogue_sends(rogue, &[0, 0, 255, 255, 3]);
    world.run_for(Duration::from_secs(5));
    assert!(!world.rogue_heard(rogue).is_closed);
    world.register("carol");
    world.befriend("carol", "bob");
    world.says("carol", "bob", "and we talk on");
    world.sees("bob", &["and we talk on"]);
}

#[test]
fn a_flood_of_forged_envelopes_costs_the_link_for_a_minute() {
    let mut world = friends(57);
    world.kill("alice");
    let key = world.device("alice").public();
    let rogue = world.rogue_dials(key, "bob");
    for number in 0..1030 {
        world.rogue_sends(rogue, &envelope(number));
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.rogue_heard(rogue).is_closed);
    let rogue = world.rogue_dials(key, "bob");
    world.run_for(Duration::from_secs(1));
    assert!(world.rogue_heard(rogue).is_closed, "not again so soon");
    world.run_for(Duration::from_secs(60));
    world.start("alice");
    world.says("alice", "bob", "it was not me");
    world.sees("bob", &["it was not me"]);
}

#[test]
fn many_malformed_requests_close_a_connection_to_the_rendezvous_and_no_other() {
    let mut world = friends(58);
    let mut visitor = world.visit(DeviceSecret::from_seed(&[97; 32]).public());
    for payload in [&b""[..], b"{", b"[]", b"{\"request\":7}", &[0xff; 1000]] {
        let reply = world.ask_bytes(&mut visitor, payload).unwrap();
        assert!(String::from_utf8(reply).unwrap().contains("malformed"));
    }
    let mut asked = 0;
    while world.closed(&visitor).is_none() {
        world.ask_bytes(&mut visitor, b"{");
        asked += 1;
        assert!(asked < 100, "it is closed in the end");
    }
    world.says("alice", "bob", "nothing happened");
    world.sees("bob", &["nothing happened"]);
}

fn hello() -> Vec<u8> {
    frame(&PeerFrame::Hello(Hello { version: 1 }).encode())
}

/// A well-formed envelope of a session that there is not.
fn envelope(number: u32) -> Vec<u8> {
    let ratchet = DhPublicBytes(Box::new([2; DhPublicBytes::LEN]));
    let session = SessionId([6; 16]);
    let header = Header { session, first: None, ratchet, previous: 0, number };
    let bytes = header.encode();
    let envelope = Envelope::new(header, &bytes, &[0; 16], &[0; 272]);
    frame(&PeerFrame::Envelope(envelope).encode())
}
