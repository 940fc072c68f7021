"""Corral's own log as a trace: what the lines of finished requests say, and why others are left aside. Pure.

A line counts when it is the JSON of an event `request` that was answered and says when it came
(`started_unix`), of which model, and how many tokens it read (`prompt_tokens`) and wrote (`tokens`).
Everything else is counted under its reason, so that nobody takes half a day for a whole one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from gateway.simulate.workload import Row, Tokens

_EVENT: Final = "request"
_ANSWERED: Final = "done"
_OK: Final = 200
_EMBEDDINGS: Final = "embed"
"""In the routes of requests that write no tokens."""


@dataclass(slots=True)
class LogReading:
    """What was found in a log."""

    rows: list[Row] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    """Times to first byte as they were measured, of the rows that tell: not of answers that came whole."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Lines that were left aside, by the reason."""


class _SkippedError(Exception):
    """Holds the reason."""


def read_log(lines: Iterable[str]) -> LogReading:
    """Return the requests of a log, in the order of their lines."""
    reading = LogReading()
    for line in lines:
        if not line.strip():
            continue
        try:
            entry = _request(line)
            reading.rows.append(_row(entry))
        except _SkippedError as reason:
            reading.skipped[str(reason)] += 1
            continue
        first_byte_s = entry.get("first_byte_s")
        if _is_number(first_byte_s) and not _came_whole(entry):
            reading.ttft_s.append(first_byte_s)
    return reading


def _request(line: str) -> Mapping[str, Any]:
    brace = line.find("{")  # a supervisor or journal may have put a prefix before it
    try:
        entry = json.loads(line[brace:]) if brace >= 0 else None
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise _SkippedError("no JSON")
    if entry.get("event") != _EVENT:
        raise _SkippedError("another event")
    return entry


def _row(entry: Mapping[str, Any]) -> Row:
    started, model = entry.get("started_unix"), entry.get("model")
    status = entry.get("status")
    if entry.get("outcome") != _ANSWERED or status != _OK:
        raise _SkippedError(f"not answered ({entry.get('outcome')}, status {status})")
    if not _is_number(started):
        raise _SkippedError("does not say when it came (started_unix)")
    if not isinstance(model, str) or not model:
        raise _SkippedError("does not say which model")
    return Row(
        at=started,
        model=model,
        tenant=str(entry.get("tenant") or ""),
        tokens=Tokens(_prompt_tokens(entry), _output_tokens(entry)),
        session=str(entry.get("session") or ""),
        background=bool(entry.get("background")),
    )


def _came_whole(entry: Mapping[str, Any]) -> bool:
    """Whether its first byte came with its last token."""
    return entry.get("stream") is False and _is_number(entry.get("tokens"))


def _prompt_tokens(entry: Mapping[str, Any]) -> int:
    tokens = entry.get("prompt_tokens")
    if not _is_number(tokens):
        raise _SkippedError("does not say how long its prompt was (prompt_tokens)")
    return max(1, int(tokens))


def _output_tokens(entry: Mapping[str, Any]) -> int:
    tokens = entry.get("tokens")
    if _is_number(tokens):
        return max(1, int(tokens))
    if _EMBEDDINGS in str(entry.get("route", "")):
        return 1
    raise _SkippedError("does not say how long its answer was (tokens)")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
