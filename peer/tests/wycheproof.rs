//! Project Wycheproof's vectors and RFC 5869's: our authenticated encryption and our KEM, and the
//! primitives that they, the derivations and the signatures stand on.

use std::convert::Infallible;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use parlor::crypto::aead::{AeadKey, open, seal};
use parlor::crypto::kem::{KemSecret, encapsulate};
use parlor_common::prekey::{KemCiphertext, KemPublicBytes};
use rand::{TryCryptoRng, TryRng};
use sha2::Sha256;
use wycheproof::{ByteString, TestResult, aead, cipher, eddsa, hkdf as hkdf_vectors, mac, mlkem};
use zeroize::Zeroizing;

#[test]
fn aes_128_cbc_hmac_sha_256() {
    let set = aead::TestSet::load(aead::TestName::Aes128CbcHmacSha256).unwrap();
    let mut valid = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        // What our types cannot hold is no case of ours: another length of IV.
        let Ok(iv) = <[u8; 16]>::try_from(test.nonce.as_slice()) else { continue };
        let key = AeadKey::new(Zeroizing::new(test.key.as_slice().try_into().unwrap()));
        let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
        let opened = open(&key, &iv, &[test.aad.as_slice()], &sealed);
        if test.result == TestResult::Invalid {
            assert!(opened.is_err(), "{}: {}", test.tc_id, test.comment);
            continue;
        }
        assert_eq!(&*opened.unwrap(), test.pt.as_slice(), "{}", test.tc_id);
        assert_eq!(seal(&key, &iv, &[test.aad.as_slice()], &test.pt), sealed, "{}", test.tc_id);
        valid += 1;
    }
    assert!(valid >= 60, "only {valid} vectors were used");
}

#[test]
fn aes_128_cbc_with_pkcs_7() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap();
    let mut valid = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let Ok(key) = <[u8; 16]>::try_from(test.key.as_slice()) else { continue };
        let iv = <[u8; 16]>::try_from(test.nonce.as_slice()).unwrap();
        let mut buffer = test.ct.to_vec();
        let decryptor = cbc::Decryptor::<aes::Aes128>::new(&key.into(), &iv.into());
        let opened = decryptor.decrypt_padded::<Pkcs7>(&mut buffer);
        if test.result == TestResult::Invalid {
            assert!(opened.is_err(), "{}: {}", test.tc_id, test.comment);
            continue;
        }
        assert_eq!(opened.unwrap(), test.pt.as_slice(), "{}", test.tc_id);
        let mut buffer = [test.pt.as_slice(), &[0; 16]].concat();
        let encryptor = cbc::Encryptor::<aes::Aes128>::new(&key.into(), &iv.into());
        let sealed = encryptor.encrypt_padded::<Pkcs7>(&mut buffer, test.pt.len()).unwrap();
        assert_eq!(sealed, test.ct.as_slice(), "{}", test.tc_id);
        valid += 1;
    }
    assert!(valid >= 20, "only {valid} vectors were used");
}

#[test]
fn hmac_sha_256() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&test.key).unwrap();
        let verdict = mac.chain_update(test.msg.as_slice()).verify_truncated_left(&test.tag);
        let expected = test.result != TestResult::Invalid;
        assert_eq!(verdict.is_ok(), expected, "{}: {}", test.tc_id, test.comment);
    }
}

#[test]
fn hkdf_sha_256() {
    let set = hkdf_vectors::TestSet::load(hkdf_vectors::TestName::HkdfSha256).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let mut okm = vec![0; test.size];
        let derived = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
        if test.result == TestResult::Invalid {
            assert!(derived.is_err(), "{}: {}", test.tc_id, test.comment);
        } else {
            assert_eq!(okm, test.okm.as_slice(), "{}", test.tc_id);
        }
    }
}

/// RFC 5869, appendices A.1 to A.3: input key material, salt, info, output; over SHA-256.
const RFC_5869: [[&str; 4]; 3] = [
    [
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ],
    [
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
         202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\
         404142434445464748494a4b4c4d4e4f",
        "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\
         808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f\
         a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf\
         d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef\
         f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c\
         59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
         cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ],
    [
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ],
];

