"""What is loaded, as /api/ps lists it: a row for each replica, from what the scheduler knows.

Decides the shape, the order and what `expires_at` promises. A model that two workers hold has two rows of one
name: each takes memory of its own and leaves at a time of its own, `ollama ps` prints a table of rows,
and clients that key rows by name (Open WebUI does, for the time of unloading) get one replica's true row
instead of a sum that is true of none. Of those the one that leaves last comes first, as in Ollama's list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Any, Final

from gateway.scheduling.residency import Replica
from supervisor.contract.wire import SLOTS_FIELD

_FOR_EVER: Final = "2318-01-01T00:00:00Z"
"""Ollama tells a time as far away for a model that stays."""
_LONGEST_S: Final = 292 * 365.25 * 86400
"""Go's longest duration, and so Ollama's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A replica and where it is."""

    replica: Replica
    name: str
    digest: str
    details: Mapping[str, Any]
    worker: str
    gpus: Sequence[tuple[str, str]]
    """UUID and label of each GPU that its worker has; none on a CPU, or where that is not known."""
    pinned: bool
    """The operator wants it kept."""


def ps(held: Sequence[Held], now: float, wall: datetime) -> dict[str, Any]:
    """Return the answer of /api/ps; `now` is on the scheduler's clock, `wall` the same moment for people."""
    latest_first = sorted(held, key=lambda one: (-leaves_at(one, now), one.name, one.worker))
    return {"models": [row(one, now, wall) for one in latest_first]}


def row(held: Held, now: float, wall: datetime) -> dict[str, Any]:
    """Return a row as Ollama gives it, and Corral's fields behind."""
    replica, resident = held.replica, held.replica.resident
    return {
        "name": held.name,
        "model": held.name,
        "size": replica.size_bytes,
        "digest": held.digest,
        "details": dict(held.details),
        "expires_at": _timestamp(leaves_at(held, now), now, wall),
        "size_vram": resident.size_vram_bytes if resident is not None else 0,
        "context_length": resident.context_length if resident is not None else 0,
        "worker": held.worker,
        "gpus": [{"id": uuid, "label": label} for uuid, label in held.gpus],
        SLOTS_FIELD: replica.slots,
        "busy": len(replica.busy),
    }


def leaves_at(held: Held, now: float) -> float:
    """Return when the gateway will unload a replica; infinity is never, unless its room is needed.

    For a busy one, when it will if its requests end now; one that drains then leaves at once.
    """
    replica = held.replica
    if replica.draining:
        return now
    if held.pinned:
        return inf
    return replica.would_stay_until(now) if replica.busy else replica.stays_until


def _timestamp(leaves: float, now: float, wall: datetime) -> str:
    """A client may wish for more seconds than there are years to write."""
    if leaves - now > _LONGEST_S:
        return _FOR_EVER
    return (wall + timedelta(seconds=leaves - now)).isoformat().replace("+00:00", "Z")
