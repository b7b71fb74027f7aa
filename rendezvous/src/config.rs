//! What the server is told: defaults, under a TOML file, under the environment, under flags.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use parlor_common::link::Link;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::Limits;

/// The port that is listened on where none is given.
const DEFAULT_PORT: u16 = 4433;

const LISTEN: &str = "PARLOR_RENDEZVOUS_LISTEN";
const REGISTRATION: &str = "PARLOR_RENDEZVOUS_REGISTRATION";

/// Everything a server is told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who may register; absent until it is chosen, which loopback does by itself.
    pub registration: Option<Registration>,
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
}

/// The configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A variable of the environment is not as it should be.
    #[error("{0}={1:?} is not a value that it can have")]
    Environment(&'static str, String),
    /// There is no folder to keep data in by default.
    #[error("this machine has no home folder to keep data in: say where with --data DIR")]
    NoDataFolder,
    /// A value of a file is not as it should be; the text names its line.
    #[error("{}: {error}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        #[source]
        error: toml::de::Error,
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
            _ => Err(refuse(REGISTRATION, &value)),
        });
        Ok(Self {
            listen: listen.transpose()?,
            registration: registration.transpose()?,
            public: variable("PARLOR_RENDEZVOUS_PUBLIC"),
            data: variable("PARLOR_RENDEZVOUS_DATA").map(PathBuf::from),
            ..Self::default()
        })
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse { path: path.to_owned(), error })
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
        Ok(Config {
            registration: self.registration,
            listen,
            public,
            data: DataPlace::Folder(data),
            log: self.log.unwrap_or_default(),
            limits: self.limits.unwrap_or_default(),
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
            registration: Some(Registration::Open),
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            public: None,
            data: DataPlace::Memory,
            log: Log::default(),
            limits: Limits::default(),
        }
    }

    /// Who may register: what was chosen, and anybody on loopback. Beyond loopback nobody opens a
    /// server to strangers by leaving a line out.
    pub fn effective_registration(&self) -> Option<Registration> {
        let on_loopback = self.listen.ip().to_canonical().is_loopback();
        self.registration.or(if on_loopback { Some(Registration::Open) } else { None })
    }

    /// The configuration as a file would say it.
    pub fn to_settings(&self) -> ShownSettings {
        ShownSettings {
            registration: self.effective_registration(),
            listen: self.listen,
            public: self.public.as_ref().map(PublicHost::to_string),
            data: match &self.data {
                DataPlace::Folder(path) => Some(path.clone()),
                DataPlace::Memory => None,
            },
            log: self.log.clone(),
            limits: self.limits,
        }
    }
}

/// What is in force, in the words of the file.
#[derive(Clone, Debug, Serialize)]
pub struct ShownSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    registration: Option<Registration>,
    listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    log: Log,
    limits: Limits,
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
            "PARLOR_RENDEZVOUS_REGISTRATION" => Some("open".to_owned()),
            "PARLOR_RENDEZVOUS_PUBLIC" => Some(String::new()),
            _ => None,
        };
        let settings = Settings::from_environment(read).unwrap();
        assert_eq!(settings.listen, Some("127.0.0.1:5".parse().unwrap()));
        assert_eq!(settings.registration, Some(Registration::Open));
        assert_eq!((settings.public, settings.data), (None, None));
        let refused = Settings::from_environment(|_| Some("?".to_owned())).unwrap_err();
        assert!(refused.to_string().contains("PARLOR_RENDEZVOUS_LISTEN"), "{refused}");
    }

    #[test]
    fn only_loopback_is_open_by_default() {
        let effective = |listen: &str, registration| {
            let listen = Some(listen.parse().unwrap());
            let settings = Settings { registration, listen, ..Settings::default() };
            settings.into_config().unwrap().effective_registration()
        };
        assert_eq!(effective("127.0.0.1:0", None), Some(Registration::Open));
        assert_eq!(effective("[::1]:0", None), Some(Registration::Open));
        assert_eq!(effective("[::]:4433", None), None);
        assert_eq!(effective("192.0.2.1:1", Some(Registration::Open)), Some(Registration::Open));
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
    }
}
