//! How soon peers are back when the rendezvous is.

use std::time::Duration;

use harness::{Stage, World};

/// Who was told of the stop, or has something to send, is back within this time.
const SOON: Duration = Duration::from_secs(5);
/// Everybody else is, within the first ten minutes.
const LATER: Duration = Duration::from_secs(20);

#[test]
fn peers_that_were_told_of_the_stop_are_back_within_five_seconds() {
    let mut world = World::new(100);
    world.register("alice");
    for away in (0..60).map(|number| Duration::from_millis(number * 1_370)) {
        world.stop_server();
        world.is_offline("alice");
        world.run_for(away);
        world.start_server();
        assert!(is_back(&mut world, SOON), "after {away:?}");
    }
}

#[test]
fn peers_that_were_not_told_are_back_within_five_seconds_if_something_waits_and_twenty_if_not() {
    let mut world = World::new(101);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world.stop("bob");
    for (waits, within) in [(false, LATER), (true, SOON)] {
        if waits {
            world.says("alice", "bob", "for later");
        }
        for away in (0..40).map(|number| Duration::from_millis(20_000 + number * 3_700)) {
            world.kill_rendezvous();
            world.is_offline("alice");
            world.run_for(away);
            world.start_rendezvous();
            assert!(is_back(&mut world, within), "after {away:?}, waiting: {waits}");
        }
    }
}

fn is_back(world: &mut World, within: Duration) -> bool {
    let told = world.told("alice").len();
    world.run_for(within);
    world.told("alice")[told..].contains(&parlor::node::output::Event::Online)
}
