"""Stop words in a text that comes in parts. Pure.

llama.cpp looks for them too, but where it applies the chat template itself its stream tells neither which
word ended the answer nor what it held back when the limit came first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Stops:
    """Holds back what may be the beginning of a stop word."""

    words: Sequence[str]
    _held: str = ""

    def add(self, text: str) -> tuple[str, str | None]:
        """Return the text that is certain by now, and the stop word that ends it, if one does."""
        self._held += text
        found = [(at, word) for word in self.words if (at := self._held.find(word)) >= 0]
        if found:
            at, word = min(found)
            return self._held[:at], word
        keep = held_back(self._held, self.words)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain, None

    def end(self) -> str:
        """Return what was held back, now that nothing follows."""
        rest, self._held = self._held, ""
        return rest


def held_back(text: str, words: Sequence[str]) -> int:
    """Return how many letters at the end of a text may be the beginning of a stop word."""
    return max((overlap(text, word) for word in words), default=0)


def overlap(text: str, mark: str) -> int:
    """Return how many letters at the end of `text` may be the beginning of `mark`."""
    return next((n for n in range(min(len(text), len(mark)), 0, -1) if text.endswith(mark[:n])), 0)
