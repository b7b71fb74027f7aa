//! Whether branches or addresses depend on secrets: run under valgrind, which tracks where bytes
//! that were marked undefined go (A. Langley's "ctgrind", 2010). Start it with `valgrind-check`.
//!
//! Memcheck reports each conditional jump and each address that depends on an undefined byte, and
//! nothing that only computes with one. Each check counts the reports of one operation whose
//! secrets were marked. The only ones allowed are on what is public once it is known: whether a
//! message is authentic, and how the padding of an authentic one ends.

mod session;

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use crabgrind::memcheck::{self, MemState};
use crabgrind::{RunMode, count_errors, run_mode};
use parlor::crypto::aead::{self, AeadKey};
use parlor::crypto::group::{KeyPair, Secret};
use parlor::crypto::kem::{self, KemSecret};
use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

/// None at all.
const NONE: RangeInclusive<usize> = 0..=0;
/// The verdict on a tag.
const VERDICT: RangeInclusive<usize> = 1..=1;
/// Where the padding of an authentic message ends: at most its bytes, and the new length.
const PADDING: RangeInclusive<usize> = 0..=24;
/// A leak, on purpose: a check that does not see it sees nothing.
const LEAK: RangeInclusive<usize> = 1..=usize::MAX;

const CHECKS: &[(&str, RangeInclusive<usize>, fn() -> usize)] = &[
    ("seal: key and plaintext are secret", NONE, seal),
    ("open a forged message: the key is secret", VERDICT, open_forged),
    ("open: the half of the key that authenticates is secret", VERDICT, || open(0..16)),
    ("open: the half of the key that encrypts is secret", PADDING, || open(16..32)),
    ("session, seal: root and chain keys are secret", NONE, session::seal),
    ("session, open a forged envelope: likewise", VERDICT, session::open_forged),
    ("public value: the exponent is secret", NONE, public_value),
    ("agree: the exponent is secret", NONE, agree),
    ("decapsulate: what rejects a ciphertext is secret", NONE, decapsulate),
    ("control, which leaks: a comparison that stops early", LEAK, compare_early),
    ("control, which leaks: a table that is looked up", LEAK, look_up),
];

