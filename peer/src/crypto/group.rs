//! Diffie–Hellman over ffdhe3072 (RFC 7919, appendix A.2), in constant time.
//!
//! A secret is k, 280 random bits and not 0; its public value is 4^k and a shared secret (Y²)^k.
//! Squaring clears the cofactor 2 of the safe prime, so that a received value needs only
//! the check 1 < Y < p − 1, and (Y²)^k is never 1. Y and p − Y therefore agree alike: bind and
//! compare public values as bytes.
//!
//! Field elements are `Copy`, so that arithmetic leaves copies of secrets on the stack: it is
//! overwritten afterwards, as far as can be told from here where they lie.

use std::fmt;
use std::sync::LazyLock;

use crypto_bigint::modular::{ConstMontyForm, ConstMontyParams};
use crypto_bigint::{CtAssign, CtEq, U320, U3072, const_monty_params};
use parlor_common::prekey::DhPublicBytes;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroizing, zeroize_stack};

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
     0ABCD06BFA53DDEF3C1B20EE3FD59D7C25E41D2B66C62E37FFFFFFFFFFFFFFFF",
    "The prime of ffdhe3072, a safe prime of 3072 bits."
);

type Element = ConstMontyForm<Ffdhe3072, { U3072::LIMBS }>;

/// More of the stack than an exponentiation takes, in bytes: its table of powers is 6 KiB.
const STACK: usize = 32 * 1024;

/// The length of public values and shared secrets, in bytes.
pub const VALUE_LEN: usize = DhPublicBytes::LEN;

/// The prime, big-endian.
pub(super) fn prime_bytes() -> [u8; VALUE_LEN] {
    Ffdhe3072::PARAMS.modulus().as_ref().to_be_bytes().into()
}

/// A secret exponent: 280 bits (RFC 7919 asks for 275 or more), not 0.
pub struct Secret {
    /// Big-endian.
    bytes: Box<Zeroizing<[u8; Self::LEN]>>,
}

impl Secret {
    /// The length in bytes.
    pub const LEN: usize = 35;
    const BITS: u32 = 280;

    /// A new secret. `rng` must be the operating system's generator or one seeded by it.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        loop {
            let mut bytes = Box::new(Zeroizing::new([0; Self::LEN]));
            rng.fill_bytes(bytes.as_mut_slice());
            if let Some(secret) = Self::not_zero(bytes) {
                return secret;
            }
        }
    }

    /// The secret that [`Self::expose_bytes`] stored; `None` if it is 0.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        Self::not_zero(Box::new(Zeroizing::new(*bytes)))
    }

    fn not_zero(bytes: Box<Zeroizing<[u8; Self::LEN]>>) -> Option<Self> {
        let any = bytes.iter().fold(0, |any, byte| any | byte);
        (any != 0).then_some(Self { bytes })
    }

    /// The secret, to be stored and nothing else.
    pub fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    /// Another copy, erased on its own.
    pub(super) fn copy(&self) -> Self {
        Self { bytes: self.bytes.clone() }
    }

    fn exponent(&self) -> Zeroizing<U320> {
        let mut padded = Zeroizing::new([0; U320::BYTES]);
        padded.iter_mut().rev().zip(self.bytes.iter().rev()).for_each(|(to, from)| *to = *from);
        Zeroizing::new(U320::from_be_slice(padded.as_slice()))
    }

    /// The exponent's digits to base 16, lowest first.
    fn digits(&self) -> impl Iterator<Item = u8> {
        self.bytes.iter().rev().flat_map(|byte| [byte & 15, byte >> 4])
    }

    fn agree(&self, theirs: &PublicValue) -> SharedSecret {
        let shared = self.raise(theirs);
        zeroize_stack::<STACK>();
        shared
    }

    #[inline(never)]
    fn raise(&self, theirs: &PublicValue) -> SharedSecret {
        let base = Element::new(&theirs.0).square();
        let exponent = self.exponent();
        let shared = Zeroizing::new(base.pow_bounded_exp(&*exponent, Self::BITS));
        SharedSecret::of(&shared)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// Row i holds 4^(j·16^i) for the digits j. Powers of a public base: no secret is in it.
static POWERS_OF_FOUR: LazyLock<Vec<[Element; 16]>> = LazyLock::new(|| {
    let mut base = Element::new(&U3072::from_u8(4));
    let row = |_| {
        let mut power = Element::ONE;
        let row = std::array::from_fn(|_| {
            let this = power;
            power = this.mul(&base);
            this
        });
        base = power;
        row
    };
    (0..2 * Secret::LEN).map(row).collect()
});

/// 4^k by the table of its powers: five times faster than an exponentiation.
#[inline(never)]
fn power_of_four(secret: &Secret) -> Element {
    let mut product = Element::ONE;
    for (row, digit) in POWERS_OF_FOUR.iter().zip(secret.digits()) {
        product = product.mul(&select(row, digit));
    }
    product
}

/// The entry of a secret digit. Every entry is read, so that no address depends on the digit.
fn select(row: &[Element; 16], digit: u8) -> Element {
    let mut selected = Element::ZERO;
    for (index, entry) in (0_u8..).zip(row) {
        selected.ct_assign(entry, index.ct_eq(&digit));
    }
    selected
}

/// Bytes are not a public value: they are not in 2 … p − 2.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a public value is out of range")]
pub struct OutOfRange;

/// A public value Y with 1 < Y < p − 1. It cannot be made without that check.
#[derive(Clone, Eq, PartialEq)]
pub struct PublicValue(U3072);

impl PublicValue {
    /// The value as 384 bytes, big-endian.
    pub fn to_bytes(&self) -> DhPublicBytes {
        DhPublicBytes(Box::new(self.0.to_be_bytes().into()))
    }
}

impl TryFrom<&DhPublicBytes> for PublicValue {
    type Error = OutOfRange;

    fn try_from(bytes: &DhPublicBytes) -> Result<Self, OutOfRange> {
        let value = U3072::from_be_slice(bytes.as_ref());
        let largest = Ffdhe3072::PARAMS.modulus().as_ref().wrapping_sub(&U3072::from_u8(2));
        let in_range = value > U3072::ONE && value <= largest;
        in_range.then_some(Self(value)).ok_or(OutOfRange)
    }
}

impl fmt::Debug for PublicValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_bytes(), f)
    }
}

