//! How people become contacts and stop being ones, whoever is online when.

use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor::node::output::{Event, IntentError};
use parlor::node::record::{ContactState, MessageState};

fn two(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world
}

fn add(name: &str) -> Intent {
    Intent::AddContact { name: name.parse().unwrap(), account_key: None }
}

fn accept(name: &str) -> Intent {
    Intent::AcceptContact { name: name.parse().unwrap() }
}

#[test]
fn both_may_ask_at_once() {
    for seed in 30..40 {
        let mut world = two(seed);
        world.intend("alice", add("bob"));
        world.intend("bob", add("alice"));
        world.are_contacts("alice", "bob");
        world.says("alice", "bob", "same thought");
        world.says("bob", "alice", "same moment");
        world.sees("bob", &["same thought"]);
        world.sees("alice", &["same moment"]);
    }
}

#[test]
fn both_sides_may_be_offline_in_turn() {
    let mut world = two(40);
    world.stop("bob");
    world.asks_for("alice", add("bob")).unwrap();
    world.stop("alice");
    world.start("bob");
    world.is_asked("bob", "alice");
    world.asks_for("bob", accept("alice")).unwrap();
    world.stop("bob");
    world.run_until_quiet();
    world.start("alice");
    world.are_contacts("alice", "bob");
    world.says("alice", "bob", "at last");
    world.start("bob");
    world.sees("bob", &["at last"]);
}

#[test]
fn requests_and_answers_survive_a_restart_of_the_rendezvous() {
    let mut world = two(41);
    world.stop("bob");
    world.asks_for("alice", add("bob")).unwrap();
    world.kill_rendezvous();
    world.start_rendezvous();
    world.start("bob");
    world.is_asked("bob", "alice");
    world.is_online("bob");
    world.asks_for("bob", accept("alice")).unwrap();
    world.stop_server();
    world.start_server();
    world.are_contacts("alice", "bob");
}

#[test]
fn who_is_declined_is_no_contact_and_what_waited_is_given_up() {
    let mut world = two(42);
    world.asks_for("alice", add("bob")).unwrap();
    world.says("alice", "bob", "please?");
    world.is_asked("bob", "alice");
    let decline = Intent::DeclineContact { name: "alice".parse().unwrap() };
    world.asks_for("bob", decline).unwrap();
    world.run_until_quiet();
    assert_eq!(world.contact_state("alice", &world.name("bob")), None);
    assert_eq!(world.contact_state("bob", &world.name("alice")), None);
    assert_eq!(world.sent("alice")[0].1, MessageState::Failed);
    assert!(!world.wire().holds("please?"));
}

#[test]
fn who_is_removed_sees_the_other_go_and_reaches_nobody() {
    let mut world = two(43);
    world.befriend("alice", "bob");
    world.says("alice", "bob", "a first word");
    world.sees("bob", &["a first word"]);
    let remove = Intent::RemoveContact { name: "bob".parse().unwrap() };
    world.asks_for("alice", remove).unwrap();
    world.run_until("bob sees alice go", |world| !world.shows_online("bob", "alice"));
    world.says("bob", "alice", "hello?");
    world.run_until_quiet();
    assert_eq!(world.texts("alice"), [""; 0]);
    assert_eq!(world.links("alice", "bob"), 0);
}

#[test]
fn nobody_asks_themselves_or_somebody_who_is_not_there() {
    let mut world = two(44);
    let oneself = world.asks_for("alice", add("alice"));
    assert_eq!(oneself, Err(IntentError::Oneself("alice".parse().unwrap())));
    let Err(IntentError::Refused { code, .. }) = world.asks_for("alice", add("nobody")) else {
        panic!("somebody who is not there was asked")
    };
    assert_eq!(code, "unknown_user");
}

#[test]
fn a_new_home_receives_and_the_earlier_one_is_told() {
    let mut world = two(45);
    world.befriend("alice", "bob");
    world.says("bob", "alice", "to the first home");
    world.sees("alice", &["to the first home"]);
    world.login("alice", "phone");
    world.is_online("phone");
    world.run_until("the earlier home is told", |world| {
        world
            .told("alice")
            .iter()
            .any(|event| matches!(event, Event::NewDevice { signed: false, .. }))
    });
    let bob = world.name("bob");
    world.run_until("the new home knows the contacts", |world| {
        world.contact_state("phone", &bob) == Some(ContactState::Mutual)
    });
    world.says("bob", "alice", "to the newest home");
    world.sees("phone", &["to the newest home"]);
    world.says("phone", "bob", "from the newest home");
    world.sees("bob", &["from the newest home"]);
    world.run_until_quiet();
    assert_eq!(world.texts("alice"), ["to the first home"]);
}

