"""What happens to log lines that cannot be written: they are dropped and counted, and nobody waits.

A full disk, a reader that has gone or one that stopped to read must not stop what is logged about. Decides
that, and how a line looks that was cut or followed dropped ones. How bytes leave is the programs' own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO, cast


@dataclass(eq=False)  # structlog keeps its locks by weak references to files
class LogStream:
    """A text file, as far as structlog wants one, to which writing can neither fail nor wait."""

    take: Callable[[bytes], int]
    """Takes as many of the bytes as there is room for at once, and says how many; OSError is none."""
    style: Literal["console", "json"]
    dropped: int = 0
    """Lines since the last one that was written."""
    _cut: bool = False
    """The beginning of a line stands there and its end does not."""

    def write(self, text: str) -> int:
        """Write a line with its end, or drop it."""
        line = self._caught_up() + text.encode(errors="backslashreplace")
        try:
            taken = self.take(line)
        except OSError:
            taken = 0
        if taken < len(line):
            self.dropped += 1
            self._cut = taken > 0 or self._cut
        else:
            self.dropped, self._cut = 0, False
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""

    def as_file(self) -> TextIO:
        """Return itself as structlog's types want it."""
        return cast("TextIO", self)

    def _caught_up(self) -> bytes:
        if not self.dropped:
            return b""
        told = f"{self.dropped} log lines could not be written"
        line = f'{{"event": "{told}", "level": "warning"}}' if self.style == "json" else told
        return f"{chr(10) if self._cut else ''}{line}\n".encode()
