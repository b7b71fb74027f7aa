//! Who a request counts as: its address, or the prefix around it that misbehaves.
//!
//! An IPv4 address is a source by itself, of IPv6 a /64, which is what one customer has. Whoever
//! owns more of them spreads what he does over them: then the prefix around them is one source for
//! a while.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use parlor_common::time::Timestamp;

/// Refusals of so long ago count against the prefix around them.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// A prefix that misbehaves is one source for so long.
const WIDE_FOR: Duration = Duration::from_secs(60 * 60);

/// Prefixes that are watched at once, about 4 KiB each at most; beyond them the one goes in which
/// nobody was refused for the longest.
const MAX_WATCHED: usize = 1024;

/// An address prefix: an IPv4 /32 or an IPv6 /64, or a wider one that misbehaves.
///
/// Displayed as `192.0.2.7`, `2001:db8::/64`, `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Source {
    /// With zeros beyond the prefix; never an IPv4 address in IPv6's clothes.
    ip: IpAddr,
    /// Bits of it that count.
    len: u8,
}

/// Which prefixes misbehave. Forgets everything at a restart, but for an hour's width that costs
/// nobody anything.
#[derive(Debug)]
pub(crate) struct Sources {
    /// As in [`Limits`](crate::limits::Limits::parts_before_widening).
    parts_before_widening: usize,
    /// By a prefix wider than usual.
    watched: BTreeMap<Source, Watched>,
}

/// A prefix in which somebody was refused.
#[derive(Debug)]
struct Watched {
    /// When each of its 256 parts was refused last.
    parts: BTreeMap<u8, Timestamp>,
    /// When it last had too many of them.
    wide_at: Option<Timestamp>,
    /// When somebody in it was refused last.
    last: Timestamp,
}

impl Source {
    /// The source that an address is by itself.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip @ IpAddr::V4(_) => Self::prefix(ip, 32),
            ip @ IpAddr::V6(_) => Self::prefix(ip, 64),
        }
    }

    /// The first `len` bits of an address.
    fn prefix(ip: IpAddr, len: u8) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => {
                let cut = 32_u32.saturating_sub(len.into());
                let kept = u32::MAX.checked_shl(cut).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & kept))
            }
            IpAddr::V6(ip) => {
                let cut = 128_u32.saturating_sub(len.into());
                let kept = u128::MAX.checked_shl(cut).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & kept))
            }
        };
        Self { ip, len }
    }

    /// The prefix that it is one of 256 parts of, and which of them.
    fn within(self) -> Option<(Self, u8)> {
        let (len, bits) = match (self.ip, self.len) {
            (IpAddr::V4(ip), 32) => (24, u128::from(ip.to_bits())),
            (IpAddr::V6(ip), 64) => (56, ip.to_bits() >> 64),
            (IpAddr::V6(ip), 56) => (48, ip.to_bits() >> 72),
            _ => return None,
        };
        let [.., part] = bits.to_be_bytes();
        Some((Self::prefix(self.ip, len), part))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { ip: IpAddr::V4(ip), len: 32 } => ip.fmt(f),
            Self { ip, len } => write!(f, "{ip}/{len}"),
        }
    }
}

impl Sources {
    /// Nobody misbehaves yet.
    pub(crate) const fn new(parts_before_widening: usize) -> Self {
        Self { parts_before_widening, watched: BTreeMap::new() }
    }

    /// Who an address counts as now.
    pub(crate) fn of(&self, ip: IpAddr, now: Timestamp) -> Source {
        let mut widest = Source::of(ip);
        let mut source = widest;
        while let Some((around, _)) = source.within() {
            if self.watched.get(&around).is_some_and(|watched| watched.is_wide(now)) {
                widest = around;
            }
            source = around;
        }
        widest
    }

    /// Somebody at this address was refused something.
    pub(crate) fn blame(&mut self, ip: IpAddr, now: Timestamp) {
        let mut source = Source::of(ip);
        while let Some((around, part)) = source.within() {
            self.make_room(&around, now);
            let watched = self.watched.entry(around).or_insert_with(|| Watched::new(now));
            watched.blame(part, self.parts_before_widening, now);
            source = around;
        }
    }

    /// Forgets a prefix if another has to have its place.
    fn make_room(&mut self, newcomer: &Source, now: Timestamp) {
        if self.watched.len() < MAX_WATCHED || self.watched.contains_key(newcomer) {
            return;
        }
        let oldest = self.watched.iter().min_by_key(|(_, it)| (it.is_wide(now), it.last));
        if let Some(oldest) = oldest.map(|(source, _)| *source) {
            self.watched.remove(&oldest);
        }
    }
}

impl Watched {
    const fn new(now: Timestamp) -> Self {
        Self { parts: BTreeMap::new(), wide_at: None, last: now }
    }

    fn blame(&mut self, part: u8, parts_before_widening: usize, now: Timestamp) {
        self.last = now;
        self.parts.retain(|_, at| at.distance(now) <= MEMORY);
        self.parts.insert(part, now);
        if parts_before_widening > 0 && self.parts.len() >= parts_before_widening {
            self.wide_at = Some(now);
        }
    }

