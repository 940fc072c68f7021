"""What is wrong with a setup, as data: which key and what to write instead.

Decides how a key and a mistake read. Must not know who finds mistakes or who prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Key: TypeAlias = tuple[str | int, ...]
"""The way to a value of the file: names of keys and positions in lists, `("workers", 1, "gpus", 0)`."""


def key_text(key: Key) -> str:
    """Return a key for people: `workers[1].gpus[0]`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in key)
    return "".join(steps).removeprefix(".")


class Blame(Protocol):
    """Whatever names a key and says what is wrong with it."""

    @property
    def key(self) -> Key:
        """The way to it."""

    @property
    def message(self) -> str:
        """What is wrong and what to write instead, in one sentence."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, without the line that says it."""

    key: Key
    message: str
    """What is wrong and what to write instead, in one sentence."""

    def __str__(self) -> str:
        return f"{key_text(self.key)}: {self.message}" if self.key else self.message


class MistakesError(Exception):
    """A setup that cannot be; holds every mistake that was found, not only the first."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)
