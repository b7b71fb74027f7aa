//! What a person sets for a profile: `config.toml` in its folder. Without the file everything has
//! its default.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use parlor_common::visible::Visible;
use serde::Deserialize;
use thiserror::Error;

use crate::store::Durability;

/// A file is not longer, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// What a person sets for a profile.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a message that counts as saved survives.
    pub durability: Durability,
    /// Whether others are told that their messages were read.
    pub read_receipts: bool,
    /// Whether others are told that something is being typed to them.
    pub typing_notices: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { durability: Durability::Process, read_receipts: true, typing_notices: true }
    }
}

/// The configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A line is not as it should be.
    #[error("{}: line {line}: {}", .path.display(), Visible(.message))]
    Parse {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{} is too long for a configuration", .0.display())]
    TooLong(PathBuf),
}

impl Config {
    /// Reads a file. One that is not there sets nothing.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |error| ConfigError::Read { path: path.to_owned(), error };
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(failed)?,
        };
        let mut text = String::new();
        let read = file.take(MAX_LEN + 1).read_to_string(&mut text).map_err(failed)?;
        if u64::try_from(read).map_or(true, |read| read > MAX_LEN) {
            return Err(ConfigError::TooLong(path.to_owned()));
        }
        toml::from_str(&text).map_err(|error| malformed(path, &text, &error))
    }
}

fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    ConfigError::Parse { path: path.to_owned(), line, message: error.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let failed = |error| ConfigError::Read { path: PathBuf::new(), error };
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text)
            .map_err(|error| ConfigError::Read { path: path.clone(), error })?;
        Config::read(&path)
    }

    #[test]
    fn without_a_file_or_a_line_everything_has_its_default() {
        let default =
            Config { durability: Durability::Process, read_receipts: true, typing_notices: true };
        assert_eq!(Config::read(Path::new("/nowhere/config.toml")).unwrap(), default);
        assert_eq!(read("# nothing\n").unwrap(), default);
    }

    #[test]
    fn what_is_set_holds() {
        let config = read("typing_notices = false\ndurability = \"power\"\n").unwrap();
        assert_eq!(config.durability, Durability::Power);
        assert!(config.read_receipts && !config.typing_notices);
        assert!(!read("read_receipts = false").unwrap().read_receipts);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        for (text, line, word) in [
            ("\nread_reciepts = true", 2, "read_reciepts"),
            ("typing_notices = 1", 1, "boolean"),
            ("read_receipts = true\n\ndurability = \"fsync\"", 3, "fsync"),
            ("durability =", 1, ""),
        ] {
            let refused = read(text).unwrap_err().to_string();
            let at = format!("config.toml: line {line}: ");
            assert!(refused.contains(&at) && refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert!(matches!(read(&"#".repeat(70_000)), Err(ConfigError::TooLong(_))));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Config::read(folder.path()), Err(ConfigError::Read { .. })));
    }
}
