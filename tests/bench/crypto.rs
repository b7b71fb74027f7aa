//! Diffie–Hellman, agreements, messages in a chain, and sealing and opening of 64 KiB.

use std::hint::black_box;
use std::time::Duration;

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U320, U3072, const_monty_params};
use harness::pair::{AT, Pair};
use hmac::{Hmac, KeyInit, Mac};
use parlor::crypto::group::KeyPair;
use parlor::driver::os_rng;
use sha2::Sha256;

use crate::Effort;
use crate::report::{Figure, Report};
use crate::timing::{in_turns, time};

const SIZE: usize = 64 * 1024;
const MEGABYTES: f64 = 0.065_536;
/// A text of 256 bytes is padded to this, and its envelope's header and transcript hash are this
/// long: what the AEAD of a message in a chain works on.
const PADDED: usize = 512;
const ASSOCIATED: usize = 18 + 384 + 8 + 32;
/// Messages that are timed together: one takes hardly longer than reading the clock does.
const BATCH: usize = 100;

pub fn measure(effort: Effort, report: &Report) -> anyhow::Result<()> {
    let budget = Duration::from_secs(effort.of(2, 10));
    report.tell(&exponentiations(budget));
    report.tell(&agreements(budget));
    report.tell(&chain_message(budget));
    seal_and_open(budget, report);
    Ok(())
}

/// Agreements of two key pairs, and the exponentiation alone.
fn exponentiations(budget: Duration) -> Figure {
    let (ours, theirs) = (KeyPair::generate(&mut os_rng()), KeyPair::generate(&mut os_rng()));
    let power = Power::new(&theirs);
    let (value, bare) =
        in_turns(budget, || time(|| ours.agree(theirs.public())), || time(|| power.raise()));
    Figure::new("dh", "exponentiations/s", 1.0 / value, 1.0 / bare)
}

/// An agreement with a one-time pair, up to where both sides have heard the other; and the
/// exponentiations of received values alone. There are twelve: four DH and the first chain's on
/// each side, then the responder's first step and the initiator's turn. The five powers of 4 by
/// the table, the KEM and the messages are the agreement's own cost.
fn agreements(budget: Duration) -> Figure {
    let pair = Pair::new(true, &mut os_rng());
    let power = Power::new(&pair.alice.dh);
    let twelve = || time(|| [(); 12].map(|()| power.raise()));
    let (value, bare) = in_turns(budget, || time(|| pair.agree(&mut os_rng())), twelve);
    Figure::new("agreements", "both sides/s", 1.0 / value, 1.0 / bare)
}

/// What sealing and opening a message in a chain takes beyond its AEAD, and the AEAD alone: chain
/// and message keys, IV, header, state, erasure.
fn chain_message(budget: Duration) -> Figure {
    let (text, padded, ad) = ([b'x'; 256], [b'x'; PADDED], [7; ASSOCIATED]);
    let rng = &mut os_rng();
    let (mut alice, mut bob) = Pair::new(true, rng).agree(rng);
    let message = || {
        let envelope = alice.seal(&text, AT, rng).expect("it is sealed");
        bob.open(&envelope, None, AT).expect("it is opened")
    };
    let message = repeated(message);
    let aead = repeated(|| {
        let (ciphertext, tag) = bare_seal(&ad, &padded);
        bare_open(&ad, &ciphertext, &tag)
    });
    let (value, bare) = in_turns(budget, message, aead);
    let microseconds = 1e6 / BATCH as f64;
    let beyond = microseconds * (value - bare);
    Figure::new("chain_message", "µs beyond its AEAD", beyond, microseconds * bare)
}

/// Times work done so often.
fn repeated<T>(mut work: impl FnMut() -> T) -> impl FnMut() -> f64 {
    move || {
        time(|| {
            for _ in 0..BATCH {
                black_box(work());
            }
        })
    }
}

