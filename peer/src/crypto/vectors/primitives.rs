//! Diffie–Hellman, authenticated encryption, padding, and every derivation of keys on its own.

use num_bigint::BigUint;
use parlor_common::envelope::IV_LEN;
use parlor_common::prekey::DhPublicBytes;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Script, VectorError, hex};
use crate::crypto::aead::{self, AeadKey};
use crate::crypto::group::{self, KeyPair, PublicValue, Secret, SharedSecret, VALUE_LEN};
use crate::crypto::kdf::{self, Key};
use crate::crypto::kem::{self, KemSecret, KemShared};
use crate::crypto::padding;

const ZERO_SECRET: VectorError = VectorError::Unsound("a secret is 0");

pub(super) fn dh() -> Result<Value, VectorError> {
    let mut script = Script::new(1);
    let mut cases = Vec::new();
    for _ in 0..4 {
        let (ours, theirs) = (Secret::generate(&mut script), Secret::generate(&mut script));
        cases.push(agreement(&ours, &theirs, "random secrets"));
    }
    let counting: [u8; Secret::LEN] = std::array::from_fn(|i| u8::try_from(i + 1).unwrap_or(0));
    let counting = Secret::from_bytes(&counting).ok_or(ZERO_SECRET)?;
    let small = [(1, "the smallest secret"), (821, "a leading zero"), (3413, "two leading zeros")];
    for (k, note) in small {
        cases.push(agreement(&counting, &small_secret(k)?, note));
    }
    let largest = Secret::from_bytes(&[0xff; Secret::LEN]).ok_or(ZERO_SECRET)?;
    cases.push(agreement(&largest, &counting, "the largest secret"));
    Ok(json!({ "cases": cases, "refused": refused(), "negatives": negatives(&mut script)? }))
}

fn small_secret(k: u32) -> Result<Secret, VectorError> {
    let mut bytes = [0; Secret::LEN];
    bytes.iter_mut().rev().zip(k.to_le_bytes()).for_each(|(to, from)| *to = from);
    Secret::from_bytes(&bytes).ok_or(ZERO_SECRET)
}

fn agreement(ours: &Secret, theirs: &Secret, note: &str) -> Value {
    let (ours, theirs) = (KeyPair::of(ours.copy()), KeyPair::of(theirs.copy()));
    json!({
        "note": note,
        "secret": hex(ours.secret().expose_bytes()),
        "public": hex(ours.public().to_bytes()),
        "their_secret": hex(theirs.secret().expose_bytes()),
        "their_public": hex(theirs.public().to_bytes()),
        "shared": hex(ours.agree(theirs.public()).expose_bytes()),
    })
}

fn prime() -> BigUint {
    BigUint::from_bytes_be(&group::prime_bytes())
}

fn padded(value: &BigUint) -> [u8; VALUE_LEN] {
    let mut bytes = [0; VALUE_LEN];
    bytes.iter_mut().rev().zip(value.to_bytes_le()).for_each(|(to, from)| *to = from);
    bytes
}

fn refused() -> Vec<Value> {
    let (zero, one, prime) = (BigUint::ZERO, BigUint::from(1_u8), prime());
    let values = [
        (zero, "0"),
        (one.clone(), "1"),
        (&prime - &one, "p − 1"),
        (prime.clone(), "p"),
        (&prime + &one, "p + 1"),
        ((&one << (8 * VALUE_LEN)) - &one, "the largest number of 384 bytes"),
    ];
    values.map(|(value, note)| json!({ "value": hex(padded(&value)), "note": note })).to_vec()
}

fn negatives(script: &mut Script) -> Result<Vec<Value>, VectorError> {
    let ours = KeyPair::generate(script);
    let random = KeyPair::generate(script).public().to_bytes();
    let smallest = DhPublicBytes(Box::new(padded(&BigUint::from(2_u8))));
    let values = [(random, "a square and its negative"), (smallest, "2 and p − 2")];
    values.into_iter().map(|(value, note)| negative(&ours, &value, note)).collect()
}

fn negative(ours: &KeyPair, value: &DhPublicBytes, note: &str) -> Result<Value, VectorError> {
    let negated = prime() - BigUint::from_bytes_be(value.as_ref());
    let negated = DhPublicBytes(Box::new(padded(&negated)));
    let shared = ours.agree(&PublicValue::try_from(value)?);
    if *shared.expose_bytes() != *ours.agree(&PublicValue::try_from(&negated)?).expose_bytes() {
        return Err(VectorError::Unsound("a value and its negative agree otherwise"));
    }
    Ok(json!({
        "note": note,
        "secret": hex(ours.secret().expose_bytes()),
        "value": hex(value),
        "negated": hex(negated),
        "shared": hex(shared.expose_bytes()),
    }))
}

pub(super) fn aead() -> Value {
    let mut script = Script::new(2);
    let lengths = [0, 1, 15, 16, 17, 255, 256];
    let cases: Vec<_> = lengths.map(|len| sealed(&mut script, len)).to_vec();
    let paddings = [0, 1, 254, 255, 256, 4095, 4096];
    let paddings: Vec<_> = paddings.map(padding).to_vec();
    json!({ "cases": cases, "refused": not_authentic(&mut script), "padding": paddings })
}

