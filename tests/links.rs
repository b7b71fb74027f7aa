//! Links come up twice, break and fall silent: conversations go on, and one link stays.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;

fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world
}

#[test]
fn when_both_dial_at_once_one_link_stays_and_nothing_comes_twice() {
    for seed in 60..80 {
        let mut world = friends(seed);
        for (from, to) in [("alice", "bob"), ("bob", "alice")] {
            let text = format!("from {from}");
            world.intend(from, Intent::Send { to: to.parse().unwrap(), text });
        }
        world.run_until_quiet();
        assert_eq!(world.texts("alice"), ["from bob"]);
        assert_eq!(world.texts("bob"), ["from alice"]);
        assert_eq!(world.links("alice", "bob"), 1, "with seed {seed}");
        world.says("alice", "bob", "and on it goes");
        world.sees("bob", &["from alice", "and on it goes"]);
    }
}

#[test]
fn a_link_that_is_cut_is_replaced_without_the_rendezvous() {
    let mut world = friends(80);
    world.says("alice", "bob", "one");
    world.sees("bob", &["one"]);
    world.stop_server();
    world.is_offline("alice");
    world.is_offline("bob");
    world.says("alice", "bob", "two");
    world.cut_links("alice", "bob");
    world.says("alice", "bob", "three");
    world.sees("bob", &["one", "two", "three"]);
    world.all_delivered("alice");
}

#[test]
fn a_link_that_falls_silent_is_noticed_and_what_was_on_it_goes_again() {
    let mut world = friends(81);
    world.says("alice", "bob", "one");
    world.sees("bob", &["one"]);
    world.silence_links("alice", "bob");
    world.says("alice", "bob", "two");
    world.run_for(Duration::from_secs(1));
    world.says("alice", "bob", "three");
    world.sees("bob", &["one", "two", "three"]);
    world.all_delivered("alice");
}

#[test]
fn an_acknowledgement_that_was_lost_does_not_repeat_a_message() {
    let mut world = friends(82);
    world.says("alice", "bob", "once");
    world.sees("bob", &["once"]);
    world.cut_links("alice", "bob");
    world.all_delivered("alice");
    world.run_until_quiet();
    assert_eq!(world.texts("bob"), ["once"]);
    assert_eq!(world.stored_texts("bob", "alice"), ["once"]);
}
