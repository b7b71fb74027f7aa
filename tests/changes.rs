//! Accounts that change: what their devices and their contacts are told, and what goes on.

use harness::{Stage, World};
use parlor::node::input::{Intent, ServerDown};
use parlor::node::output::Event;
use parlor::node::record::{Direction, FailReason, MessageState};
use parlor_common::wire::rendezvous::AccountChange;

/// Two contacts, of whom alice has a second home, the phone, that has received.
fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world.login("alice", "phone");
    world.is_online("phone");
    world.says("bob", "alice", "to the phone");
    world.sees("phone", &["to the phone"]);
    world.all_delivered("bob");
    world
}

fn is_told(world: &mut World, home: &str, event: &Event) {
    world.run_until(&format!("{home} is told {event:?}"), |world| world.told(home).contains(event));
}

/// Waits until a home knows that it has no account any more.
fn is_cut_off(world: &mut World, home: &str, change: AccountChange) {
    is_told(world, home, &Event::AccountChanged(change));
    is_told(world, home, &Event::Offline(ServerDown::UnknownDevice));
}

#[test]
fn a_device_that_was_removed_hears_nothing_and_contacts_write_to_one_that_is_left() {
    let mut world = friends(60);
    let told = |world: &World, home: &str| -> Vec<Event> {
        let about = |event: &&Event| {
            matches!(event, Event::NewDevice { .. } | Event::ContactDevices { .. })
        };
        world.told(home).iter().filter(about).cloned().collect()
    };
    let (alice, bob) = (told(&world, "alice"), told(&world, "bob"));
    world.removes_device("alice", "phone");
    is_cut_off(&mut world, "phone", AccountChange::DeviceRemoved);
    world.run_until_quiet();
    world.says("bob", "alice", "to the one that is left");
    world.sees("alice", &["to the one that is left"]);
    world.run_until_quiet();
    assert_eq!(world.texts("phone"), ["to the phone"]);
    // The device that is left signed it: neither is told of a device that somebody added.
    assert_eq!((told(&world, "alice"), told(&world, "bob")), (alice, bob));
}

#[test]
fn under_a_new_account_key_contacts_go_on_once_they_have_accepted_it() {
    let mut world = friends(61);
    world.stop("bob");
    world.run_until_quiet();
    world.says("phone", "bob", "written before");
    world.rekeys("phone");
    is_cut_off(&mut world, "alice", AccountChange::Rekeyed);
    world.start("bob");
    let alice = world.name("phone");
    is_told(&mut world, "bob", &Event::IdentityChanged { contact: alice.clone() });
    world.run_until_quiet();
    assert_eq!(world.texts("bob"), [""; 0], "nothing goes on before bob decides");
    world.asks_for("bob", Intent::AcceptContact { name: alice }).unwrap();
    // It waited for bob under the old key, and may have been read: it is not sent again.
    let history = world.store("phone").reader().history(&world.name("bob"), 50, None).unwrap();
    let before = history.iter().find(|message| message.text == "written before").unwrap();
    assert_eq!(before.state, MessageState::Failed);
    assert_eq!(before.reason, Some(FailReason::OwnKeyChanged));
    world.says("bob", "alice", "to the new key");
    world.sees("phone", &["to the phone", "to the new key"]);
    world.all_delivered("bob");
}

#[test]
fn what_may_have_arrived_under_the_old_key_counts_as_failed_and_never_arrives_twice() {
    let mut world = friends(62);
    world.says("phone", "bob", "once");
    world.sees("bob", &["once"]);
    // It arrived, and bob's word for it is lost with the phone's process.
    world.cut_links("phone", "bob");
    world.says("phone", "bob", "twice?");
    world.run_for(std::time::Duration::from_millis(1));
    world.rekeys("phone");
    let alice = world.name("phone");
    is_told(&mut world, "bob", &Event::IdentityChanged { contact: alice.clone() });
    world.asks_for("bob", Intent::AcceptContact { name: alice }).unwrap();
    world.says("phone", "bob", "after");
    world.run_until("the last one arrives", |world| world.texts("bob").contains(&"after"));
    world.run_until_quiet();
    let arrived = world.texts("bob").iter().filter(|text| **text == "twice?").count();
    assert!(arrived <= 1, "{:?}", world.texts("bob"));
    let history = world.store("phone").reader().history(&world.name("bob"), 50, None).unwrap();
    let sent = history.iter().filter(|message| message.direction == Direction::Out);
    let states: Vec<_> = sent.map(|message| message.state).collect();
    let ended = [MessageState::Delivered, MessageState::Failed];
    assert!(states.iter().all(|state| ended.contains(state)), "{states:?}");
    assert!(states.contains(&MessageState::Failed), "{states:?}");
}

#[test]
fn who_deletes_their_account_is_gone_from_their_contacts_sight() {
    let mut world = friends(63);
    world.deletes_account("phone");
    is_cut_off(&mut world, "alice", AccountChange::Deleted);
    world.run_until("bob sees alice go", |world| !world.shows_online("bob", "alice"));
    world.start("phone");
    is_told(&mut world, "phone", &Event::Offline(ServerDown::UnknownDevice));
    world.says("bob", "alice", "hello?");
    world.run_until_quiet();
    assert_eq!(world.sent("bob").last().map(|(_, state)| *state), Some(MessageState::Queued));
}