/// A key, an IV and associated data.
struct Inputs {
    key: AeadKey,
    iv: [u8; IV_LEN],
    ad: Vec<u8>,
}

impl Inputs {
    fn new(script: &mut Script) -> Self {
        let key = AeadKey::new(Zeroizing::new(script.bytes()));
        Self { key, iv: script.bytes(), ad: b"associated data".to_vec() }
    }

    fn json(&self, more: Value) -> Value {
        let mut json = json!({
            "key": hex(self.key.expose_bytes()), "iv": hex(self.iv), "ad": hex(&self.ad),
        });
        if let (Some(json), Value::Object(more)) = (json.as_object_mut(), more) {
            json.extend(more);
        }
        json
    }
}

fn counting(len: usize) -> Vec<u8> {
    (0..=255).cycle().take(len).collect()
}

fn sealed(script: &mut Script, len: usize) -> Value {
    let inputs = Inputs::new(script);
    let plaintext = counting(len);
    let sealed = aead::seal(&inputs.key, &inputs.iv, &[&inputs.ad], &plaintext);
    inputs.json(json!({ "plaintext": hex(&plaintext), "sealed": hex(sealed) }))
}

fn padding(len: usize) -> Value {
    let plaintext = counting(len);
    let mut padded = Vec::new();
    padding::pad(&plaintext, &mut padded);
    json!({ "plaintext": hex(&plaintext), "padded": hex(padded) })
}

fn not_authentic(script: &mut Script) -> Vec<Value> {
    let inputs = Inputs::new(script);
    let sealed = aead::seal(&inputs.key, &inputs.iv, &[&inputs.ad], b"a message of 23 bytes..");
    let len = sealed.len();
    let flip = |at: usize| {
        let mut changed = sealed.clone();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        changed
    };
    let forged = aead::with_tag(&inputs.key, &inputs.iv, &[&inputs.ad], vec![7; 32]);
    let cut = sealed.get(..len.saturating_sub(16)).unwrap_or_default().to_vec();
    let cases = [
        (flip(0), "the first bit of the ciphertext"),
        (flip(len.saturating_sub(1)), "the last byte of the tag"),
        (cut, "a block is missing"),
        (Vec::new(), "nothing"),
        (forged, "a tag that holds over a ciphertext whose padding does not"),
    ];
    cases.map(|(sealed, note)| inputs.json(json!({ "sealed": hex(sealed), "note": note }))).to_vec()
}

pub(super) fn key_schedule() -> Result<Value, VectorError> {
    let mut script = Script::new(3);
    let secret = KemSecret::generate(&mut script);
    let (_, kem) = kem::encapsulate(&secret.public(), &mut script)?;
    let ours = KeyPair::generate(&mut script);
    let shared: Vec<SharedSecret> =
        (0..4).map(|_| ours.agree(KeyPair::generate(&mut script).public())).collect();
    let (three, _) = shared.split_at_checked(3).ok_or(ZERO_SECRET)?;
    let first = shared.first().ok_or(ZERO_SECRET)?;
    Ok(json!({
        "agree": [agreed(three, &kem, script.bytes()), agreed(&shared, &kem, script.bytes())],
        "sender": [sender(first, &kem, script.bytes())],
        "ratchet": [ratchet(&Key::new(script.bytes()), first)],
        "chain": [chain(&Key::new(script.bytes())), chain(&Key::new([0; 32]))],
    }))
}

fn agreed(shared: &[SharedSecret], kem: &KemShared, transcript: [u8; 32]) -> Value {
    let secret = kdf::agreed_secret(shared.iter(), kem, &transcript);
    let shared: Vec<_> = shared.iter().map(|shared| hex(shared.expose_bytes())).collect();
    json!({
        "shared": shared,
        "kem_secret": hex(kem.expose_bytes()),
        "transcript": hex(transcript),
        "secret": hex(secret.as_slice()),
        "session_id": hex(kdf::session_id(&secret).0),
        "root": hex(kdf::root_key(&secret).as_slice()),
    })
}

fn sender(dh2: &SharedSecret, kem: &KemShared, context: [u8; 32]) -> Value {
    json!({
        "dh2": hex(dh2.expose_bytes()),
        "kem_secret": hex(kem.expose_bytes()),
        "context": hex(context),
        "key": hex(kdf::sender_key(dh2, kem, &context).expose_bytes()),
    })
}

fn ratchet(root: &Key, shared: &SharedSecret) -> Value {
    let (next, chain) = kdf::ratchet_keys(root, shared);
    json!({
        "root": hex(root.as_slice()),
        "shared": hex(shared.expose_bytes()),
        "next_root": hex(next.as_slice()),
        "chain": hex(chain.as_slice()),
    })
}

fn chain(chain: &Key) -> Value {
    let message = kdf::message_key(chain);
    json!({
        "chain": hex(chain.as_slice()),
        "message_key": hex(message.as_slice()),
        "aead_key": hex(kdf::aead_key(&message).expose_bytes()),
        "next_chain": hex(kdf::next_chain_key(chain).as_slice()),
    })
}
