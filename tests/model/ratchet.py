"""The Double Ratchet (docs/protocol.md, "Double Ratchet").

The names are those of Signal's specification: root key, chain key, PN, N. A receiver is a textbook one; a sender
takes its DH step when it is given a new secret for it, and may wait with that as long as it has a sending chain.
"""

import copy
from dataclasses import dataclass, field

import aead
import group
from envelope import Envelope, First, RatchetHeader
from errors import Refused
from kdf import expand, hkdf, hmac_sha256

MAX_SKIP = 1_000
MAX_KEPT = 2_000


def kdf_root(root: bytes, shared: bytes) -> tuple[bytes, bytes]:
    """KDF_RK: the next root key, and the chain key of a new chain."""
    output = hkdf(root, shared, b"parlor/v1/ratchet", 64)
    return output[:32], output[32:]


def kdf_chain(chain: bytes) -> tuple[bytes, bytes]:
    """KDF_CK: a message key, and the next chain key."""
    return hmac_sha256(chain, b"\x01"), hmac_sha256(chain, b"\x02")


def aead_key(message_key: bytes) -> bytes:
    """MAC key (16) || encryption key (16) of one message."""
    return expand(message_key, b"parlor/v1/message", 32)


@dataclass
class Chain:
    """A sending or receiving chain: its chain key, and the number of the next message."""

    key: bytes
    n: int = 0

    def next(self) -> tuple[int, bytes]:
        """The number and the message key of the next message; the chain moves on."""
        message_key, self.key = kdf_chain(self.key)
        self.n += 1
        return self.n - 1, message_key


@dataclass
class Ratchet:
    """One side of a session. `own_secret` is None from a new key of the other side to the sender's next step."""

    session_id: bytes
    transcript: bytes
    root: bytes
    own_secret: bytes | None
    own_public: bytes
    sending: Chain | None = None
    previous_length: int = 0
    their_public: bytes | None = None
    receiving: Chain | None = None
    kept: dict[tuple[bytes, int], bytes] = field(default_factory=dict)

    @staticmethod
    def initiator(session_id: bytes, transcript: bytes, root: bytes, secret: bytes, signed_prekey: bytes) -> "Ratchet":
        """The initiator draws a pair and has a sending chain at once, against the responder's signed prekey."""
        root, chain = kdf_root(root, group.agree(secret, signed_prekey))
        return Ratchet(session_id, transcript, root, secret, group.public_value(secret), Chain(chain))

    @staticmethod
    def responder(session_id: bytes, transcript: bytes, root: bytes, signed_secret: bytes) -> "Ratchet":
        """The responder's first ratchet pair is its signed prekey; it cannot send before it has received."""
        return Ratchet(session_id, transcript, root, signed_secret, group.public_value(signed_secret))

    # Sending

    def seal(self, iv: bytes, plaintext: bytes, step_secret: bytes | None = None, first: First | None = None) -> bytes:
        """An envelope; of type 1 if `first` is given. `step_secret` takes the DH step with this message."""
        if step_secret is not None:
            self.step(step_secret)
        if self.sending is None:
            raise Refused("without a sending chain a sender has to step")
        n, message_key = self.sending.next()
        header = RatchetHeader(self.own_public, self.previous_length, n)
        unsealed = Envelope(self.session_id, first, header, iv, b"")
        ad = unsealed.header() + self.transcript
        return unsealed.encode() + aead.seal(aead_key(message_key), iv, ad, aead.pad(plaintext))

    def step(self, secret: bytes) -> None:
        """A sender's DH step, due once a new key of the other side was accepted."""
        if self.own_secret is not None or self.their_public is None:
            raise Refused("no step is due")
        self.previous_length = 0 if self.sending is None else self.sending.n
        self.root, chain = kdf_root(self.root, group.agree(secret, self.their_public))
        self.own_secret, self.own_public, self.sending = secret, group.public_value(secret), Chain(chain)

    # Receiving

    def open(self, data: bytes) -> bytes:
        """The plaintext of an envelope. It is tried on a copy: an attempt that fails changes nothing."""
        trial = copy.deepcopy(self)
        plaintext = trial.open_or_break(data)
        self.__dict__.update(trial.__dict__)
        return plaintext

    def open_or_break(self, data: bytes) -> bytes:
        """Opens, and leaves a state of no use where that fails."""
        envelope = Envelope.decode(data)
        if envelope.session_id != self.session_id:
            raise Refused("an envelope of another session")
        key = aead_key(self.message_key(envelope.ratchet))
        ad = envelope.header() + self.transcript
        return aead.unpad(aead.open_sealed(key, envelope.iv, ad, envelope.sealed))

    def message_key(self, header: RatchetHeader) -> bytes:
        """The key that the header asks for: a kept one, or one further on, in the current chain or in a new one."""
        kept = self.kept.pop((header.key, header.n), None)
        if kept is not None:
            return kept
        if header.key != self.their_public:
            self.receive_key(header)
        self.skip_to(header.n)
        if self.receiving.n != header.n:
            raise Refused("that message was opened before, or its key was kept too long ago")
        return self.receiving.next()[1]

    def receive_key(self, header: RatchetHeader) -> None:
        """A new ratchet key: the old chain's keys are kept up to PN, a new chain begins, the own secret is erased."""
        if self.own_secret is None:
            raise Refused("a new key of the other side, which cannot have seen a new one of this side")
        if self.receiving is not None:
            self.skip_to(header.pn)
        self.root, chain = kdf_root(self.root, group.agree(self.own_secret, header.key))
        self.own_secret, self.their_public, self.receiving = None, header.key, Chain(chain)

    def skip_to(self, n: int) -> None:
        """Keeps the keys of the receiving chain before number n; of more than 2,000 in all the oldest go."""
        if n - self.receiving.n > MAX_SKIP:
            raise Refused("a message overtakes more than 1,000 others")
        while self.receiving.n < n:
            number, message_key = self.receiving.next()
            self.kept[self.their_public, number] = message_key
        while len(self.kept) > MAX_KEPT:
            del self.kept[next(iter(self.kept))]
