//! What is measured: of each check two classes of inputs, one drawn at random and one in which an
//! implementation that leaks would differ.

use std::hint::black_box;
use std::sync::LazyLock;

use parlor::crypto::aead::{self, AeadKey};
use parlor::crypto::group::{KeyPair, PublicValue, Secret};
use parlor::crypto::kem::{self, KemSecret};
use parlor_common::prekey::KemCiphertext;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zeroize::Zeroizing;

/// What one run takes, about.
pub(crate) enum Cost {
    Milliseconds,
    Microseconds,
}

/// One thing to measure.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) cost: Cost,
    /// Makes a run of the special class, or of the random one.
    pub(crate) prepare: fn(special: bool, rng: &mut StdRng) -> Run,
    /// Whether the classes differ on purpose: a check that sees nothing there sees nothing.
    pub(crate) leaks: bool,
}

/// What is timed.
pub(crate) type Run = Box<dyn FnMut()>;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "agree: random secrets, the secret 1",
        cost: Cost::Milliseconds,
        prepare: |special, rng| agree(secret(special.then_some(ONE), rng)),
        leaks: false,
    },
    Check {
        name: "agree: random secrets, one with a single bit at the top",
        cost: Cost::Milliseconds,
        prepare: |special, rng| agree(secret(special.then_some(TOP), rng)),
        leaks: false,
    },
    Check {
        name: "public value: random secrets, the secret 1",
        cost: Cost::Milliseconds,
        prepare: |special, rng| public_value(secret(special.then_some(ONE), rng)),
        leaks: false,
    },
    Check {
        name: "KEM: genuine ciphertexts, changed ones",
        cost: Cost::Milliseconds,
        prepare: decapsulate,
        leaks: false,
    },
    Check {
        name: "open: tags wrong in the first byte, in the last",
        cost: Cost::Microseconds,
        prepare: |special, _| open(forged_tag(special)),
        leaks: false,
    },
    Check {
        name: "open: forged, of random blocks, of blocks with good padding",
        cost: Cost::Microseconds,
        prepare: |special, rng| open(forged_message(special, rng)),
        leaks: false,
    },
    Check {
        name: "control, which leaks: tags compared until a byte differs",
        cost: Cost::Microseconds,
        prepare: |special, _| compare_early(forged_tag(special)),
        leaks: true,
    },
];

const ONE: [u8; Secret::LEN] = {
    let mut bytes = [0; Secret::LEN];
    bytes[Secret::LEN - 1] = 1;
    bytes
};
const TOP: [u8; Secret::LEN] = {
    let mut bytes = [0; Secret::LEN];
    bytes[0] = 0x80;
    bytes
};

fn secret(special: Option<[u8; Secret::LEN]>, rng: &mut StdRng) -> Secret {
    // Drawn for both classes: preparation is alike.
    let random = rng.random();
    Secret::from_bytes(&special.unwrap_or(random)).expect("is not 0")
}

static THEIRS: LazyLock<PublicValue> =
    LazyLock::new(|| KeyPair::generate(&mut StdRng::seed_from_u64(2)).public().clone());

fn agree(secret: Secret) -> Run {
    let pair = KeyPair::of(secret);
    Box::new(move || drop(black_box(pair.agree(black_box(&THEIRS)))))
}

fn public_value(secret: Secret) -> Run {
    let mut secret = Some(secret);
    Box::new(move || drop(black_box(secret.take().map(KeyPair::of))))
}

static KEM: LazyLock<(KemSecret, KemCiphertext)> = LazyLock::new(|| {
    let rng = &mut StdRng::seed_from_u64(3);
    let secret = KemSecret::generate(rng);
    let (ciphertext, _) = kem::encapsulate(&secret.public(), rng).expect("the key is genuine");
    (secret, ciphertext)
});

fn decapsulate(changed: bool, _: &mut StdRng) -> Run {
    let (secret, genuine) = &*KEM;
    let mut ciphertext = genuine.clone();
    ciphertext.0[500] ^= u8::from(changed);
    Box::new(move || drop(black_box(secret.decapsulate(black_box(&ciphertext)))))
}

const IV: [u8; 16] = [9; 16];
/// A run of the fast ones is so many, for the clock's sake.
const BATCH: usize = 16;

fn key() -> AeadKey {
    AeadKey::new(Zeroizing::new([7; AeadKey::LEN]))
}

static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| aead::seal(&key(), &IV, &[], &[5; 255]));

fn forged_tag(in_last_byte: bool) -> Vec<u8> {
    let mut sealed = SEALED.clone();
    let len = sealed.len();
    sealed[if in_last_byte { len - 1 } else { len - 16 }] ^= 1;
    sealed
}

/// Under a wrong tag, blocks that decrypt to good padding or to random bytes: an oracle of the
/// padding would tell them apart.
fn forged_message(good_padding: bool, rng: &mut StdRng) -> Vec<u8> {
    let mut sealed = forged_tag(false);
    let mut random = vec![0; sealed.len() - 16];
    rand::Rng::fill_bytes(rng, &mut random);
    let blocks = sealed.len() - 16;
    if !good_padding {
        sealed[..blocks].copy_from_slice(&random);
    }
    sealed
}

fn open(sealed: Vec<u8>) -> Run {
    let key = key();
    Box::new(move || {
        for _ in 0..BATCH {
            let opened = aead::open(&key, &IV, &[], black_box(&sealed));
            assert!(black_box(opened).is_err());
        }
    })
}

fn compare_early(sealed: Vec<u8>) -> Run {
    let differs = move || {
        let tags = sealed.iter().zip(SEALED.iter()).skip(sealed.len() - 16);
        tags.map(black_box).any(|(ours, theirs)| ours != theirs)
    };
    Box::new(move || (0..BATCH).for_each(|_| assert!(black_box(differs()))))
}