    /// By distance, so that a clock that is set back does not make an hour longer.
    fn is_wide(&self, now: Timestamp) -> bool {
        self.wide_at.is_some_and(|at| at.distance(now) <= WIDE_FOR)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn shown(sources: &Sources, address: &str, now: Timestamp) -> String {
        sources.of(ip(address), now).to_string()
    }

    #[test]
    fn an_address_counts_by_itself_and_of_ipv6_its_64() {
        for (address, source) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ] {
            assert_eq!(Source::of(ip(address)).to_string(), source);
        }
        assert_eq!(Source::of(ip("::ffff:192.0.2.7")), Source::of(ip("192.0.2.7")));
    }

    #[test]
    fn a_24_of_which_many_parts_are_refused_is_one_source_for_an_hour() {
        let mut sources = Sources::new(3);
        for part in ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.3.3"] {
            sources.blame(ip(part), NOW);
        }
        assert_eq!(shown(&sources, "192.0.2.9", NOW), "192.0.2.9");
        sources.blame(ip("::ffff:192.0.2.3"), NOW);
        assert_eq!(shown(&sources, "192.0.2.9", NOW), "192.0.2.0/24");
        assert_eq!(shown(&sources, "192.0.3.9", NOW), "192.0.3.9");
        assert_eq!(shown(&sources, "192.0.2.9", NOW + WIDE_FOR), "192.0.2.0/24");
        let later = NOW + WIDE_FOR + Duration::from_millis(1);
        assert_eq!(shown(&sources, "192.0.2.9", later), "192.0.2.9");
        // One more refusal does not make it wide again: the others are long ago.
        sources.blame(ip("192.0.2.1"), later);
        assert_eq!(shown(&sources, "192.0.2.9", later), "192.0.2.9");
    }

    #[test]
    fn of_ipv6_first_a_56_and_then_a_48_is_one_source() {
        let mut sources = Sources::new(2);
        for part in ["2001:db8:0:100::1", "2001:db8:0:101::1", "2001:db8:0:102::1"] {
            sources.blame(ip(part), NOW);
        }
        assert_eq!(shown(&sources, "2001:db8:0:1ff::1", NOW), "2001:db8:0:100::/56");
        assert_eq!(shown(&sources, "2001:db8:0:200::1", NOW), "2001:db8:0:200::/64");
        sources.blame(ip("2001:db8:0:200::1"), NOW);
        for address in ["2001:db8:0:100::1", "2001:db8:0:ffff::1"] {
            assert_eq!(shown(&sources, address, NOW), "2001:db8::/48");
        }
        assert_eq!(shown(&sources, "2001:db8:1::1", NOW), "2001:db8:1::/64");
    }

    #[test]
    fn refusals_that_are_long_ago_do_not_count() {
        let mut sources = Sources::new(2);
        sources.blame(ip("192.0.2.1"), NOW);
        let later = NOW + MEMORY + Duration::from_millis(1);
        sources.blame(ip("192.0.2.2"), later);
        assert_eq!(shown(&sources, "192.0.2.3", later), "192.0.2.3");
        sources.blame(ip("192.0.2.1"), later);
        assert_eq!(shown(&sources, "192.0.2.3", later), "192.0.2.0/24");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_wide_for_longer() {
        let mut sources = Sources::new(1);
        sources.blame(ip("192.0.2.1"), NOW);
        let before = NOW - Duration::from_secs(86_400);
        assert_eq!(shown(&sources, "192.0.2.1", before), "192.0.2.1");
    }

    #[test]
    fn with_zero_nothing_is_ever_wide() {
        let mut sources = Sources::new(0);
        for part in 0..=255 {
            sources.blame(IpAddr::from([192, 0, 2, part]), NOW);
        }
        assert_eq!(shown(&sources, "192.0.2.1", NOW), "192.0.2.1");
    }

    #[test]
    fn the_table_is_bounded_and_who_misbehaves_stays_in_it() {
        let mut sources = Sources::new(2);
        for part in ["198.51.100.1", "198.51.100.2"] {
            sources.blame(ip(part), NOW);
        }
        for number in 0..3_000_u32 {
            let at = NOW + Duration::from_millis(number.into());
            sources.blame(IpAddr::V4((number << 8).into()), at);
        }
        assert_eq!(sources.watched.len(), MAX_WATCHED);
        assert_eq!(shown(&sources, "198.51.100.3", NOW), "198.51.100.0/24");
        let newest = Source::prefix(IpAddr::V4((2_999 << 8).into()), 24);
        assert!(sources.watched.contains_key(&newest));
    }

    proptest! {
        #[test]
        fn a_source_is_a_prefix_of_its_address(bits: u128, blamed in prop::collection::vec(any::<u16>(), 0..40)) {
            let address = Ipv6Addr::from_bits(bits);
            let mut sources = Sources::new(2);
            for part in blamed {
                sources.blame(IpAddr::V6((bits ^ u128::from(part) << 64).into()), NOW);
            }
            let source = sources.of(address.into(), NOW);
            prop_assert_eq!(Source::prefix(address.to_canonical(), source.len), source);
        }
    }
}
