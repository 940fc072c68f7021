"""Reads what a child writes, as it comes, and hands it on line by line.

Decides when to read: when there is something, and once more after the child has ended, so that its last
words come before the news of its end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from supervisor.core.output import LineSplitter

_CHUNK_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class OutputPipe:
    """The reading end of a child's standard output and error."""

    fd: int
    on_line: Callable[[str], None]
    _lines: LineSplitter = field(default_factory=LineSplitter)

    @classmethod
    def open(cls, fd: int, on_line: Callable[[str], None]) -> Self:
        """Own the descriptor and read from it whenever something comes."""
        os.set_blocking(fd, False)
        pipe = cls(fd, on_line)
        asyncio.get_running_loop().add_reader(fd, pipe.read)
        return pipe

    def read(self) -> bool:
        """Read once; return whether there may be more to read now."""
        if self.fd < 0:
            return False
        try:
            chunk = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        for line in self._lines.feed(chunk) if chunk else self._lines.end():
            self.on_line(line)
        if not chunk:
            self._close()
        return bool(chunk)

    def finish(self) -> None:
        """Read what is left and close, though a process that escaped may still hold the other end."""
        while self.read():
            pass
        if self.fd >= 0:
            for line in self._lines.end():
                self.on_line(line)
            self._close()

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)
        self.fd = -1
