"""What Corral's own log shows of a fleet: answers, loads, limits, slots and sizes. Pure.

Decides which lines say so; every other line is passed over. Must not know what is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

_PROMPT_SHARE: Final = 1 / 48
"""Of a written token's time, what a token of a prompt takes where the log does not tell: as on a GPU."""


class Answer(NamedTuple):
    """One request in its slot; times in seconds of the wall clock."""

    worker: str
    model: str
    granted_at: float
    first_at: float
    ended_at: float
    prompt: int
    output: int
    whole: bool = False
    """It came at once, so that `first_at` is estimated."""


class LoadSpan(NamedTuple):
    """One load."""

    worker: str
    model: str
    began_at: float
    ended_at: float


class Limits(NamedTuple):
    """What a worker may hold."""

    max_loaded_models: int
    memory_bytes: int


@dataclass(slots=True)
class Shown:
    """What a log shows."""

    answers: list[Answer] = field(default_factory=list)
    loads: list[LoadSpan] = field(default_factory=list)
    room_s: list[float] = field(default_factory=list)
    limits: dict[str, Limits] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def read_shown(lines: Iterable[str]) -> Shown:
    """Return what the lines of a gateway show; others are passed over."""
    shown = Shown()
    for line in lines:
        brace = line.find("{")
        with suppress(KeyError, TypeError, ValueError):  # no JSON, or a line of another program
            entry = json.loads(line[brace:]) if brace >= 0 else None
            if isinstance(entry, dict):
                _take(shown, entry)
    return shown


def _take(shown: Shown, entry: Mapping[str, Any]) -> None:
    worker = str(entry.get("worker", "")).partition("#")[0]
    match entry:
        case {"event": "request", "outcome": "done", "status": 200, "first_byte_s": float()}:
            shown.answers.extend(_answer(entry))
        case {"event": "worker serves", "max_loaded_models": int(most), "memory_bytes": int(memory)}:
            shown.limits[worker] = Limits(most, memory)
        case {"event": "load", "unloaded": [_, *_], "room_s": float(room_s)}:
            shown.room_s.append(room_s)
        case {"event": "loaded", "load": int(), "model": str(model), "seconds": float(seconds)}:
            ended_at = datetime.fromisoformat(entry["timestamp"]).timestamp()
            slots, size_bytes = int(entry.get("slots") or 1), int(entry.get("size_bytes") or 0)
            shown.loads.append(LoadSpan(worker, model, ended_at - seconds, ended_at))
            shown.slots[model], shown.sizes[model] = slots, size_bytes


def _answer(entry: Mapping[str, Any]) -> Iterator[Answer]:
    output, prompt = entry.get("tokens"), entry.get("prompt_tokens")
    attempts = entry.get("attempts") or []
    if not output or not prompt or len(attempts) != 1:
        return
    began = float(entry["started_unix"])
    granted_at = began + attempts[0]["asked_s"] + attempts[0]["waited_s"]
    first_at, ended_at = began + entry["first_byte_s"], began + entry["total_s"]
    whole = entry.get("stream") is False
    if whole:  # its first byte is its last
        reading = prompt * _PROMPT_SHARE
        first_at = granted_at + (ended_at - granted_at) * reading / (reading + output)
    yield Answer(
        worker=str(entry["worker"]),
        model=str(entry["model"]),
        granted_at=granted_at,
        first_at=first_at,
        ended_at=ended_at,
        prompt=int(prompt),
        output=int(output),
        whole=whole,
    )
