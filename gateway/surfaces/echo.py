"""Has an answer name the model as its client did, where the worker was told another name.

A client that asked for an alias compares the answer's `model` with what it asked for, or shows it. Decides
where that name stands in the answers of all surfaces: in the frame's object itself, or in the `message` or
`response` that an event carries, never deeper, where it would be the model's own words or a tool's
argument. Every other byte stays as it came: nothing is parsed into values and written anew. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Final

_KEY: Final = b'"model"'
"""Cannot stand inside a text, where its quotes are escaped."""
_CARRIERS: Final = frozenset({b'"message"', b'"response"'})
_TOKEN: Final = re.compile(rb'[^"{}\[\]]*+(?:([{\[])|([}\]])|("(?:[^"\\]++|\\.)*+")(\s*+:)?)', re.DOTALL)
"""The next bracket, or the next text and whether it is a key; whatever stands before it is skipped."""
_TEXT: Final = re.compile(rb'\s*+("(?:[^"\\]++|\\.)*+")', re.DOTALL)
_OBJECT: Final = re.compile(rb"\s*+\{")
_BEFORE_JSON: Final = frozenset({b"", b"data:"})
_CARRIED: Final = 2
"""How deep the fields of a carried object are."""


class Echo:
    """Puts one name into an answer."""

    def __init__(self, asked: str) -> None:
        """`asked` is what the client wrote."""
        self._name = json.dumps(asked).encode()

    def frames(self, frames: bytes) -> bytes:
        """Return whole frames, lines of JSON or server-sent events, with that name."""
        if _KEY not in frames:
            return frames
        return b"\n".join([self._line(line) for line in frames.split(b"\n")])

    def body(self, body: bytes) -> bytes:
        """Return an answer that is one JSON object with that name; anything else stays as it is."""
        span = name_span(body, 0) if _KEY in body else None
        return body if span is None else body[: span[0]] + self._name + body[span[1] :]

    def _line(self, line: bytes) -> bytes:
        if _KEY not in line:
            return line
        start = line.find(b"{")
        span = name_span(line, start) if line[: max(0, start)].strip() in _BEFORE_JSON else None
        return line if span is None else line[: span[0]] + self._name + line[span[1] :]


def name_span(text: bytes, start: int) -> tuple[int, int] | None:
    """Return where the model's name stands, its quotes included, in the JSON object from `start` on.

    None when it names none, or not as a text, or is broken.
    """
    depth, carried, at = 0, False, start
    while (token := _TOKEN.match(text, at)) is not None:
        at = token.end()
        opened, closed, word, is_key = token.groups()
        if opened:
            depth += 1
            at = _behind_numbers(text, at) if opened == b"[" else at
        elif closed:
            depth -= 1
            carried = carried and depth >= _CARRIED
            if depth <= 0:
                return None
        elif is_key and word == _KEY and (depth == 1 or (carried and depth == _CARRIED)):
            named = _TEXT.match(text, at)
            return named.span(1) if named is not None else None
        elif is_key and depth == 1:
            carried = word in _CARRIERS and _OBJECT.match(text, at) is not None
    return None


def _behind_numbers(text: bytes, at: int) -> int:
    """Return where a list of plain values ends, else `at`: vectors are long, and this is much faster."""
    end = text.find(b"]", at)
    if end < 0 or any(text.find(mark, at, end) >= 0 for mark in (b'"', b"{", b"[", b"}")):
        return at
    return end
