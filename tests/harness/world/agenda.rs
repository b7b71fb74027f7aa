//! What is going to happen, in the order in which it will.

use std::collections::BTreeMap;
use std::time::Duration;

use parlor::node::input::{Input, ServerDown};
use parlor_rendezvous::server::{ConnId, StreamId};

use super::links::Greeting;
use super::peer::PeerId;

/// Something that is going to happen.
pub(super) enum Happening {
    /// A peer's node is told something.
    Told { peer: PeerId, life: u32, input: Box<Input> },
    /// A peer's slow disk has done its work.
    Saved { peer: PeerId, life: u32 },
    /// A peer's first packet arrives at the rendezvous.
    Knock { peer: PeerId, life: u32, attempt: u64 },
    /// A peer's attempt to reach the rendezvous has taken too long.
    GaveUp { peer: PeerId, life: u32, attempt: u64 },
    /// A request arrives at the rendezvous.
    Asked { conn: ConnId, stream: StreamId, payload: Vec<u8> },
    /// The rendezvous notices that a client is gone.
    Gone { conn: ConnId },
    /// A reply arrives at a peer.
    Answered { peer: PeerId, life: u32, conn: ConnId, stream: StreamId, payload: Vec<u8> },
    /// An event arrives at a peer.
    Event { peer: PeerId, life: u32, conn: ConnId, payload: Vec<u8> },
    /// A peer notices that its connection to the rendezvous is gone.
    Lost { peer: PeerId, life: u32, conn: ConnId, why: ServerDown },
    /// A dialer's hello arrives where it dialed.
    Greeted(Greeting),
    /// The answer to it arrives at the dialer.
    Linked { link: usize },
    /// Bytes arrive at a side of a link.
    Carried { link: usize, side: usize, to: Option<PeerId>, bytes: Vec<u8> },
    /// The end of a link arrives at one of its sides.
    Finished { link: usize, side: usize, to: Option<PeerId> },
}

impl Happening {
    /// The peer that it happens to, whose turn is next.
    pub(super) fn to(&self) -> Option<PeerId> {
        match self {
            Self::Told { peer, .. }
            | Self::Saved { peer, .. }
            | Self::GaveUp { peer, .. }
            | Self::Answered { peer, .. }
            | Self::Event { peer, .. }
            | Self::Lost { peer, .. } => Some(*peer),
            Self::Greeted(greeting) => greeting.to,
            Self::Carried { to, .. } | Self::Finished { to, .. } => *to,
            Self::Knock { .. } | Self::Asked { .. } | Self::Gone { .. } | Self::Linked { .. } => {
                None
            }
        }
    }
}

/// By time, and at the same time by the order of planning.
#[derive(Default)]
pub(super) struct Agenda {
    happenings: BTreeMap<(Duration, u64), Happening>,
    planned: u64,
}

impl Agenda {
    pub(super) fn push(&mut self, at: Duration, happening: Happening) {
        self.planned += 1;
        self.happenings.insert((at, self.planned), happening);
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.happenings.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn pop(&mut self) -> Option<Happening> {
        self.happenings.pop_first().map(|(_, happening)| happening)
    }

    pub(super) fn pop_if(
        &mut self,
        is_wanted: impl FnOnce(Duration, &Happening) -> bool,
    ) -> Option<Happening> {
        let next = self.happenings.first_entry()?;
        is_wanted(next.key().0, next.get()).then(|| next.remove())
    }
}
