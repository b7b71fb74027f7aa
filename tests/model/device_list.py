"""Device entries and signed device lists (docs/protocol.md, "Signed structures")."""

import hashlib
from dataclasses import dataclass

import group
import signatures
from errors import Refused
from fields import fields
from text import as_object, from_base64url, from_hex, json_object, to_base64url, username, whole_number

LABEL = "parlor/v1/device-list"
ID_LABEL = b"parlor/v1/device-id"
MOST_DEVICES = 16


def device_id(key: bytes) -> bytes:
    """The first 16 bytes of SHA-256(label || device key)."""
    return hashlib.sha256(ID_LABEL + key).digest()[:16]


@dataclass(frozen=True)
class Device:
    """A device entry: id (16 bytes), device key (32), DH value (384), and when it was added (ms)."""

    id: bytes
    key: bytes
    dh: bytes
    added_at: int

    @staticmethod
    def of(key: bytes, dh: bytes, added_at: int) -> "Device":
        """An entry under the id that belongs to the key."""
        return Device(device_id(key), key, dh, added_at)

    @staticmethod
    def read(value: object) -> "Device":
        """From its JSON object; whether the entry is well-formed is `check`ed later."""
        entry = as_object(value)
        return Device(
            from_hex(entry.get("id"), 16),
            from_base64url(entry.get("key"), 32),
            from_base64url(entry.get("dh"), group.VALUE_SIZE),
            whole_number(entry.get("added_at")),
        )

    def as_json(self) -> dict:
        """The JSON object."""
        dh = to_base64url(self.dh)
        return {"id": self.id.hex(), "key": to_base64url(self.key), "dh": dh, "added_at": self.added_at}

    def entry(self) -> bytes:
        """The bytes of the entry, which stand as one field in what is signed or hashed."""
        return fields(self.id, self.key, self.dh, self.added_at)

    def check(self) -> None:
        """The id is the key's, and the DH value an acceptable one."""
        if self.id != device_id(self.key):
            raise Refused("a device id is not the one of its key")
        group.accept(self.dh)


@dataclass(frozen=True)
class DeviceList:
    """An account's devices, the oldest first. `previous` is the hash of the version before, None in version 1."""

    name: str
    account_key: bytes
    version: int
    previous: bytes | None
    at: int
    devices: tuple[Device, ...]

    @staticmethod
    def read(value: object) -> "DeviceList":
        """From its JSON object; whether the list is well-formed is `check`ed later."""
        data = as_object(value)
        previous, devices = data.get("previous"), data.get("devices")
        if not isinstance(devices, list):
            raise Refused("a list without devices")
        return DeviceList(
            username(data.get("name")),
            from_base64url(data.get("account_key"), 32),
            whole_number(data.get("version")),
            None if previous is None else from_base64url(previous, 32),
            whole_number(data.get("at")),
            tuple(Device.read(device) for device in devices),
        )

    def as_json(self) -> dict:
        """The JSON object; an absent `previous` is left out."""
        previous = {} if self.previous is None else {"previous": to_base64url(self.previous)}
        devices = [device.as_json() for device in self.devices]
        head = {"name": self.name, "account_key": to_base64url(self.account_key), "version": self.version}
        return head | previous | {"at": self.at, "devices": devices}

    def fields(self) -> bytes:
        """The list's own fields."""
        entries = [device.entry() for device in self.devices]
        return fields(self.name, self.account_key, self.version, self.previous, self.at, *entries)

    def hash(self) -> bytes:
        """SHA-256 of the fields, without label and signer."""
        return hashlib.sha256(self.fields()).digest()

    def check(self) -> None:
        """Whether the list is well-formed."""
        ids = {device.id for device in self.devices}
        if not 1 <= len(self.devices) <= MOST_DEVICES or len(ids) != len(self.devices):
            raise Refused("a list has 1 to 16 devices, each once")
        if self.version < 1 or (self.previous is None) != (self.version == 1):
            raise Refused("`previous` is absent exactly in version 1, and there is no version below")
        for device in self.devices:
            device.check()


@dataclass(frozen=True)
class SignedList:
    """A list as it travels: the account key's signature, and that of a device (key, signature) where there is one."""

    list: DeviceList
    signature: bytes
    cosignature: tuple[bytes, bytes] | None

    @staticmethod
    def read(text: str) -> "SignedList":
        """From JSON text."""
        data = json_object(text)
        cosignature = data.get("cosignature")
        if cosignature is not None:
            both = as_object(cosignature)
            cosignature = (from_base64url(both.get("device"), 32), from_base64url(both.get("signature"), 64))
        return SignedList(DeviceList.read(data.get("list")), from_base64url(data.get("signature"), 64), cosignature)

    @staticmethod
    def sign(unsigned: DeviceList, account_seed: bytes, cosigner_seed: bytes | None) -> "SignedList":
        """Signs with the account key, and with a device of the version before where there is one."""
        signature, cosignature = signatures.sign(account_seed, LABEL, unsigned.fields()), None
        if cosigner_seed is not None:
            second = signatures.sign(cosigner_seed, LABEL, unsigned.fields())
            cosignature = (signatures.public_key(cosigner_seed), second)
        return SignedList(unsigned, signature, cosignature)

    def as_json(self) -> dict:
        """The JSON object; an absent cosignature is left out."""
        cosignature = {}
        if self.cosignature is not None:
            device, signature = map(to_base64url, self.cosignature)
            cosignature = {"cosignature": {"device": device, "signature": signature}}
        return {"list": self.list.as_json(), "signature": to_base64url(self.signature)} | cosignature

    def verify(self, account_key: bytes) -> None:
        """Well-formed, of the account that is known, and signed; a cosignature need not be there, but must hold."""
        self.list.check()
        if self.list.account_key != account_key:
            raise Refused("the list is of another account key")
        signatures.verify(account_key, LABEL, self.list.fields(), self.signature)
        if self.cosignature is not None:
            signatures.verify(self.cosignature[0], LABEL, self.list.fields(), self.cosignature[1])

    def follows(self, known: DeviceList) -> bool:
        """Whether it may take the place of a list that is known."""
        same = self.list.version == known.version and self.list.hash() == known.hash()
        return same or self.list.version > known.version
