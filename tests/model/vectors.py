"""Reading vector files: JSON in which all bytes are lower-case hexadecimal and all numbers JSON numbers.

A case knows what was asked of it. What a file says and nobody asked for was not checked, and is a failure too.
"""

import json
from collections.abc import Callable
from pathlib import Path

from errors import Refused
from text import from_hex, whole_number

NOTE = "note"


class Mismatch(Exception):
    """A vector that says something else than the model."""


class Case:
    """An object in a vector file."""

    def __init__(self, data: object, where: str):
        if not isinstance(data, dict):
            raise Mismatch(f"{where} is not an object")
        self.data, self.where, self.unread, self.parts = data, where, set(data) - {NOTE}, []

    def value(self, key: str) -> object:
        """Whatever stands under a key, which has to be there."""
        if key not in self.data:
            raise Mismatch(f"{key} is missing")
        self.unread.discard(key)
        return self.data[key]

    def has(self, key: str) -> bool:
        """Whether there is something under a key, which has to be there; null is nothing."""
        return self.value(key) is not None

    def hex(self, key: str, size: int | None = None) -> bytes:
        """Bytes, of one size where one is given."""
        return hex_bytes(self.value(key), size)

    def hex_list(self, key: str, size: int) -> list[bytes]:
        """A list of bytes, all of one size."""
        return [hex_bytes(item, size) for item in self.items(key)]

    def number(self, key: str) -> int:
        """A number."""
        return whole_number(self.value(key))

    def text(self, key: str) -> str:
        """Text."""
        return self.typed(key, str)

    def flag(self, key: str) -> bool:
        """True or false."""
        return self.typed(key, bool)

    def items(self, key: str) -> list:
        """A list."""
        return self.typed(key, list)

    def typed(self, key: str, kind: type):
        """A value of one JSON type."""
        value = self.value(key)
        if not isinstance(value, kind):
            raise Mismatch(f"{key} is not a {kind.__name__}")
        return value

    def sub(self, key: str) -> "Case":
        """An object inside this one."""
        part = Case(self.value(key), f"{self.where}.{key}")
        self.parts.append(part)
        return part

    def subs(self, key: str) -> "list[Case]":
        """The cases of a list, which has at least one."""
        items = self.items(key)
        if not items:
            raise Mismatch(f"{key} is empty")
        return [Case(item, f"{self.where} {key}[{index}]") for index, item in enumerate(items)]

    def same(self, key: str, computed: bytes | str | int) -> None:
        """What the file says under a key has to be what the model computed."""
        said = self.value(key)
        ours = computed.hex() if isinstance(computed, bytes) else computed
        if type(said) is not type(ours) or said != ours:
            raise Mismatch(f"{key}: the file has {shorten(said)}, the model {shorten(ours)}")

    def finish(self) -> None:
        """Fails if something was not read."""
        for part in self.parts:
            part.finish()
        if self.unread:
            raise Mismatch(f"never checked: {', '.join(sorted(self.unread))}")


def hex_bytes(text: object, size: int | None) -> bytes:
    """Bytes from lower-case hexadecimal."""
    if size is None and isinstance(text, str):
        size = len(text) // 2
    return from_hex(text, size or 0)


def shorten(value: object) -> str:
    """A value for a message."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:70]}… ({len(text)} characters)"


def refuses(action: Callable, *arguments) -> bool:
    """Whether the model refuses something."""
    try:
        action(*arguments)
    except Refused:
        return True
    return False


def must_refuse(action: Callable, *arguments) -> None:
    """The model has to refuse, as a client has to."""
    if not refuses(action, *arguments):
        raise Mismatch("the model accepts what should be refused")


class Tally:
    """Counts the cases that passed, and keeps what is to be said of those that failed."""

    def __init__(self):
        self.passed, self.failures = 0, []

    def run(self, where: str, check: Callable, case: Case) -> bool:
        """One case. Any exception is a failure of this case, and no end of the run."""
        try:
            check(case)
            case.finish()
        except Exception as error:
            self.failures.append(f"{where}: {type(error).__name__}: {error}")
            return False
        self.passed += 1
        return True

    def each(self, cases: list[Case], check: Callable) -> None:
        """Cases that do not hang on each other."""
        for case in cases:
            self.run(case.where, check, case)

    def file(self, path: Path, check: Callable) -> "Tally":
        """All of a file, `check(file, tally)`; counted on its own and added to this tally."""
        own = Tally()
        try:
            content = Case(json.loads(path.read_text(encoding="utf-8")), path.name)
            check(content, own)
            content.finish()
        except Exception as error:
            own.failures.append(f"{path.name}: {type(error).__name__}: {error}")
        self.passed += own.passed
        self.failures += own.failures
        return own
