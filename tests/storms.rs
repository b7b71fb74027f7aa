//! Conversations through every fault that the world has: peers killed between saving and sending,
//! links cut and silent, the rendezvous gone. Every message arrives once, and in order.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;
use rand::RngExt;

const PAIR: [(&str, &str); 2] = [("alice", "bob"), ("bob", "alice")];

/// What befalls the two.
#[derive(Debug)]
enum Fault {
    Kill,
    KillInTheMiddle,
    Restart,
    CutLinks,
    SilenceLinks,
    StopServer,
    KillServer,
}

#[test]
fn nothing_is_lost_repeated_or_disordered_in_twenty_storms() {
    for seed in 0..storms() {
        storm(1000 + seed);
    }
}

#[test]
fn becoming_contacts_survives_twenty_storms() {
    for seed in 0..storms() {
        storm_of_requests(5000 + seed);
    }
}

/// How many storms there are. More of them take longer and find more: `PARLOR_STORMS=1000`.
fn storms() -> u64 {
    std::env::var("PARLOR_STORMS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Both ask and accept as they like while everything breaks; when it is calm again, asking once more
/// is all that it takes.
fn storm_of_requests(seed: u64) {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    for _ in 0..6 {
        let fault = any_fault(&mut world);
        let (victim, other) = PAIR[world.rng().random_range(0..2)];
        for who in [victim, other] {
            let name = if who == victim { other } else { victim }.parse().unwrap();
            match world.rng().random_range(0..4) {
                0 | 1 => drop(world.intend(who, Intent::AddContact { name, account_key: None })),
                2 => drop(world.intend(who, Intent::AcceptContact { name })),
                _ => {}
            }
        }
        let pause = world.rng().random_range(0..80);
        world.run_for(Duration::from_millis(pause));
        strike(&mut world, &fault, victim);
        let pause = world.rng().random_range(0..800);
        world.run_for(Duration::from_millis(pause));
        recover(&mut world, &fault);
    }
    // The death of the rendezvous is noticed by now.
    world.run_for(Duration::from_secs(60));
    for (who, whom) in PAIR {
        world.is_online(who);
        let name = whom.parse().unwrap();
        world.asks_for(who, Intent::AddContact { name, account_key: None }).unwrap();
    }
    world.are_contacts("alice", "bob");
    world.says("alice", "bob", "calm at last");
    world.says("bob", "alice", "so it is");
    world.sees("bob", &["calm at last"]);
    world.sees("alice", &["so it is"]);
}

fn storm(seed: u64) {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    let mut said = [0, 0];
    for _ in 0..12 {
        let fault = any_fault(&mut world);
        let (victim, _) = PAIR[world.rng().random_range(0..2)];
        strike(&mut world, &fault, victim);
        for _ in 0..4 {
            for ((from, to), said) in PAIR.into_iter().zip(&mut said) {
                *said += say_some(&mut world, from, to, *said);
            }
            let pause = world.rng().random_range(0..400);
            world.run_for(Duration::from_millis(pause));
        }
        recover(&mut world, &fault);
    }
    for ((from, to), said) in PAIR.into_iter().zip(said) {
        let expected: Vec<String> = (0..said).map(|number| format!("{from} {number}")).collect();
        world.run_until(&format!("all of {from}'s arrive"), |world| {
            world.stored_texts(to, from).len() >= said
        });
        world.run_until_quiet();
        assert_eq!(world.stored_texts(to, from), expected);
        assert_eq!(world.undelivered(from, to), 0, "and {from} knows it");
        let told: Vec<_> = world.texts(to);
        assert!(told.len() <= said, "nothing is told twice");
        let mut known = expected.iter();
        assert!(told.iter().all(|text| known.any(|each| each == text)), "told in order: {told:?}");
    }
}

fn any_fault(world: &mut World) -> Fault {
    match world.rng().random_range(0..7) {
        0 => Fault::Kill,
        1 => Fault::KillInTheMiddle,
        2 => Fault::Restart,
        3 => Fault::CutLinks,
        4 => Fault::SilenceLinks,
        5 => Fault::StopServer,
        _ => Fault::KillServer,
    }
}

fn strike(world: &mut World, fault: &Fault, victim: &str) {
    match fault {
        Fault::Kill => world.kill(victim),
        Fault::KillInTheMiddle => {
            let commits = world.rng().random_range(0..12);
            world.kill_after_commits(victim, commits);
        }
        Fault::Restart => world.restart(victim),
        Fault::CutLinks => world.cut_links("alice", "bob"),
        Fault::SilenceLinks => world.silence_links("alice", "bob"),
        Fault::StopServer => world.stop_server(),
        Fault::KillServer => world.kill_rendezvous(),
    }
}

fn recover(world: &mut World, fault: &Fault) {
    if matches!(fault, Fault::StopServer | Fault::KillServer) {
        world.start_server();
    }
    for (who, _) in PAIR {
        world.spare(who);
        if !world.is_up(who) {
            world.start(who);
        }
    }
}

/// A few messages, of which those count that were saved.
fn say_some(world: &mut World, from: &str, to: &str, said: usize) -> usize {
    let wanted = world.rng().random_range(0..4);
    for number in said..said + wanted {
        if !world.is_up(from) {
            return number - said;
        }
        let send = Intent::Send { to: to.parse().unwrap(), text: format!("{from} {number}") };
        let before = world.queued(from, to);
        let token = world.intend(from, send);
        world.run_until("it is queued, or the peer died of it", |world| {
            world.result(from, token).is_some() || !world.is_up(from)
        });
        if world.queued(from, to) == before {
            return number - said;
        }
    }
    wanted
}
