//! A world that is made once, for many worlds that start from it: registrations and agreements cost
//! seconds, copies of stores milliseconds.

use std::time::Duration;

use parlor::store::Store;
use parlor_common::identity::ServerSecret;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::World;
use super::rendezvous::Rendezvous;

/// What everybody had stored when a world was stopped.
pub struct Prepared {
    key: ServerSecret,
    opaque: Vec<u8>,
    server: parlor_rendezvous::store::Store,
    peers: Vec<(String, Store)>,
    age: Duration,
}

impl World {
    /// Stops everybody, and keeps what they have stored.
    pub fn prepare(mut self) -> Prepared {
        for id in self.peers.iter().map(super::peer::Peer::id).collect::<Vec<_>>() {
            if self.peers[id.0].is_up() {
                self.shut_down(id);
            }
        }
        let peers = self
            .peers
            .iter()
            .map(|peer| (peer.home().to_owned(), peer.store().copy_in_memory().unwrap()));
        Prepared {
            peers: peers.collect(),
            key: ServerSecret::from_seed(&self.server.key.expose_seed()),
            opaque: self.server.opaque.clone(),
            server: self.server.store.copy_in_memory().unwrap(),
            age: self.now,
        }
    }
}

impl Prepared {
    /// A world in which everybody starts with what they had stored.
    pub fn world(&self, seed: u64) -> World {
        let key = ServerSecret::from_seed(&self.key.expose_seed());
        let store = self.server.copy_in_memory().unwrap();
        let mut server = Rendezvous::with(key, self.opaque.clone(), store);
        server.start();
        let mut world = World::around(seed, StdRng::seed_from_u64(seed), server);
        world.now = self.age;
        for (home, store) in &self.peers {
            let identity = store.reader().identity().unwrap();
            world.move_in_with(home, &identity, store.copy_in_memory().unwrap());
        }
        world
    }
}
