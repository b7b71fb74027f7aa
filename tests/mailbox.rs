//! Messages to somebody who cannot be reached: they wait at the rendezvous, and come once.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor::node::output::Event;
use parlor::node::record::{Carrier, Direction, FailReason, MessageState, StoredMessage};
use parlor_common::id::MessageId;
use parlor_rendezvous::limits::Limits;

fn friends(seed: u64) -> World {
    friends_at(seed, Limits::default())
}

fn friends_at(seed: u64, limits: Limits) -> World {
    let mut world = World::new(seed);
    world.limit(limits);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world.run_until_quiet();
    world
}

fn history(world: &World, home: &str, with: &str) -> Vec<StoredMessage> {
    world.store(home).reader().history(&with.parse().unwrap(), u32::MAX, None).unwrap()
}

/// The states and carriers of what `home` sent.
fn sent(world: &World, home: &str, to: &str) -> Vec<(MessageState, Option<Carrier>)> {
    let sent = history(world, home, to).into_iter();
    sent.filter(|each| each.direction == Direction::Out)
        .map(|each| (each.state, each.carrier))
        .collect()
}

fn last_id(world: &World, home: &str) -> MessageId {
    world.sent(home).last().unwrap().0
}

const POSTED: (MessageState, Option<Carrier>) = (MessageState::Sent, Some(Carrier::Mailbox));
const FETCHED: (MessageState, Option<Carrier>) = (MessageState::Delivered, Some(Carrier::Mailbox));

/// Waits until all that `home` sent to the other is in a mailbox.
fn all_posted(world: &mut World, home: &str, to: &str) {
    world.run_until("all of it waits at the rendezvous", |world| {
        sent(world, home, to).iter().all(|(state, _)| *state != MessageState::Queued)
    });
}

#[test]
fn two_who_are_never_there_together_talk_by_their_mailboxes() {
    let mut world = friends(700);
    world.stop("bob");
    let mut said: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for turn in 0..10 {
        let (from, to, said) = match turn % 2 {
            0 => ("alice", "bob", &mut said[0]),
            _ => ("bob", "alice", &mut said[1]),
        };
        for number in 0..3 {
            let text = format!("{from} in turn {turn}, {number}");
            world.says(from, to, &text);
            said.push(text);
        }
        all_posted(&mut world, from, to);
        assert!(sent(&world, from, to)[said.len() - 3..].iter().all(|each| *each == POSTED));
        world.run_until_quiet();
        world.stop(from);
        world.start(to);
        world.is_online(to);
        world.run_until_quiet();
        assert_eq!(world.stored_texts(to, from), *said);
    }
    world.run_until_quiet();
    assert!(sent(&world, "alice", "bob").iter().all(|each| *each == FETCHED));
    assert_eq!(
        (world.texts("bob"), world.texts("alice")),
        (
            said[0].iter().map(String::as_str).collect(),
            said[1].iter().map(String::as_str).collect(),
        )
    );
    assert_eq!(world.waiting_envelopes("bob"), 1, "the last receipt, for bob, who is away");
    world.stop("alice");
    world.start("bob");
    world.run_until_quiet();
    assert!(sent(&world, "bob", "alice").iter().all(|each| *each == FETCHED));
    assert_eq!(world.waiting_envelopes("bob"), 0, "nothing is kept after delivery");
}

#[test]
fn what_can_go_directly_does() {
    let mut world = friends(701);
    world.says("alice", "bob", "straight to you");
    world.all_delivered("alice");
    let direct = (MessageState::Delivered, Some(Carrier::Direct));
    assert_eq!(sent(&world, "alice", "bob"), [direct]);
    assert_eq!(history(&world, "bob", "alice")[0].carrier, Some(Carrier::Direct));
}

#[test]
fn a_message_that_came_twice_is_seen_once_and_acknowledged() {
    let mut world = friends(702);
    for round in 0..12 {
        world.stop("bob");
        let text = format!("round {round}");
        world.says("alice", "bob", &text);
        all_posted(&mut world, "alice", "bob");
        // It dies at some point of fetching, before the rendezvous hears of it.
        world.start("bob");
        world.kill_after_commits("bob", round);
        world.run_for(Duration::from_secs(30));
        world.spare("bob");
        if !world.is_up("bob") {
            world.start("bob");
        }
        world.all_delivered("alice");
        world.run_until_quiet();
    }
    let expected: Vec<_> = (0..12).map(|round| format!("round {round}")).collect();
    assert_eq!(world.stored_texts("bob", "alice"), expected);
    assert_eq!(world.waiting_envelopes("bob"), 0);
}

