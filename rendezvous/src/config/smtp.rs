//! The URL of an SMTP server, with how it is spoken to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

/// An SMTP server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct SmtpServer {
    /// How what is said stays between the two.
    pub encryption: Encryption,
    /// A name or an address, without brackets. The server's certificate must be this host's.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Who this server is there.
    pub login: Option<SmtpLogin>,
}

/// How what is said to an SMTP server stays between the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// TLS from the first byte (RFC 8314): `smtps://`.
    Tls,
    /// STARTTLS (RFC 3207), and no mail to a server that does not offer it:
    /// `smtp://…?tls=required`.
    StartTls,
    /// None, within this machine: `smtp://`.
    Plain,
}

/// A name and a password at an SMTP server.
#[derive(Clone, Eq, PartialEq)]
pub struct SmtpLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

/// A text is no SMTP server that mail is given to. It is not shown: there may be a password in it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseSmtpError {
    /// Mail would go through the network in the clear.
    #[error("smtp:// beyond this machine would send in the clear: use smtps://, or ?tls=required")]
    InTheClear,
    /// A name without a password, or one of the two is no text.
    #[error("give a user and a password, or neither; percent-encode what is no letter or digit")]
    Login,
    /// It is no URL of an SMTP server.
    #[error(
        "that is no SMTP server: smtps://USER:PASSWORD@HOST:465, or smtp://HOST:587?tls=required"
    )]
    Malformed,
}

impl Encryption {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Tls => "smtps",
            Self::StartTls | Self::Plain => "smtp",
        }
    }

    /// The port where none is given: of submission (RFC 8314), or of a relay on this machine.
    const fn default_port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::Plain => 25,
        }
    }
}

impl FromStr for SmtpServer {
    type Err = ParseSmtpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| ParseSmtpError::Malformed)?;
        let encryption = match (url.scheme(), url.query()) {
            ("smtps", None) => Encryption::Tls,
            ("smtp", Some("tls=required")) => Encryption::StartTls,
            ("smtp", None) => Encryption::Plain,
            _ => return Err(ParseSmtpError::Malformed),
        };
        let host = url.host_str().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        if host.is_empty() || url.path().len() > 1 || url.fragment().is_some() {
            return Err(ParseSmtpError::Malformed);
        }
        if encryption == Encryption::Plain && !is_loopback(&host) {
            return Err(ParseSmtpError::InTheClear);
        }
        let port = url.port().unwrap_or_else(|| encryption.default_port());
        Ok(Self { encryption, host, port, login: login(&url)? })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback()) || host.eq_ignore_ascii_case("localhost")
}

fn login(url: &Url) -> Result<Option<SmtpLogin>, ParseSmtpError> {
    let decode = |text| percent_decode_str(text).decode_utf8().map_err(|_| ParseSmtpError::Login);
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(ParseSmtpError::Login),
        (user, Some(password)) => {
            let user = decode(user)?.into_owned();
            let password = Zeroizing::new(decode(password)?.into_owned());
            Ok(Some(SmtpLogin { user, password }))
        }
    }
}

impl TryFrom<String> for SmtpServer {
    type Error = ParseSmtpError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Zeroizing::new(text).parse()
    }
}

/// The URL, with stars for the password.
impl fmt::Display for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.encryption.scheme())?;
        if let Some(SmtpLogin { user, password: _ }) = &self.login {
            let user =
                percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC);
            write!(f, "{user}:***@")?;
        }
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)?;
        if self.encryption == Encryption::StartTls { f.write_str("?tls=required") } else { Ok(()) }
    }
}

impl fmt::Debug for SmtpLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password: _ } = self;
        f.debug_struct("SmtpLogin").field("user", user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, ParseSmtpError> {
        text.parse::<SmtpServer>().map(|server| server.to_string())
    }

    #[test]
    fn a_server_is_read_from_its_url_and_shown_without_its_password() {
        for (text, expected) in [
            ("smtps://mail.example", "smtps://mail.example:465"),
            ("smtps://a:b@mail.example:99/", "smtps://a:***@mail.example:99"),
            ("smtp://mail.example?tls=required", "smtp://mail.example:587?tls=required"),
            (
                "smtp://a%40b:c%3Ad@mail.example:2?tls=required",
                "smtp://a%40b:***@mail.example:2?tls=required",
            ),
            ("smtp://localhost:2525", "smtp://localhost:2525"),
            ("smtp://127.0.0.2", "smtp://127.0.0.2:25"),
            ("smtp://[::1]:26", "smtp://[::1]:26"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
            assert_eq!(shown(expected).as_deref(), Ok(expected));
        }
        let server: SmtpServer = "smtps://a%40b:c%3Ad@mail.example".parse().unwrap();
        let login = server.login.unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("a@b", "c:d"));
        let server: SmtpServer = "smtp://[::1]".parse().unwrap();
        assert_eq!(server.host, "::1");
    }

    #[test]
    fn nothing_goes_through_the_network_in_the_clear() {
        for text in [
            "smtp://mail.example",
            "smtp://192.0.2.1:25",
            "smtp://[2001:db8::1]",
            "smtp://localhost.evil.example",
            "smtp://127.0.0.1.evil.example",
        ] {
            assert_eq!(shown(text), Err(ParseSmtpError::InTheClear), "{text}");
        }
        for text in ["smtp://mail.example?tls=opportunistic", "smtp://mail.example?tls=none"] {
            assert_eq!(shown(text), Err(ParseSmtpError::Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            "mail.example",
            "https://mail.example",
            "smtps://",
            "smtps:mail.example",
            "smtps://mail.example/path",
            "smtps://mail.example#x",
            "smtps://mail.example:99999",
        ] {
            assert_eq!(shown(text), Err(ParseSmtpError::Malformed), "{text}");
        }
        for text in ["smtps://a@mail.example", "smtps://:b@mail.example", "smtps://%ff:b@m.example"]
        {
            assert_eq!(shown(text), Err(ParseSmtpError::Login), "{text}");
        }
    }
}
