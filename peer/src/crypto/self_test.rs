//! Known answers, in a few milliseconds: does this build of the cryptography do what it should?
//!
//! `num-bigint` derives the group from its formula. It is not constant-time: only public numbers
//! go through it.

use data_encoding::HEXLOWER;
use num_bigint::BigUint;
use parlor_common::Fields;
use parlor_common::identity::{DeviceSecret, Label};
use parlor_common::prekey::DhPublicBytes;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::aead::{self, AeadKey};
use super::group::{self, KeyPair, OutOfRange, PublicValue, Secret, SharedSecret};
use super::kdf;
use super::session::Role;

/// What gives a wrong answer: nothing may be sealed or opened by this program.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SelfTestError {
    /// Authenticated encryption (RFC 7518, appendix B.1).
    #[error("authenticated encryption gives a wrong answer")]
    Aead,
    /// Diffie–Hellman.
    #[error("Diffie–Hellman gives a wrong answer")]
    DiffieHellman,
    /// The prime of ffdhe3072.
    #[error("the group is not ffdhe3072")]
    Group,
    /// The derivation of keys.
    #[error("key derivation gives a wrong answer")]
    KeyDerivation,
    /// Ed25519.
    #[error("signatures give a wrong answer")]
    Signature,
}

/// Compares this build with known answers.
pub fn self_test() -> Result<(), SelfTestError> {
    test_group()?;
    let shared = test_diffie_hellman().ok_or(SelfTestError::DiffieHellman)?;
    test_derivation(&shared)?;
    test_aead()?;
    test_signature()
}

fn test_group() -> Result<(), SelfTestError> {
    let is_prime_of_formula = BigUint::from_bytes_be(&group::prime_bytes()) == prime();
    check(is_prime_of_formula, SelfTestError::Group)
}

/// 2³⁰⁷² − 2³⁰⁰⁸ + (⌊2²⁹⁴² · e⌋ + 2625351) · 2⁶⁴ − 1 (RFC 7919, appendix A.2).
fn prime() -> BigUint {
    let one = BigUint::from(1_u8);
    let power = |exponent: u32| one.clone() << exponent;
    power(3072) - power(3008) + ((scaled_e(2942) + 2_625_351_u32) << 64) - 1_u8
}

/// ⌊2^`bits` · e⌋, from the series 1/0! + 1/1! + 1/2! + …
fn scaled_e(bits: u32) -> BigUint {
    // Some 400 terms are rounded down: far less than the guard bits hold.
    const GUARD_BITS: u32 = 64;
    let mut term = BigUint::from(1_u8) << (bits + GUARD_BITS);
    let mut sum = BigUint::ZERO;
    let mut n = 1_u32;
    while term != BigUint::ZERO {
        sum += &term;
        term /= n;
        n += 1;
    }
    sum >> GUARD_BITS
}

fn test_diffie_hellman() -> Option<SharedSecret> {
    let ours = KeyPair::of(Secret::from_bytes(&counting(1))?);
    let theirs = KeyPair::of(Secret::from_bytes(&counting(36))?);
    let shared = ours.agree(theirs.public());
    let agreed = shared.expose_bytes() == theirs.agree(ours.public()).expose_bytes();
    let known = hash_is(
        ours.public().to_bytes().as_ref(),
        "2086f7523f2b6578f90ef00b1cba2fd848e0d77bcf4140e0da652aefca6832c1",
    ) && hash_is(
        shared.expose_bytes(),
        "78a8888bd7b4d7912a5c913020df370e804500464170f54a9201636281323787",
    );
    let prime = DhPublicBytes(Box::new(group::prime_bytes()));
    let checks_range = PublicValue::try_from(&prime) == Err(OutOfRange);
    (agreed && known && checks_range).then_some(shared)
}

/// The known answer hangs on every derivation between a shared secret and a message's keys.
fn test_derivation(shared: &SharedSecret) -> Result<(), SelfTestError> {
    let agreed = kdf::agreed_secret([shared; 3].into_iter(), &[7; 32]);
    let id = kdf::session_id(&agreed).to_string() == "9f321bad728677ffc26a93005cbfcc42";
    let chain = kdf::next_chain_key(&kdf::first_chain_key(&agreed, Role::Initiator));
    let message = kdf::message_key(&chain);
    let keys = is(
        kdf::aead_key(&message).expose_bytes(),
        "f3d920b8d2e0576cd614a41e3fac603c483879cb5d40ee526030a468aa554b56",
    );
    let sender = is(
        kdf::sender_key(shared, &[7; 32]).expose_bytes(),
        "cc86eb72f81aecbc60f8e176e4c9ad542b873dc51281c20834209e9fe49dfcf3",
    );
    check(id && keys && sender, SelfTestError::KeyDerivation)
}

fn test_aead() -> Result<(), SelfTestError> {
    const IV: [u8; 16] = 0x1af3_8c2d_c2b9_6ffd_d866_9409_2341_bc04_u128.to_be_bytes();
    const TAG: &str = "652c3fa36b0a7c5b3219fab3a30bc1c4";
    let plaintext = b"A cipher system must not be required to be secret, and it must be able to \
        fall into the hands of the enemy without inconvenience";
    let ad: [&[u8]; 1] = [b"The second principle of Auguste Kerckhoffs"];
    let key = AeadKey::new(Zeroizing::new(counting(0)));

    let mut sealed = aead::seal(&key, &IV, &ad, plaintext);
    let known = sealed.last_chunk::<16>().is_some_and(|tag| is(tag, TAG));
    let opens = aead::open(&key, &IV, &ad, &sealed).is_ok_and(|opened| *opened == *plaintext);
    if let Some(byte) = sealed.first_mut() {
        *byte ^= 1;
    }
    let refuses = aead::open(&key, &IV, &ad, &sealed).is_err();
    check(known && opens && refuses, SelfTestError::Aead)
}

/// The first key of RFC 8032, §7.1.
fn test_signature() -> Result<(), SelfTestError> {
    const SEED: &[u8; 64] = b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const SIGNED: &str = "f8d2a63b463aa9adbd2ac531d2d0d236b40cd6b637e4072646ce51cfbf3ea9d6\
                          2adc52e094fbf61ca5aa06fa0e9be6183589a0ff8f8d64d160816c2f7371df0c";
    let seed = HEXLOWER.decode(SEED).ok().and_then(|seed| seed.try_into().ok());
    let secret = DeviceSecret::from_seed(&seed.ok_or(SelfTestError::Signature)?);
    let public = secret.public();
    let fields = Fields::new().field("self-test");
    let signature = secret.sign(Label::Card, &fields);
    let known = is(public.as_bytes(), PUBLIC) && is(&signature.0, SIGNED);
    let verifies = public.verify(Label::Card, &fields, &signature).is_ok();
    let refuses = public.verify(Label::Offer, &fields, &signature).is_err();
    check(known && verifies && refuses, SelfTestError::Signature)
}

fn check(holds: bool, error: SelfTestError) -> Result<(), SelfTestError> {
    if holds { Ok(()) } else { Err(error) }
}

fn hash_is(bytes: &[u8], hex: &str) -> bool {
    is(&Sha256::digest(bytes), hex)
}

fn is(bytes: &[u8], hex: &str) -> bool {
    HEXLOWER.encode(bytes) == hex
}

/// The bytes `from`, `from` + 1, and so on.
fn counting<const N: usize>(from: u8) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(from..).for_each(|(byte, value)| *byte = value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_passes() {
        assert_eq!(self_test(), Ok(()));
    }
}
