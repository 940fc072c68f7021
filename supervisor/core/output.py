"""What a worker writes, as records of the log.

Decides where a line ends, how severe it is and which fields it carries. Does not know where the bytes
come from nor where the records go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]

MAX_LINE_BYTES: Final = 16 * 1024
"""A longer line is logged in pieces, so that a worker cannot fill the supervisor's memory."""

_LEVELS: Final[dict[str, Level]] = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "critical": "error",
    "exception": "error",
    "fatal": "error",
    "panic": "error",
}
_LOGFMT_LEVEL: Final = re.compile(r"\blevel=(\w+)")
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_OURS: Final = ("event", "level", "timestamp", "worker")
"""Fields that the record or the supervisor says itself."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a worker."""

    level: Level
    event: str
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class LineSplitter:
    """Cuts a stream of bytes into lines without their ends; empty lines are left out."""

    limit_bytes: int = MAX_LINE_BYTES
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes, and the pieces of one that is too long."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        while len(self._rest) > self.limit_bytes:
            lines.append(self._rest[: self.limit_bytes])
            self._rest = self._rest[self.limit_bytes :]
        return [text for line in lines for text in self._pieces(line)]

    def end(self) -> list[str]:
        """Return what is left when the stream ends without a newline."""
        rest, self._rest = self._rest, b""
        return list(self._pieces(rest))

    def _pieces(self, line: bytes) -> list[str]:
        size = self.limit_bytes
        pieces = [line[start : start + size] for start in range(0, len(line), size)]
        texts = [piece.decode("utf-8", "replace").rstrip("\r") for piece in pieces]
        return [text for text in texts if text.strip()]


def read_line(line: str) -> Record:
    """Return the record of a line: one of our own workers' JSON objects, logfmt, or any text."""
    own = _read_json(line) if line.startswith("{") else None
    if own is not None:
        return own
    text = _ANSI.sub("", line)
    found = _LOGFMT_LEVEL.search(text)
    return Record(_LEVELS.get(found[1].lower(), "info") if found else "info", text)


def _read_json(line: str) -> Record | None:
    """Return the record of a JSON object with an `event`, as structlog writes it."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str) or "self" in fields:
        return None  # a field named self cannot be handed to a logger's method
    level = _LEVELS.get(str(fields.get("level", "info")).lower(), "info")
    return Record(level, fields["event"], {key: fields[key] for key in fields if key not in _OURS})
