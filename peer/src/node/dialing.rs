//! Which addresses a peer dials on somebody's word, and how often: nobody's word makes a peer a
//! flooder or a scanner.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use parlor_common::time::Timestamp;

use super::input::LocalAddress;

/// What was dialed and has not answered is remembered for this long.
const WINDOW: Duration = Duration::from_secs(60);

/// First packets that one dial sends to a silent address at most: the network's dial ends before
/// it would send more, and no address gets more than these in a [`WINDOW`].
const PACKETS_PER_DIAL: usize = 8;

/// At most 200 packets a [`WINDOW`] go to addresses that do not answer.
const DIALS_IN_ALL: usize = 200 / PACKETS_PER_DIAL;

/// Counts dials that have not been answered.
#[derive(Debug, Default)]
pub(super) struct DialBudget {
    unanswered: VecDeque<(Timestamp, SocketAddr)>,
}

impl DialBudget {
    /// Takes a dial to `address` out of the budget, if there is one left.
    pub(super) fn take(&mut self, address: SocketAddr, now: Timestamp) -> bool {
        while self.unanswered.front().is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.unanswered.pop_front();
        }
        let fresh = self.unanswered.iter().all(|(_, dialed)| *dialed != address);
        let left = fresh && self.unanswered.len() < DIALS_IN_ALL;
        if left {
            self.unanswered.push_back((now, address));
        }
        left
    }

    /// An address answered as the device that was expected there: its dials are given back.
    pub(super) fn give_back(&mut self, address: SocketAddr) {
        self.unanswered.retain(|(_, dialed)| *dialed != address);
    }
}

/// Whether `address`, which somebody else named, may be dialed at all.
///
/// Loopback only if the rendezvous is on loopback; private and link-local ones only inside a
/// network that this machine is in.
pub(super) fn is_dialable(address: SocketAddr, local: &[LocalAddress], on_loopback: bool) -> bool {
    let ip = address.ip().to_canonical();
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    if ip == IpAddr::V4(Ipv4Addr::BROADCAST) || local.iter().any(|own| is_broadcast(ip, own)) {
        return false;
    }
    if local.iter().any(|own| is_same(own, address)) {
        return false;
    }
    if ip.is_loopback() {
        return on_loopback;
    }
    !is_private(ip) || local.iter().any(|own| is_inside(ip, own))
}

fn is_same(own: &LocalAddress, address: SocketAddr) -> bool {
    own.address.port() == address.port()
        && own.address.ip().to_canonical() == address.ip().to_canonical()
}

/// Addresses that mean something only inside one's own network: private (RFC 1918), shared
/// (RFC 6598), link-local, "this network", unique local (RFC 4193), and reserved ones.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = a == 0 || a >= 240;
            ip.is_private() || ip.is_link_local() || shared || reserved
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn is_inside(ip: IpAddr, own: &LocalAddress) -> bool {
    match (ip, own.address.ip().to_canonical()) {
        (IpAddr::V4(ip), IpAddr::V4(own_ip)) => {
            let mask = v4_mask(own.prefix_len);
            ip.to_bits() & mask == own_ip.to_bits() & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(own_ip)) => {
            let mask = leading_ones(own.prefix_len, 128);
            Ipv6Addr::to_bits(ip) & mask == own_ip.to_bits() & mask
        }
        _ => false,
    }
}

/// Whether `ip` means all of an own network (RFC 919).
fn is_broadcast(ip: IpAddr, own: &LocalAddress) -> bool {
    match (ip, own.address.ip().to_canonical()) {
        (IpAddr::V4(ip), IpAddr::V4(own_ip)) => {
            own.prefix_len < 31 && ip.to_bits() == own_ip.to_bits() | !v4_mask(own.prefix_len)
        }
        _ => false,
    }
}

fn v4_mask(prefix_len: u8) -> u32 {
    u32::try_from(leading_ones(prefix_len, 32) >> 96).unwrap_or(u32::MAX)
}

/// 128 bits of which the first `count` (at most `most`) are ones.
fn leading_ones(count: u8, most: u8) -> u128 {
    let zeros = 128 - u32::from(count.min(most));
    u128::MAX.checked_shl(zeros).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Vec<LocalAddress> {
        vec![
            LocalAddress { address: "192.168.7.5:5000".parse().unwrap(), prefix_len: 24 },
            LocalAddress { address: "[fd00:1::5]:5000".parse().unwrap(), prefix_len: 64 },
        ]
    }

    fn dialable(address: &str, on_loopback: bool) -> bool {
        is_dialable(address.parse().unwrap(), &local(), on_loopback)
    }

    #[test]
    fn public_addresses_are_dialable() {
        assert!(dialable("198.51.100.7:4433", false));
        assert!(dialable("[2001:db8::7]:4433", false));
    }

    #[test]
    fn nonsense_addresses_never_are() {
        for address in [
            "198.51.100.7:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.251:5353",
            "[ff02::fb]:5353",
            "255.255.255.255:9",
            "240.0.0.1:9",
            "0.1.2.3:9",
        ] {
            assert!(!dialable(address, true), "{address}");
        }
    }

    #[test]
    fn loopback_is_dialable_only_if_the_rendezvous_is_there() {
        for address in ["127.0.0.1:22", "[::1]:22", "[::ffff:127.0.0.1]:22"] {
            assert!(!dialable(address, false), "{address}");
            assert!(dialable(address, true), "{address}");
        }
    }

    #[test]
    fn private_addresses_are_dialable_only_inside_an_own_network() {
        assert!(dialable("192.168.7.9:4433", false));
        assert!(dialable("[::ffff:192.168.7.9]:4433", false));
        assert!(dialable("[fd00:1::9]:4433", false));
        for address in [
            "192.168.8.9:4433",
            "192.168.7.255:4433",
            "10.0.0.1:4433",
            "100.64.0.1:4433",
            "169.254.1.1:4433",
            "[fd00:2::9]:4433",
            "[fe80::1]:4433",
        ] {
            assert!(!dialable(address, false), "{address}");
        }
        // One's own socket is not somebody else's.
        assert!(!dialable("192.168.7.5:5000", false));
    }

    #[test]
    fn a_silent_address_is_dialed_once_a_minute() {
        let mut budget = DialBudget::default();
        let address = "198.51.100.7:1".parse().unwrap();
        let start = Timestamp::from_millis(0);
        assert!(budget.take(address, start));
        assert!(!budget.take(address, start + WINDOW - Duration::from_millis(1)));
        assert!(budget.take(address, start + WINDOW));
    }

    #[test]
    fn twenty_five_silent_addresses_a_minute_are_the_most() {
        let mut budget = DialBudget::default();
        let address = |i: u16| SocketAddr::from(([198, 51, 100, 7], 1000 + i));
        let dialed = (0..100).filter(|i| budget.take(address(*i), Timestamp::default())).count();
        assert_eq!(dialed, 25);
        // An address that answered does not count.
        budget.give_back(address(0));
        assert!(budget.take(address(200), Timestamp::default()));
    }
}
