"""A bar on standard error while something lasts, if that is a terminal; nothing at all otherwise."""

from __future__ import annotations

import sys
from typing import Final

from supervisor.contract.shell import terminal


class ProgressBar:
    """One line, drawn again and again."""

    WIDTH: Final = 30

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def draw(self, done: int, total: int, what: str) -> None:
        """Show how much of the whole is done."""
        full = self.WIDTH * done // total if total else 0
        self._put(f"[{'#' * full}{'.' * (self.WIDTH - full)}] {what}")

    def say(self, what: str) -> None:
        """Show what goes on where nothing can be counted."""
        self._put(what)

    def end(self) -> None:
        """Leave a clean line."""
        self._put("")

    def _put(self, text: str) -> None:
        if self._shown:
            room = terminal.width(sys.stderr)  # asked each time: windows change
            print(f"\r\033[K{_cut(text, room)}", end="", file=sys.stderr, flush=True)


def _cut(text: str, room: int | None) -> str:
    """Return what fits into one line; a carriage return would not lead back over two."""
    if room is None or len(text) < room:
        return text
    return text[: room - 2] + "…"
