//! The key file: the database's key, 64 hexadecimal digits and a line end; or, behind a
//! passphrase, the line of [`SealedKey`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::sealed_key::SealedKey;
use super::{ProfileError, at, private};
use crate::store::StoreKey;

/// A key file with any line end is not longer, in bytes.
const MAX_KEY_FILE: usize = SealedKey::MAX_LEN + 2;

/// What a key file holds.
#[derive(Debug)]
pub(super) enum KeyFile {
    /// The key as it is: whoever reads the file reads the database.
    Plain(StoreKey),
    /// The key behind a passphrase.
    Sealed(SealedKey),
}

impl KeyFile {
    /// Reads a key file, which nobody else may read.
    pub(super) fn read(path: &Path) -> Result<Self, ProfileError> {
        match private::is_open_to_others(path) {
            Ok(false) => {}
            Ok(true) => return Err(ProfileError::KeyOpenToOthers(path.to_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(ProfileError::NoKey(path.to_owned()));
            }
            Err(source) => return Err(at(path)(source)),
        }
        let bytes = read_bytes(path).map_err(at(path))?;
        Self::parse(&bytes).ok_or_else(|| ProfileError::NoKey(path.to_owned()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let line = bytes.trim_ascii_end();
        SealedKey::parse(line).map(Self::Sealed).or_else(|| parse_plain(line).map(Self::Plain))
    }

    fn to_line(&self) -> io::Result<Zeroizing<String>> {
        Ok(Zeroizing::new(match self {
            Self::Plain(key) => HEXLOWER.encode(key.expose_bytes()),
            Self::Sealed(sealed) => sealed.to_line()?,
        }))
    }

    /// Writes a key file that is not there yet.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let line = self.to_line()?;
        let mut file = private::create(path)?;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// Writes a key file in place of the one at `path`, by way of the one at `new`: at every moment
    /// one of the two is whole and at `path`. What stood in the old one is overwritten.
    pub(super) fn replace(&self, path: &Path, new: &Path) -> io::Result<()> {
        match fs::remove_file(new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.write(new)?;
        let mut old = OpenOptions::new().write(true).open(path)?;
        fs::rename(new, path)?;
        path.parent().map_or(Ok(()), private::sync_folder)?;
        let len = old.metadata()?.len();
        old.rewind()?;
        io::copy(&mut io::repeat(0).take(len), &mut old)?;
        old.sync_all()
    }
}

/// The file's bytes; of one that is no key file not more than [`MAX_KEY_FILE`].
fn read_bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE + 1));
    let most = u64::try_from(MAX_KEY_FILE).unwrap_or(u64::MAX);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_plain(digits: &[u8]) -> Option<StoreKey> {
    let mut key = Zeroizing::new([0; StoreKey::LEN]);
    let fits = digits.len() == 2 * StoreKey::LEN;
    let decoded = fits.then(|| HEXLOWER.decode_mut(digits, key.as_mut_slice()).is_ok())?;
    decoded.then_some(StoreKey::new(key))
}
