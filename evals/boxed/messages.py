"""Plain data between two sandboxes: one JSON line per message, types kept, nothing executable.

A value that has no plain form becomes `Opaque`: true, and equal to nothing but itself. What a
program answers can therefore never bring code, or an `__eq__` of its own, to those who compare it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any


class Broken(BaseException):
    """The other side ended, said too much, or something that is no message.

    Not an Exception: tests that expect errors must not catch it.
    """


class Opaque:
    """Stands for a value that cannot be sent."""


def to_plain(value: Any) -> Any:
    """A value as JSON data: lists as lists, every other compound as `{type: content}`.

    Subclasses are sent as what they extend, NumPy scalars as numbers, iterators as their items.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value  # json writes subclasses as what they extend
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    return _compound(value)


def _compound(value: Any) -> dict[str, Any]:
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [to_plain(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes" if isinstance(value, bytes) else "bytearray": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Iterator):
        return {"iterator": [to_plain(item) for item in value]}
    return {"opaque": None}


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda items: tuple(map(from_plain, items)),
    "set": lambda items: set(map(from_plain, items)),
    "frozenset": lambda items: frozenset(map(from_plain, items)),
    "dict": lambda pairs: {from_plain(key): from_plain(item) for key, item in pairs},
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*parts),
    "iterator": lambda items: iter([from_plain(item) for item in items]),
    "opaque": lambda _: Opaque(),
}


def from_plain(data: Any) -> Any:
    """The value that :func:`to_plain` wrote; only built-in types and Opaque can come of it."""
    if isinstance(data, list):
        return [from_plain(item) for item in data]
    if isinstance(data, dict):
        (entry,) = data.items()
        return _MAKERS[entry[0]](entry[1])
    return data


class Channel:
    """Messages over a pair of file descriptors.

    Parameters
    ----------
    reads, writes
        The descriptors; they belong to the channel from now on.
    max_bytes
        What the other side may say in all; None: anything.
    """

    def __init__(self, reads: int, writes: int, max_bytes: int | None = None) -> None:
        self._reader = os.fdopen(reads, "rb")
        self._writer = os.fdopen(writes, "wb")
        self._left = max_bytes

    @classmethod
    def instead_of_standard_streams(cls, max_bytes: int | None = None) -> "Channel":
        """A channel over standard input and output, which are then empty for everybody else."""
        channel = cls(os.dup(0), os.dup(1), max_bytes)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
        return channel

    def send(self, message: Any) -> None:
        """Send JSON data; Broken when nobody listens."""
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            self._writer.flush()
        except BrokenPipeError:
            raise Broken("the program ended") from None

    def receive(self) -> Any:
        """The next message; Broken when there is none or it is not one."""
        line = self._reader.readline(-1 if self._left is None else self._left + 1)
        if self._left is not None:
            self._left -= len(line)
            if self._left < 0:
                raise Broken("the program's answers are too long")
        if not line.endswith(b"\n"):
            raise Broken("the program ended")
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise Broken("the program answered with something that is no message") from None