#[test]
fn a_sender_that_dies_while_it_posts_loses_and_repeats_nothing() {
    let mut world = friends(703);
    world.stop("bob");
    let mut said = Vec::new();
    for round in 0..8 {
        world.kill_after_commits("alice", round);
        let text = format!("round {round}");
        let intent = Intent::Send { to: "bob".parse().unwrap(), text: text.clone() };
        world.intend("alice", intent);
        world.run_for(Duration::from_secs(30));
        world.spare("alice");
        if !world.is_up("alice") {
            world.start("alice");
        }
        if history(&world, "alice", "bob").iter().any(|each| each.text == text) {
            said.push(text);
        }
    }
    all_posted(&mut world, "alice", "bob");
    world.stop("alice");
    world.start("bob");
    world.run_until_quiet();
    assert!(said.len() >= 4, "{said:?}");
    assert_eq!(world.stored_texts("bob", "alice"), said);
}

#[test]
fn a_rendezvous_that_dies_between_storing_and_answering_has_it_once_for_the_reader() {
    let mut world = friends(704);
    world.stop("bob");
    for round in 0..6 {
        let text = format!("round {round}");
        world.intend("alice", Intent::Send { to: "bob".parse().unwrap(), text });
        world.run_for(Duration::from_millis(5 * round));
        world.kill_rendezvous();
        world.run_for(Duration::from_secs(2));
        world.start_rendezvous();
        world.run_for(Duration::from_secs(40));
    }
    all_posted(&mut world, "alice", "bob");
    world.stop("alice");
    world.start("bob");
    world.is_online("bob");
    world.run_until_quiet();
    let expected: Vec<_> = (0..6).map(|round| format!("round {round}")).collect();
    assert_eq!(world.stored_texts("bob", "alice"), expected);
}

#[test]
fn a_profile_that_was_put_back_talks_again_by_mailbox_alone() {
    let mut world = friends(705);
    world.says("alice", "bob", "first");
    world.says("bob", "alice", "second");
    world.run_until_quiet();
    let copy = world.copy("bob");
    world.says("alice", "bob", "third");
    world.says("bob", "alice", "fourth");
    world.all_delivered("alice");
    world.run_until_quiet();
    world.stop("bob");
    world.says("alice", "bob", "fifth");
    all_posted(&mut world, "alice", "bob");
    world.stop("alice");
    world.restore("bob", &copy);
    world.run_for(Duration::from_secs(60));
    // In turns, until both have heard of the new session.
    for _ in 0..3 {
        world.stop("bob");
        world.start("alice");
        world.run_for(Duration::from_secs(60));
        world.stop("alice");
        world.start("bob");
        world.run_for(Duration::from_secs(60));
    }
    assert!(world.stored_texts("bob", "alice").contains(&"fifth".to_owned()));
    world.says("bob", "alice", "sixth");
    all_posted(&mut world, "bob", "alice");
    world.stop("bob");
    world.start("alice");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.stored_texts("alice", "bob"), ["second", "fourth", "sixth"]);
}

#[test]
fn a_profile_that_was_put_back_says_so_to_contacts_whose_sessions_it_does_not_know() {
    let mut world = friends(706);
    let copy = world.copy("bob");
    // Their first session: the copy knows nothing of it, and counts no other start.
    world.says("bob", "alice", "first");
    world.all_delivered("bob");
    world.run_until_quiet();
    world.stop("bob");
    world.says("alice", "bob", "second");
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.waiting_envelopes("bob"), 1);
    world.stop("alice");
    world.restore("bob", &copy);
    world.run_for(Duration::from_secs(60));
    for (home, other) in [("alice", "bob"), ("bob", "alice")] {
        world.stop(other);
        world.start(home);
        world.run_for(Duration::from_secs(60));
    }
    assert_eq!(world.stored_texts("bob", "alice"), ["second"]);
}

#[test]
fn who_goes_offline_while_a_link_is_sought_is_written_to_by_mailbox() {
    let mut world = friends(707);
    world.says("bob", "alice", "first");
    world.all_delivered("bob");
    world.stop("bob");
    world.says("alice", "bob", "second");
    world.run_for(Duration::from_secs(30));
    assert_eq!(sent(&world, "alice", "bob"), [POSTED]);
}

