"""Diffie-Hellman over ffdhe3072 (RFC 7919 appendix A.2; docs/protocol.md, "Group")."""

from functools import cache

from errors import Refused

SECRET_SIZE = 35
VALUE_SIZE = 384

P = int(
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695"
    "A9E13641146433FBCC939DCE249B3EF97D2FE363630C75D8F681B202AEC4617A"
    "D3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935"
    "984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797A"
    "BC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4"
    "AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F61"
    "9172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005"
    "C58EF1837D1683B2C6F34A26C1B2EFFA886B4238611FCFDCDE355B3B6519035B"
    "BC34F4DEF99C023861B46FC9D6E6C9077AD91D2691F7F7EE598CB0FAC186D91C"
    "AEFE130985139270B4130C93BC437944F4FD4452E2D74DD364F2E21E71F54BFF"
    "5CAE82AB9C9DF69EE86D2BC522363A0DABC521979B0DEADA1DBF9A42D5C4484E"
    "0ABCD06BFA53DDEF3C1B20EE3FD59D7C25E41D2B66C62E37FFFFFFFFFFFFFFFF",
    16,
)


def exponent(secret: bytes) -> int:
    """A secret is 280 bits, big-endian, and not 0."""
    if len(secret) != SECRET_SIZE or not any(secret):
        raise Refused("a secret is 280 bits and not 0")
    return int.from_bytes(secret, "big")


@cache
def power(base: int, k: int) -> int:
    """base^k mod p; remembered, because both sides of a vector, and the self-test, ask for the same ones again."""
    return pow(base, k, P)


def public_value(secret: bytes) -> bytes:
    """4^k mod p, in 384 bytes."""
    return to_bytes(power(4, exponent(secret)))


def accept(value: bytes) -> int:
    """A received value: exactly 384 bytes, and 1 < Y < p - 1."""
    if len(value) != VALUE_SIZE:
        raise Refused("a DH value has 384 bytes")
    y = int.from_bytes(value, "big")
    if not 1 < y < P - 1:
        raise Refused("a DH value lies between 1 and p - 1")
    return y


def agree(secret: bytes, value: bytes) -> bytes:
    """(Y^2)^k mod p, in 384 bytes: squaring clears the cofactor 2."""
    return to_bytes(power(accept(value) ** 2 % P, exponent(secret)))


def negate(value: bytes) -> bytes:
    """p - Y, which agrees to the same as Y."""
    return to_bytes(P - accept(value))


def to_bytes(y: int) -> bytes:
    """Big-endian, padded on the left with zeros."""
    return y.to_bytes(VALUE_SIZE, "big")
