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
    /// An account's first connection to a node came, or its last one went.
    Present {
        /// The node.
        node: NodeId,
        /// The account.
        name: Username,
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

/// Which accounts are online, at whatever node.
#[derive(Debug, Default)]
pub(super) struct PresentAccounts(BTreeMap<Username, BTreeSet<NodeId>>);

impl PresentAccounts {
    /// Takes note of a node's word; returns whether the account came or went with it.
    pub(super) fn note(&mut self, node: NodeId, name: &Username, online: bool) -> bool {
        let before = self.is_online(name);
        if online {
            self.0.entry(name.clone()).or_default().insert(node);
        } else if let Some(nodes) = self.0.get_mut(name) {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.0.remove(name);
            }
        }
        before != online
    }

    pub(super) fn is_online(&self, name: &Username) -> bool {
        self.0.contains_key(name)
    }
}
