//! Delivery through what the simulation has found: each story is the shortest that failed.

use std::time::Duration;

use harness::{Stage, World};

/// Two contacts who have talked.
fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world.says("alice", "bob", "hello");
    world.says("bob", "alice", "hello");
    world.all_delivered("alice");
    world.all_delivered("bob");
    world.run_until_quiet();
    world
}

/// Alice has written while bob was away, and is gone when he comes.
fn bob_comes_to_a_message(seed: u64) -> World {
    let mut world = friends(seed);
    world.stop("bob");
    world.run_until_quiet();
    world.says("alice", "bob", "while you were out");
    world.run_for(Duration::from_secs(2));
    world.stop("alice");
    world.start("bob");
    world
}

/// One is up for a minute, then the other, never both.
fn take_turns(world: &mut World) {
    for _ in 0..3 {
        for (who, other) in [("alice", "bob"), ("bob", "alice")] {
            if world.is_up(other) {
                world.stop(other);
            }
            if !world.is_up(who) {
                world.start(who);
            }
            world.run_for(Duration::from_secs(60));
        }
    }
}

#[test]
fn much_for_a_profile_that_was_put_back_arrives_without_a_storm_of_links() {
    for seed in 900..908 {
        let mut world = friends(seed);
        world.says("bob", "alice", "one more");
        world.all_delivered("bob");
        world.run_for(Duration::from_millis(120));
        let copy = world.copy("bob");
        world.says("bob", "alice", "what the copy never knew");
        world.run_for(Duration::from_millis(55));
        world.restore("bob", &copy);
        for number in 0..21 {
            world.says("alice", "bob", &format!("alice {number}"));
        }
        let dialed = world.dialed("alice").len();
        world.run_for(Duration::from_secs(90));
        assert_eq!(world.undelivered("alice", "bob"), 0, "seed {seed}");
        assert!(world.dialed("alice").len() - dialed < 20, "links come and go without end");
    }
}

/// Bob is away, alice has left a message for him, and the rendezvous has lost it.
fn the_rendezvous_has_lost_a_message(seed: u64) -> World {
    let mut world = friends(seed);
    world.stop("bob");
    world.run_until_quiet();
    let copy = world.copy_rendezvous();
    world.says("alice", "bob", "while you were out");
    world.run_for(Duration::from_secs(2));
    world.put_rendezvous_back(&copy);
    world.start_server();
    assert_eq!(world.waiting_envelopes("bob"), 0);
    world
}

#[test]
fn what_a_rendezvous_has_lost_is_left_there_again_after_a_start() {
    let mut world = the_rendezvous_has_lost_a_message(901);
    take_turns(&mut world);
    assert_eq!(world.stored_texts("bob", "alice"), ["hello", "while you were out"]);
    assert_eq!(world.undelivered("alice", "bob"), 0);
}

#[test]
fn what_a_rendezvous_has_lost_is_left_there_again_after_a_day() {
    let mut world = the_rendezvous_has_lost_a_message(902);
    world.run_for(Duration::from_secs(23 * 3600));
    assert_eq!(world.waiting_envelopes("bob"), 0, "nobody knows that it is lost");
    world.run_for(Duration::from_secs(2 * 3600));
    assert_eq!(world.waiting_envelopes("bob"), 1);
    take_turns(&mut world);
    assert_eq!(world.stored_texts("bob", "alice"), ["hello", "while you were out"]);
}

#[test]
fn what_waits_at_a_rendezvous_stays_there_until_its_recipient_has_saved_it() {
    for commits in 0..12 {
        let mut world = bob_comes_to_a_message(950 + u64::from(commits));
        world.kill_after_commits("bob", commits);
        world.run_for(Duration::from_secs(5));
        world.spare("bob");
        if !world.is_up("bob") {
            world.start("bob");
        }
        world.run_for(Duration::from_secs(20));
        // Alice is away, and leaves nothing again.
        let texts = world.stored_texts("bob", "alice");
        assert_eq!(texts, ["hello", "while you were out"], "killed after {commits} commits");
    }
}

/// The power fails just after alice has read a receipt: nobody gives it to her again.
#[test]
fn a_receipt_that_was_lost_with_the_last_moments_of_a_profile_comes_again() {
    let mut world = bob_comes_to_a_message(903);
    world.run_for(Duration::from_secs(10));
    world.stop("bob");
    world.start("alice");
    let copy = world.copy("alice");
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.undelivered("alice", "bob"), 0);
    world.restore("alice", &copy);
    assert_eq!(world.undelivered("alice", "bob"), 1);
    world.run_for(Duration::from_secs(60));
    take_turns(&mut world);
    assert_eq!(world.undelivered("alice", "bob"), 0);
    assert_eq!(world.stored_texts("bob", "alice"), ["hello", "while you were out"]);
}

#[test]
fn a_receipt_is_not_lost_with_a_recipient_that_dies_after_it_has_saved() {
    for commits in 0..12 {
        let mut world = bob_comes_to_a_message(910 + u64::from(commits));
        world.kill_after_commits("bob", commits);
        world.run_for(Duration::from_secs(5));
        world.spare("bob");
        take_turns(&mut world);
        assert_eq!(world.stored_texts("bob", "alice"), ["hello", "while you were out"]);
        assert_eq!(world.undelivered("alice", "bob"), 0, "killed after {commits} commits");
    }
}

#[test]
fn a_receipt_is_not_lost_with_a_rendezvous_that_dies() {
    for turns in 0..16 {
        let mut world = bob_comes_to_a_message(930 + u64::from(turns));
        world.kill_rendezvous_after_turns(turns);
        world.run_for(Duration::from_secs(30));
        world.spare_rendezvous();
        if !world.rendezvous_is_up() {
            world.start_server();
        }
        take_turns(&mut world);
        assert_eq!(world.stored_texts("bob", "alice"), ["hello", "while you were out"]);
        assert_eq!(world.undelivered("alice", "bob"), 0, "it dies after {turns} turns");
    }
}
