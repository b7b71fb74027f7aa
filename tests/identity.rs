//! Who somebody is: what a rendezvous that lies, or a thief of a password, can make people believe,
//! and what is told.

use std::time::Duration;

use harness::{Stage, World};
use parlor::node::input::Intent;
use parlor::node::output::{DeviceTrust, Event, IntentError, ListFault};
use parlor::node::record::MessageState;
use parlor_common::device_list::{DeviceEntry, DeviceList, SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountKey, AccountSecret, DeviceSecret};
use parlor_common::prekey::DhPublicBytes;

fn friends(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world.befriend("alice", "bob");
    world.says("alice", "bob", "hello");
    world.sees("bob", &["hello"]);
    world.all_delivered("alice");
    world
}

/// The same, and alice has compared safety numbers with bob.
fn verified_friends(seed: u64) -> World {
    let mut world = friends(seed);
    world.asks_for("alice", Intent::VerifyContact { name: name("bob") }).unwrap();
    world
}

fn name(name: &str) -> Username {
    name.parse().unwrap()
}

fn add(name: &str, account_key: Option<AccountKey>) -> Intent {
    Intent::AddContact { name: name.parse().unwrap(), account_key }
}

fn accept(name: &str) -> Intent {
    Intent::AcceptContact { name: name.parse().unwrap() }
}

fn send(to: &str, text: &str) -> Intent {
    Intent::Send { to: name(to), text: text.to_owned() }
}

fn account_key(world: &World, home: &str) -> AccountKey {
    world.own_list(home).claimed_account_key()
}

fn verified(list: SignedDeviceList) -> VerifiedDeviceList {
    let (name, key) = (list_name(&list), list.claimed_account_key());
    list.verify(&name, &key).unwrap()
}

fn list_name(list: &SignedDeviceList) -> Username {
    let json = serde_json::to_value(list).unwrap();
    json["list"]["name"].as_str().unwrap().parse().unwrap()
}

fn entry(world: &World, device: u8) -> DeviceEntry {
    let key = DeviceSecret::from_seed(&[device; 32]).public();
    DeviceEntry::new(key, DhPublicBytes(Box::new([device; 384])), world.date())
}

/// A list of somebody else's making under somebody's name.
fn impostor(world: &World, whom: &str) -> SignedDeviceList {
    let account = AccountSecret::from_seed(&[66; 32]);
    let list = DeviceList::first(name(whom), account.public(), entry(world, 67), world.date());
    let first = verified(list.sign(&account, None));
    first.with_device(entry(world, 68), world.date()).sign(&account, None)
}

/// Lets everybody look again at what the rendezvous shows: bob goes and comes back.
fn bob_comes_and_goes(world: &mut World) {
    world.stop("bob");
    // Where it is back before the rendezvous has seen it go, nobody hears of it.
    world.run_for(Duration::from_secs(1));
    world.start("bob");
    world.is_online("bob");
    world.run_until_quiet();
}

fn count(world: &World, home: &str, event: &Event) -> usize {
    world.told(home).iter().filter(|told| *told == event).count()
}

#[track_caller]
fn is_told(world: &mut World, home: &str, event: &Event) {
    world.run_until(&format!("{home} is told {event:?}"), |world| count(world, home, event) > 0);
}

fn devices(contact: &str, trust: DeviceTrust) -> Event {
    Event::ContactDevices { contact: name(contact), trust }
}

fn fault(of: &str, fault: ListFault, by: Option<&str>) -> Event {
    Event::ListFault { of: name(of), fault, by: by.map(name) }
}

fn changed(contact: &str) -> Event {
    Event::IdentityChanged { contact: name(contact) }
}

/// The last state of each message that a peer has sent.
fn states(world: &World, home: &str) -> Vec<MessageState> {
    world.sent(home).into_iter().map(|(_, state)| state).collect()
}

#[test]
fn a_link_whose_key_the_rendezvous_does_not_serve_adds_nobody() {
    let mut world = World::new(200);
    world.register("alice");
    world.register("bob");
    let bob = account_key(&world, "bob");
    let impostor = impostor(&world, "bob");
    world.serves_instead("alice", &impostor);
    let refused = world.asks_for("alice", add("bob", Some(bob)));
    assert_eq!(refused, Err(IntentError::KeyMismatch(name("bob"))));
    assert_eq!(world.contact_state("alice", &name("bob")), None, "nothing was changed");

    world.serves_the_truth();
    world.asks_for("alice", add("bob", Some(bob))).unwrap();
    world.is_asked("bob", "alice");
    world.asks_for("bob", accept("alice")).unwrap();
    world.are_contacts("alice", "bob");
    // The link has verified him: later on another key stops everything.
    world.serves_instead("alice", &impostor);
    bob_comes_and_goes(&mut world);
    is_told(&mut world, "alice", &changed("bob"));
    let stopped = world.asks_for("alice", send("bob", "a secret"));
    assert_eq!(stopped, Err(IntentError::KeyChanged(name("bob"))));
    // The link again is alice's word for the key that she knows.
    world.serves_the_truth();
    world.asks_for("alice", add("bob", Some(bob))).unwrap();
    world.says("alice", "bob", "all is well");
    world.sees("bob", &["all is well"]);
    assert!(!world.wire().holds("a secret"));
}

