//! The stories of the simulated world, told on real sockets by the drivers that people run.

use harness::real::Real;
use harness::{Stage, stories};
use parlor::node::input::Intent;
use parlor::node::output::Event;

#[test]
fn two_peers_talk_both_ways() {
    stories::two_peers_talk(&mut Real::new());
}

#[test]
fn a_conversation_goes_on_while_the_rendezvous_is_away_and_peers_return_by_themselves() {
    stories::the_rendezvous_restarts(&mut Real::new());
}

#[test]
fn a_peer_that_restarts_receives_what_waited_and_goes_on() {
    stories::a_peer_restarts(&mut Real::new());
}

fn texts(to: &'static str, count: usize) -> impl Iterator<Item = Intent> {
    let to = || to.parse().unwrap();
    (0..count).map(move |number| Intent::Send { to: to(), text: number.to_string() })
}

#[test]
fn what_others_say_does_not_wait_until_all_that_one_wants_to_say_is_taken() {
    let mut real = Real::new();
    for name in ["alice", "bob"] {
        real.register(name);
    }
    real.befriend("alice", "bob");
    real.says("alice", "bob", "hello");
    real.all_delivered("alice");
    let before = real.told("alice").len();
    real.wants("alice", texts("bob", 20_000));
    real.wants("bob", texts("alice", 100));
    let queued = |event: &&Event| matches!(event, Event::Queued { .. });
    let is_last = |event: &Event| matches!(event, Event::Message(it) if it.text == "99");
    real.until("alice", "bob's last text", |told| told.last().is_some_and(is_last));
    let taken = real.told("alice").iter().skip(before).filter(queued).count();
    assert!(taken < 20_000, "bob has waited for alice");
}
