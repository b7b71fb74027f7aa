//! What bad input gets: every request, with every part of it missing, of another type, out of any
//! range, nested or said twice. Each is answered with a code, counted, and changes nothing; and a
//! connection is cut when it has sent so many of no readable form, not before.

use std::collections::BTreeSet;

use parlor_common::Blob;
use parlor_common::candidate::{Offer, OfferBody, OfferId};
use parlor_common::id::DeviceId;
use parlor_common::prekey::PrekeyUse;
use parlor_common::recovery;
use parlor_common::wire::rendezvous::{Done, ErrorCode, Registration, Rekeying, Request, Ticket};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::testing::{
    PASSWORD, World, account, card, entry, first_list, name, prekey, secret, verified,
};
use super::{CloseReason, ConnId, MAX_MALFORMED};
use crate::limits::Limits;
use crate::opaque::client;

/// Every request that there is, as an honest client might send it.
fn requests(world: &World) -> Vec<Request> {
    let (alice, bob, message) = (name("alice"), name("bob"), Blob(vec![7; 32]));
    let known = verified("alice", first_list("alice", 1));
    let next = known.with_device(entry(3), world.now);
    let list = next.sign(&account("alice"), Some(&secret(1)));
    let offer = OfferBody {
        id: OfferId(1),
        answers: None,
        from: alice.clone(),
        to: DeviceId::of(&secret(2).public()),
        at: world.now,
        candidates: Vec::new(),
    };
    let (box_, proof) = (Blob(vec![1; 80]), recovery::prove(&account("x"), &alice, &[0; 32]));
    let pair = |used| prekey(1, used, 9, world.now);
    let ticket = Some(Ticket::Email { address: "a@b.example".to_owned(), code: None });
    let registration = Registration {
        upload: Blob(vec![2; 100]),
        devices: first_list("carol", 5),
        account_box: box_.clone(),
        recovery_box: box_.clone(),
    };
    let rekeying =
        Rekeying { devices: list.clone(), account_box: box_.clone(), recovery_box: box_.clone() };
    let all = vec![
        Request::RegisterStart { name: name("carol"), message: message.clone(), ticket },
        Request::RegisterFinish(Box::new(registration)),
        Request::LoginStart { name: alice.clone(), message: Blob(vec![7; 96]) },
        Request::LoginFinish { message: Blob(vec![7; 64]) },
        Request::RecoveryStart { name: alice },
        Request::RecoveryFinish { proof },
        Request::PasswordStart { message },
        Request::PasswordFinish { upload: Blob(vec![2; 100]), account_box: box_ },
        Request::AccountRekey(Box::new(rekeying)),
        Request::AccountDelete {},
        Request::DeviceList {},
        Request::DeviceName { device: DeviceId::of(&secret(1).public()), name: "it".to_owned() },
        Request::DeviceAdd { devices: list.clone() },
        Request::DeviceRemove { devices: list.clone() },
        Request::DeviceCosign { devices: list },
        Request::UserGet { name: bob.clone() },
        Request::ContactList {},
        Request::ContactRequest { name: bob.clone(), card: Box::new(card("alice", 1, "bob")) },
        Request::ContactAnswer { name: bob.clone(), card: Some(Box::new(card("alice", 1, "bob"))) },
        Request::ContactRemove { name: bob.clone() },
        Request::ContactBlock { name: bob.clone() },
        Request::ContactUnblock { name: bob.clone() },
        Request::InviteCreate { uses: 1 },
        Request::HeldGet {},
        Request::HeldAck { ids: vec![1, 2] },
        Request::PresenceWatch {},
        Request::PathOffer { name: bob.clone(), offer: Box::new(Offer::sign(offer, &secret(1))) },
        Request::PrekeysPut {
            signed: Some(Box::new(pair(PrekeyUse::Signed))),
            one_time: vec![pair(PrekeyUse::OneTime)],
            replace: false,
        },
        Request::PrekeysCount {},
        Request::PrekeysGet { name: bob },
        Request::DeviceStart { count: 3 },
        Request::EnvelopePost {
            name: name("bob"),
            device: DeviceId([2; 16]),
            envelopes: vec![Blob(vec![1; 32]), Blob(vec![2; 32])],
        },
        Request::EnvelopeGet { after: 1 },
        Request::EnvelopeAck { ids: vec![1, 2] },
    ];
    let kinds: BTreeSet<usize> = all.iter().map(kind).collect();
    assert_eq!(kinds, (0..all.len()).collect());
    all
}

