"""Two small collections that keep decisions cheap in large fleets: who comes first, and whose turn it is.

Decide nothing about models or workers; every operation costs about the same however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Ranking:
    """Numbered things in the order of their keys, smallest first."""

    _order: list[tuple[float, int]] = field(default_factory=list)
    _keys: dict[int, float] = field(default_factory=dict)

    def place(self, number: int, key: float | None) -> None:
        """Give the thing a key; None takes it out."""
        before = self._keys.get(number)
        if before == key:
            return
        if before is not None:
            del self._order[bisect_left(self._order, (before, number))]
            del self._keys[number]
        if key is not None:
            insort(self._order, (key, number))
            self._keys[number] = key

    def first(self, most: int) -> list[int]:
        """Return the numbers with the smallest keys."""
        return [number for _, number in self._order[:most]]

    @property
    def least(self) -> float:
        """The smallest key; infinity when nothing is in."""
        return self._order[0][0] if self._order else inf

    def rank(self, number: int) -> tuple[float, int]:
        """Return what a thing that is in is ordered by."""
        return self._keys[number], number

    def __contains__(self, number: int) -> bool:
        return number in self._keys

    def __len__(self) -> int:
        return len(self._keys)


class Rotation(Generic[Item]):
    """A set of which a few are looked at each time, all of them in turn."""

    __slots__ = ("_at", "_cursor", "_items")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._at: dict[Item, int] = {}
        self._cursor = 0

    def put(self, item: Item, *, member: bool) -> None:
        """Have the item in or not."""
        at = self._at.get(item)
        if member and at is None:
            self._at[item] = len(self._items)
            self._items.append(item)
        elif not member and at is not None:
            del self._at[item]
            last = self._items.pop()
            if last is not item:
                self._items[at], self._at[last] = last, at

    def some(self, most: int) -> list[Item]:
        """Return the next few; all of them when there are no more than that."""
        size = len(self._items)
        if size <= most:
            return list(self._items)
        start = self._cursor % size
        self._cursor = start + most
        taken = self._items[start : start + most]
        return taken if len(taken) == most else taken + self._items[: most - len(taken)]

    def __len__(self) -> int:
        return len(self._items)
