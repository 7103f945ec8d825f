"""Amounts that are known exactly, at most, or about, added up without losing which."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Known(IntEnum):
    """How well an amount is known; a sum is known as its worst part is."""

    exactly = 0
    at_most = 1
    about = 2


@dataclass(frozen=True)
class Amount:
    """A number of something that would be used, and how well it is known."""

    value: float
    known: Known = Known.exactly

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.value + other.value, max(self.known, other.known))

    def times(self, factor: float) -> "Amount":
        """So many times the amount."""
        return Amount(self.value * factor, self.known)


def total(amounts: Iterable[Amount | None]) -> Amount | None:
    """Sum of the amounts that are known at all; None when none is."""
    found = [amount for amount in amounts if amount is not None]
    return sum(found[1:], start=found[0]) if found else None