#[test]
fn hkdf_as_in_its_rfc() {
    for vector in RFC_5869 {
        let [ikm, salt, info, expected] =
            vector.map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap());
        let mut okm = vec![0; expected.len()];
        Hkdf::<Sha256>::new(Some(&salt), &ikm).expand(&info, &mut okm).unwrap();
        assert_eq!(okm, expected);
    }
}

#[test]
fn ed25519_strictly() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let key = VerifyingKey::from_bytes(group.key.pk.as_slice().try_into().unwrap());
        for test in group.tests {
            let signature = Signature::from_slice(&test.sig).ok().zip(key.as_ref().ok());
            let verdict = signature
                .is_some_and(|(signature, key)| key.verify_strict(&test.msg, &signature).is_ok());
            let expected = test.result != TestResult::Invalid;
            assert_eq!(verdict, expected, "{}: {}", test.tc_id, test.comment);
        }
    }
}

/// The case's bytes, if our types can hold them: another length is no case of ours.
fn fixed<const N: usize>(bytes: Option<&ByteString>) -> Option<Box<[u8; N]>> {
    Some(Box::new(bytes?.as_slice().try_into().ok()?))
}

#[test]
fn ml_kem_768_decapsulation_from_seeds() {
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768).unwrap();
    let mut valid = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let (seed, ciphertext) = (fixed(test.seed.as_ref()), fixed(test.ct.as_ref()));
        let (Some(seed), Some(ciphertext)) = (seed, ciphertext) else {
            assert_eq!(test.result, TestResult::Invalid, "{}: it fits", test.tc_id);
            continue;
        };
        let secret = KemSecret::from_bytes(&seed);
        assert_eq!(Some(secret.public().0), fixed(test.encaps_key.as_ref()), "{}", test.tc_id);
        let shared = secret.decapsulate(&KemCiphertext(ciphertext));
        let expected = test.shared_secret.unwrap();
        assert_eq!(shared.expose_bytes(), expected.as_slice(), "{}", test.tc_id);
        valid += 1;
    }
    assert!(valid >= 150, "only {valid} vectors were used");
}

#[test]
fn ml_kem_768_key_generation_from_seeds() {
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768KeyGenSeed).unwrap();
    let mut used = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let secret = KemSecret::from_bytes(&fixed(test.seed.as_ref()).unwrap());
        assert_eq!(Some(secret.public().0), fixed(test.encaps_key.as_ref()), "{}", test.tc_id);
        used += 1;
    }
    assert!(used >= 100, "only {used} vectors were used");
}

/// Keys with an unreduced coefficient are refused; the rest encapsulate as in the vectors.
#[test]
fn ml_kem_768_encapsulation() {
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768Encaps).unwrap();
    let (mut valid, mut refused) = (0, 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let Some(key) = fixed(test.encaps_key.as_ref()) else {
            assert_eq!(test.result, TestResult::Invalid, "{}: it fits", test.tc_id);
            continue;
        };
        let drawn = &mut Drawn(test.msg.unwrap().to_vec());
        let encapsulated = encapsulate(&KemPublicBytes(key), drawn);
        if test.result == TestResult::Invalid {
            assert!(encapsulated.is_err(), "{}: {}", test.tc_id, test.comment);
            refused += 1;
            continue;
        }
        let (ciphertext, shared) = encapsulated.unwrap();
        assert_eq!(Some(ciphertext.0), fixed(test.ct.as_ref()), "{}", test.tc_id);
        let expected = test.shared_secret.unwrap();
        assert_eq!(shared.expose_bytes(), expected.as_slice(), "{}", test.tc_id);
        valid += 1;
    }
    assert!(valid >= 130 && refused >= 100, "only {valid} and {refused} vectors were used");
}

/// A generator that draws the bytes it was given, once.
struct Drawn(Vec<u8>);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        assert_eq!(bytes.len(), self.0.len(), "all of it is drawn, once");
        bytes.copy_from_slice(&std::mem::take(&mut self.0));
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}
