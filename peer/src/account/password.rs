//! The password: bytes that are hardened and forgotten.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// A password, as it was typed or read: not empty, at most 1,024 bytes. It does not print and is
/// erased when dropped.
pub struct Password(Zeroizing<Vec<u8>>);

/// Why bytes are no password.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PasswordError {
    /// Nothing was typed.
    #[error("the password is empty")]
    Empty,
    /// More than [`Password::MAX_LEN`] bytes.
    #[error("the password is longer than {max} bytes", max = Password::MAX_LEN)]
    TooLong,
}

impl Password {
    /// The longest password, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Takes bytes as a password.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PasswordError> {
        match bytes.len() {
            0 => Err(PasswordError::Empty),
            1..=Self::MAX_LEN => Ok(Self(bytes)),
            _ => Err(PasswordError::TooLong),
        }
    }

    /// The bytes, to be hardened and nothing else.
    pub fn expose_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(len: usize) -> Result<Password, PasswordError> {
        Password::new(Zeroizing::new(vec![b'x'; len]))
    }

    #[test]
    fn passwords_have_a_length_and_do_not_print() {
        assert_eq!(password(0).unwrap_err(), PasswordError::Empty);
        assert_eq!(password(1025).unwrap_err(), PasswordError::TooLong);
        assert_eq!(
            format!("{:?} {:?}", password(1), password(1024)),
            "Ok(Password { .. }) Ok(Password { .. })"
        );
    }
}
