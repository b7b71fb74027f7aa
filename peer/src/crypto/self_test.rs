//! Known answers, in a few milliseconds: does this build of the cryptography do what it should?
//!
//! `num-bigint` derives the group from its formula. It is not constant-time: only public numbers
//! go through it.

use std::convert::Infallible;

use data_encoding::HEXLOWER;
use num_bigint::BigUint;
use parlor_common::Fields;
use parlor_common::identity::{DeviceSecret, Label};
use parlor_common::prekey::DhPublicBytes;
use rand::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::aead::{self, AeadKey};
use super::group::{self, KeyPair, OutOfRange, PublicValue, Secret, SharedSecret};
use super::kdf;
use super::kem::{self, KemSecret, KemShared};

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
    /// ML-KEM-768 (FIPS 203).
    #[error("key encapsulation gives a wrong answer")]
    Kem,
    /// Ed25519.
    #[error("signatures give a wrong answer")]
    Signature,
}

/// Compares this build with known answers.
pub fn self_test() -> Result<(), SelfTestError> {
    test_group()?;
    let shared = test_diffie_hellman().ok_or(SelfTestError::DiffieHellman)?;
    let kem = test_kem().ok_or(SelfTestError::Kem)?;
    test_derivation(&shared, &kem)?;
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

/// The public key and the shared secret of fixed seeds, by the hashes that another implementation
/// gives, too (`tests/model`).
fn test_kem() -> Option<KemShared> {
    let secret = KemSecret::from_bytes(&counting(0));
    let (ciphertext, shared) = kem::encapsulate(&secret.public(), &mut Counting(7)).ok()?;
    let agreed = shared.expose_bytes() == secret.decapsulate(&ciphertext).expose_bytes();
    let known = hash_is(
        secret.public().as_ref(),
        "0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9",
    ) && hash_is(
        shared.expose_bytes(),
        "7fd8932809e90fab950a95d789893e00d626b8cb5421d5bcdd974330819d15af",
    );
    (agreed && known).then_some(shared)
}

/// A generator whose bytes are known: never for anything else.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from(self.0))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.0))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().zip(self.0..).for_each(|(byte, value)| *byte = value);
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

/// The known answers hang on every derivation between shared secrets and a message's keys.
fn test_derivation(shared: &SharedSecret, kem: &KemShared) -> Result<(), SelfTestError> {
    let agreed = kdf::agreed_secret([shared; 3].into_iter(), kem, &[7; 32]);
    let id = kdf::session_id(&agreed).to_string() == "b965b27dab01cfee0d179895ea8b5d8f";
    let (_, chain) = kdf::ratchet_keys(&kdf::root_key(&agreed), shared);
    let message = kdf::message_key(&kdf::next_chain_key(&chain));
    let keys = is(
        kdf::aead_key(&message).expose_bytes(),
        "ce325037df3a9378f5fc6d78ad1e55e76fbe3c55353e9e6385c6f94fc708028e",
    );
    let sender = is(
        kdf::sender_key(shared, kem, &[7; 32]).expose_bytes(),
        "eeafc2ba5a7b6a953cf3107971c393dddeb39f514c9d2be3aea12a99984473f8",
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