#[test]
fn what_was_written_for_an_old_key_is_never_sealed_for_the_new_one() {
    let mut world = friends(201);
    let impostor = impostor(&world, "bob");
    world.serves_instead("alice", &impostor);
    bob_comes_and_goes(&mut world);
    assert_eq!(count(&world, "alice", &changed("bob")), 1, "it is told once");
    world.says("alice", "bob", "for the old key");
    world.run_until_quiet();
    assert_eq!(states(&world, "alice").last(), Some(&MessageState::Queued), "it waits");
    world.restart("alice");
    world.is_online("alice");
    world.run_until_quiet();
    assert_eq!(count(&world, "alice", &changed("bob")), 1);
    assert_eq!(states(&world, "alice").last(), Some(&MessageState::Queued), "and goes on waiting");

    world.asks_for("alice", accept("bob")).unwrap();
    assert_eq!(states(&world, "alice").last(), Some(&MessageState::Failed), "and that is said");
    world.says("alice", "bob", "for the new key");
    world.run_until_quiet();
    assert_eq!(states(&world, "alice").last(), Some(&MessageState::Queued));
    assert_eq!(world.texts("bob"), ["hello"], "the old key's device gets nothing any more");
    // The new key's list shows a device that no earlier one has signed for: that is a second word.
    world.asks_for("alice", accept("bob")).unwrap();
    let again = world.asks_for("alice", accept("bob"));
    assert_eq!(again, Err(IntentError::NoRequest(name("bob"))));
}

#[test]
fn an_old_list_is_refused_and_told_once() {
    let mut world = friends(202);
    let old = world.own_list("bob");
    world.login("bob", "phone");
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Unsigned));
    world.is_online("phone");
    world.serves_instead("alice", &old);
    for _ in 0..3 {
        bob_comes_and_goes(&mut world);
        world.restart("alice");
        world.is_online("alice");
        world.run_until_quiet();
    }
    assert_eq!(count(&world, "alice", &fault("bob", ListFault::RolledBack, None)), 1);
    world.says("alice", "bob", "to the newest");
    world.sees("phone", &["to the newest"]);
}

#[test]
fn a_ghost_device_that_the_account_key_did_not_sign_is_refused_and_told() {
    let mut world = friends(203);
    let known = verified(world.own_list("bob"));
    let ghost = known.with_device(entry(&world, 66), world.date());
    let ghost = ghost.sign(&AccountSecret::from_seed(&[66; 32]), None);
    world.serves_instead("alice", &ghost);
    bob_comes_and_goes(&mut world);
    assert_eq!(count(&world, "alice", &fault("bob", ListFault::Unsound, None)), 1);
    world.says("alice", "bob", "to bob alone");
    world.sees("bob", &["hello", "to bob alone"]);
}

#[test]
fn a_device_added_by_password_alone_is_told_and_receives_of_who_has_not_verified() {
    let mut world = friends(204);
    world.login("bob", "phone");
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Unsigned));
    world.is_online("phone");
    world.says("alice", "bob", "to the phone");
    world.sees("phone", &["to the phone"]);
    world.restart("alice");
    bob_comes_and_goes(&mut world);
    assert_eq!(count(&world, "alice", &devices("bob", DeviceTrust::Unsigned)), 1, "told once");

    confirm(&mut world, "bob").unwrap();
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Signed));
    let again = confirm(&mut world, "bob");
    assert_eq!(again, Err(IntentError::NothingToConfirm));
}

/// A peer shows its account's list to its owner, who lets it sign that.
fn confirm(world: &mut World, home: &str) -> Result<(), IntentError> {
    let list = world.own_list(home).claimed_mark().hash;
    world.asks_for(home, Intent::ConfirmDevices { list })
}

