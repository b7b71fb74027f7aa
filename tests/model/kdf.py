"""HMAC and HKDF over SHA-256 (RFC 2104, RFC 5869; docs/protocol.md, "Conventions")."""

import hashlib
import hmac

ZERO_SALT = bytes(32)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """32 bytes."""
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand: T(i) = HMAC(key, T(i-1) || info || i), joined and cut to `size` bytes."""
    output, block, counter = b"", b"", 1
    while len(output) < size:
        block = hmac_sha256(key, block + info + bytes([counter]))
        output, counter = output + block, counter + 1
    return output[:size]


def hkdf(salt: bytes, ikm: bytes, info: bytes, size: int) -> bytes:
    """HKDF: extract, then expand."""
    return expand(hmac_sha256(salt, ikm), info, size)
