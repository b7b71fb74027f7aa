"""The safety number of two accounts (docs/protocol.md, "Safety number")."""

import hashlib

from fields import fields

LABEL = "parlor/v1/safety-number"
HASHES = 5_200
DIGITS = 30


def safety_number(one: tuple[str, bytes], other: tuple[str, bytes]) -> str:
    """60 digits of two (username, account key): both halves in ascending order, so that both sides read the same."""
    return "".join(sorted([half(*one), half(*other)]))


def half(name: str, account_key: bytes) -> str:
    """One party's 30 digits: the last of 5,200 hashes as a number, modulo 10^30, with leading zeros."""
    digest = fields(LABEL, name, account_key)
    for _ in range(HASHES):
        digest = hashlib.sha512(digest + account_key).digest()
    return f"{int.from_bytes(digest, 'big') % 10**DIGITS:0{DIGITS}}"
