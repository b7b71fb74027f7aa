//! What a thief of a profile's copy can and cannot read, and how a profile that was put back to a
//! copy talks again.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor::node::output::Event;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PAIR: [(&str, &str); 2] = [("alice", "bob"), ("bob", "alice")];

fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world
}

/// Both say something every 300 ms, and hear each other.
fn talk_for(world: &mut World, time: Duration, about: &str) {
    let pause = Duration::from_millis(300);
    for round in 0..time.as_millis() / pause.as_millis() {
        for (from, to) in PAIR {
            let text = format!("{from} on {about}, {round}");
            world.intend(from, Intent::Send { to: to.parse().unwrap(), text });
        }
        world.run_for(pause);
    }
    world.run_until_quiet();
}

/// How many of the envelopes since the `from`th, sent by the victim or to it, a copy of its
/// profile opens.
fn opened(world: &World, copy: &harness::world::Copy, range: std::ops::Range<usize>) -> usize {
    let date = world.date();
    world.envelopes()[range].iter().filter(|(_, envelope)| copy.opens(envelope, date)).count()
}

#[test]
fn a_stolen_copy_opens_nothing_that_was_received_before_it_was_taken() {
    let mut world = friends(200);
    talk_for(&mut world, Duration::from_secs(4), "old things");
    let stolen = world.envelopes().len();
    assert!(stolen > 30, "they have talked");
    for victim in ["alice", "bob"] {
        let copy = world.copy(victim);
        assert_eq!(opened(&world, &copy, 0..stolen), 0, "{victim}'s copy opens old envelopes");
    }
}

#[test]
fn a_stolen_copy_opens_nothing_once_both_have_stepped() {
    for (seed, victim) in [(201, "alice"), (202, "bob")] {
        let mut world = friends(seed);
        talk_for(&mut world, Duration::from_secs(3), "old things");
        let (copy, stolen) = (world.copy(victim), world.envelopes().len());
        talk_for(&mut world, Duration::from_secs(2), "the break");
        let healed = world.envelopes().len();
        assert!(opened(&world, &copy, stolen..healed) > 0, "the copy follows for a while");
        talk_for(&mut world, Duration::from_secs(3), "new things");
        let end = world.envelopes().len();
        assert_eq!(opened(&world, &copy, healed..end), 0, "the session has healed");
    }
}

/// Messages of `from` that were told to the other side, this life's and earlier ones'.
fn heard<'a>(world: &'a World, who: &str, about: &str) -> Vec<&'a str> {
    world.texts(who).into_iter().filter(|text| text.contains(about)).collect()
}

/// A profile is put back to a copy in the middle of a conversation: within 30 seconds both hear
/// each other again, and nothing is shown twice.
fn put_back(seed: u64, victim: &str, before: Duration, after: Duration) {
    let mut world = friends(seed);
    talk_for(&mut world, before, "first things");
    let copy = world.copy(victim);
    talk_for(&mut world, after, "second things");
    world.restore(victim, &copy);
    for (from, to) in PAIR {
        let text = format!("{from} on third things");
        world.intend(from, Intent::Send { to: to.parse().unwrap(), text });
    }
    world.run_for(Duration::from_secs(30));
    for (from, to) in PAIR {
        let expected = format!("{from} on third things");
        assert_eq!(heard(&world, to, "third things"), [expected], "seed {seed}: {to} heard it");
        assert_eq!(world.undelivered(from, to), 0, "seed {seed}: {from} knows it");
    }
    talk_for(&mut world, Duration::from_secs(3), "fourth things");
    for (from, to) in PAIR {
        let expected: Vec<_> = (0..10).map(|n| format!("{from} on fourth things, {n}")).collect();
        assert_eq!(heard(&world, to, "fourth things"), expected, "seed {seed}");
        assert_eq!(world.undelivered(from, to), 0, "seed {seed}");
    }
    let mut told = world.texts("alice");
    told.extend(world.texts("bob"));
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), count, "seed {seed}: something was shown twice");
}

