//! Stories that are told on the simulated world and on real sockets alike.

use crate::stage::Stage;

/// Two people meet, and talk both ways.
pub fn two_peers_talk(stage: &mut impl Stage) {
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    stage.says("alice", "bob", "hi bob");
    stage.sees("bob", &["hi bob"]);
    stage.says("bob", "alice", "hi alice");
    stage.says("bob", "alice", "how are you?");
    stage.sees("alice", &["hi alice", "how are you?"]);
    stage.all_delivered("alice");
    stage.all_delivered("bob");
}

/// The rendezvous goes away in the middle of a conversation and comes back.
pub fn the_rendezvous_restarts(stage: &mut impl Stage) {
    two_peers_talk(stage);
    stage.stop_server();
    stage.is_offline("alice");
    stage.is_offline("bob");
    stage.says("alice", "bob", "is it away for you, too?");
    stage.says("bob", "alice", "yes");
    stage.sees("bob", &["hi bob", "is it away for you, too?"]);
    stage.sees("alice", &["hi alice", "how are you?", "yes"]);
    stage.start_server();
    stage.is_online("alice");
    stage.is_online("bob");
    stage.register("carol");
    stage.befriend("carol", "alice");
    stage.says("carol", "alice", "hello from carol");
    stage.sees("alice", &["hi alice", "how are you?", "yes", "hello from carol"]);
}

/// A peer restarts in the middle of a conversation; what was sent meanwhile waits for it.
pub fn a_peer_restarts(stage: &mut impl Stage) {
    two_peers_talk(stage);
    stage.stop("bob");
    stage.says("alice", "bob", "are you there?");
    stage.says("alice", "bob", "bob?");
    stage.start("bob");
    stage.sees("bob", &["hi bob", "are you there?", "bob?"]);
    stage.all_delivered("alice");
    stage.says("bob", "alice", "here I am");
    stage.sees("alice", &["hi alice", "how are you?", "here I am"]);
    stage.all_delivered("bob");
}
