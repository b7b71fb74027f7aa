"""Fields: the encoding of everything that is signed or hashed (docs/protocol.md, "Conventions")."""

ABSENT = b"\xff\xff\xff\xff"


def number(value: int) -> bytes:
    """A number in Fields: 8 bytes, big-endian."""
    return value.to_bytes(8, "big")


def field(value: bytes | str | int | None) -> bytes:
    """One field: its length (4 bytes) and its bytes. Text is UTF-8, an int a *number*, None is *absent*."""
    if value is None:
        return ABSENT
    if isinstance(value, int):
        value = number(value)
    elif isinstance(value, str):
        value = value.encode()
    return len(value).to_bytes(4, "big") + value


def fields(*values: bytes | str | int | None) -> bytes:
    """Each field in turn."""
    return b"".join(field(value) for value in values)
