"""The agreement on a session, and the sealed sender of a first message (docs/protocol.md, "Agreement")."""

import hashlib
from dataclasses import dataclass

import aead
import group
import mlkem
from device_list import Device
from envelope import First
from errors import Refused
from fields import fields
from kdf import ZERO_SALT, expand, hkdf
from prekeys import Bundle, PrekeySecret
from text import compact_json, from_base64url, json_object, to_base64url, username

PROTOCOL = "parlor/v1"
SUITE = "pqxdh-ffdhe3072-mlkem768-hkdf-sha256-a128cbc-hs256"


@dataclass(frozen=True)
class Party:
    """Who takes part: username, account key (32 bytes) and device entry."""

    name: str
    account_key: bytes
    device: Device

    def as_json(self) -> str:
        """The plaintext of a sealed sender."""
        key = to_base64url(self.account_key)
        return compact_json({"name": self.name, "account_key": key, "device": self.device.as_json()})

    @staticmethod
    def read(text: bytes) -> "Party":
        """From the plaintext of a sealed sender."""
        data = json_object(text)
        account_key = from_base64url(data.get("account_key"), 32)
        party = Party(username(data.get("name")), account_key, Device.read(data.get("device")))
        party.device.check()
        return party


@dataclass(frozen=True)
class PublicInputs:
    """What both hashes end with: the ephemeral key, the prekeys that were used (id, DH value), KEM key, ciphertext."""

    ephemeral: bytes
    signed: tuple[int, bytes]
    one_time: tuple[int, bytes] | None
    kem_key: bytes
    kem_ciphertext: bytes

    def values(self) -> tuple:
        """Their fields; a missing one-time prekey is two absent ones."""
        one_time = self.one_time or (None, None)
        return (self.ephemeral, *self.signed, *one_time, self.kem_key, self.kem_ciphertext)


@dataclass(frozen=True)
class Secrets:
    """What the DH values and the KEM give: SK, and the session id and first root key from it (16 and 32 bytes)."""

    secret: bytes
    session_id: bytes
    root: bytes


@dataclass(frozen=True)
class Agreement:
    """All that comes of an agreement, on either side."""

    transcript: bytes
    secrets: Secrets
    kem_secret: bytes
    context: bytes
    sender_key: bytes


def transcript_hash(initiator: Party, responder: Party, inputs: PublicInputs) -> bytes:
    """th: every public value, each person in its role."""
    one = ("initiator", initiator.name, initiator.account_key, initiator.device.entry())
    other = ("responder", responder.name, responder.account_key, responder.device.entry())
    return hashlib.sha256(fields(PROTOCOL, SUITE, *one, *other, *inputs.values())).digest()


def session_secrets(shared: list[bytes], kem_secret: bytes, transcript: bytes) -> Secrets:
    """From DH1, DH2, DH3, where there is one DH4, and the KEM secret."""
    ikm = b"".join(shared) + kem_secret
    secret = hkdf(ZERO_SALT, ikm, b"parlor/v1/agree" + transcript, 32)
    session_id = expand(secret, b"parlor/v1/session-id", 16)
    return Secrets(secret, session_id, expand(secret, b"parlor/v1/root", 32))


def sender_context(session_id: bytes, responder: Party, inputs: PublicInputs) -> bytes:
    """ctx: what the responder knows before it knows who writes."""
    other = (responder.name, responder.account_key, responder.device.entry())
    return hashlib.sha256(fields("parlor/v1/sender", SUITE, session_id, *other, *inputs.values())).digest()


def sender_key(dh2: bytes, kem_secret: bytes, context: bytes) -> bytes:
    """The key of the sealed sender, 32 bytes."""
    return hkdf(ZERO_SALT, dh2 + kem_secret, b"parlor/v1/sender" + context, 32)


def seal_sender(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """IV || ciphertext || tag, padded like a message, with empty associated data."""
    return iv + aead.seal(key, iv, b"", aead.pad(plaintext))


def open_sender(key: bytes, sealed: bytes) -> bytes:
    """The plaintext of a sealed sender."""
    return aead.unpad(aead.open_sealed(key, sealed[: aead.IV_SIZE], b"", sealed[aead.IV_SIZE :]))


@dataclass(frozen=True)
class Identity:
    """A party, and the DH secret of its device entry."""

    party: Party
    dh_secret: bytes


def initiate(me: Identity, responder: Party, bundle: Bundle, ephemeral: bytes, m: bytes) -> tuple[Agreement, bytes]:
    """The initiator's side, and the KEM ciphertext. `ephemeral` is a fresh secret, `m` the KEM's randomness."""
    kem_secret, ciphertext = mlkem.encapsulate(bundle.kem_key(), m)
    signed, one_time = bundle.signed, bundle.one_time
    dh1 = group.agree(me.dh_secret, signed.dh)
    dh2 = group.agree(ephemeral, responder.device.dh)
    dh3 = group.agree(ephemeral, signed.dh)
    dh4 = [] if one_time is None else [group.agree(ephemeral, one_time.dh)]
    one_time_used = None if one_time is None else (one_time.id, one_time.dh)
    public = group.public_value(ephemeral)
    inputs = PublicInputs(public, (signed.id, signed.dh), one_time_used, bundle.kem_key(), ciphertext)
    transcript = transcript_hash(me.party, responder, inputs)
    secrets = session_secrets([dh1, dh2, dh3, *dh4], kem_secret, transcript)
    context = sender_context(secrets.session_id, responder, inputs)
    return Agreement(transcript, secrets, kem_secret, context, sender_key(dh2, kem_secret, context)), ciphertext


def respond(
    me: Identity, signed: PrekeySecret, one_time: PrekeySecret | None, session_id: bytes, first: First
) -> tuple[Agreement, Party]:
    """The responder's side, and who the initiator says it is. The prekeys are those that the envelope names.

    That the initiator is a device of a known contact is for the caller to check.
    """
    if (signed.id, one_time.id if one_time else 0) != (first.signed_id, first.one_time_id):
        raise Refused("the envelope names other prekeys")
    inputs = responder_inputs(signed, one_time, first)
    kem_secret = (one_time or signed).decapsulate(first.kem_ciphertext)
    dh2 = group.agree(me.dh_secret, first.ephemeral)
    context = sender_context(session_id, me.party, inputs)
    key = sender_key(dh2, kem_secret, context)
    initiator = Party.read(open_sender(key, first.sealed_sender))
    dh1 = group.agree(signed.dh_secret, initiator.device.dh)
    dh3 = group.agree(signed.dh_secret, first.ephemeral)
    dh4 = [] if one_time is None else [group.agree(one_time.dh_secret, first.ephemeral)]
    transcript = transcript_hash(initiator, me.party, inputs)
    secrets = session_secrets([dh1, dh2, dh3, *dh4], kem_secret, transcript)
    if secrets.session_id != session_id:
        raise Refused("the session id is not the one that was agreed on")
    return Agreement(transcript, secrets, kem_secret, context, key), initiator


def responder_inputs(signed: PrekeySecret, one_time: PrekeySecret | None, first: First) -> PublicInputs:
    """The public inputs as the responder has them: its own prekeys, and the envelope's values."""
    one_time_used = None if one_time is None else (one_time.id, group.public_value(one_time.dh_secret))
    kem_key = mlkem.keygen((one_time or signed).kem_seed)[0]
    signed_used = (signed.id, group.public_value(signed.dh_secret))
    return PublicInputs(first.ephemeral, signed_used, one_time_used, kem_key, first.kem_ciphertext)