/// Bob's phone joins by password alone, and alice, who has verified him, has been told.
fn held_phone(seed: u64) -> World {
    let mut world = verified_friends(seed);
    world.login("bob", "phone");
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Held));
    world.is_online("phone");
    let alice = world.name("alice");
    world
        .run_until("the phone knows alice", |world| world.contact_state("phone", &alice).is_some());
    world.says("alice", "bob", "not to the phone");
    world.sees("bob", &["hello", "not to the phone"]);
    world.says("phone", "alice", "I am bob");
    world.run_until_quiet();
    assert_eq!(world.texts("alice"), [""; 0], "nothing of it is believed");
    world
}

#[test]
fn a_verified_contacts_new_device_is_held_until_an_earlier_one_signs_for_it() {
    let mut world = held_phone(205);
    world.restart("alice");
    world.is_online("alice");
    world.run_until_quiet();
    world.says("alice", "bob", "nor after a restart");
    world.sees("bob", &["hello", "not to the phone", "nor after a restart"]);
    assert_eq!(world.texts("phone"), [""; 0]);
    assert_eq!(count(&world, "alice", &devices("bob", DeviceTrust::Held)), 1, "told once");

    assert_eq!(confirm(&mut world, "phone"), Err(IntentError::ConfirmElsewhere));
    confirm(&mut world, "bob").unwrap();
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Signed));
    world.says("alice", "bob", "to the phone now");
    world.sees("phone", &["to the phone now"]);
    world.sees("alice", &["I am bob"]);
}

#[test]
fn who_was_away_learns_of_the_signature_when_back() {
    let mut world = held_phone(206);
    world.stop("alice");
    confirm(&mut world, "bob").unwrap();
    world.start("alice");
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Signed));
    world.says("alice", "bob", "to the phone now");
    world.sees("phone", &["to the phone now"]);
}

#[test]
fn the_person_can_accept_a_held_device() {
    let mut world = held_phone(207);
    world.asks_for("alice", accept("bob")).unwrap();
    world.says("alice", "bob", "to the phone now");
    world.sees("phone", &["to the phone now"]);
    world.sees("alice", &["I am bob"]);
    world.restart("alice");
    world.is_online("alice");
    world.says("alice", "bob", "and later");
    world.sees("phone", &["to the phone now", "and later"]);
    assert_eq!(count(&world, "alice", &devices("bob", DeviceTrust::Held)), 1);
}

#[test]
fn verifying_somebody_holds_what_was_added_by_password_alone_before() {
    let mut world = friends(208);
    world.login("bob", "phone");
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Unsigned));
    world.is_online("phone");
    world.says("alice", "bob", "to the phone");
    world.sees("phone", &["to the phone"]);
    world.all_delivered("alice");
    world.asks_for("alice", Intent::VerifyContact { name: name("bob") }).unwrap();
    world.run_until_quiet();
    world.says("alice", "bob", "to whom I verified");
    world.sees("bob", &["hello", "to whom I verified"]);
}

#[test]
fn the_own_devices_are_told_of_a_new_one_and_of_the_signature_for_it() {
    let mut world = friends(209);
    world.login("bob", "phone");
    world.is_online("phone");
    let phone = verified(world.own_list("phone")).newest().unwrap().id;
    let told = |signed| Event::NewDevice { device: phone, signed };
    is_told(&mut world, "bob", &told(false));
    world.login("bob", "tablet");
    world.is_online("tablet");
    let tablet = verified(world.own_list("tablet")).newest().unwrap().id;
    is_told(&mut world, "phone", &Event::NewDevice { device: tablet, signed: false });
    world.run_until_quiet();
    confirm(&mut world, "bob").unwrap();
    is_told(&mut world, "phone", &Event::NewDevice { device: tablet, signed: true });
    world.restart("bob");
    world.is_online("bob");
    assert_eq!(count(&world, "bob", &told(false)), 1, "told once");
}

#[test]
fn a_rendezvous_that_takes_back_ones_own_list_is_told() {
    let mut world = friends(210);
    let old = world.own_list("bob");
    world.login("bob", "phone");
    world.is_online("phone");
    world.run_until_quiet();
    world.serves_instead("bob", &old);
    bob_comes_and_goes(&mut world);
    assert_eq!(count(&world, "bob", &fault("bob", ListFault::RolledBack, None)), 1);
}