#[test]
fn what_waited_for_an_earlier_home_goes_to_the_new_one() {
    let mut world = two(46);
    world.befriend("alice", "bob");
    world.says("bob", "alice", "while you had it");
    world.sees("alice", &["while you had it"]);
    world.kill("alice");
    world.says("bob", "alice", "is it lost?");
    world.run_for(std::time::Duration::from_secs(60));
    world.login("alice", "phone");
    world.sees("phone", &["is it lost?"]);
    world.all_delivered("bob");
}

#[test]
fn a_password_alone_brings_a_whole_account_back_when_all_homes_are_lost() {
    let mut world = two(47);
    world.befriend("alice", "bob");
    world.kill("alice");
    world.stop("bob");
    world.login("alice", "phone");
    world.is_online("phone");
    world.says("phone", "bob", "I have a new machine");
    world.start("bob");
    world.sees("bob", &["I have a new machine"]);
}

fn block(name: &str) -> Intent {
    Intent::BlockContact { name: name.parse().unwrap() }
}

fn unblock(name: &str) -> Intent {
    Intent::UnblockContact { name: name.parse().unwrap() }
}

#[test]
fn nothing_passes_between_somebody_and_whom_they_blocked() {
    let mut world = two(48);
    world.befriend("alice", "bob");
    world.says("alice", "bob", "a first word");
    world.sees("bob", &["a first word"]);
    let (alice, bob) = (world.name("alice"), world.name("bob"));
    world.asks_for("alice", block("bob")).unwrap();
    world.says("bob", "alice", "hello?");
    world.restart("alice");
    world.restart("bob");
    world.run_until_quiet();
    assert_eq!((world.texts("alice"), world.links("alice", "bob")), (vec![], 0));
    assert_eq!(world.contact_state("bob", &alice), Some(ContactState::Mutual), "bob is not told");
    let send = Intent::Send { to: bob.clone(), text: "hi".to_owned() };
    assert_eq!(world.asks_for("alice", send), Err(IntentError::Blocked(bob.clone())));
    let remove = Intent::RemoveContact { name: bob.clone() };
    assert_eq!(world.asks_for("alice", remove), Err(IntentError::Blocked(bob.clone())));

    world.asks_for("alice", unblock("bob")).unwrap();
    world.sees("alice", &["hello?"]);
    world.says("alice", "bob", "there you are");
    world.sees("bob", &["a first word", "there you are"]);
}

#[test]
fn what_waits_for_somebody_who_is_blocked_then_is_given_up() {
    let mut world = two(49);
    world.befriend("alice", "bob");
    world.stop("bob");
    world.says("alice", "bob", "too late");
    world.asks_for("alice", block("bob")).unwrap();
    assert_eq!(world.sent("alice")[0].1, MessageState::Failed);
    world.asks_for("alice", unblock("bob")).unwrap();
    world.start("bob");
    world.says("alice", "bob", "again");
    world.sees("bob", &["again"]);
}

#[test]
fn a_new_home_has_the_blocks_of_the_earlier_one() {
    let mut world = two(50);
    world.befriend("alice", "bob");
    world.asks_for("alice", block("bob")).unwrap();
    world.login("alice", "phone");
    world.is_online("phone");
    let bob = world.name("bob");
    assert_eq!(world.contact_state("phone", &bob), Some(ContactState::Blocked));
    world.asks_for("phone", unblock("bob")).unwrap();
    world.says("bob", "alice", "to the newest home");
    world.sees("phone", &["to the newest home"]);
}

#[test]
fn a_stranger_who_is_blocked_asks_in_vain() {
    let mut world = two(51);
    let (alice, bob) = (world.name("alice"), world.name("bob"));
    world.asks_for("bob", block("alice")).unwrap();
    world.asks_for("alice", add("bob")).unwrap();
    world.run_until_quiet();
    assert_eq!(world.contact_state("bob", &alice), Some(ContactState::Blocked));
    assert_eq!(world.contact_state("alice", &bob), Some(ContactState::Asked), "she is not told");
    assert_eq!(world.asks_for("bob", accept("alice")), Err(IntentError::Blocked(alice.clone())));
    world.asks_for("bob", unblock("alice")).unwrap();
    assert_eq!(world.contact_state("bob", &alice), None);
    world.asks_for("alice", add("bob")).unwrap();
    world.is_asked("bob", "alice");
}
