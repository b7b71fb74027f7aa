//! Symmetric chains: each message has its own key, and a key says nothing of the ones before it.
//!
//! This is the symmetric-key ratchet of Signal's Double Ratchet specification (§2.2, and `KDF_CK`
//! of §5.2). The side of a chain is in its type: [`ChainKey`] is one that we send on,
//! [`RemoteChainKey`] one that the other side sends on.

use std::fmt;

use super::aead::AeadKey;
use super::kdf::{self, Key};

/// The key of one message, before it is expanded to the ones that seal.
pub(super) struct MessageKey(Key);

impl MessageKey {
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Key::new(bytes))
    }

    pub(super) fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The keys under which the message is sealed.
    pub(super) fn aead_key(&self) -> AeadKey {
        kdf::aead_key(&self.0)
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageKey").finish_non_exhaustive()
    }
}

/// A chain at the message that has the number `next`.
#[derive(Clone)]
struct Chain {
    key: Key,
    next: u32,
}

impl Chain {
    /// The next message's number and key; `None` if the numbers are used up.
    fn step(&mut self) -> Option<(u32, MessageKey)> {
        let number = self.next;
        self.next = number.checked_add(1)?;
        let message = MessageKey(kdf::message_key(&self.key));
        self.key = kdf::next_chain_key(&self.key);
        Some((number, message))
    }
}

macro_rules! chain {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(super) struct $name(Chain);

        impl $name {
            pub(super) fn new(key: Key, next: u32) -> Self {
                Self(Chain { key, next })
            }

            /// The number of the next message.
            pub(super) fn next(&self) -> u32 {
                self.0.next
            }

            /// The next message's number and key; `None` if the numbers are used up.
            pub(super) fn step(&mut self) -> Option<(u32, MessageKey)> {
                self.0.step()
            }

            pub(super) fn expose_key(&self) -> &[u8; 32] {
                &self.0.key
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Chain { key: _, next } = &self.0;
                f.debug_struct(stringify!($name)).field("next", next).finish_non_exhaustive()
            }
        }
    };
}

chain! {
    /// A chain that we send on.
    ChainKey
}

chain! {
    /// A chain that the other side sends on.
    RemoteChainKey
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_chain_derive_the_same_keys_each_a_new_one() {
        let mut ours = ChainKey::new(Key::new([1; 32]), 0);
        let mut theirs = RemoteChainKey::new(Key::new([1; 32]), 0);
        let mut seen = Vec::new();
        for number in 0..100 {
            let (at, key) = ours.step().unwrap();
            let (_, same) = theirs.step().unwrap();
            assert_eq!(at, number);
            assert_eq!(key.expose_bytes(), same.expose_bytes());
            assert!(!seen.contains(key.expose_bytes()));
            seen.extend([*key.expose_bytes(), *ours.expose_key()]);
        }
    }

    #[test]
    fn a_chain_ends_before_its_numbers_repeat() {
        let mut chain = ChainKey::new(Key::new([1; 32]), u32::MAX - 1);
        assert_eq!(chain.step().unwrap().0, u32::MAX - 1);
        assert!(chain.step().is_none());
        assert!(chain.step().is_none());
    }

    #[test]
    fn keys_do_not_print() {
        let mut chain = ChainKey::new(Key::new([0xab; 32]), 7);
        assert_eq!(format!("{chain:?}"), "ChainKey { next: 7, .. }");
        assert_eq!(format!("{:?}", chain.step().unwrap().1), "MessageKey { .. }");
    }
}
