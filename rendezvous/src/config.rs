//! What the server is told: defaults, under a TOML file, under the environment, under flags.

mod email;
mod smtp;

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use parlor_common::link::Link;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::email::ShownEmail;
pub use self::email::{Email, EmailError, EmailSettings, ParseSenderError, Sender};
pub use self::smtp::{Encryption, ParseSmtpError, SmtpLogin, SmtpServer};
use crate::limits::Limits;

/// The port that is listened on where none is given.
const DEFAULT_PORT: u16 = 4433;

const LISTEN: &str = "PARLOR_RENDEZVOUS_LISTEN";
const REGISTRATION: &str = "PARLOR_RENDEZVOUS_REGISTRATION";
const SMTP: &str = "PARLOR_RENDEZVOUS_SMTP";

/// Everything a server is told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who may register.
    pub registration: Registration,
    /// The UDP address to listen on; port 0 picks one.
    pub listen: SocketAddr,
    /// How the world reaches the server, for its link.
    pub public: Option<PublicHost>,
    /// Where accounts are kept.
    pub data: DataPlace,
    /// How logs look. The binary's business: an embedding program has its own.
    pub log: Log,
    /// How much is too much.
    pub limits: Limits,
    /// How mail leaves; there where registration is by e-mail.
    pub email: Option<Email>,
}

/// Who may register an account.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Anybody who reaches the server.
    Open,
    /// Who has an invitation.
    Invite,
    /// Who reads the mail of an address that may register.
    Email,
}

impl Registration {
    /// Who may register where nothing is said: nobody opens a server to strangers by leaving a
    /// line out.
    fn default_on(listen: SocketAddr) -> Self {
        if listen.ip().to_canonical().is_loopback() { Self::Open } else { Self::Invite }
    }
}

/// Where accounts are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DataPlace {
    /// In a folder.
    Folder(PathBuf),
    /// Nowhere: they are gone with the server. For tests and demonstrations.
    Memory,
}

/// A host name or address, and the port if it is not the one listened on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicHost {
    /// Without brackets.
    pub host: String,
    /// Absent: the port that is listened on.
    pub port: Option<u16>,
}

/// A text is neither `host` nor `host:port`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("expected a host, or host:port, as in chat.example or [2001:db8::1]:4433")]
pub struct ParsePublicHostError;

impl FromStr for PublicHost {
    type Err = ParsePublicHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.parse::<Ipv6Addr>().map(|address| format!("[{address}]"));
        let text = bare.as_deref().unwrap_or(text);
        if text.contains(['/', '@', '?', '#']) {
            return Err(ParsePublicHostError);
        }
        // A link knows what a host is; one without a port is tried with any.
        let parse = |at: &str| format!("parlor://{at}").parse::<Link>().map(|link| link.server.at);
        if let Ok(at) = parse(text) {
            return Ok(Self { host: at.host, port: Some(at.port) });
        }
        let at = parse(&format!("{text}:1")).map_err(|_| ParsePublicHostError)?;
        Ok(Self { host: at.host, port: None })
    }
}

impl fmt::Display for PublicHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.parse::<Ipv6Addr>(), self.port) {
            (Ok(host), Some(port)) => write!(f, "[{host}]:{port}"),
            (Ok(host), None) => write!(f, "{host}"),
            (Err(_), Some(port)) => write!(f, "{}:{port}", self.host),
            (Err(_), None) => f.write_str(&self.host),
        }
    }
}

/// How logs look.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or directives such as `info,parlor_rendezvous=debug`.
    pub level: String,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Lines for people or for programs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object a line.
    Json,
}

