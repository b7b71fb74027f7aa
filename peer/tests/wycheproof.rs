//! Project Wycheproof's vectors: our authenticated encryption, and the primitives that it and the
//! derivations stand on.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use parlor::crypto::aead::{AeadKey, open, seal};
use sha2::Sha256;
use wycheproof::{TestResult, aead, cipher, hkdf as hkdf_vectors, mac};
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
