//! Conversations of several, and long ones: everything arrives, once, and in order.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor::node::record::MessageState;

const FIVE: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

#[test]
fn five_peers_talk_every_pair_at_once() {
    let mut world = World::new(10);
    FIVE.iter().for_each(|name| world.register(name));
    let pairs = || {
        let all = FIVE.into_iter().flat_map(|from| FIVE.map(|to| (from, to)));
        all.filter(|(from, to)| from != to)
    };
    for (one, other) in pairs().filter(|(one, other)| one < other) {
        world.befriend(one, other);
    }
    for round in 0..5 {
        for (from, to) in pairs() {
            let text = format!("{from} to {to}, {round}");
            world.intend(from, Intent::Send { to: to.parse().unwrap(), text });
        }
    }
    world.run_until_quiet();
    for (from, to) in pairs() {
        let expected: Vec<_> = (0..5).map(|round| format!("{from} to {to}, {round}")).collect();
        let start = format!("{from} to ");
        let told = world.texts(to).into_iter().filter(|text| text.starts_with(&start));
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(world.stored_texts(to, from), expected);
        assert_eq!(world.links(from, to), 1, "of all links between {from} and {to} one stays");
    }
    FIVE.iter().for_each(|name| world.all_delivered(name));
}

#[test]
fn a_thousand_messages_each_way_arrive_once_and_in_order() {
    let mut world = friends(11);
    for number in 0..1000 {
        for (from, to) in [("alice", "bob"), ("bob", "alice")] {
            let text = format!("{from} {number}");
            world.intend(from, Intent::Send { to: to.parse().unwrap(), text });
        }
        world.run_for(Duration::from_millis(number % 3));
    }
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        world.all_delivered(from);
        let expected: Vec<_> = (0..1000).map(|number| format!("{from} {number}")).collect();
        assert_eq!(world.texts(to), expected);
        assert_eq!(world.stored_texts(to, from), expected);
    }
}

#[test]
fn what_is_sent_while_a_contact_is_away_arrives_in_order_when_it_returns() {
    let mut world = friends(12);
    world.stop("bob");
    world.run_until("bob is seen to go", |world| !world.shows_online("alice", "bob"));
    let texts: Vec<String> = (0..20).map(|number| format!("for later, {number}")).collect();
    for text in &texts {
        world.says("alice", "bob", text);
    }
    world.run_for(Duration::from_secs(24 * 3600));
    world.restart("alice");
    world.run_for(Duration::from_secs(24 * 3600));
    world.start("bob");
    world.sees("bob", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    world.all_delivered("alice");
}

#[test]
fn what_was_sent_before_an_answer_waits_for_it() {
    let mut world = World::new(13);
    world.register("alice");
    world.register("bob");
    let ask = Intent::AddContact { name: "bob".parse().unwrap(), account_key: None };
    world.asks_for("alice", ask).unwrap();
    world.says("alice", "bob", "will you be my contact?");
    world.run_until_quiet();
    assert!(world.texts("bob").is_empty());
    world.asks_for("bob", Intent::AcceptContact { name: "alice".parse().unwrap() }).unwrap();
    world.sees("bob", &["will you be my contact?"]);
}

#[test]
fn messages_of_two_sessions_keep_their_order() {
    let mut world = friends(15);
    world.says("alice", "bob", "zero");
    world.run_until("it is on its way, under alice's session", |world| {
        world.sent("alice").iter().any(|(_, state)| *state == MessageState::Sent)
    });
    world.kill("bob");
    world.start("bob");
    // Bob starts another session, on which alice goes on; her link to the bob that was is dead, but
    // she does not know yet.
    world.says("bob", "alice", "I was away");
    world.sees("alice", &["I was away"]);
    world.says("alice", "bob", "one");
    world.says("alice", "bob", "two");
    world.sees("bob", &["zero", "one", "two"]);
}

#[test]
fn a_wrong_clock_stops_nobody_from_talking_to_who_dials_them() {
    let mut world = friends(14);
    world.set_clock("bob", Duration::from_secs(3600), true);
    world.says("alice", "bob", "what time is it?");
    world.says("bob", "alice", "an hour ago");
    world.run_until_quiet();
    // Offers are good for a minute by the recipient's clock: with clocks so far apart peers find no
    // way, but nothing is lost, and everything arrives when the clock is right again.
    world.set_clock("bob", Duration::ZERO, false);
    world.sees("bob", &["what time is it?"]);
    world.sees("alice", &["an hour ago"]);
}

fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world
}