/// 64 KiB from plaintext to envelope and back, ratchet and padding included.
fn seal_and_open(budget: Duration, report: &Report) {
    let (plaintext, rng) = (vec![b'x'; SIZE], &mut os_rng());
    let (mut alice, _) = Pair::new(true, rng).agree(rng);
    let seal = || time(|| alice.seal(&plaintext, AT, rng).expect("it is sealed"));
    let (value, bare) = in_turns(budget, seal, || time(|| bare_seal(&[], &plaintext)));
    report.tell(&Figure::new("seal_64k", "MB/s", MEGABYTES / value, MEGABYTES / bare));

    let (mut alice, mut bob) = Pair::new(true, rng).agree(rng);
    let open = || {
        let envelope = alice.seal(&plaintext, AT, rng).expect("it is sealed");
        time(|| bob.open(&envelope, None, AT).expect("it is opened"))
    };
    let (ciphertext, tag) = bare_seal(&[], &plaintext);
    let (value, bare) = in_turns(budget, open, || time(|| bare_open(&[], &ciphertext, &tag)));
    report.tell(&Figure::new("open_64k", "MB/s", MEGABYTES / value, MEGABYTES / bare));
}

const_monty_params!(
    Ffdhe3072,
    U3072,
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695\
     A9E13641146433FBCC939DCE249B3EF97D2FE363630C75D8F681B202AEC4617A\
     D3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935\
     984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797A\
     BC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4\
     AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F61\
     9172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005\
     C58EF1837D1683B2C6F34A26C1B2EFFA886B4238611FCFDCDE355B3B6519035B\
     BC34F4DEF99C023861B46FC9D6E6C9077AD91D2691F7F7EE598CB0FAC186D91C\
     AEFE130985139270B4130C93BC437944F4FD4452E2D74DD364F2E21E71F54BFF\
     5CAE82AB9C9DF69EE86D2BC522363A0DABC521979B0DEADA1DBF9A42D5C4484E\
     0ABCD06BFA53DDEF3C1B20EE3FD59D7C25E41D2B66C62E37FFFFFFFFFFFFFFFF"
);

/// The bare exponentiation: constant time, with an exponent of 280 bits.
struct Power {
    base: ConstMontyForm<Ffdhe3072, { U3072::LIMBS }>,
    exponent: U320,
}

impl Power {
    fn new(of: &KeyPair) -> Self {
        let base = U3072::from_be_slice(of.public().to_bytes().as_ref());
        let mut exponent = [0; U320::BYTES];
        exponent[U320::BYTES - 35..].fill(0xa5);
        Self { base: ConstMontyForm::new(&base), exponent: U320::from_be_slice(&exponent) }
    }

    fn raise(&self) -> U3072 {
        self.base.pow_bounded_exp(&self.exponent, 280).retrieve()
    }
}

/// AES-128-CBC and HMAC-SHA-256 of the same crates, and nothing else.
fn bare_seal(ad: &[u8], plaintext: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let cipher = cbc::Encryptor::<Aes128>::new(&[7; 16].into(), &[9; 16].into());
    let mut ciphertext = vec![0; plaintext.len() + 16];
    ciphertext[..plaintext.len()].copy_from_slice(plaintext);
    cipher.encrypt_padded::<Pkcs7>(&mut ciphertext, plaintext.len()).expect("there is room");
    let tag = bare_tag(ad, &ciphertext);
    (ciphertext, tag)
}

fn bare_open(ad: &[u8], ciphertext: &[u8], tag: &[u8; 32]) -> Vec<u8> {
    assert_eq!(bare_tag(ad, ciphertext), *tag);
    let cipher = cbc::Decryptor::<Aes128>::new(&[7; 16].into(), &[9; 16].into());
    let mut plaintext = ciphertext.to_vec();
    let len = cipher.decrypt_padded::<Pkcs7>(&mut plaintext).expect("it is padded").len();
    plaintext.truncate(len);
    plaintext
}

fn bare_tag(ad: &[u8], ciphertext: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new(&[0; 64].into());
    hmac.update(ad);
    hmac.update(ciphertext);
    hmac.finalize().into_bytes().into()
}