/// The number of a kind of request. A new kind does not compile until it has one, and then has to
/// stand in [`requests`] too.
fn kind(request: &Request) -> usize {
    match request {
        Request::RegisterStart { .. } => 0,
        Request::RegisterFinish(_) => 1,
        Request::LoginStart { .. } => 2,
        Request::LoginFinish { .. } => 3,
        Request::RecoveryStart { .. } => 4,
        Request::RecoveryFinish { .. } => 5,
        Request::PasswordStart { .. } => 6,
        Request::PasswordFinish { .. } => 7,
        Request::AccountRekey(_) => 8,
        Request::AccountDelete {} => 9,
        Request::DeviceList {} => 10,
        Request::DeviceName { .. } => 11,
        Request::DeviceAdd { .. } => 12,
        Request::DeviceRemove { .. } => 13,
        Request::DeviceCosign { .. } => 14,
        Request::UserGet { .. } => 15,
        Request::ContactList {} => 16,
        Request::ContactRequest { .. } => 17,
        Request::ContactAnswer { .. } => 18,
        Request::ContactRemove { .. } => 19,
        Request::ContactBlock { .. } => 20,
        Request::ContactUnblock { .. } => 21,
        Request::InviteCreate { .. } => 22,
        Request::HeldGet {} => 23,
        Request::HeldAck { .. } => 24,
        Request::PresenceWatch {} => 25,
        Request::PathOffer { .. } => 26,
        Request::PrekeysPut { .. } => 27,
        Request::PrekeysCount {} => 28,
        Request::PrekeysGet { .. } => 29,
        Request::DeviceStart { .. } => 30,
        Request::EnvelopePost { .. } => 31,
        Request::EnvelopeGet { .. } => 32,
        Request::EnvelopeAck { .. } => 33,
        Request::Unknown => panic!("it is not sent"),
    }
}

/// What a part of a request is replaced by.
fn junk() -> Vec<String> {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let shallow = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    let long = format!("\"{}\"", "x".repeat(50_000));
    let plain = [
        "null",
        "true",
        "-1",
        "1.5",
        "1e400",
        "18446744073709551616",
        "\"\"",
        "\"\\u0000\"",
        "\"../x\"",
        "[]",
        "[null]",
        "{}",
    ];
    plain.into_iter().map(str::to_owned).chain([nested, shallow, long]).collect()
}

/// The paths of every part of a value.
fn paths(value: &Value) -> Vec<Vec<String>> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let mut paths = Vec::new();
    for (key, child) in children {
        paths.push(vec![key.clone()]);
        paths.extend(paths_below(&key, child));
    }
    paths
}

fn paths_below(key: &str, child: &Value) -> Vec<Vec<String>> {
    let below = paths(child).into_iter();
    below.map(|path| [vec![key.to_owned()], path].concat()).collect()
}