#[test]
fn a_bundle_that_a_dying_rendezvous_did_not_give_is_asked_for_again() {
    for turns in 0..6 {
        let mut world = friends(708);
        world.stop("bob");
        world.run_for(Duration::from_secs(30));
        world.says("alice", "bob", "first");
        world.kill_rendezvous_after_turns(turns);
        world.run_for(Duration::from_secs(1));
        world.spare_rendezvous();
        if !world.rendezvous_is_up() {
            world.start_server();
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(sent(&world, "alice", "bob"), [POSTED], "it was killed after {turns} turns");
    }
}

#[test]
fn a_full_mailbox_is_told_and_what_waits_goes_when_there_is_room() {
    let limits = Limits { mailbox_messages: 3, ..Limits::default() };
    let mut world = friends_at(706, limits);
    world.stop("bob");
    for number in 0..5 {
        world.says("alice", "bob", &format!("number {number}"));
        world.run_for(Duration::from_secs(1));
    }
    let full = Event::MailboxFull { contact: "bob".parse().unwrap() };
    let told = world.told("alice").iter().filter(|event| **event == full).count();
    assert_eq!(told, 1, "it is told once");
    let queued = (MessageState::Queued, None);
    assert_eq!(sent(&world, "alice", "bob")[2..], [POSTED, queued, queued]);
    world.stop("alice");
    world.start("bob");
    world.run_until_quiet();
    assert_eq!(world.stored_texts("bob", "alice").len(), 3);
    world.start("alice");
    world.all_delivered("alice");
    let expected: Vec<_> = (0..5).map(|number| format!("number {number}")).collect();
    assert_eq!(world.stored_texts("bob", "alice"), expected);
}

#[test]
fn what_has_not_left_can_be_taken_back_or_written_anew() {
    let mut world = friends(707);
    world.stop("bob");
    world.stop_server();
    world.is_offline("alice");
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        world.says("alice", "bob", text);
        ids.push(last_id(&world, "alice"));
    }
    world.asks_for("alice", Intent::TakeBack { id: ids[0] }).unwrap();
    world.asks_for("alice", Intent::Edit { id: ids[1], text: "2".to_owned() }).unwrap();
    world.restart("alice");
    world.start_server();
    world.run_until("the rest is posted", |world| {
        sent(world, "alice", "bob").iter().all(|each| *each == POSTED)
    });
    let late = world.asks_for("alice", Intent::TakeBack { id: ids[2] });
    assert!(late.is_err(), "it has left");
    world.start("bob");
    world.run_until_quiet();
    assert_eq!(world.stored_texts("bob", "alice"), ["2", "three"]);
    assert_eq!(history(&world, "alice", "bob").len(), 2);
}

#[test]
fn what_was_seen_is_told_by_whichever_way_there_is() {
    let mut world = friends(708);
    world.says("alice", "bob", "did you see this?");
    world.all_delivered("alice");
    world.stop("alice");
    world.run_until_quiet();
    let (contact, id) = ("alice".parse().unwrap(), history(&world, "bob", "alice")[0].id);
    world.asks_for("bob", Intent::Read { contact, ids: vec![id] }).unwrap();
    world.run_until_quiet();
    world.stop("bob");
    world.start("alice");
    world.run_until_quiet();
    assert_eq!(sent(&world, "alice", "bob")[0].0, MessageState::Read);
}

#[test]
fn messages_disappear_on_both_sides_when_both_want_it() {
    let mut world = friends(709);
    let timer = |name: &str, seconds| Intent::SetTimer {
        name: name.parse().unwrap(),
        seconds: Some(seconds),
    };
    world.asks_for("alice", timer("bob", 60)).unwrap();
    world.says("alice", "bob", "only I want this gone");
    world.run_until_quiet();
    world.asks_for("bob", timer("alice", 3600)).unwrap();
    world.says("bob", "alice", "now we both do");
    world.run_until_quiet();
    world.says("alice", "bob", "within the hour");
    world.run_until_quiet();
    assert_eq!(history(&world, "alice", "bob").len(), 3);
    world.run_for(Duration::from_secs(3500));
    assert_eq!(history(&world, "bob", "alice").len(), 3, "the longer time is the one agreed on");
    world.run_for(Duration::from_secs(3600));
    for (who, whom) in [("alice", "bob"), ("bob", "alice")] {
        let left: Vec<_> = history(&world, who, whom).into_iter().map(|each| each.text).collect();
        assert_eq!(left, ["only I want this gone"], "at {who}'s");
    }
}

#[test]
fn what_will_not_be_delivered_says_why() {
    let mut world = friends(710);
    world.stop("bob");
    world.says("alice", "bob", "never mind");
    all_posted(&mut world, "alice", "bob");
    world.asks_for("alice", Intent::BlockContact { name: "bob".parse().unwrap() }).unwrap();
    let failed = &history(&world, "alice", "bob")[0];
    assert_eq!(
        (failed.state, failed.reason),
        (MessageState::Failed, Some(FailReason::ContactBlocked),)
    );
}
