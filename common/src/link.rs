//! `parlor://` links: a server, a contact on it, or an invitation to it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::id::{ParseUsernameError, Username};
use crate::identity::{AccountKey, ParseKeyError, ServerKey};

/// Where a rendezvous is: a host name or an address, and a port.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct HostPort {
    /// A host name in lower case or an IP address, without brackets.
    pub host: String,
    /// The UDP and TCP port, not 0.
    pub port: u16,
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where a rendezvous is and which key it has: what clients pin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerAddress {
    /// The pinned key; absent only for a server with a certificate (`WebPKI`).
    pub key: Option<ServerKey>,
    /// Host and port.
    pub at: HostPort,
}

/// What a link points to on its server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// The server itself.
    Server,
    /// Somebody with an account there; the account key, where it is given, is thereby verified.
    Contact {
        /// The contact's name.
        name: Username,
        /// The contact's account key.
        account_key: Option<AccountKey>,
    },
    /// An invitation to register there.
    Invitation {
        /// The invitation's code. A secret of sorts: it is good for an account.
        code: String,
    },
}

/// A parsed link. Unknown parts (further query parameters) were ignored, malformed ones refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// The server.
    pub server: ServerAddress,
    /// What it points to there.
    pub target: Target,
}

/// Why a text is no link.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ParseLinkError {
    /// The host is empty or has characters that hosts do not have.
    #[error("the host in the link is malformed")]
    Host,
    /// An invitation code is empty, too long, or has unexpected characters.
    #[error("the invitation in the link is malformed")]
    Invitation,
    /// A key is not 43 characters of base64url.
    #[error("a key in the link is malformed: {0}")]
    Key(#[from] ParseKeyError),
    /// The name in a contact link is none.
    #[error("the name in the link is malformed: {0}")]
    Name(#[from] ParseUsernameError),
    /// The port is missing or not a number from 1 to 65535.
    #[error("the link needs a port: parlor://KEY@host:port")]
    Port,
    /// It does not start with `parlor://`.
    #[error("a link starts with parlor://")]
    Scheme,
    /// It is longer than any link.
    #[error("the link is too long")]
    TooLong,
}

/// No link is longer, in bytes.
const MAX_LINK: usize = 1024;
/// No invitation code is longer, in bytes.
const MAX_CODE: usize = 128;
/// No host name is longer, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

impl FromStr for Link {
    type Err = ParseLinkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LINK {
            return Err(ParseLinkError::TooLong);
        }
        let rest = text.strip_prefix("parlor://").ok_or(ParseLinkError::Scheme)?;
        let (rest, fragment) = split_optional(rest, '#');
        let (rest, query) = split_optional(rest, '?');
        let (authority, path) = split_optional(rest, '/');
        let server = parse_server(authority)?;
        let target = parse_target(path.unwrap_or_default(), query.unwrap_or_default(), fragment)?;
        Ok(Self { server, target })
    }
}

fn split_optional(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn parse_server(authority: &str) -> Result<ServerAddress, ParseLinkError> {
    let (key, at) = match authority.rsplit_once('@') {
        Some((key, at)) => (Some(key.parse::<ServerKey>()?), at),
        None => (None, authority),
    };
    let (host, port) = at.rsplit_once(':').ok_or(ParseLinkError::Port)?;
    let port = parse_port(port)?;
    Ok(ServerAddress { key, at: HostPort { host: parse_host(host)?, port } })
}

fn parse_port(text: &str) -> Result<u16, ParseLinkError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.filter(|port| *port != 0).ok_or(ParseLinkError::Port)
}

fn parse_host(text: &str) -> Result<String, ParseLinkError> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(ParseLinkError::Host)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| ParseLinkError::Host)?;
        return Ok(address.to_string());
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let plausible = !text.is_empty() && text.len() <= MAX_HOST && text.bytes().all(allowed);
    if plausible { Ok(text.to_ascii_lowercase()) } else { Err(ParseLinkError::Host) }
}

