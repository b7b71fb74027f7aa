//! The safety number of two accounts: 60 digits that two people compare, the same on both sides.
//!
//! Each account gives 30 digits, derived from its name and its key by 5,200 rounds of SHA-512, as
//! Signal's numeric fingerprints are; the two halves stand in ascending order. The rounds make it
//! dear to search for another key with nearly the same digits.

use std::fmt;

use num_bigint::BigUint;
use parlor_common::Fields;
use parlor_common::id::Username;
use parlor_common::identity::AccountKey;
use sha2::{Digest, Sha512};

/// What the hashes begin with.
const LABEL: &str = "parlor/v1/safety-number";
/// How many times SHA-512 is computed for each account.
const ROUNDS: u32 = 5_200;
/// Decimal digits of each account's half.
const HALF: usize = 30;
/// Digits of a group, as it is read out.
const GROUP: usize = 5;

/// The safety number of two accounts. It is public; it shows nothing that both do not know.
#[derive(Clone, Eq, PartialEq)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// The number of two accounts, in whatever order they are given. Takes about 2 ms.
    pub fn of(one: (&Username, &AccountKey), other: (&Username, &AccountKey)) -> Self {
        let mut halves = [one, other].map(|(name, key)| half(name, key));
        halves.sort_unstable();
        Self(halves.concat())
    }

    /// The 60 digits.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Twelve groups of five digits.
    pub fn groups(&self) -> Vec<String> {
        let digits: Vec<char> = self.0.chars().collect();
        digits.chunks(GROUP).map(|group| group.iter().collect()).collect()
    }
}

/// Three lines of four groups.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.groups().chunks(4).map(|line| line.join(" ")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Debug for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SafetyNumber").field(&self.0).finish()
    }
}

/// An account's half: its last hash as a number, modulo 10^30, in 30 digits.
fn half(name: &Username, key: &AccountKey) -> String {
    let start = Fields::new().field(LABEL).field(name.as_str()).field(key.as_bytes());
    let mut hash = rehash(start.as_bytes(), key);
    for _ in 1..ROUNDS {
        hash = rehash(&hash, key);
    }
    let number = BigUint::from_bytes_be(&hash) % BigUint::from(10_u8).pow(30);
    format!("{:0>HALF$}", number.to_string())
}

fn rehash(bytes: &[u8], key: &AccountKey) -> [u8; 64] {
    Sha512::new().chain_update(bytes).chain_update(key.as_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: AccountKey = AccountKey::from_bytes([1; 32]);
    const BOB: AccountKey = AccountKey::from_bytes([2; 32]);

    fn number(one: (&str, &AccountKey), other: (&str, &AccountKey)) -> SafetyNumber {
        let name = |name: &str| name.parse::<Username>().unwrap();
        SafetyNumber::of((&name(one.0), one.1), (&name(other.0), other.1))
    }

    #[test]
    fn both_sides_see_the_same_number() {
        let alice = number(("alice", &ALICE), ("bob", &BOB));
        assert_eq!(alice, number(("bob", &BOB), ("alice", &ALICE)));
        // Computed from the description by an independent program.
        assert_eq!(alice.digits(), "576426380549331329938897512237950701138227909915930783022703");
    }

    #[test]
    fn another_key_or_another_name_gives_another_number() {
        let right = number(("alice", &ALICE), ("bob", &BOB));
        let other = AccountKey::from_bytes([3; 32]);
        assert_ne!(right, number(("alice", &ALICE), ("bob", &other)));
        assert_ne!(right, number(("alice", &ALICE), ("carol", &BOB)));
        assert_ne!(right, number(("alice", &BOB), ("bob", &ALICE)));
    }

    #[test]
    fn it_is_shown_in_twelve_groups_of_five() {
        let number = number(("alice", &ALICE), ("bob", &BOB));
        let shown = number.to_string();
        assert_eq!(shown.lines().count(), 3);
        let groups: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(groups.len(), 12);
        assert!(groups.iter().all(|group| group.len() == 5));
        assert_eq!(groups.concat(), number.digits());
    }
}
