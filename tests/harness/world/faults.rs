//! What else befalls a world: networks that part, a rendezvous that dies after it has saved and
//! before it has answered, or whose store is put back.

use std::collections::BTreeSet;

use parlor_rendezvous::server::ConnId;
use parlor_rendezvous::store::Store;

use super::World;
use super::agenda::Happening;
use super::peer::PeerId;
use super::rendezvous::{CLIENT_IDLE, SERVER_IDLE};
use parlor::node::input::ServerDown;

/// Who cannot reach whom.
#[derive(Default)]
pub(super) struct Partitions {
    from_server: BTreeSet<PeerId>,
    from_each_other: BTreeSet<(PeerId, PeerId)>,
    /// Connections to the rendezvous that nothing crosses any more.
    dead: BTreeSet<ConnId>,
}

impl Partitions {
    pub(super) fn are_parted(&self, one: PeerId, other: PeerId) -> bool {
        self.from_each_other.contains(&pair(one, other))
    }

    pub(super) fn are_parted_from_server(&self, peer: PeerId) -> bool {
        self.from_server.contains(&peer)
    }

    pub(super) fn is_dead(&self, conn: ConnId) -> bool {
        self.dead.contains(&conn)
    }
}

fn pair(one: PeerId, other: PeerId) -> (PeerId, PeerId) {
    (one.min(other), one.max(other))
}

/// What a rendezvous had in its store.
pub struct RendezvousCopy {
    store: Store,
}

impl World {
    /// Nothing crosses any more between a peer and the rendezvous, and both notice late.
    pub fn part_from_server(&mut self, home: &str) {
        let id = self.id(home);
        self.partitions.from_server.insert(id);
        let peer = &self.peers[id.0];
        let conn = peer.connection.as_ref().and_then(|connection| connection.conn);
        let (Some(conn), life) = (conn, peer.life) else { return };
        if self.partitions.dead.insert(conn) {
            let why = ServerDown::Unreachable;
            self.plan(SERVER_IDLE, Happening::Lost { peer: id, life, conn, why });
            self.plan(CLIENT_IDLE, Happening::Gone { conn });
        }
    }

    /// Nothing crosses any more between two peers, and both notice late.
    pub fn part(&mut self, one: &str, other: &str) {
        let between = pair(self.id(one), self.id(other));
        self.partitions.from_each_other.insert(between);
        self.silence_links(one, other);
    }

    /// Everybody can reach everybody again.
    pub fn join(&mut self) {
        self.partitions.from_server.clear();
        self.partitions.from_each_other.clear();
    }

    /// Whether the rendezvous is running.
    pub fn rendezvous_is_up(&self) -> bool {
        self.server.runs()
    }

    /// Kills the rendezvous when it has had something to say so many times more: what that stands
    /// on is saved, and none of the last of it leaves.
    pub fn kill_rendezvous_after_turns(&mut self, turns: u32) {
        self.server.fuse = Some(turns);
    }

    /// A rendezvous that was to be killed lives on.
    pub fn spare_rendezvous(&mut self) {
        self.server.fuse = None;
    }

    /// Whether its time has come; then it is dead.
    pub(super) fn rendezvous_burns_out(&mut self) -> bool {
        let Some(left) = self.server.fuse.take() else { return false };
        if left > 0 {
            self.server.fuse = Some(left - 1);
            return false;
        }
        self.kill_rendezvous();
        true
    }

    /// Copies what the rendezvous has stored.
    pub fn copy_rendezvous(&self) -> RendezvousCopy {
        RendezvousCopy { store: self.server.store.copy_in_memory().unwrap() }
    }

    /// Puts a copy in the place of what the rendezvous has stored, as the loss of power does with
    /// what was not on the disk yet. It does not run then.
    pub fn put_rendezvous_back(&mut self, copy: &RendezvousCopy) {
        if self.server.runs() {
            self.kill_rendezvous();
        }
        self.server.store = copy.store.copy_in_memory().unwrap();
    }
}
