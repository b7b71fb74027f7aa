"""The layout of an envelope (docs/protocol.md, "Envelopes")."""

from dataclasses import dataclass

import aead
import group
import mlkem
from errors import Refused

VERSION = 1
FIRST, FOLLOWING = 1, 2
MAX_ENVELOPE = 458_752
MAX_SEALED_SENDER = 2_048


@dataclass(frozen=True)
class First:
    """What only an envelope of type 1 has: the initiator's half of the agreement. No one-time pair is id 0."""

    ephemeral: bytes
    signed_id: int
    one_time_id: int
    kem_ciphertext: bytes
    sealed_sender: bytes

    def encode(self) -> bytes:
        """The bytes from offset 18."""
        ids = self.signed_id.to_bytes(4, "big") + self.one_time_id.to_bytes(4, "big")
        sealed = len(self.sealed_sender).to_bytes(2, "big") + self.sealed_sender
        return self.ephemeral + ids + self.kem_ciphertext + sealed


@dataclass(frozen=True)
class RatchetHeader:
    """Ratchet key (384 bytes), PN (the length of the previous sending chain), and N (the message's number, from 0)."""

    key: bytes
    pn: int
    n: int

    def encode(self) -> bytes:
        """392 bytes."""
        return self.key + self.pn.to_bytes(4, "big") + self.n.to_bytes(4, "big")


@dataclass(frozen=True)
class Envelope:
    """An envelope in its parts. `first` is None in type 2; `sealed` is ciphertext || tag."""

    session_id: bytes
    first: First | None
    ratchet: RatchetHeader
    iv: bytes
    sealed: bytes

    def header(self) -> bytes:
        """Everything before the IV: what is authenticated, with the transcript hash, beside the ciphertext."""
        if self.first is None:
            return bytes([VERSION, FOLLOWING]) + self.session_id + self.ratchet.encode()
        return bytes([VERSION, FIRST]) + self.session_id + self.first.encode() + self.ratchet.encode()

    def encode(self) -> bytes:
        """The bytes as they travel."""
        return self.header() + self.iv + self.sealed

    @staticmethod
    def decode(data: bytes) -> "Envelope":
        """Takes the bytes apart."""
        if len(data) > MAX_ENVELOPE:
            raise Refused("an envelope is longer than 448 KiB")
        rest = Reader(data)
        version, kind, session_id = rest.number(1), rest.number(1), rest.take(16)
        if version != VERSION or kind not in (FIRST, FOLLOWING):
            raise Refused("an envelope of another version or type")
        first = read_first(rest) if kind == FIRST else None
        ratchet = RatchetHeader(rest.take(group.VALUE_SIZE), rest.number(4), rest.number(4))
        iv, sealed = rest.take(aead.IV_SIZE), rest.remaining()
        if len(sealed) < aead.BLOCK + aead.TAG_SIZE or len(sealed) % aead.BLOCK:
            raise Refused("an envelope has at least one block of ciphertext, and a tag")
        return Envelope(session_id, first, ratchet, iv, sealed)


class Reader:
    """Takes bytes from the front."""

    def __init__(self, data: bytes):
        self.data = data

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if len(self.data) < size:
            raise Refused("an envelope ends too early")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        """The next `size` bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def remaining(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data))


def read_first(rest: Reader) -> First:
    """The part of type 1 alone."""
    ephemeral, signed_id, one_time_id = rest.take(group.VALUE_SIZE), rest.number(4), rest.number(4)
    ciphertext, size = rest.take(mlkem.CIPHERTEXT_SIZE), rest.number(2)
    if size > MAX_SEALED_SENDER:
        raise Refused("a sealed sender has at most 2048 bytes")
    return First(ephemeral, signed_id, one_time_id, ciphertext, rest.take(size))
