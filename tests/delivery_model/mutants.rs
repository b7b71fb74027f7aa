//! Protocols that are wrong: each must be caught.

use stateright::{Checker, Model};

use crate::properties;
use crate::protocol::{Bounds, Mutant, Protocol};

const SMALL: Bounds = Bounds { messages: 2, crashes: 1, cuts: 1, losses: 1, direct: true };

/// What does not hold.
fn broken(bounds: Bounds, mutant: Option<Mutant>) -> Vec<&'static str> {
    let protocol = Protocol { bounds, mutant };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let properties = protocol.properties().into_iter().map(|property| property.name);
    properties
        .filter(|name| *name != properties::POSSIBLE && checker.discovery(name).is_some())
        .collect()
}

#[track_caller]
fn is_caught(bounds: Bounds, mutant: Mutant, by: &'static str) {
    let broken = broken(bounds, Some(mutant));
    assert!(broken.contains(&by), "{mutant:?} breaks only {broken:?}");
}

#[test]
fn the_protocol_holds() {
    assert_eq!(broken(SMALL, None), [""; 0]);
    assert_eq!(broken(Bounds { direct: false, ..SMALL }, None), [""; 0]);
}

#[test]
fn an_early_acknowledgement_is_caught() {
    is_caught(SMALL, Mutant::AcknowledgesEarly, properties::STORED);
}

#[test]
fn an_early_acknowledgement_to_the_mailbox_is_caught() {
    let bounds = Bounds { direct: false, ..SMALL };
    is_caught(bounds, Mutant::EmptiesMailboxEarly, properties::ARRIVES);
}

#[test]
fn forgotten_duplicates_are_caught() {
    is_caught(SMALL, Mutant::ForgetsDuplicates, properties::ONCE);
}

#[test]
fn a_reused_incarnation_is_caught() {
    is_caught(SMALL, Mutant::ReusesIncarnation, properties::STORED);
}

#[test]
fn a_skipped_commit_of_the_outbox_is_caught() {
    is_caught(SMALL, Mutant::SkipsOutbox, properties::KEPT);
}

#[test]
fn an_envelope_that_is_not_sealed_anew_is_caught() {
    is_caught(SMALL, Mutant::KeepsSealed, properties::ARRIVES);
}

#[test]
fn what_a_new_link_does_not_send_again_is_caught() {
    is_caught(SMALL, Mutant::ForgetsUnacknowledged, properties::ARRIVES);
}
