"""What is wrong with a setup, as data: which key and what to write instead.

Decides how a key and a mistake read. Must not know who finds mistakes or who prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Key: TypeAlias = tuple[str | int, ...]
"""The way to a value of the file: names of keys and positions in lists, `("workers", 1, "gpus", 0)`."""


def key_text(key: Key) -> str:
    """Return a key for people: `workers[1].gpus[0]`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in key)
    return "".join(steps).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, before anybody knows which line it stands in."""

    key: Key
    message: str
    """What is wrong and what to write instead, in one sentence."""

    def __str__(self) -> str:
        return f"{key_text(self.key)}: {self.message}" if self.key else self.message


@dataclass(frozen=True, slots=True)
class ConfigMistake:
    """One thing that is wrong, with the place to mend it."""

    file: str
    line: int | None
    """Counted from 1; None when no line says it (a default, or no file at all)."""
    key: str
    """Empty when it is about the whole file."""
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class MistakesError(Exception):
    """A setup that cannot be; holds every mistake that was found, not only the first."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class ConfigError(Exception):
    """The same with files and lines: what a command prints before it exits with 2."""

    def __init__(self, mistakes: Sequence[ConfigMistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)