/// One layer of settings, as typed: a file, the environment or flags. What is absent is left to
/// the layer below.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// See [`Config::registration`].
    pub registration: Option<Registration>,
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::public`].
    pub public: Option<String>,
    /// See [`Config::data`].
    pub data: Option<PathBuf>,
    /// See [`Config::log`].
    pub log: Option<Log>,
    /// See [`Config::limits`].
    pub limits: Option<Limits>,
    /// See [`Config::email`].
    pub email: Option<EmailSettings>,
}

/// The configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `[email]` is not as it should be.
    #[error(transparent)]
    Email(#[from] EmailError),
    /// Registration is by e-mail, and there is no way to send any.
    #[error("registration = \"email\" needs [email], with smtp and from")]
    EmailMissing,
    /// A variable of the environment is not as it should be.
    #[error("{0}={1:?} is not a value that it can have")]
    Environment(&'static str, String),
    /// There is no folder to keep data in by default.
    #[error("this machine has no home folder to keep data in: say where with --data DIR")]
    NoDataFolder,
    /// A value of a file is not as it should be. The line itself is not shown: there may be a
    /// password in it.
    #[error("{}: line {line}: {message}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// `public` is no host.
    #[error("public = {0:?}: {1}")]
    Public(String, #[source] ParsePublicHostError),
    /// The file cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The SMTP server in the environment is none. It is not shown: there may be a password in it.
    #[error("{SMTP}: {0}")]
    Smtp(#[source] ParseSmtpError),
}

impl ConfigError {
    fn parse(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.bytes().take(start);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        Self::Parse { path: path.to_owned(), line, message: error.message().to_owned() }
    }
}

impl Settings {
    /// Reads the environment: `PARLOR_RENDEZVOUS_LISTEN` and its like. An empty variable is none.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let refuse = |name, value: &str| ConfigError::Environment(name, value.to_owned());
        let listen =
            variable(LISTEN).map(|value| value.parse().map_err(|_| refuse(LISTEN, &value)));
        let registration = variable(REGISTRATION).map(|value| match value.as_str() {
            "open" => Ok(Registration::Open),
            "invite" => Ok(Registration::Invite),
            "email" => Ok(Registration::Email),
            _ => Err(refuse(REGISTRATION, &value)),
        });
        let smtp = variable(SMTP).map(|value| value.parse().map_err(ConfigError::Smtp));
        let through = |smtp| EmailSettings { smtp: Some(smtp), ..EmailSettings::default() };
        Ok(Self {
            listen: listen.transpose()?,
            registration: registration.transpose()?,
            email: smtp.transpose()?.map(through),
            public: variable("PARLOR_RENDEZVOUS_PUBLIC"),
            data: variable("PARLOR_RENDEZVOUS_DATA").map(PathBuf::from),
            ..Self::default()
        })
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| ConfigError::parse(path, &text, &error))
    }

    /// These settings, and `below` where they say nothing.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            registration: self.registration.or(below.registration),
            listen: self.listen.or(below.listen),
            public: self.public.or(below.public),
            data: self.data.or(below.data),
            log: self.log.or(below.log),
            limits: self.limits.or(below.limits),
            email: match (self.email, below.email) {
                (Some(email), Some(below)) => Some(email.over(below)),
                (email, below) => email.or(below),
            },
        }
    }

    /// These settings over the defaults.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let data = self.data.or_else(default_data).ok_or(ConfigError::NoDataFolder)?;
        let public = match self.public {
            Some(text) => Some(text.parse().map_err(|error| ConfigError::Public(text, error))?),
            None => None,
        };
        let listen = self.listen.unwrap_or_else(default_listen);
        let registration = self.registration.unwrap_or_else(|| Registration::default_on(listen));
        let email = self.email.map(EmailSettings::into_email).transpose()?;
        if registration == Registration::Email && email.is_none() {
            return Err(ConfigError::EmailMissing);
        }
        Ok(Config {
            registration,
            listen,
            public,
            data: DataPlace::Folder(data),
            log: self.log.unwrap_or_default(),
            limits: self.limits.unwrap_or_default(),
            email,
        })
    }
}

fn default_listen() -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()
}

fn default_data() -> Option<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "parlor-rendezvous")?;
    Some(folders.data_dir().to_owned())
}

impl Config {
    /// A server on loopback that keeps nothing: for tests and demonstrations.
    pub fn in_memory() -> Self {
        Self {
            registration: Registration::Open,
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            public: None,
            data: DataPlace::Memory,
            log: Log::default(),
            limits: Limits::default(),
            email: None,
        }
    }

    /// The configuration as a file would say it, but for the password of the SMTP server.
    pub fn to_settings(&self) -> ShownSettings {
        ShownSettings {
            registration: self.registration,
            listen: self.listen,
            public: self.public.as_ref().map(PublicHost::to_string),
            data: match &self.data {
                DataPlace::Folder(path) => Some(path.clone()),
                DataPlace::Memory => None,
            },
            log: self.log.clone(),
            limits: self.limits,
            email: self.email.as_ref().map(Email::to_settings),
        }
    }
}

/// What is in force, in the words of the file.
#[derive(Clone, Debug, Serialize)]
pub struct ShownSettings {
    registration: Registration,
    listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    log: Log,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<ShownEmail>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let refused = parse("listen = \"127.0.0.1:1\"\nlisten_to = 3\n").unwrap_err().to_string();
        assert!(refused.contains("line 2") && refused.contains("listen_to"), "{refused}");
        assert!(parse("[limits]\nconections = 1\n").is_err());
        assert!(parse("[log]\ncolour = true\n").is_err());
        assert!(parse("[email]\nsmpt = \"smtp://localhost\"\n").is_err());
        assert!(parse("registration = \"shut\"\n").is_err());
    }

    #[test]
    fn a_layer_above_wins_and_what_it_leaves_out_comes_from_below() {
        let file =
            parse("listen = \"127.0.0.1:1\"\ndata = \"/file\"\n[limits]\ncontacts = 5\n[log]\n")
                .unwrap();
        let flags = Settings { data: Some("/flag".into()), ..Settings::default() };
        let config = flags.over(file).into_config().unwrap();
        assert_eq!(config.data, DataPlace::Folder("/flag".into()));
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.limits, Limits { contacts: 5, ..Limits::default() });
    }

    #[test]
    fn the_environment_is_a_layer() {
        let read = |name: &str| match name {
            "PARLOR_RENDEZVOUS_LISTEN" => Some("127.0.0.1:5".to_owned()),
            "PARLOR_RENDEZVOUS_REGISTRATION" => Some("email".to_owned()),
            "PARLOR_RENDEZVOUS_SMTP" => Some("smtps://parlor:secret@mail.example".to_owned()),
            "PARLOR_RENDEZVOUS_PUBLIC" => Some(String::new()),
            _ => None,
        };
        let settings = Settings::from_environment(read).unwrap();
        assert_eq!(settings.listen, Some("127.0.0.1:5".parse().unwrap()));
        assert_eq!(settings.registration, Some(Registration::Email));
        let file =
            parse("[email]\nsmtp = \"smtp://localhost\"\nfrom = \"p@chat.example\"").unwrap();
        let email = settings.clone().over(file).into_config().unwrap().email.unwrap();
        assert_eq!(email.smtp.to_string(), "smtps://parlor:***@mail.example:465");
        assert_eq!(email.from.to_string(), "p@chat.example");
        assert_eq!((settings.public, settings.data), (None, None));
        let refused = Settings::from_environment(|_| Some("?".to_owned())).unwrap_err();
        assert!(refused.to_string().contains("PARLOR_RENDEZVOUS_LISTEN"), "{refused}");
        let read = |name: &str| (name == SMTP).then(|| "smtp://a:secret@mail.example".to_owned());
        let refused = Settings::from_environment(read).unwrap_err().to_string();
        assert!(refused.contains(SMTP) && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn only_loopback_is_open_by_default_and_the_rest_by_invitation() {
        let effective = |listen: &str, registration| {
            let listen = Some(listen.parse().unwrap());
            let settings = Settings { registration, listen, ..Settings::default() };
            settings.into_config().unwrap().registration
        };
        assert_eq!(effective("127.0.0.1:0", None), Registration::Open);
        assert_eq!(effective("[::1]:0", None), Registration::Open);
        assert_eq!(effective("[::]:4433", None), Registration::Invite);
        assert_eq!(effective("192.0.2.1:1", Some(Registration::Open)), Registration::Open);
        assert_eq!(effective("[::1]:0", Some(Registration::Invite)), Registration::Invite);
    }

    #[test]
    fn a_public_host_is_a_host_with_or_without_a_port() {
        let parse = |text: &str| text.parse::<PublicHost>().map(|host| (host.host, host.port));
        assert_eq!(parse("Chat.example"), Ok(("chat.example".to_owned(), None)));
        assert_eq!(parse("chat.example:99"), Ok(("chat.example".to_owned(), Some(99))));
        assert_eq!(parse("[2001:db8::1]:99"), Ok(("2001:db8::1".to_owned(), Some(99))));
        assert_eq!(parse("2001:db8::1"), Ok(("2001:db8::1".to_owned(), None)));
        for refused in ["", "a b", "http://x", "key@host:1", "host:0", "host:99999", "host/x"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
        for text in ["chat.example", "chat.example:99", "[2001:db8::1]:99", "2001:db8::1"] {
            assert_eq!(text.parse::<PublicHost>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let config = Settings::default().into_config().unwrap();
        let text = toml::to_string(&config.to_settings()).unwrap();
        assert_eq!(parse(&text).unwrap().into_config().unwrap(), config);

        let email = "registration = \"email\"\n[email]\nsmtp = \"smtp://localhost\"
            from = \"Parlor <p@chat.example>\"\ndomains = [\"Isb.nu.edu.pk\"]";
        let config = parse(email).unwrap().into_config().unwrap();
        let text = toml::to_string(&config.to_settings()).unwrap();
        assert_eq!(parse(&text).unwrap().into_config().unwrap(), config);
    }

    #[test]
    fn no_password_is_shown_whatever_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let smtp = "smtp = \"smtps://parlor:secret@mail.example\"";
        for (text, line) in [
            (format!("[email]\n{smtp}\nform = \"p@chat.example\""), 3),
            (format!("[email]\nfrom = \"p@chat.example\"\n{smtp} x"), 3),
            (format!("[email]\n{}", smtp.replace("smtps", "smtp")), 2),
            (format!("[email]\n{}", smtp.trim_end_matches('"')), 2),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = Settings::read(&path).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(&format!("line {line}")), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
        std::fs::write(&path, format!("[email]\n{smtp}\nfrom = \"p@chat.example\"")).unwrap();
        let settings = Settings::read(&path).unwrap();
        let config = settings.clone().into_config().unwrap();
        let shown = toml::to_string(&config.to_settings()).unwrap();
        assert!(shown.contains("smtps://parlor:***@mail.example:465"), "{shown}");
        assert!(!format!("{shown} {settings:?} {config:?}").contains("secret"));
    }

    #[test]
    fn registration_by_email_needs_a_way_to_send_it() {
        let refused = |text: &str| parse(text).unwrap().into_config().unwrap_err().to_string();
        assert!(refused("registration = \"email\"").contains("needs [email]"));
        assert!(refused("[email]\nfrom = \"p@chat.example\"").contains("smtp"));
        assert!(refused("[email]\nsmtp = \"smtp://localhost\"").contains("from"));
    }
}