#[test]
fn a_profile_that_was_put_back_to_a_copy_talks_again_within_30_seconds() {
    let seconds = Duration::from_secs;
    put_back(210, "alice", seconds(2), seconds(3));
    put_back(211, "bob", seconds(2), seconds(3));
    // The copy is from before the first word, and from a moment ago.
    put_back(212, "alice", seconds(0), seconds(3));
    put_back(213, "bob", seconds(0), seconds(3));
    put_back(214, "alice", seconds(3), Duration::from_millis(300));
    put_back(215, "bob", seconds(3), Duration::from_millis(300));
}

#[test]
fn a_profile_that_is_put_back_at_any_moment_talks_again() {
    for seed in 2000..2000 + runs() {
        let mut rng = StdRng::seed_from_u64(seed);
        let victim = PAIR[rng.random_range(0..2)].0;
        let mut time = || Duration::from_millis(300 * rng.random_range(0..12));
        put_back(seed, victim, time(), time());
    }
}

/// How many. More of them take longer and find more: `PARLOR_STORMS=1000`.
fn runs() -> u64 {
    std::env::var("PARLOR_STORMS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn a_copy_of_an_earlier_start_is_found_out_by_its_count() {
    for (seed, victim) in [(216, "alice"), (217, "bob")] {
        let mut world = friends(seed);
        talk_for(&mut world, Duration::from_secs(2), "first things");
        let copy = world.copy(victim);
        world.restart(victim);
        talk_for(&mut world, Duration::from_secs(2), "second things");
        let sessions = world.agreed(victim);
        world.restore(victim, &copy);
        world.run_for(Duration::from_secs(2));
        for (from, to) in PAIR {
            world.says(from, to, "third things");
        }
        world.run_for(Duration::from_secs(30));
        for (_, to) in PAIR {
            assert_eq!(heard(&world, to, "third things"), ["third things"], "seed {seed}");
        }
        assert!(world.agreed(victim) > sessions, "its sessions were started anew");
    }
}

#[test]
fn what_was_on_its_way_when_a_profile_was_put_back_is_not_lost() {
    let mut world = friends(220);
    talk_for(&mut world, Duration::from_secs(2), "first things");
    let copy = world.copy("bob");
    talk_for(&mut world, Duration::from_secs(2), "second things");
    world.kill("bob");
    for number in 0..5 {
        world.says("alice", "bob", &format!("while you were out, {number}"));
    }
    world.restore("bob", &copy);
    world.run_for(Duration::from_secs(30));
    let expected: Vec<_> = (0..5).map(|n| format!("while you were out, {n}")).collect();
    assert_eq!(heard(&world, "bob", "while you were out"), expected);
    assert_eq!(world.undelivered("alice", "bob"), 0);
}

#[test]
fn two_copies_at_once_take_turns_and_say_so() {
    let mut world = friends(230);
    talk_for(&mut world, Duration::from_secs(2), "first things");
    let copy = world.copy("alice");
    // The original runs on; the copy is started beside it, as a second process elsewhere would be.
    world.restore_beside("alice", &copy, "copy");
    world.run_for(Duration::from_secs(5));
    assert!(world.told("alice").contains(&Event::Replaced), "the older one is told");
    world.says("copy", "bob", "from the copy");
    world.run_for(Duration::from_secs(30));
    assert_eq!(heard(&world, "bob", "from the copy"), ["from the copy"]);
}

#[test]
fn a_carrier_that_loses_repeats_and_disorders_envelopes_changes_nothing_that_is_shown() {
    for seed in 240..244 {
        let mut world = friends(seed);
        world.says("alice", "bob", "hello");
        world.says("bob", "alice", "hello");
        world.run_until_quiet();
        world.tamper(true);
        let mut said = 0;
        for _ in 0..6 {
            for (from, to) in PAIR {
                for number in said..said + 5 {
                    world.says(from, to, &format!("{from} {number}"));
                }
            }
            said += 5;
            world.run_for(Duration::from_millis(1500));
            world.cut_links("alice", "bob");
        }
        world.tamper(false);
        world.cut_links("alice", "bob");
        for (from, to) in PAIR {
            world.all_delivered(from);
            let told = heard(&world, to, &format!("{from} "));
            let mut once = told.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!((told.len(), once.len()), (said, said), "seed {seed}: all of it, and once");
        }
    }
}
