//! Prekeys at the rendezvous: given once, and refused where it serves others than it should.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor::node::output::Event;
use parlor_common::prekey::{PrekeyBundle, PrekeyError};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world
}

/// They take each other off their contacts, and become contacts again: nothing of their sessions is
/// left.
fn part_and_meet(world: &mut World) {
    for (who, whom) in [("alice", "bob"), ("bob", "alice")] {
        let name = whom.parse().unwrap();
        world.asks_for(who, Intent::RemoveContact { name }).unwrap();
    }
    for (who, whom) in [("alice", "bob"), ("bob", "alice")] {
        let add = Intent::AddContact { name: whom.parse().unwrap(), account_key: None };
        world.asks_for(who, add).unwrap();
    }
    world.are_contacts("alice", "bob");
}

fn refusals(world: &World) -> Vec<PrekeyError> {
    let refused = world.told("alice").iter().filter_map(|event| match event {
        Event::BundleRefused { error, .. } => Some(*error),
        _ => None,
    });
    refused.collect()
}

/// Alice writes to Bob, with whom she has no session, and the rendezvous serves this bundle: she
/// refuses it and says why; what she wrote arrives by way of the bundle that Bob gives himself.
fn served(world: &mut World, bundle: &PrekeyBundle, expected: PrekeyError) {
    part_and_meet(world);
    // The rendezvous is asked for the same device's prekeys now and then only.
    world.run_for(Duration::from_secs(60));
    world.serves_prekeys("alice", bundle);
    let (texts, before) = (world.texts("bob").len(), refusals(world).len());
    world.says("alice", "bob", "do you hear me?");
    world.all_delivered("alice");
    assert_eq!(refusals(world)[before..], [expected]);
    assert_eq!(world.texts("bob").len(), texts + 1);
    world.serves_the_truth();
}

#[test]
fn the_first_message_uses_a_one_time_pair_of_the_rendezvous_and_no_other_does_again() {
    let mut world = friends(300);
    world.says("alice", "bob", "one");
    world.all_delivered("alice");
    let mut used = Vec::new();
    for _ in 0..3 {
        part_and_meet(&mut world);
        world.says("alice", "bob", "again");
        world.all_delivered("alice");
    }
    for (_, envelope) in world.envelopes() {
        if let Some(first) = &envelope.header().first {
            used.push((first.one_time_prekey, first.ephemeral.clone()));
        }
    }
    used.sort_unstable();
    used.dedup();
    let (pairs, sessions) = (used.iter().filter_map(|(pair, _)| *pair), used.len());
    let mut pairs: Vec<u32> = pairs.collect();
    assert!(pairs.len() >= 3, "three a day come with one");
    let given = pairs.len();
    pairs.dedup();
    assert_eq!(pairs.len(), given, "of {sessions} sessions no two have the same pair");
}

#[test]
fn prekeys_that_are_older_than_those_that_were_seen_are_refused() {
    let mut world = friends(301);
    world.says("alice", "bob", "hello");
    world.all_delivered("alice");
    let old = world.copy("bob").bundle(world.device("bob"));
    world.run_for(DAY * 8);
    world.restart("bob");
    world.is_online("bob");
    part_and_meet(&mut world);
    world.says("alice", "bob", "a week later");
    world.all_delivered("alice");
    served(&mut world, &old, PrekeyError::RolledBack);
}

#[test]
fn prekeys_that_are_three_weeks_old_are_refused_though_nothing_newer_was_seen() {
    let mut world = friends(302);
    let old = world.copy("bob").bundle(world.device("bob"));
    world.run_for(DAY * 22);
    served(&mut world, &old, PrekeyError::TooOld);
}

#[test]
fn prekeys_that_another_made_in_ones_name_are_refused() {
    let mut world = friends(303);
    world.register("mallory");
    // Until her prekeys lie at the rendezvous.
    world.is_online("mallory");
    world.run_for(Duration::from_secs(1));
    let hers = world.copy("mallory").bundle(world.device("mallory"));
    let forged = PrekeyBundle { device: world.device("bob").public(), ..hers };
    served(&mut world, &forged, PrekeyError::BadSignature);
}
