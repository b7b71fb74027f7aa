"""Prekey pairs and bundles (docs/protocol.md, "Prekeys")."""

from dataclasses import dataclass
from enum import Enum

import group
import mlkem
import signatures
from device_list import device_id
from errors import Refused
from fields import fields
from text import as_object, from_base64url, json_object, to_base64url, whole_number

DH_LABEL = "parlor/v1/prekey"
KEM_LABEL = "parlor/v1/kem-prekey"
LONGEST_AGE = 21 * 24 * 60 * 60 * 1000  # ms


class Use(Enum):
    """What a pair is for; the values are the uses that its two halves are signed for: (DH, KEM)."""

    SIGNED = ("signed", "last-resort")
    ONE_TIME = ("one-time", "one-time")


@dataclass(frozen=True)
class PrekeySecret:
    """The private halves of a pair: a DH secret (35 bytes) and an ML-KEM seed d || z (64 bytes)."""

    id: int
    made_at: int
    dh_secret: bytes
    kem_seed: bytes

    def publish(self, device_seed: bytes, use: Use) -> "Prekey":
        """The pair that others see, each half signed by the device key."""
        dh, kem = group.public_value(self.dh_secret), mlkem.keygen(self.kem_seed)[0]
        device = device_id(signatures.public_key(device_seed))
        dh_fields = half_fields(use.value[0], device, self.id, self.made_at, dh)
        kem_fields = half_fields(use.value[1], device, self.id, self.made_at, kem)
        dh_signature = signatures.sign(device_seed, DH_LABEL, dh_fields)
        kem_signature = signatures.sign(device_seed, KEM_LABEL, kem_fields)
        return Prekey(self.id, self.made_at, dh, dh_signature, kem, kem_signature)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The KEM secret in a ciphertext for this pair."""
        return mlkem.decapsulate(mlkem.keygen(self.kem_seed)[1], ciphertext)


@dataclass(frozen=True)
class Prekey:
    """A pair as it is published: DH value (384 bytes) and encapsulation key (1184), a signature (64) for each."""

    id: int
    made_at: int
    dh: bytes
    dh_signature: bytes
    kem: bytes
    kem_signature: bytes

    @staticmethod
    def read(value: object) -> "Prekey":
        """From its JSON object."""
        data = as_object(value)
        return Prekey(
            whole_number(data.get("id"), 32),
            whole_number(data.get("made_at")),
            from_base64url(data.get("dh"), group.VALUE_SIZE),
            from_base64url(data.get("dh_signature"), 64),
            from_base64url(data.get("kem"), mlkem.EK_SIZE),
            from_base64url(data.get("kem_signature"), 64),
        )

    def as_json(self) -> dict:
        """The JSON object."""
        dh = {"dh": to_base64url(self.dh), "dh_signature": to_base64url(self.dh_signature)}
        kem = {"kem": to_base64url(self.kem), "kem_signature": to_base64url(self.kem_signature)}
        return {"id": self.id, "made_at": self.made_at} | dh | kem

    def verify(self, device_key: bytes, use: Use) -> None:
        """The id is not 0, both keys are acceptable, and both signatures hold for this use."""
        if self.id == 0:
            raise Refused("no prekey has the id 0")
        group.accept(self.dh)
        mlkem.check_encapsulation_key(self.kem)
        device = device_id(device_key)
        dh_fields = half_fields(use.value[0], device, self.id, self.made_at, self.dh)
        kem_fields = half_fields(use.value[1], device, self.id, self.made_at, self.kem)
        signatures.verify(device_key, DH_LABEL, dh_fields, self.dh_signature)
        signatures.verify(device_key, KEM_LABEL, kem_fields, self.kem_signature)


def half_fields(use: str, device: bytes, prekey_id: int, made_at: int, key: bytes) -> bytes:
    """What is signed of one half, after label and signer."""
    return fields(use, device, prekey_id, made_at, key)


@dataclass(frozen=True)
class Bundle:
    """What an initiator needs of a device: its signed pair, and a one-time pair where there is one."""

    device_key: bytes
    signed: Prekey
    one_time: Prekey | None

    @staticmethod
    def read(text: str) -> "Bundle":
        """From JSON text."""
        data = json_object(text)
        one_time = data.get("one_time")
        return Bundle(
            from_base64url(data.get("device"), 32),
            Prekey.read(data.get("signed")),
            None if one_time is None else Prekey.read(one_time),
        )

    def as_json(self) -> dict:
        """The JSON object; an absent one-time pair is left out."""
        one_time = {} if self.one_time is None else {"one_time": self.one_time.as_json()}
        return {"device": to_base64url(self.device_key), "signed": self.signed.as_json()} | one_time

    def kem_key(self) -> bytes:
        """The encapsulation key to use: the one-time pair's where there is one, else the last-resort one."""
        return (self.one_time or self.signed).kem

    def verify(self, device_key: bytes) -> None:
        """It is the expected device's, and all signatures hold."""
        if self.device_key != device_key:
            raise Refused("the bundle is of another device")
        self.signed.verify(device_key, Use.SIGNED)
        if self.one_time is not None:
            self.one_time.verify(device_key, Use.ONE_TIME)

    def check_age(self, now: int, last_seen: int) -> None:
        """No pair is older than 21 days, and the signed one not older than the last that was seen of the device."""
        pairs = [self.signed] if self.one_time is None else [self.signed, self.one_time]
        if any(now - pair.made_at > LONGEST_AGE for pair in pairs):
            raise Refused("a prekey is older than 21 days")
        if self.signed.made_at < last_seen:
            raise Refused("the signed prekey is older than one that was seen before")
