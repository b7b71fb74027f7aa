//! Whether a password that somebody chooses is good enough, by zxcvbn: how many guesses it takes
//! somebody who knows how people choose. Nobody is asked this at a login.

use parlor_common::id::Username;
use parlor_common::link::ServerAddress;
use thiserror::Error;
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

use super::Password;

/// What a password must reach: more than 10^8 guesses. Each costs whoever has stolen the
/// rendezvous' database a run of Argon2id.
const ENOUGH: Score = Score::Three;

/// Why a password is too weak, and what would make it better: zxcvbn's words. They hold nothing of
/// the password.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the password is too easy to guess. {0}")]
pub struct WeakPassword(String);

impl Password {
    /// Refuses a password that is too easy to guess. The account's name and its server's host are
    /// among the first guesses. Only the first 100 characters count: zxcvbn looks at no more, and
    /// takes some 20 ms.
    pub fn check_strength(
        &self,
        name: &Username,
        server: &ServerAddress,
    ) -> Result<(), WeakPassword> {
        let text = Zeroizing::new(String::from_utf8_lossy(self.expose_bytes()).into_owned());
        let judged = zxcvbn(&text, &[name.as_str(), &server.at.host, "parlor"]);
        if judged.score() >= ENOUGH {
            return Ok(());
        }
        let mut words: Vec<String> = Vec::new();
        if let Some(feedback) = judged.feedback() {
            words.extend(feedback.warning().map(|warning| warning.to_string()));
            words.extend(feedback.suggestions().iter().map(ToString::to_string));
        }
        if words.is_empty() {
            words.push("Add another word or two. Uncommon words are better.".to_owned());
        }
        Err(WeakPassword(words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::link::Link;

    use super::*;

    /// What charlotte is told of her password at chat.example.org.
    fn refusal(password: &[u8]) -> Option<String> {
        let password = Password::new(Zeroizing::new(password.to_vec())).unwrap();
        let link: Link = "parlor://chat.example.org:4433".parse().unwrap();
        let judged = password.check_strength(&"charlotte".parse().unwrap(), &link.server);
        judged.err().map(|refused| refused.to_string())
    }

    #[test]
    fn what_is_easy_to_guess_is_refused_with_a_reason() {
        for weak in ["1", "password", "sesame", "charlotte", "chat.example.org", "hunter2hunter2"] {
            let refused = refusal(weak.as_bytes()).unwrap();
            assert!(refused.starts_with("the password is too easy to guess. "), "{refused}");
            assert!(refused.len() > 50 && !refused.contains("hunter2"), "{refused}");
        }
        for strong in ["correct horse battery staple", "password of charlie", "é ü ß fünf Äpfel"]
        {
            assert_eq!(refusal(strong.as_bytes()), None);
        }
    }

    #[test]
    fn any_bytes_are_judged_and_of_long_ones_the_beginning() {
        let longest = "1".repeat(Password::MAX_LEN);
        assert!(refusal(longest.as_bytes()).is_some());
        let end = format!("{}{}", "1".repeat(500), "correct horse battery staple");
        assert!(refusal(end.as_bytes()).is_some());
        assert!(refusal(&[0xff; 3]).is_some());
    }
}
