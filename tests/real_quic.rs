//! The stories of the simulated world, told on real sockets by the drivers that people run.

use harness::real::Real;
use harness::stories;

#[test]
fn two_peers_talk_both_ways() {
    stories::two_peers_talk(&mut Real::new());
}

#[test]
fn a_conversation_goes_on_while_the_rendezvous_is_away_and_peers_return_by_themselves() {
    stories::the_rendezvous_restarts(&mut Real::new());
}

#[test]
fn a_peer_that_restarts_receives_what_waited_and_goes_on() {
    stories::a_peer_restarts(&mut Real::new());
}