/// What two sides agreed on: 384 bytes, big-endian, left-padded, because a stripped zero would
/// show in the time that hashing takes. To be hashed, never to be used as a key.
pub struct SharedSecret(Box<Zeroizing<[u8; VALUE_LEN]>>);

impl SharedSecret {
    fn of(element: &Element) -> Self {
        let value = Zeroizing::new(element.retrieve());
        let encoded = Zeroizing::new(value.to_be_bytes());
        let mut bytes = Box::new(Zeroizing::new([0; VALUE_LEN]));
        bytes.copy_from_slice(encoded.as_slice());
        Self(bytes)
    }

    /// The bytes, to be hashed.
    pub fn expose_bytes(&self) -> &[u8; VALUE_LEN] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSecret").finish_non_exhaustive()
    }
}

/// A secret with its public value.
pub struct KeyPair {
    secret: Secret,
    public: PublicValue,
}

impl KeyPair {
    /// A new pair. `rng` must be the operating system's generator or one seeded by it.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::of(Secret::generate(rng))
    }

    /// The pair of a secret.
    pub fn of(secret: Secret) -> Self {
        // In range: k is below the order of 4, which is (p − 1) / 2, and not 0, so that 4^k is
        // not 1; and p − 1 is no square.
        let public = PublicValue(power_of_four(&secret).retrieve());
        zeroize_stack::<STACK>();
        Self { secret, public }
    }

    /// The pair of a secret whose public value was stored with it.
    pub(super) fn restore(secret: Secret, public: PublicValue) -> Self {
        Self { secret, public }
    }

    /// The secret half.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The public half.
    pub fn public(&self) -> &PublicValue {
        &self.public
    }

    /// What this pair and the holder of `theirs` agree on.
    pub fn agree(&self, theirs: &PublicValue) -> SharedSecret {
        self.secret.agree(theirs)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret: _, public } = self;
        f.debug_struct("KeyPair").field("public", public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn number(bytes: impl AsRef<[u8]>) -> BigUint {
        BigUint::from_bytes_be(bytes.as_ref())
    }

    fn prime() -> BigUint {
        number(prime_bytes())
    }

    fn public_value(value: &BigUint) -> Result<PublicValue, OutOfRange> {
        let mut bytes = [0; VALUE_LEN];
        let digits = value.to_bytes_be();
        bytes[VALUE_LEN - digits.len()..].copy_from_slice(&digits);
        PublicValue::try_from(&DhPublicBytes(Box::new(bytes)))
    }

    fn small_secret(k: u32) -> Secret {
        let mut bytes = [0; Secret::LEN];
        bytes[Secret::LEN - 4..].copy_from_slice(&k.to_be_bytes());
        Secret::from_bytes(&bytes).unwrap()
    }

    /// Random secrets, and the ones at the edges: 1, the top bit alone, all bits.
    fn secrets() -> Vec<Secret> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut top = [0; Secret::LEN];
        top[0] = 0x80;
        let edges = [top, [0xff; Secret::LEN]].map(|bytes| Secret::from_bytes(&bytes).unwrap());
        let random = (0..3).map(|_| Secret::generate(&mut rng));
        random.chain(edges).chain([small_secret(1)]).collect()
    }

    #[test]
    fn an_independent_implementation_agrees() {
        let four = BigUint::from(4_u8);
        let theirs = KeyPair::generate(&mut StdRng::seed_from_u64(2));
        let square = number(theirs.public().to_bytes()).pow(2);
        for secret in secrets() {
            let k = number(secret.expose_bytes());
            let pair = KeyPair::of(secret);
            assert_eq!(number(pair.public().to_bytes()), four.modpow(&k, &prime()));
            let shared = pair.agree(theirs.public());
            assert_eq!(number(shared.expose_bytes()), square.modpow(&k, &prime()));
            assert_eq!(shared.expose_bytes(), theirs.agree(pair.public()).expose_bytes());
        }
    }

    #[test]
    fn the_table_of_powers_gives_what_an_exponentiation_gives() {
        // (2²)^k = 4^k.
        let two = public_value(&BigUint::from(2_u8)).unwrap();
        for secret in secrets() {
            let by_exponentiation = *secret.agree(&two).expose_bytes();
            assert_eq!(*KeyPair::of(secret).public().to_bytes().0, by_exponentiation);
        }
    }

    #[test]
    fn a_shared_secret_keeps_its_leading_zeros() {
        let bytes: [u8; Secret::LEN] = std::array::from_fn(|i| u8::try_from(i + 1).unwrap());
        let ours = KeyPair::of(Secret::from_bytes(&bytes).unwrap());
        for (k, zeros) in [(821, 1), (3413, 2)] {
            let theirs = KeyPair::of(small_secret(k));
            let shared = ours.agree(theirs.public());
            assert_eq!(shared.expose_bytes()[..zeros], [0, 0][..zeros]);
            assert_ne!(shared.expose_bytes()[zeros], 0);
            assert_eq!(shared.expose_bytes(), theirs.agree(ours.public()).expose_bytes());
        }
    }

    #[test]
    fn values_outside_the_range_are_refused() {
        let (one, prime) = (BigUint::from(1_u8), prime());
        let largest = (&one << (8 * VALUE_LEN)) - &one;
        let refused = [BigUint::ZERO, one.clone(), &prime - &one, prime.clone(), &prime + &one];
        for value in refused.into_iter().chain([largest]) {
            assert_eq!(public_value(&value), Err(OutOfRange));
        }
        for value in [&one + &one, &prime - &one - &one] {
            assert_eq!(number(public_value(&value).unwrap().to_bytes()), value);
        }
    }

    #[test]
    fn a_value_and_its_negative_agree_alike_and_differ_as_bytes() {
        let pair = KeyPair::generate(&mut StdRng::seed_from_u64(3));
        let theirs = KeyPair::generate(&mut StdRng::seed_from_u64(4));
        let negative = public_value(&(prime() - number(theirs.public().to_bytes()))).unwrap();
        assert_ne!(&negative, theirs.public());
        let shared = pair.agree(theirs.public());
        assert_eq!(pair.agree(&negative).expose_bytes(), shared.expose_bytes());
        // Of 2 and p − 2, at the ends of the range, the second is no square.
        let two = BigUint::from(2_u8);
        let ends = [public_value(&two), public_value(&(prime() - &two))].map(Result::unwrap);
        let euler =
            |value: &PublicValue| number(value.to_bytes()).modpow(&(prime() >> 1), &prime());
        assert_eq!(ends.each_ref().map(euler), [BigUint::from(1_u8), prime() - 1_u8]);
        let [square, other] = ends.map(|value| *pair.agree(&value).expose_bytes());
        assert_eq!(square, other);
        assert_eq!(square, *pair.public().to_bytes().0);
    }

    #[test]
    fn zero_is_no_secret_and_the_rest_is_stored_and_read() {
        assert!(Secret::from_bytes(&[0; Secret::LEN]).is_none());
        for secret in secrets() {
            let read = Secret::from_bytes(secret.expose_bytes()).unwrap();
            assert_eq!(read.expose_bytes(), secret.expose_bytes());
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let pair = KeyPair::of(Secret::from_bytes(&[0xab; Secret::LEN]).unwrap());
        assert_eq!(format!("{:?}", pair.secret()), "Secret { .. }");
        assert_eq!(format!("{:?}", pair.agree(pair.public())), "SharedSecret { .. }");
        let printed = format!("{pair:?}");
        assert!(printed.starts_with("KeyPair { public: DhPublicBytes("), "{printed}");
        assert!(printed.len() < 60, "{printed}");
    }
}