fn main() -> ExitCode {
    if run_mode() != RunMode::Valgrind {
        eprintln!("this runs under valgrind: tests/constant_time/valgrind-check");
        return ExitCode::from(2);
    }
    println!("instructions for {}", instructions());
    let mut good = true;
    for (name, allowed, check) in CHECKS {
        let reports = check();
        let expected = allowed.contains(&reports);
        good &= expected;
        let verdict = if expected { "as it should be" } else { "WRONG" };
        println!("{name:<60} {reports:>3} reports: {verdict}");
    }
    println!("verdict: {}", if good { "nothing depends on secrets" } else { "FAILED" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which code is checked: what valgrind's processor lacks is done in software.
#[cfg(target_arch = "x86_64")]
fn instructions() -> String {
    let has = |there| if there { "yes" } else { "no" };
    let (aes, sha) = (is_x86_feature_detected!("aes"), is_x86_feature_detected!("sha"));
    format!("AES: {}; for SHA-256: {}", has(aes), has(sha))
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> String {
    "AES and SHA-256: not looked up on this processor".to_owned()
}

fn mark(bytes: &[u8], state: MemState) {
    // crabgrind 0.1 takes memcheck's −1, which says that it was done, for an error; that marks are
    // set shows when they reach a result.
    let _ = memcheck::mark_mem(bytes.as_ptr().cast_mut().cast(), bytes.len(), state);
}

/// The reports of an operation, and what it gave.
fn counted<T>(operation: impl FnOnce() -> T) -> (usize, T) {
    let before = count_errors();
    let result = black_box(operation());
    (count_errors() - before, result)
}

/// Sees to it that the marks went as far as the result, and makes it public.
fn declassify(result: &[u8]) {
    let start = result.as_ptr().cast_mut().cast();
    assert!(memcheck::is_defined(start, result.len()).is_err(), "the marks got lost");
    mark(result, MemState::Defined);
}

const IV: [u8; 16] = [9; 16];
const PLAINTEXT: [u8; 255] = [5; 255];
const KEY: [u8; AeadKey::LEN] = [7; AeadKey::LEN];

/// The key, of which the bytes `secret` are marked.
fn key(secret: std::ops::Range<usize>) -> AeadKey {
    let bytes = black_box(Zeroizing::new(KEY)); // so that the compiler does not know them
    mark(&bytes[secret], MemState::Undefined);
    AeadKey::new(black_box(bytes))
}

fn seal_openly() -> Vec<u8> {
    aead::seal(&AeadKey::new(Zeroizing::new(KEY)), &IV, &[b"ad"], &PLAINTEXT)
}

fn seal() -> usize {
    let (key, plaintext) = (key(0..AeadKey::LEN), PLAINTEXT.to_vec());
    mark(&plaintext, MemState::Undefined);
    let (reports, sealed) = counted(|| aead::seal(&key, &IV, &[b"ad"], &plaintext));
    declassify(&sealed);
    assert_eq!(sealed, seal_openly());
    reports
}

fn open(secret: std::ops::Range<usize>) -> usize {
    let (key, sealed) = (key(secret), seal_openly());
    let (reports, opened) = counted(|| aead::open(&key, &IV, &[b"ad"], &sealed));
    assert!(opened.is_ok());
    reports
}

fn open_forged() -> usize {
    let (key, mut sealed) = (key(0..AeadKey::LEN), seal_openly());
    sealed[40] ^= 1;
    let (reports, opened) = counted(|| aead::open(&key, &IV, &[b"ad"], &sealed));
    assert!(opened.is_err());
    reports
}

fn secret() -> Secret {
    Secret::generate(&mut StdRng::seed_from_u64(1))
}

fn marked_secret() -> Secret {
    let secret = secret();
    mark(secret.expose_bytes(), MemState::Undefined);
    secret
}

fn public_value() -> usize {
    let expected = KeyPair::of(secret()).public().to_bytes(); // which makes the table, too
    let secret = marked_secret();
    let (reports, pair) = counted(|| KeyPair::of(secret));
    let public = pair.public().to_bytes();
    declassify(public.as_ref());
    assert_eq!(public.as_ref(), expected.as_ref());
    reports
}

fn agree() -> usize {
    let theirs = KeyPair::generate(&mut StdRng::seed_from_u64(2));
    let (pair, ours) = (KeyPair::of(secret()), KeyPair::of(secret()));
    mark(pair.secret().expose_bytes(), MemState::Undefined);
    let (reports, shared) = counted(|| pair.agree(theirs.public()));
    declassify(shared.expose_bytes());
    assert_eq!(shared.expose_bytes(), ours.agree(theirs.public()).expose_bytes());
    reports
}

/// Of the seed d ‖ z only z is marked: from d the public key's seed is made, too, which key
/// generation branches on. The time of decapsulation is measured by `constant-time`.
fn decapsulate() -> usize {
    let rng = &mut StdRng::seed_from_u64(3);
    let secret = KemSecret::generate(rng);
    let (mut ciphertext, _) = kem::encapsulate(&secret.public(), rng).expect("the key is genuine");
    ciphertext.0[500] ^= 1;
    mark(&secret.expose_bytes()[32..], MemState::Undefined);
    let (reports, shared) = counted(|| secret.decapsulate(&ciphertext));
    declassify(shared.expose_bytes());
    reports
}

fn compare_early() -> usize {
    let (tag, other) = ([3_u8; 16], [3_u8; 16]);
    mark(black_box(&tag), MemState::Undefined);
    counted(|| black_box(tag).iter().zip(&other).all(|(ours, theirs)| black_box(ours) == theirs)).0
}

fn look_up() -> usize {
    let (table, index) = (std::array::from_fn::<u8, 16, _>(|i| i as u8), [5_u8]);
    mark(black_box(&index), MemState::Undefined);
    counted(|| black_box(&table)[usize::from(black_box(index)[0] & 15)]).0
}