#[test]
fn a_device_that_is_taken_off_the_list_speaks_no_more() {
    let mut world = World::new(211);
    let account = AccountSecret::from_seed(&[7; 32]);
    world.register("alice");
    world.register_with_key("bob", &account);
    world.is_online("bob");
    world.befriend("alice", "bob");
    world.says("alice", "bob", "hello");
    world.sees("bob", &["hello"]);
    world.says("bob", "alice", "hello alice");
    world.sees("alice", &["hello alice"]);
    assert!(world.links("alice", "bob") > 0);

    // The list that the account key signs, with bob's own device's word, and without that device.
    let known = verified(world.own_list("bob"));
    let mut next = known.with_device(entry(&world, 9), world.date());
    next.devices.retain(|device| device.key != world.device("bob").public());
    let next = next.sign(&account, Some(world.device("bob")));
    world.serves_instead("alice", &next);
    world.kill_rendezvous();
    world.start_rendezvous();
    world.run_until("alice has closed the link", |world| world.links("alice", "bob") == 0);
    world.says("bob", "alice", "let me in");
    world.says("alice", "bob", "to the other device");
    world.run_until_quiet();
    assert_eq!(world.texts("alice"), ["hello alice"]);
    assert_eq!(world.texts("bob"), ["hello"]);
    assert_eq!(count(&world, "alice", &devices("bob", DeviceTrust::Signed)), 0, "no news");
}

#[test]
fn a_list_that_is_kept_back_is_noticed_by_receipts() {
    let mut world = friends(212);
    let old = world.own_list("bob");
    world.serves_instead("alice", &old);
    world.login("bob", "phone");
    world.is_online("phone");
    world.run_until_quiet();
    assert_eq!(verified(world.own_list("bob")).list().version, 2);
    for text in ["one", "two", "three"] {
        world.says("alice", "bob", text);
        world.run_for(Duration::from_secs(61));
    }
    world.sees("bob", &["hello", "one", "two", "three"]);
    let withheld = fault("bob", ListFault::Withheld, None);
    assert_eq!(count(&world, "alice", &withheld), 1);
    assert_eq!(count(&world, "bob", &withheld), 0);
}

#[test]
fn a_newer_list_that_a_receipt_names_is_looked_up() {
    let mut world = friends(213);
    let old = world.own_list("bob");
    world.serves_instead("alice", &old);
    world.login("bob", "phone");
    world.is_online("phone");
    world.run_until_quiet();
    world.serves_the_truth();
    world.says("alice", "bob", "who are you?");
    is_told(&mut world, "alice", &devices("bob", DeviceTrust::Unsigned));
    world.run_until_quiet();
    assert_eq!(count(&world, "alice", &fault("bob", ListFault::Withheld, None)), 0);
}

#[test]
fn that_a_contact_is_shown_an_old_list_of_ours_is_noticed_by_its_receipts() {
    let mut world = friends(214);
    let old = world.own_list("alice");
    world.serves_instead("bob", &old);
    world.login("alice", "phone");
    world.is_online("phone");
    world.run_until_quiet();
    let not_shown = fault("alice", ListFault::NotShown, Some("bob"));
    world.says("alice", "bob", "one");
    world.sees("bob", &["hello", "one"]);
    world.run_for(Duration::from_secs(30));
    assert_eq!(count(&world, "alice", &not_shown), 0, "it may just have been too early");
    world.run_for(Duration::from_secs(31));
    world.says("alice", "bob", "two");
    is_told(&mut world, "alice", &not_shown);
}

#[test]
fn a_list_that_is_forked_is_noticed_by_both_sides() {
    let mut world = friends(215);
    let fork = world.ghost_list("alice");
    world.serves_instead("bob", &fork);
    world.login("alice", "phone");
    world.is_online("phone");
    is_told(&mut world, "bob", &devices("alice", DeviceTrust::Unsigned));
    world.run_until_quiet();
    world.says("alice", "bob", "which alice do you see?");
    world.sees("bob", &["hello", "which alice do you see?"]);
    is_told(&mut world, "alice", &fault("alice", ListFault::Forked, Some("bob")));
    world.serves_the_truth();
    bob_comes_and_goes(&mut world);
    is_told(&mut world, "bob", &fault("alice", ListFault::Forked, None));
}

#[test]
fn nobody_verifies_somebody_who_is_no_contact_or_whose_key_has_changed() {
    let mut world = friends(216);
    let verify = |who: &str| Intent::VerifyContact { name: name(who) };
    let unknown = world.asks_for("alice", verify("carol"));
    assert_eq!(unknown, Err(IntentError::UnknownContact(name("carol"))));
    let impostor = impostor(&world, "bob");
    world.serves_instead("alice", &impostor);
    bob_comes_and_goes(&mut world);
    is_told(&mut world, "alice", &changed("bob"));
    let refused = world.asks_for("alice", verify("bob"));
    assert_eq!(refused, Err(IntentError::KeyChanged(name("bob"))));
}
