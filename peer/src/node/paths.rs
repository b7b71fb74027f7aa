//! Links to devices, and which of them carries envelopes.
//!
//! Both sides dial at once, so two links to one device can come up. Each side goes on using the
//! one that carries its unacknowledged messages; with none on their way it takes the preferred
//! one, which is the same for both: the link that the device with the smaller key dialed. The
//! dialer of the other link closes it after a while, when nothing of its own is on its way there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;

use super::input::LinkId;

/// A second link to a device lives for this long: the other side's last envelopes arrive.
const LINGER: Duration = Duration::from_secs(2);

/// A link that is up.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The contact at its other end.
    pub(super) contact: Username,
    /// The contact's device.
    pub(super) device: DeviceKey,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Whether this side dialed it.
    pub(super) dialed: bool,
    /// When it came up.
    pub(super) since: Timestamp,
}

/// All links that are up.
#[derive(Debug)]
pub(super) struct Paths {
    own: DeviceKey,
    links: BTreeMap<LinkId, Link>,
    active: BTreeMap<DeviceKey, LinkId>,
    /// Superfluous links whose end has been ordered.
    closing: BTreeSet<LinkId>,
}

impl Paths {
    /// No links yet, of the device that holds `own`.
    pub(super) const fn new(own: DeviceKey) -> Self {
        Self { own, links: BTreeMap::new(), active: BTreeMap::new(), closing: BTreeSet::new() }
    }

    /// A link is up. Returns whether it is the first one to its device.
    pub(super) fn up(&mut self, id: LinkId, link: Link) -> bool {
        let first = !self.active.contains_key(&link.device);
        self.active.entry(link.device).or_insert(id);
        self.links.insert(id, link);
        first
    }

    /// A link is gone. Returns it, if it was up.
    pub(super) fn down(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.closing.remove(&id);
        if self.active.get(&link.device) == Some(&id) {
            self.active.remove(&link.device);
            if let Some(other) = self.preferred(&link.device) {
                self.active.insert(link.device, other);
            }
        }
        Some(link)
    }

    /// The link with this number, if it is up.
    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// The link that carries envelopes to `device`.
    pub(super) fn active(&self, device: &DeviceKey) -> Option<LinkId> {
        self.active.get(device).copied()
    }

    /// Nothing is on its way to `device`: from now on the preferred link carries. Returns it.
    pub(super) fn settle(&mut self, device: &DeviceKey) -> Option<LinkId> {
        let preferred = self.preferred(device)?;
        self.active.insert(*device, preferred);
        Some(preferred)
    }

    /// All links to devices of `contact`.
    pub(super) fn of_contact(&self, contact: &Username) -> Vec<LinkId> {
        let of_contact = self.links.iter().filter(|(_, link)| link.contact == *contact);
        of_contact.map(|(id, _)| *id).collect()
    }

    /// Links that this side dialed, that are not the preferred ones, and that have lingered: each
    /// is told once, to be closed.
    pub(super) fn take_superfluous(&mut self, now: Timestamp) -> Vec<LinkId> {
        let due = self.second_links().filter(|(_, due)| *due <= now);
        let due: Vec<LinkId> = due.map(|(id, _)| id).collect();
        self.closing.extend(&due);
        due
    }

    /// When a superfluous link is next to be closed.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.second_links().map(|(_, due)| due).min()
    }

    fn second_links(&self) -> impl Iterator<Item = (LinkId, Timestamp)> {
        self.links.iter().filter_map(|(id, link)| {
            let preferred = self.preferred(&link.device)?;
            let since = link.since.max(self.links.get(&preferred)?.since);
            let second = link.dialed && preferred != *id && self.active(&link.device) != Some(*id);
            (second && !self.closing.contains(id)).then_some((*id, since + LINGER))
        })
    }

    /// Of all links to `device` the one that the device with the smaller key dialed, and of
    /// several of them the newest: an older one may have died unnoticed.
    fn preferred(&self, device: &DeviceKey) -> Option<LinkId> {
        let own_is_smaller = self.own < *device;
        let to_device = self.links.iter().filter(|(_, link)| link.device == *device);
        let best =
            to_device.max_by_key(|(id, link)| (link.dialed == own_is_smaller, link.since, **id));
        best.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: DeviceKey = DeviceKey::from_bytes([1; 32]);
    const LARGE: DeviceKey = DeviceKey::from_bytes([2; 32]);

    fn link(device: DeviceKey, dialed: bool) -> Link {
        Link {
            contact: "bob".parse().unwrap(),
            device,
            address: "127.0.0.1:1".parse().unwrap(),
            dialed,
            since: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn both_sides_settle_on_the_same_of_two_links() {
        // Link 1 was dialed by the device with the smaller key, link 2 by the other.
        let mut small = Paths::new(SMALL);
        small.up(LinkId(2), link(LARGE, false));
        small.up(LinkId(1), link(LARGE, true));
        let mut large = Paths::new(LARGE);
        large.up(LinkId(1), link(SMALL, false));
        large.up(LinkId(2), link(SMALL, true));
        assert_eq!(small.active(&LARGE), Some(LinkId(2)), "the first one carries at once");
        assert_eq!(small.settle(&LARGE), Some(LinkId(1)));
        assert_eq!(large.settle(&SMALL), Some(LinkId(1)));
    }

    #[test]
    fn the_dialer_of_the_other_link_closes_it_after_a_while() {
        let mut large = Paths::new(LARGE);
        large.up(LinkId(1), link(SMALL, false));
        large.up(LinkId(2), link(SMALL, true));
        let due = Timestamp::from_millis(0) + LINGER;
        assert_eq!(large.poll_timeout(), Some(due));
        assert_eq!(large.take_superfluous(due), [LinkId(2)]);
        assert_eq!(large.poll_timeout(), None);
        assert_eq!(large.take_superfluous(due), []);
        let mut small = Paths::new(SMALL);
        small.up(LinkId(1), link(LARGE, true));
        small.up(LinkId(2), link(LARGE, false));
        assert_eq!(small.take_superfluous(due), []);
    }

    #[test]
    fn a_lost_link_is_replaced_by_another_one() {
        let mut paths = Paths::new(SMALL);
        assert!(paths.up(LinkId(1), link(LARGE, true)));
        assert!(!paths.up(LinkId(2), link(LARGE, false)));
        assert!(paths.down(LinkId(1)).is_some());
        assert_eq!(paths.active(&LARGE), Some(LinkId(2)));
        assert!(paths.down(LinkId(2)).is_some());
        assert_eq!(paths.active(&LARGE), None);
        assert!(paths.down(LinkId(2)).is_none());
    }
}
