"""How bytes and names stand in JSON (docs/protocol.md, "Conventions" and "Names, keys, links")."""

import base64
import binascii
import json
import re

from errors import Refused

USERNAME = re.compile(r"[a-z][a-z0-9._-]{2,31}")


def to_base64url(value: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def from_base64url(text: object, size: int) -> bytes:
    """Exactly `size` bytes. Only the one encoding that `to_base64url` gives is taken: no padding, no stray bits."""
    if not isinstance(text, str):
        raise Refused("bytes in JSON are a string")
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"not base64url: {error}") from None
    if len(value) != size or to_base64url(value) != text:
        raise Refused(f"not the base64url of {size} bytes")
    return value


def from_hex(text: object, size: int) -> bytes:
    """Exactly `size` bytes, written as lower-case hexadecimal digits."""
    if not isinstance(text, str) or not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise Refused(f"not {size} bytes in lower-case hexadecimal")
    return bytes.fromhex(text)


def username(text: object) -> str:
    """3 to 32 of `a-z 0-9 . _ -`, first a letter; upper case is folded when read."""
    if not isinstance(text, str) or not text.isascii() or not USERNAME.fullmatch(text.lower()):
        raise Refused("not a username")
    return text.lower()


def whole_number(value: object, bits: int = 64) -> int:
    """An unsigned number of at most `bits` bits. JSON's true and false are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise Refused(f"not a number of {bits} bits")
    return value


def json_object(text: str | bytes) -> dict:
    """A JSON object. Unknown fields are left in it; nobody reads them."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None
    return as_object(value)


def as_object(value: object) -> dict:
    """A part of some JSON that has to be an object."""
    if not isinstance(value, dict):
        raise Refused("not a JSON object")
    return value


def compact_json(value: object) -> str:
    """JSON without spaces, fields in the order given: the way the model itself writes it."""
    return json.dumps(value, separators=(",", ":"))
