"""AEAD_AES_128_CBC_HMAC_SHA_256 (RFC 7518 section 5.2.3) and the padding of messages (docs/protocol.md)."""

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from errors import Refused
from kdf import hmac_sha256

KEY_SIZE = 32
IV_SIZE = 16
BLOCK = 16
TAG_SIZE = 16
SMALLEST_BUCKET = 256
LARGEST_POWER = 4096
MAX_PLAINTEXT = 454_655


def seal(key: bytes, iv: bytes, ad: bytes, plaintext: bytes) -> bytes:
    """Ciphertext || tag. The key is MAC key (16) || encryption key (16); the caller puts the IV in front."""
    padder = PKCS7(8 * BLOCK).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(AES(key[16:]), CBC(iv)).encryptor()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    return ciphertext + tag(key, iv, ad, ciphertext)


def open_sealed(key: bytes, iv: bytes, ad: bytes, sealed: bytes) -> bytes:
    """The plaintext of ciphertext || tag. The tag is checked before anything is decrypted."""
    ciphertext, given_tag = sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]
    if not ciphertext or len(ciphertext) % BLOCK:
        raise Refused("a ciphertext is one block or more, all of them whole")
    if not hmac.compare_digest(given_tag, tag(key, iv, ad, ciphertext)):
        raise Refused("the tag does not hold")
    decryptor = Cipher(AES(key[16:]), CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    unpadder = PKCS7(8 * BLOCK).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Refused("the PKCS#7 padding does not hold") from None


def tag(key: bytes, iv: bytes, ad: bytes, ciphertext: bytes) -> bytes:
    """The first 16 bytes of HMAC over AD || IV || ciphertext || length of AD in bits (8 bytes)."""
    ad_bits = (8 * len(ad)).to_bytes(8, "big")
    return hmac_sha256(key[:16], ad + iv + ciphertext + ad_bits)[:TAG_SIZE]


def pad(plaintext: bytes) -> bytes:
    """0x80, then zeros to the bucket: powers of two from 256 to 4096, then multiples of 4096 bytes."""
    if len(plaintext) > MAX_PLAINTEXT:
        raise Refused("the plaintext is too long")
    marked = plaintext + b"\x80"
    return marked.ljust(bucket(len(marked)), b"\0")


def bucket(size: int) -> int:
    """The smallest bucket that holds `size` bytes."""
    if size > LARGEST_POWER:
        return -(-size // LARGEST_POWER) * LARGEST_POWER
    step = SMALLEST_BUCKET
    while step < size:
        step *= 2
    return step


def unpad(padded: bytes) -> bytes:
    """Takes away the zeros at the end and the 0x80 before them. Any number of zeros is read."""
    marked = padded.rstrip(b"\0")
    if not marked.endswith(b"\x80"):
        raise Refused("the padding does not hold")
    return marked[:-1]
