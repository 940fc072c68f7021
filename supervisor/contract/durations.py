"""Durations as Go and Ollama write them: `5m`, `1h30m`, `-1`, `300`.

Source: Go's time.ParseDuration and Ollama's api.Duration (a number is seconds, negative is for ever,
a string needs a unit). Texts of errors are those of the real server.
"""

from __future__ import annotations

import re
from math import isfinite, nan
from typing import Final

_UNIT_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_LONGEST_S: Final = 2**63 / 1e9
"""Go counts nanoseconds in 64 bits."""
_PIECE: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


class InvalidDurationError(ValueError):
    """A text that Go's time.ParseDuration refuses, with its reason."""


def parse_go_duration(text: str) -> float:
    """Return the seconds of a Go duration such as `1h30m` or `-10s`.

    Raises:
        InvalidDurationError: the text has no unit, an unknown unit, is beyond 292 years, or is no duration.
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0.0
    total, position = 0.0, 0
    while position < len(body):
        piece = _PIECE.match(body, position)
        if piece is None:
            raise InvalidDurationError(f'time: invalid duration "{text}"')
        total += float(piece[1]) * _unit(piece[2], text)
        position = piece.end()
    if not body or total >= _LONGEST_S:
        raise InvalidDurationError(f'time: invalid duration "{text}"')
    return -total if text.startswith("-") else total


def parse_keep_alive(value: object) -> float | None:
    """Return the seconds that an idle model stays loaded, or None for ever.

    Takes what a request or a file may say: a number of seconds or a Go duration; negative is for ever.

    Raises:
        InvalidDurationError: another type, a number that is not finite, or a text without a valid unit.
    """
    seconds = _seconds(value)
    if not isfinite(seconds):
        raise InvalidDurationError(f"invalid duration {value!r}: give seconds or a text such as 5m")
    return None if seconds < 0 else seconds


def _seconds(value: object) -> float:
    """Return the seconds as they stand, NaN for what is neither a number nor a text."""
    if isinstance(value, str):
        return parse_go_duration(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return nan
    try:
        return float(value)
    except OverflowError:
        return nan


def _unit(unit: str, text: str) -> float:
    if not unit:
        raise InvalidDurationError(f'time: missing unit in duration "{text}"')
    if unit not in _UNIT_S:
        raise InvalidDurationError(f'time: unknown unit "{unit}" in duration "{text}"')
    return _UNIT_S[unit]
