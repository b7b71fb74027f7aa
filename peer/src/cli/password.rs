//! Where passwords come from, and recovery codes: a prompt, or a file. Never an argument.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use parlor_common::id::Username;
use parlor_common::link::ServerAddress;
use zeroize::Zeroizing;

use super::error::CliError;
use super::prompt;
use crate::account::{ParseRecoveryCodeError, Password, RecoveryCode};
use crate::args::PasswordFile;
use crate::profile::NoPassphrase;

/// The account's password, from a file, or typed at a prompt.
pub(super) fn current(file: &PasswordFile) -> Result<Password, CliError> {
    let bytes = match &file.path {
        Some(path) => read_file(path)?,
        None => ask("Password: ", "--password-file")?,
    };
    password(bytes)
}

/// What a password is chosen for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen {
    /// A new account.
    First,
    /// An account that was opened by its recovery code.
    Recovered,
    /// An account, in place of the one before.
    Next,
    /// The profile's own files, in place of what was before.
    Passphrase,
}

impl Chosen {
    const fn question(self) -> &'static str {
        match self {
            Self::First => "Password: ",
            Self::Recovered | Self::Next => "New password: ",
            Self::Passphrase => "New passphrase: ",
        }
    }

    /// How a file is given instead.
    const fn option(self) -> &'static str {
        match self {
            Self::First | Self::Recovered => "--password-file",
            Self::Next => "--new-password-file",
            Self::Passphrase => "--passphrase-file",
        }
    }
}

/// A password that is chosen, from a file, or typed twice because nobody can tell it back. One
/// that is easy to guess is refused.
pub(super) fn chosen(
    file: Option<&Path>,
    chosen: Chosen,
    (name, server): (&Username, &ServerAddress),
) -> Result<Password, CliError> {
    let bytes = match file {
        Some(path) => read_file(path)?,
        None => ask_twice(chosen.question(), chosen.option())?,
    };
    let password = password(bytes)?;
    let judged = password.check_strength(name, server);
    judged.map_err(|error| CliError::Password(error.to_string()))?;
    Ok(password)
}

fn password(bytes: Zeroizing<Vec<u8>>) -> Result<Password, CliError> {
    Password::new(bytes).map_err(|error| CliError::Password(error.to_string()))
}

/// The file with the passphrase of the profile.
const PASSPHRASE_FILE: &str = "PARLOR_PASSPHRASE_FILE";

/// The passphrase of the profile, from the file that the environment names, or typed at a prompt.
pub(super) fn of_profile() -> Result<Password, NoPassphrase> {
    let file = std::env::var_os(PASSPHRASE_FILE).filter(|path| !path.is_empty());
    let bytes = match file {
        Some(path) => read_file(Path::new(&path)),
        None if prompt::is_possible() => ask("Passphrase of this profile: ", PASSPHRASE_FILE),
        None => Err(CliError::Password(format!(
            "this profile is behind a passphrase, and there is no terminal to ask for it; name a \
             file that holds it in {PASSPHRASE_FILE}"
        ))),
    };
    bytes.and_then(password).map_err(|error| NoPassphrase(error.to_string()))
}

/// The recovery code, from a file, or typed at a prompt.
pub(super) fn recovery_code(file: Option<&Path>) -> Result<RecoveryCode, CliError> {
    let text = match file {
        Some(path) => {
            let bytes = read_file(path)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| ParseRecoveryCodeError)?;
            Zeroizing::new(text.to_owned())
        }
        None if prompt::is_possible() => prompt::ask("Recovery code: ")?,
        None => return Err(no_terminal("the recovery code", "--recovery-file")),
    };
    Ok(text.parse()?)
}

fn no_terminal(what: &str, option: &str) -> CliError {
    CliError::Password(format!("there is no terminal to ask for {what}; give {option} FILE"))
}

/// Reads a file; one line end at its end is cut off.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(Password::MAX_LEN + 3));
    let most = u64::try_from(Password::MAX_LEN + 3).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| {
        CliError::Password(format!("the file {} cannot be read: {error}", path.display()))
    })?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn ask_twice(question: &str, option: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let typed = ask(question, option)?;
    if ask("Again: ", option)? != typed {
        return Err(CliError::Password("the two differ".to_owned()));
    }
    Ok(typed)
}

/// Asks without showing what is typed.
fn ask(question: &str, option: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if !prompt::is_possible() {
        return Err(no_terminal("the password", option));
    }
    Ok(Zeroizing::new(rpassword::prompt_password(question)?.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn from_file(content: &[u8]) -> Result<Password, CliError> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(content)?;
        current(&PasswordFile { path: Some(file.path().to_owned()) })
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
        assert!(current(&PasswordFile { path: Some("/nowhere/at/all".into()) }).is_err());
    }

    #[test]
    fn a_recovery_code_in_a_file_reads_as_it_was_shown() {
        let code = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YA\n";
        let read = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            recovery_code(Some(file.path()))
        };
        assert_eq!(read(code).unwrap().expose_text().as_str(), code.trim());
        assert!(matches!(read("ABCD"), Err(CliError::RecoveryCode(_))));
    }
}
