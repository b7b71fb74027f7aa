//! Who an address counts as.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses that counts as one: an IPv4 address itself, an IPv6 address its /64, which
/// is what one customer has; and wider ones where many parts of them misbehave.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Source {
    /// The first address.
    network: IpAddr,
    /// The length of the prefix in bits.
    prefix_len: u8,
}

impl Source {
    /// What an address counts as by itself. An IPv4 address that comes mapped into IPv6 is one.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self { network: ip.into(), prefix_len: 32 },
            IpAddr::V6(ip) => Self { network: ip.into(), prefix_len: 128 }.within(64),
        }
    }

    /// The wider range of `prefix_len` bits that it is in.
    #[must_use]
    pub fn within(self, prefix_len: u8) -> Self {
        let network = match self.network {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_len.into()));
                Ipv4Addr::from(u32::from(ip) & mask.unwrap_or(0)).into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix_len.into()));
                Ipv6Addr::from(u128::from(ip) & mask.unwrap_or(0)).into()
            }
        };
        Self { network, prefix_len: prefix_len.min(self.prefix_len) }
    }
}

/// `192.0.2.7`, `2001:db8::/64`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network, self.prefix_len) {
            (IpAddr::V4(ip), 32) => ip.fmt(f),
            (network, prefix_len) => write!(f, "{network}/{prefix_len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_itself_and_an_ipv6_address_as_its_customer() {
        let source = |ip: &str| Source::of(ip.parse().unwrap());
        for (ip, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(source(ip).to_string(), shown);
        }
        assert_eq!(source("2001:db8::1"), source("2001:db8::2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("192.0.2.7").within(24).to_string(), "192.0.2.0/24");
        assert_eq!(source("2001:db8:1:2ff::1").within(56).to_string(), "2001:db8:1:200::/56");
        assert_eq!(source("192.0.2.7").within(0).to_string(), "0.0.0.0/0");
    }
}
