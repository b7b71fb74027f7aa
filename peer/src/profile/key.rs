//! The key file: the database's key, 64 hexadecimal digits and a line end.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{ProfileError, at, private};
use crate::store::StoreKey;

/// A key file with any line end is shorter, in bytes.
const MAX_KEY_FILE: u64 = 100;

/// Writes a key into a file that is not there yet.
pub(super) fn write(path: &Path, key: &StoreKey) -> io::Result<()> {
    let digits = Zeroizing::new(HEXLOWER.encode(key.expose_bytes()));
    let mut file = private::create(path)?;
    file.write_all(digits.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Reads the key of a file that nobody else reads.
pub(super) fn read(path: &Path) -> Result<StoreKey, ProfileError> {
    match private::is_open_to_others(path) {
        Ok(false) => {}
        Ok(true) => return Err(ProfileError::KeyOpenToOthers(path.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(ProfileError::NoKey(path.to_owned()));
        }
        Err(source) => return Err(at(path)(source)),
    }
    let digits = read_digits(path).map_err(at(path))?;
    parse(&digits).ok_or_else(|| ProfileError::NoKey(path.to_owned()))
}

/// The file's bytes; of one that is no key file not more than [`MAX_KEY_FILE`].
fn read_digits(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut digits = Zeroizing::new(Vec::with_capacity(128));
    File::open(path)?.take(MAX_KEY_FILE).read_to_end(&mut digits)?;
    Ok(digits)
}

fn parse(digits: &[u8]) -> Option<StoreKey> {
    let mut key = Zeroizing::new([0; StoreKey::LEN]);
    let digits = digits.trim_ascii_end();
    let fits = digits.len() == 2 * StoreKey::LEN;
    let decoded = fits.then(|| HEXLOWER.decode_mut(digits, key.as_mut_slice()).is_ok())?;
    decoded.then_some(StoreKey::new(key))
}
