//! How the world reaches a server: the link it hands out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use parlor_common::identity::ServerKey;
use parlor_common::link::{HostPort, Link, ServerAddress, Target};

use crate::config::PublicHost;

/// The link of the server with `key` that listens on `listen`: with the host that was configured,
/// else the address listened on, else, where that is unspecified, an address of this machine.
pub fn link(public: Option<&PublicHost>, listen: SocketAddr, key: ServerKey) -> Link {
    let at = match public {
        Some(PublicHost { host, port }) => {
            HostPort { host: host.clone(), port: port.unwrap_or(listen.port()) }
        }
        None => HostPort::from(SocketAddr::new(host_of(listen.ip()), listen.port())),
    };
    Link { server: ServerAddress { key: Some(key), at }, target: Target::Server }
}

fn host_of(listen: IpAddr) -> IpAddr {
    if !listen.is_unspecified() {
        return listen.to_canonical();
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    let chosen = best(&addresses, listen);
    tracing::warn!(
        address = %chosen,
        "the link names an address of this machine; set `public` to the host that others reach"
    );
    chosen
}

/// The address that most others can reach. A socket on `0.0.0.0` hears no IPv6.
fn best(addresses: &[IpAddr], listen: IpAddr) -> IpAddr {
    let heard = addresses.iter().copied().filter(|ip| listen.is_ipv6() || ip.is_ipv4());
    heard.min_by_key(|ip| Reach::of(*ip)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// How far an address reaches, farthest first.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Reach {
    Global,
    /// RFC 1918 and RFC 4193: this network.
    Private,
    LinkLocal,
    Loopback,
}

impl Reach {
    fn of(ip: IpAddr) -> Self {
        match ip {
            _ if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(ip) if ip.is_link_local() => Self::LinkLocal,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V4(ip) if ip.is_private() => Self::Private,
            IpAddr::V6(ip) if ip.is_unique_local() => Self::Private,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Global,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(public: Option<&str>, listen: &str) -> String {
        let public = public.map(|public| public.parse().unwrap());
        let link = link(public.as_ref(), listen.parse().unwrap(), ServerKey::from_bytes([0; 32]));
        link.server.at.to_string()
    }

    #[test]
    fn a_link_names_what_was_configured_or_is_listened_on() {
        assert_eq!(shown(None, "127.0.0.1:7"), "127.0.0.1:7");
        assert_eq!(shown(Some("chat.example"), "[::]:7"), "chat.example:7");
        assert_eq!(shown(Some("chat.example:8"), "[::]:7"), "chat.example:8");
        assert!(!shown(None, "[::]:7").contains("[::]"));
    }

    #[test]
    fn of_a_machines_addresses_the_farthest_reaching_is_chosen() {
        let addresses = ["127.0.0.1", "fe80::1", "10.0.0.1", "2001:db8::1"];
        let addresses = addresses.map(|text| text.parse().unwrap());
        let any6: IpAddr = "::".parse().unwrap();
        let any4: IpAddr = "0.0.0.0".parse().unwrap();
        assert_eq!(best(&addresses, any6).to_string(), "2001:db8::1");
        assert_eq!(best(&addresses, any4).to_string(), "10.0.0.1");
        assert_eq!(best(&[], any4).to_string(), "127.0.0.1");
    }
}
