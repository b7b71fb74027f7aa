//! Where passwords come from: a prompt, or a file. Never an argument.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::CliError;
use crate::account::Password;

/// Whether a password is typed once, or twice because nobody can tell it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Typed {
    Once,
    Twice,
}

/// The password from `file`, or typed at a prompt.
pub(super) fn read(file: Option<&Path>, typed: Typed) -> Result<Password, CliError> {
    let bytes = match file {
        Some(path) => read_file(path)?,
        None => prompt(typed)?,
    };
    Password::new(bytes).map_err(|error| CliError::Password(error.to_string()))
}

/// Reads a file; one line end at its end is cut off.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(Password::MAX_LEN + 3));
    let most = u64::try_from(Password::MAX_LEN + 3).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| {
        CliError::Password(format!("the password file {} cannot be read: {error}", path.display()))
    })?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn prompt(typed: Typed) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if !io::stdin().is_terminal() {
        let message = "there is no terminal to ask for the password; give --password-file FILE";
        return Err(CliError::Password(message.to_owned()));
    }
    let password = ask("Password: ")?;
    if typed == Typed::Twice && ask("Again: ")? != password {
        return Err(CliError::Password("the two passwords differ".to_owned()));
    }
    Ok(password)
}

fn ask(question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    Ok(Zeroizing::new(rpassword::prompt_password(question)?.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn from_file(content: &[u8]) -> Result<Password, CliError> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(content)?;
        read(Some(file.path()), Typed::Once)
    }

    #[test]
    fn one_line_end_is_cut_off() {
        assert_eq!(from_file(b"secret\n").unwrap().expose_bytes(), b"secret");
        assert_eq!(from_file(b"secret\r\n").unwrap().expose_bytes(), b"secret");
        assert_eq!(from_file(b"secret\n\n").unwrap().expose_bytes(), b"secret\n");
        assert_eq!(from_file(b" s ").unwrap().expose_bytes(), b" s ");
    }

    #[test]
    fn empty_and_endless_files_are_refused() {
        assert!(from_file(b"\n").is_err());
        assert!(from_file(&[b'x'; 5000]).is_err());
        assert!(read(Some(Path::new("/nowhere/at/all")), Typed::Once).is_err());
    }
}
