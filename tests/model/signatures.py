"""Ed25519 (RFC 8032), verified strictly (docs/protocol.md, "Conventions" and "Signed structures")."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from errors import Refused
from fields import fields

FIELD = 2**255 - 19
CURVE_D = -121665 * pow(121666, -1, FIELD) % FIELD


def public_key(seed: bytes) -> bytes:
    """The public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, label: str, own_fields: bytes) -> bytes:
    """Signs a structure: Fields(label, signer's key), then the structure's own fields."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.sign(signed_bytes(label, public_key(seed), own_fields))


def signed_bytes(label: str, signer: bytes, own_fields: bytes) -> bytes:
    """The exact bytes under a signature."""
    return fields(label, signer) + own_fields


def verify(signer: bytes, label: str, own_fields: bytes, signature: bytes) -> None:
    """Refuses a signature that does not hold, and any by a key, or with a point R, of small order or odd encoding."""
    refuse_bad_point(signer)
    refuse_bad_point(signature[:32])
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, signed_bytes(label, signer, own_fields))
    except (InvalidSignature, ValueError):
        raise Refused(f"a signature under {label} does not hold") from None


def refuse_bad_point(encoded: bytes) -> None:
    """Refuses y >= 2^255 - 19, and the points whose order divides 8. The top bit is the sign of x."""
    y = int.from_bytes(encoded, "little") & (1 << 255) - 1
    if y >= FIELD:
        raise Refused("a point is not in its canonical encoding")
    if y in SMALL_ORDER_Y:
        raise Refused("a point is of small order")


def square_root(value: int) -> int | None:
    """A square root modulo 2^255 - 19 (RFC 8032 section 5.1.3), if there is one."""
    for root in (pow(value, (FIELD + 3) // 8, FIELD), pow(value, (FIELD + 3) // 8, FIELD) * pow(2, FIELD // 4, FIELD)):
        if root * root % FIELD == value % FIELD:
            return root % FIELD
    return None


def small_order_y() -> set[int]:
    """The y of all points whose order divides 8.

    (0, 1) has order 1, (0, -1) order 2, and y = 0 order 4. A point of order 8 doubles to one with y = 0, so that
    x^2 = -y^2; put into the curve's equation, -x^2 + y^2 = 1 + d x^2 y^2, this is d y^4 + 2 y^2 - 1 = 0.
    """
    found = {1, FIELD - 1, 0}
    root = square_root(1 + CURVE_D)
    for sign in (root, -root):
        y = square_root((sign - 1) * pow(CURVE_D, -1, FIELD))
        if y is not None:
            found |= {y, FIELD - y}
    return found


SMALL_ORDER_Y = small_order_y()
