//! What somebody reads in a profile's files who has the disk, and the profile's key with it: not
//! rows, but every byte that stands in any page, free or not, new or old.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use sha2::Sha256;

/// `SQLCipher` 4 with HMAC-SHA256: pages of this many bytes, of which the last are the IV and the
/// tag.
const PAGE: usize = 4096;
const IV: usize = 16;
const TAG: usize = 32;
/// Of a write-ahead log, and of each page in it.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// So many bytes of a secret are not found by accident.
const PIECE: usize = 8;

/// Of a journal: its name and version, id and check; and of each record in it: length and number.
const JOURNAL_NAME: usize = 8;
const JOURNAL_ID: usize = 32;
const JOURNAL_HEADER: usize = JOURNAL_NAME + JOURNAL_ID + 16;
const RECORD_HEADER: usize = 12;

/// Everything that stands in the pages of a profile's databases and logs, and in its journal, in
/// pieces.
pub struct Loot {
    pieces: HashSet<[u8; PIECE]>,
}

impl Loot {
    /// Reads a profile's folder: database, log, journal, copies.
    pub fn of(folder: &Path) -> Self {
        let key = fs::read_to_string(folder.join("profile.key")).unwrap();
        Self::with_key(folder, &HEXLOWER.decode(key.trim().as_bytes()).unwrap())
    }

    /// Reads a folder with databases under this key, whose names begin with `profile.db`.
    pub fn with_key(folder: &Path, key: &[u8]) -> Self {
        let (mut pieces, key) = (HashSet::new(), key.try_into().unwrap());
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let texts: Vec<Vec<u8>> = if name.starts_with("profile.journal") {
                records(&fs::read(&path).unwrap(), key)
            } else if name.starts_with("profile.db") && !name.ends_with("-shm") {
                let bytes = fs::read(&path).unwrap();
                let pages = encrypted_pages(&bytes, name.ends_with("-wal"));
                pages.map(|page| decrypt(page, key)).collect()
            } else {
                Vec::new()
            };
            for text in texts {
                let found = text.windows(PIECE);
                pieces.extend(found.map(|piece| -> [u8; PIECE] { piece.try_into().unwrap() }));
            }
        }
        Self { pieces }
    }

    /// Whether a secret stands in any page, or the part of it before or behind a page's end.
    pub fn holds(&self, secret: &[u8]) -> bool {
        assert!(secret.len() >= 2 * PIECE, "so short a secret is found anywhere");
        let (first, last) = (secret.first_chunk().unwrap(), secret.last_chunk().unwrap());
        self.pieces.contains(first) || self.pieces.contains(last)
    }
}

fn encrypted_pages(bytes: &[u8], is_log: bool) -> impl Iterator<Item = &[u8]> {
    let (start, header) = if is_log { (LOG_HEADER, FRAME_HEADER) } else { (0, 0) };
    let frames = bytes.get(start..).unwrap_or_default().chunks_exact(header + PAGE);
    frames.map(move |frame| &frame[header..])
}

/// The first page begins with 16 bytes of salt, so that its first two blocks come out wrong here;
/// they hold nothing but the name of the format.
fn decrypt(page: &[u8], key: &[u8; 32]) -> Vec<u8> {
    let (ciphertext, rest) = page.split_at(PAGE - IV - TAG);
    let iv: &[u8; IV] = rest[..IV].try_into().unwrap();
    let cipher = cbc::Decryptor::<Aes256>::new(key.into(), iv.into());
    let mut page = ciphertext.to_vec();
    cipher.decrypt_padded::<NoPadding>(&mut page).unwrap();
    page
}

/// What was sealed in a journal's records.
fn records(bytes: &[u8], key: &[u8; 32]) -> Vec<Vec<u8>> {
    let Some((header, mut rest)) = bytes.split_at_checked(JOURNAL_HEADER) else {
        return Vec::new();
    };
    let id = &header[JOURNAL_NAME..JOURNAL_NAME + JOURNAL_ID];
    let mut key_of_file = [0; 32];
    let hkdf = Hkdf::<Sha256>::new(Some(id), key);
    hkdf.expand(b"parlor/v1/journal", &mut key_of_file).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key_of_file).unwrap());
    let mut texts = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
        let len = u32::from_be_bytes(*header.first_chunk().unwrap());
        let Some((sealed, behind)) = behind.split_at_checked(len as usize + 16) else { break };
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&header[4..]);
        let (nonce, mut sealed) = (Nonce::assume_unique_for_key(nonce), sealed.to_vec());
        if let Ok(text) = key.open_in_place(nonce, Aad::from(header), &mut sealed) {
            texts.push(text.to_vec());
        }
        rest = behind;
    }
    texts
}
