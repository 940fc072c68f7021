"""When workers could serve, from Corral's own log and from what was done to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from scripts.figures.chaos.verdicts import Span

_READY: Final = "ready"


def served(log: Iterable[dict[str, Any]], stopped: Sequence[tuple[str, Span]], until: float) -> list[Span]:
    """Return the spans in which a worker was ready and went on, of all workers in any order."""
    spans: list[Span] = []
    since: dict[str, float] = {}
    for entry in log:
        worker = str(entry.get("worker", ""))
        if "was" not in entry or not worker or worker.startswith("@"):
            continue
        at = datetime.fromisoformat(entry["timestamp"]).timestamp()
        if entry["event"] == _READY:
            since[worker] = at
        elif worker in since:
            spans += without(Span(since.pop(worker), at), _of(worker, stopped))
    for worker, at in since.items():
        spans += without(Span(at, until), _of(worker, stopped))
    return spans


def _of(worker: str, stopped: Sequence[tuple[str, Span]]) -> list[Span]:
    return [span for name, span in stopped if name == worker]


def without(whole: Span, holes: Iterable[Span]) -> list[Span]:
    """Return what is left of a span."""
    left = [whole]
    for hole in holes:
        left = [
            part
            for span in left
            for part in (
                Span(span.begin, min(span.end, hole.begin)),
                Span(max(span.begin, hole.end), span.end),
            )
            if part.begin < part.end
        ]
    return left