/// The value as text, with `change` made at a path: a replacement, or nothing at all.
fn changed(value: &Value, path: &[String], change: Option<&str>, twice: bool) -> String {
    let Some((first, rest)) = path.split_first() else { return change.unwrap_or("").to_owned() };
    let part = |key: &str, value: &Value| {
        if key != first {
            return Some(value.to_string());
        }
        if rest.is_empty() {
            change.map(str::to_owned)
        } else {
            Some(changed(value, rest, change, twice))
        }
    };
    match value {
        Value::Object(fields) => {
            let mut parts = Vec::new();
            for (key, value) in fields {
                if let Some(text) = part(key, value) {
                    parts.push(format!("{}:{text}", json!(key)));
                }
                if twice && rest.is_empty() && key == first {
                    parts.push(format!("{}:{value}", json!(key)));
                }
            }
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let parts: Vec<_> =
                items.filter_map(|(index, value)| part(&index.to_string(), value)).collect();
            format!("[{}]", parts.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Every way in which a request is spoiled.
fn spoiled(request: &Request) -> Vec<String> {
    let value = serde_json::to_value(request).unwrap();
    let mut all = Vec::new();
    for path in paths(&value) {
        all.push(changed(&value, &path, None, false));
        for junk in junk() {
            all.push(changed(&value, &path, Some(&junk), false));
            all.push(changed(&value, &path, Some(&junk), true));
        }
    }
    all
}

/// Everything that is stored and that a refused request must not change: all but what is counted
/// against whoever sent it.
fn stored(world: &World) -> String {
    let tables = [
        "accounts",
        "devices",
        "contacts",
        "held",
        "blocks",
        "invitations",
        "retired_names",
        "signed_prekeys",
        "one_time_prekeys",
        "taken_prekeys",
        "email_codes",
        "envelopes",
        "mailboxes",
    ];
    tables.map(|table| world.dump(table)).join("\n")
}

/// A server that counts nothing against anybody, with alice and bob, who are contacts.
fn place() -> (World, ConnId) {
    let all = u32::MAX / 4;
    let limits = Limits {
        requests_at_once: all,
        lookups_at_once: all,
        contact_requests_at_once: all,
        contact_requests_per_day: all,
        offers_at_once: all,
        posts_at_once: all,
        prekeys_put_at_once: all,
        prekey_requests_per_day: all,
        registrations_at_once: all,
        registrations_per_minute_in_all: all,
        logins_at_once: all,
        logins_per_minute_in_all: all,
        login_failures_free: all,
        login_failures_to_lock: all,
        login_failures_per_name_per_day: all,
        ..Limits::default()
    };
    let mut world = World::limited(limits);
    let alice = world.register("alice", 1);
    world.register("bob", 2);
    world.ask(alice, ("alice", 1), "bob");
    world.login(alice, "alice", PASSWORD).unwrap();
    (world, alice)
}

#[test]
fn a_spoiled_request_is_answered_with_a_code_is_counted_and_changes_nothing() {
    let (mut world, mut alice) = place();
    let (mut sent, mut refused) = (0_u32, 0);
    for request in requests(&world) {
        for text in spoiled(&request) {
            if world.closed(alice).is_some() {
                assert_eq!(world.closed(alice), Some(CloseReason::Misbehaved));
                alice = world.connect(1);
                world.login(alice, "alice", PASSWORD).unwrap();
            }
            let (before, counted) = (stored(&world), world.refusals());
            let stream = world.send(alice, text.as_bytes());
            world.settle();
            sent += 1;
            match world.reply::<Value>(alice, stream) {
                // What is left out may be left out, and what is unknown is passed over.
                Ok(_) => {}
                Err(error) => {
                    refused += 1;
                    assert_ne!(error.code, ErrorCode::Unknown, "{text}");
                    assert_eq!(world.refusals(), counted + 1, "{text}");
                    assert_eq!(stored(&world), before, "{text}");
                }
            }
        }
    }
    assert!(refused > 7_000 && sent - refused < 100, "{sent} spoiled requests, {refused} refused");
}

#[test]
fn so_many_that_cannot_be_read_end_a_connection_and_no_others_do() {
    let (mut world, alice) = place();
    // Read and refused, however often.
    for _ in 0..3 * MAX_MALFORMED {
        let ghost = Request::ContactBlock { name: name("ghost") };
        assert_eq!(world.refused(alice, &ghost), ErrorCode::UnknownUser);
    }
    assert_eq!(world.closed(alice), None);
    for sent in 1..=MAX_MALFORMED {
        assert_eq!(world.closed(alice), None);
        let stream = world.send(alice, b"{\"request\":\"user.get\",\"name\":7}");
        world.settle();
        let error = world.reply::<Value>(alice, stream).unwrap_err();
        assert_eq!(error.code, ErrorCode::Malformed, "{sent}");
    }
    assert_eq!(world.closed(alice), Some(CloseReason::Misbehaved));
}

#[test]
fn flights_out_of_order_or_of_another_exchange_finish_nothing() {
    let (mut world, alice) = place();
    let start = |kind: usize| {
        let mut rng = StdRng::from_seed([8; 32]);
        let registration = client::start_registration(PASSWORD, &mut rng).0;
        let login = client::start_login(PASSWORD, &mut rng).0;
        match kind {
            0 => Request::RegisterStart {
                name: name("carol"),
                message: registration.into(),
                ticket: None,
            },
            1 => Request::LoginStart { name: name("alice"), message: login.into() },
            2 => Request::RecoveryStart { name: name("alice") },
            _ => Request::PasswordStart { message: registration.into() },
        }
    };
    let finishes: Vec<_> = requests(&world)
        .into_iter()
        .filter(|request| {
            matches!(
                request,
                Request::RegisterFinish(_)
                    | Request::LoginFinish { .. }
                    | Request::RecoveryFinish { .. }
                    | Request::PasswordFinish { .. }
            )
        })
        .collect();
    let before = stored(&world);
    for kind in 0..4 {
        for (finish, request) in finishes.iter().enumerate() {
            // Before its start, after another's, and again after it was used up.
            assert_eq!(world.refused(alice, request), ErrorCode::NoExchange);
            world.call::<Value>(alice, &start(kind));
            let code = world.refused(alice, request);
            assert_eq!(code == ErrorCode::NoExchange, kind != finish, "{kind} {finish} {code}");
            assert_eq!(world.refused(alice, request), ErrorCode::NoExchange);
        }
    }
    assert_eq!(stored(&world), before);
}

#[test]
fn what_is_anothers_is_not_touched() {
    let (mut world, alice) = place();
    let bob = world.connect(2);
    let ids = world.held(bob).into_iter().map(|item| item.id).collect::<Vec<_>>();
    assert!(!ids.is_empty());
    world.call::<Done>(alice, &Request::HeldAck { ids });
    assert!(!world.held(bob).is_empty());
    let device = DeviceId::of(&secret(2).public());
    let rename = Request::DeviceName { device, name: "mine".to_owned() };
    assert_eq!(world.refused(alice, &rename), ErrorCode::UnknownDevice);
    let list = verified("bob", first_list("bob", 2)).without(&[device], world.now);
    let devices = list.sign(&account("bob"), Some(&secret(2)));
    let remove = Request::DeviceRemove { devices };
    assert_eq!(world.refused(alice, &remove), ErrorCode::BadDeviceList);
    let theirs = Request::PrekeysPut {
        signed: Some(Box::new(prekey(2, PrekeyUse::Signed, 1, world.now))),
        one_time: Vec::new(),
        replace: false,
    };
    assert_eq!(world.refused(alice, &theirs), ErrorCode::BadPrekeys);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_answered_and_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut world, alice) = place();
        let before = stored(&world);
        let stream = world.send(alice, &bytes);
        world.settle();
        prop_assert!(world.reply::<Value>(alice, stream).is_err());
        prop_assert_eq!(stored(&world), before);
    }
}