fn parse_target(path: &str, query: &str, fragment: Option<&str>) -> Result<Target, ParseLinkError> {
    if !path.is_empty() {
        let account_key = fragment.map(str::parse).transpose()?;
        return Ok(Target::Contact { name: path.parse()?, account_key });
    }
    match query.split('&').find_map(|part| part.strip_prefix("invite=")) {
        Some(code) => parse_code(code).map(|code| Target::Invitation { code }),
        None => Ok(Target::Server),
    }
}

fn parse_code(code: &str) -> Result<String, ParseLinkError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let plausible = !code.is_empty() && code.len() <= MAX_CODE && code.bytes().all(allowed);
    if plausible { Ok(code.to_owned()) } else { Err(ParseLinkError::Invitation) }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "parlor://{key}@{}", self.at),
            None => write!(f, "parlor://{}", self.at),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server)?;
        match &self.target {
            Target::Server => Ok(()),
            Target::Contact { name, account_key: None } => write!(f, "/{name}"),
            Target::Contact { name, account_key: Some(key) } => write!(f, "/{name}#{key}"),
            Target::Invitation { code } => write!(f, "/?invite={code}"),
        }
    }
}

crate::encoding::serde_as_text!(Link);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn same(text: &str) -> Link {
        let link: Link = text.parse().unwrap();
        assert_eq!(link.to_string(), text);
        link
    }

    #[test]
    fn each_form_parses_and_prints_the_same() {
        assert_eq!(same(&format!("parlor://{KEY}@chat.example:4433")).target, Target::Server);
        same(&format!("parlor://{KEY}@[2001:db8::1]:4433"));
        same(&format!("parlor://{KEY}@127.0.0.1:4433/bob#{KEY}"));
        same(&format!("parlor://{KEY}@127.0.0.1:4433/bob"));
        same(&format!("parlor://{KEY}@127.0.0.1:4433/?invite=ABCD-EFGH"));
        assert_eq!(same("parlor://chat.example:4433").server.key, None);
    }

    #[test]
    fn unknown_parts_are_ignored() {
        let link: Link = format!("parlor://{KEY}@h:1/?new=1&invite=ABC&more").parse().unwrap();
        assert_eq!(link.target, Target::Invitation { code: "ABC".to_owned() });
        let link: Link = format!("parlor://{KEY}@h:1/bob?x=1#{KEY}").parse().unwrap();
        assert!(matches!(link.target, Target::Contact { account_key: Some(_), .. }));
    }

    #[test]
    fn malformed_parts_are_refused() {
        let refused = |text: &str| text.parse::<Link>().unwrap_err();
        assert_eq!(refused("http://h:1"), ParseLinkError::Scheme);
        assert_eq!(refused("parlor://short@h:1"), ParseLinkError::Key(ParseKeyError));
        assert_eq!(refused("parlor://h"), ParseLinkError::Port);
        assert_eq!(refused("parlor://h:0"), ParseLinkError::Port);
        assert_eq!(refused("parlor://h:65536"), ParseLinkError::Port);
        assert_eq!(refused("parlor://h:+1"), ParseLinkError::Port);
        assert_eq!(refused("parlor://:1"), ParseLinkError::Host);
        assert_eq!(refused("parlor://a b:1"), ParseLinkError::Host);
        assert_eq!(refused("parlor://[::1:1"), ParseLinkError::Host);
        assert!(matches!(refused("parlor://h:1/../x"), ParseLinkError::Name(_)));
        assert_eq!(refused("parlor://h:1/bob#nokey"), ParseLinkError::Key(ParseKeyError));
        assert_eq!(refused("parlor://h:1/?invite="), ParseLinkError::Invitation);
        assert_eq!(refused(&format!("parlor://{}:1", "a".repeat(2000))), ParseLinkError::TooLong);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "(parlor://)?\\PC{0,80}") {
            if let Ok(link) = text.parse::<Link>() {
                prop_assert_eq!(link.to_string().parse::<Link>().unwrap(), link);
            }
        }
    }
}
