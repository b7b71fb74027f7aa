//! Arguments that are more than text: a rendezvous, somebody, a device.

use std::fmt;
use std::str::FromStr;

use parlor_common::id::{DeviceId, ParseUsernameError, Username};
use parlor_common::identity::AccountKey;
use parlor_common::link::{Link, ParseLinkError, ServerAddress, Target};
use parlor_common::wire::rendezvous::MAX_DEVICE_NAME;
use thiserror::Error;

/// A device, by the beginning of its id: hexadecimal digits, at most as many as an id has.
#[derive(Clone, Debug)]
pub struct DeviceArg(String);

/// A text is not the beginning of a device's id.
#[derive(Clone, Copy, Debug, Error)]
#[error("a device's id is 32 hexadecimal digits; its beginning is enough")]
pub struct DeviceArgError;

impl FromStr for DeviceArg {
    type Err = DeviceArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || !(1..=32).contains(&text.len()) {
            return Err(DeviceArgError);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// How many of some devices an argument names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    /// None.
    Nothing,
    /// One.
    One(DeviceId),
    /// More than one: the argument is too short.
    Several,
}

impl DeviceArg {
    /// Which of `devices` is meant.
    pub fn among(&self, devices: impl Iterator<Item = DeviceId>) -> Named {
        let mut found = devices.filter(|device| device.to_string().starts_with(&self.0));
        match (found.next(), found.next()) {
            (None, _) => Named::Nothing,
            (Some(device), None) => Named::One(device),
            (Some(_), Some(_)) => Named::Several,
        }
    }
}

impl fmt::Display for DeviceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name for a device: one line of at most [`MAX_DEVICE_NAME`] bytes.
#[derive(Clone, Debug)]
pub struct DeviceName(pub String);

/// A text is no name for a device.
#[derive(Clone, Copy, Debug, Error)]
#[error("a device's name is one line of at most {MAX_DEVICE_NAME} bytes")]
pub struct DeviceNameError;

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_DEVICE_NAME || text.chars().any(char::is_control) {
            return Err(DeviceNameError);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A rendezvous, by a link to it or to something on it.
#[derive(Clone, Debug)]
pub struct ServerArg {
    /// Where it is.
    pub address: ServerAddress,
    /// The code of the invitation that the link is, if it is one.
    pub invitation: Option<String>,
}

impl FromStr for ServerArg {
    type Err = ServerArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Link { server, target } = text.parse()?;
        if server.key.is_none() {
            return Err(ServerArgError::NoKey);
        }
        let invitation = match target {
            Target::Invitation { code } => Some(code),
            Target::Server | Target::Contact { .. } => None,
        };
        Ok(Self { address: server, invitation })
    }
}

/// Why a text names no rendezvous.
#[derive(Clone, Debug, Error)]
pub enum ServerArgError {
    /// It is no link.
    #[error(transparent)]
    Link(#[from] ParseLinkError),
    /// It has no key.
    #[error("the link has no key; it should start with parlor://KEY@, as the rendezvous prints it")]
    NoKey,
}

/// Somebody, by name or by a link that may carry the account key.
#[derive(Clone, Debug)]
pub enum ContactArg {
    /// A name on one's own rendezvous.
    Name(Username),
    /// A link.
    Link {
        /// Where.
        server: ServerAddress,
        /// Who.
        name: Username,
        /// The account key that the link vouches for.
        account_key: Option<AccountKey>,
    },
}

/// Why a text names nobody.
#[derive(Clone, Debug, Error)]
pub enum ContactArgError {
    /// It is neither a link nor a name.
    #[error(transparent)]
    Name(#[from] ParseUsernameError),
    /// It is a malformed link.
    #[error(transparent)]
    Link(#[from] ParseLinkError),
    /// It is a link to something else.
    #[error("the link is not a contact's; it should end with /NAME#KEY")]
    NotContact,
}

impl FromStr for ContactArg {
    type Err = ContactArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("://") {
            return Ok(Self::Name(text.parse()?));
        }
        let Link { server, target } = text.parse()?;
        match target {
            Target::Contact { name, account_key } => Ok(Self::Link { server, name, account_key }),
            Target::Server | Target::Invitation { .. } => Err(ContactArgError::NotContact),
        }
    }
}

/// After how many seconds messages disappear; none for never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DisappearAfter(pub Option<u32>);

/// A text is no time after which messages disappear.
#[derive(Clone, Copy, Debug, Error)]
#[error("a time is a number with s, m, h, d or w behind it, from 1s to 520w; or off")]
pub struct DisappearAfterError;

impl FromStr for DisappearAfter {
    type Err = DisappearAfterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        let unit = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
        let found = unit.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
        let (count, size) = found.ok_or(DisappearAfterError)?;
        let count: u32 = count.parse().map_err(|_| DisappearAfterError)?;
        let seconds = count.checked_mul(size).filter(|all| (1..=520 * 604_800).contains(all));
        Ok(Self(Some(seconds.ok_or(DisappearAfterError)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "parlor://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@127.0.0.1:4433";

    #[test]
    fn a_link_that_is_an_invitation_lets_in() {
        let server: ServerArg = format!("{SERVER}?invite=ABCD-EFGH").parse().unwrap();
        assert_eq!(server.invitation.as_deref(), Some("ABCD-EFGH"));
        assert_eq!(SERVER.parse::<ServerArg>().unwrap().invitation, None);
    }

    #[test]
    fn a_device_is_named_by_as_much_of_its_id_as_tells_it_from_others() {
        let (one, other) = (DeviceId([0xab; 16]), DeviceId([0xac; 16]));
        let named = |text: &str| text.parse::<DeviceArg>().unwrap().among([one, other].into_iter());
        assert_eq!(named("AB"), Named::One(one));
        assert_eq!(named(&other.to_string()), Named::One(other));
        assert_eq!((named("a"), named("b")), (Named::Several, Named::Nothing));
    }

    #[test]
    fn times_are_numbers_with_a_unit() {
        let parse = |text: &str| text.parse::<DisappearAfter>().ok().map(|after| after.0);
        assert_eq!((parse("90s"), parse("8h")), (Some(Some(90)), Some(Some(28_800))));
        assert_eq!((parse("520w"), parse("off")), (Some(Some(314_496_000)), Some(None)));
        for bad in ["", "s", "0s", "5", "-1h", "521w", "4000000000w", "1 h", "1y"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
