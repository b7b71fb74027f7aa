//! The server's own keys: the one that clients pin, and the one that will follow it.

use std::fmt::Write as _;

use data_encoding::BASE64URL_NOPAD;
use parlor_common::identity::{ServerKey, ServerSecret};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// The first line of a key file.
const HEADER: &str = "parlor server key, version 1: keep it secret and keep a copy";

/// The current key and the next: both made at the first start, so that clients know the next one's
/// hash long before it is used.
#[derive(Debug)]
pub struct ServerKeys {
    /// The key that clients pin.
    pub current: ServerSecret,
    /// The key that will follow.
    pub next: ServerSecret,
}

/// A key file is not as [`ServerKeys::expose_text`] writes it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the file is no server key")]
pub struct ParseKeysError;

impl ServerKeys {
    /// Draws both keys.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self { current: draw(rng), next: draw(rng) }
    }

    /// The public half of the current key.
    pub fn public(&self) -> ServerKey {
        self.current.public()
    }

    /// SHA-256 of the public half of the next key, 32 bytes.
    pub fn next_hash(&self) -> [u8; 32] {
        Sha256::digest(self.next.public().as_bytes()).into()
    }

    /// Both keys as the text of a file: a header, and a line for each.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str(HEADER);
        for key in [&self.current, &self.next] {
            let seed = Zeroizing::new(BASE64URL_NOPAD.encode(key.expose_seed().as_slice()));
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{}", *seed);
        }
        text.push('\n');
        text
    }

    /// Reads both keys from the text of a file.
    pub fn parse(text: &str) -> Result<Self, ParseKeysError> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(ParseKeysError);
        }
        let current = lines.next().and_then(parse_secret).ok_or(ParseKeysError)?;
        let next = lines.next().and_then(parse_secret).ok_or(ParseKeysError)?;
        Ok(Self { current, next })
    }
}

fn draw(rng: &mut dyn CryptoRng) -> ServerSecret {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut_slice());
    ServerSecret::from_seed(&seed)
}

fn parse_secret(line: &str) -> Option<ServerSecret> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(line.as_bytes()).ok()?);
    let seed: &[u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(ServerSecret::from_seed(seed))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn keys_survive_their_file_and_nothing_else_is_a_key() {
        let keys = ServerKeys::generate(&mut StdRng::from_seed([1; 32]));
        let text = keys.expose_text();
        let back = ServerKeys::parse(&text).unwrap();
        assert_eq!(back.public(), keys.public());
        assert_eq!(back.next_hash(), keys.next_hash());
        assert_ne!(keys.public(), keys.next.public());
        for broken in ["", HEADER, "x\ny\nz", text.trim_end().rsplit_once('\n').unwrap().0] {
            assert_eq!(ServerKeys::parse(broken).unwrap_err(), ParseKeysError);
        }
    }
}
