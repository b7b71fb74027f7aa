//! What the doings of one connection mean for others, wherever those are connected.
//!
//! A handler never reaches for another account's connections: it publishes a [`Notice`], and every
//! node of the rendezvous, its own included, hears it. One node alone has a [`Loopback`]; several
//! would have a bus over a network, and the logic would not know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::wire::rendezvous::{AccountChange, Event};

/// One of the servers that share a store. Drawn anew at each start.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub u64);

/// What nodes tell each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A device of an account came to a node, or went.
    Present {
        /// The node.
        node: NodeId,
        /// The account.
        name: Username,
        /// Its device.
        device: DeviceKey,
        /// Whether it came.
        online: bool,
    },
    /// A device connected to a node: a connection that it has to another one ends.
    Arrived {
        /// The node.
        node: NodeId,
        /// The device.
        device: DeviceKey,
    },
    /// An account's device list changed: its contacts are told.
    DevicesChanged {
        /// The account.
        name: Username,
    },
    /// An event for connections of an account.
    Event {
        /// The account.
        to: Username,
        /// Which of its connections.
        audience: Audience,
        /// The event.
        event: Event,
    },
    /// Something new is in a device's mailbox.
    Envelopes {
        /// The device.
        device: DeviceKey,
    },
    /// Devices that belong to their account no more: they are told why, and cut off.
    CutOff {
        /// The devices.
        devices: Vec<DeviceKey>,
        /// Why.
        change: AccountChange,
    },
}

/// Which connections of an account an event is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// All of them.
    Everyone,
    /// Those that watch presence.
    Watching,
    /// All but that of the device that caused it.
    Others(DeviceKey),
}

/// Carries notices between nodes, in the order in which each node published them.
pub trait Bus: fmt::Debug + Send {
    /// Passes a notice to every node, this one included.
    fn publish(&mut self, notice: Notice);

    /// The next notice for this node.
    fn poll(&mut self) -> Option<Notice>;
}

/// The bus of a node that is alone.
#[derive(Debug, Default)]
pub struct Loopback(VecDeque<Notice>);

impl Bus for Loopback {
    fn publish(&mut self, notice: Notice) {
        self.0.push_back(notice);
    }

    fn poll(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }
}

/// Which accounts are online, with which devices, at whatever node.
#[derive(Debug, Default)]
pub(super) struct PresentAccounts(BTreeMap<Username, BTreeSet<(NodeId, DeviceKey)>>);

impl PresentAccounts {
    /// Takes note of a node's word; returns whether the account came or went with it.
    pub(super) fn note(
        &mut self,
        name: &Username,
        (node, device): (NodeId, DeviceKey),
        online: bool,
    ) -> bool {
        let before = self.is_online(name);
        if online {
            self.0.entry(name.clone()).or_default().insert((node, device));
        } else if let Some(devices) = self.0.get_mut(name) {
            devices.remove(&(node, device));
            if devices.is_empty() {
                self.0.remove(name);
            }
        }
        before != self.is_online(name)
    }

    /// The devices of an account that are online.
    pub(super) fn devices(&self, name: &Username) -> BTreeSet<DeviceKey> {
        self.0.get(name).into_iter().flatten().map(|(_, device)| *device).collect()
    }

    pub(super) fn is_online(&self, name: &Username) -> bool {
        self.0.contains_key(name)
    }

    /// How many accounts are online.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use parlor_common::wire::rendezvous::{Done, Present, Request};

    use super::super::testing::{World, card, name, params, presence};
    use super::super::{CloseReason, ConnId, ServerParams};
    use super::*;
    use crate::store::Store;

    /// A bus between nodes of one process.
    #[derive(Debug)]
    struct Shared {
        queues: Arc<Mutex<Vec<VecDeque<Notice>>>>,
        own: usize,
    }

    impl Bus for Shared {
        fn publish(&mut self, notice: Notice) {
            for queue in self.queues.lock().unwrap().iter_mut() {
                queue.push_back(notice.clone());
            }
        }

        fn poll(&mut self) -> Option<Notice> {
            self.queues.lock().unwrap()[self.own].pop_front()
        }
    }

    /// Two nodes on one database and one bus.
    struct Nodes {
        _folder: tempfile::TempDir,
        nodes: [World; 2],
    }

    impl Nodes {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("db");
            let queues = Arc::new(Mutex::new(vec![VecDeque::new(), VecDeque::new()]));
            let node = |own: usize| {
                let store = Store::open(&path).unwrap();
                let bus = Shared { queues: Arc::clone(&queues), own };
                let node = NodeId(own.try_into().unwrap());
                World::node(store, Box::new(bus), ServerParams { node, ..params() })
            };
            let nodes = [node(0), node(1)];
            Self { _folder: folder, nodes }
        }

        /// Lets both hear what was published.
        fn settle(&mut self) {
            for _ in 0..4 {
                self.nodes.iter_mut().for_each(World::settle);
            }
        }

        fn friends() -> (Self, ConnId, ConnId) {
            let mut all = Self::new();
            let alice = all.nodes[0].register("alice", 1);
            let bob = all.nodes[1].register("bob", 2);
            all.nodes[0].ask(alice, ("alice", 1), "bob");
            all.settle();
            assert_eq!(all.nodes[1].events(bob), [Event::Held {}]);
            for (node, conn) in [(0, alice), (1, bob)] {
                all.nodes[node].call::<Present>(conn, &Request::PresenceWatch {});
            }
            let card = Some(Box::new(card("bob", 2, "alice")));
            let accept = Request::ContactAnswer { name: name("alice"), card };
            all.nodes[1].call::<Done>(bob, &accept);
            all.settle();
            (all, alice, bob)
        }
    }

    #[test]
    fn people_at_two_nodes_see_each_other_come_and_go() {
        let (mut all, alice, bob) = Nodes::friends();
        assert_eq!(all.nodes[0].events(alice), [Event::Held {}, presence("bob", true)]);
        assert_eq!(all.nodes[1].events(bob), [presence("alice", true)]);
        all.nodes[1].disconnect(bob);
        all.settle();
        assert_eq!(all.nodes[0].events(alice), [presence("bob", false)]);
        all.nodes[1].connect(2);
        all.settle();
        assert_eq!(all.nodes[0].events(alice), [presence("bob", true)]);
        let present: Present = all.nodes[0].call(alice, &Request::PresenceWatch {});
        assert!(present.contacts[0].online);
    }

    #[test]
    fn a_device_that_moves_to_another_node_stays_online() {
        let (mut all, alice, bob) = Nodes::friends();
        all.nodes[0].events(alice);
        all.nodes[0].connect(2);
        all.settle();
        assert_eq!(all.nodes[1].closed(bob), Some(CloseReason::Replaced));
        assert_eq!(all.nodes[0].events(alice), []);
        let present: Present = all.nodes[0].call(alice, &Request::PresenceWatch {});
        assert!(present.contacts[0].online);
    }

    #[test]
    fn a_node_that_stops_takes_its_people_offline() {
        let (mut all, alice, _) = Nodes::friends();
        all.nodes[0].events(alice);
        let now = all.nodes[1].now;
        all.nodes[1].server.handle_stopping(now);
        all.settle();
        assert_eq!(all.nodes[0].events(alice), [presence("bob", false)]);
    }
}
