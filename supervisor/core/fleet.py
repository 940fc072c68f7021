"""The fleet as the gateway is told of it: each change makes a new snapshot with a higher generation.

Decides what a snapshot says after a move, a spawn or a new configuration. Does not know who reads it, nor
what time it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus
from supervisor.core.spec import WorkerSpec
from supervisor.core.worker import ALIVE, Announce


@dataclass(frozen=True, slots=True)
class Note:
    """What one who watches has to tell of a worker."""

    text: str = ""
    """A sentence for people; empty when all is well."""
    withheld_bytes: int = 0
    """Memory that its models cannot have for now."""
    stuck_loads: int = 0
    """How many of its loads were found to come to no end."""


def first_snapshot(boot_id: str, specs: Iterable[WorkerSpec], *, since_unix: float) -> FleetSnapshot:
    """Return the fleet before anything was started."""
    workers = tuple(not_started(spec, since_unix=since_unix) for spec in specs)
    return FleetSnapshot(boot_id=boot_id, generation=1, settings=1, workers=workers)


def moved(status: WorkerStatus, announce: Announce, *, since_unix: float) -> WorkerStatus:
    """Return the status after a move; where no process exists it has neither pid nor address."""
    state = announce.new
    update: dict[str, object] = {"state": state, "reason": announce.reason, "since_unix": since_unix}
    if state not in ALIVE or state is WorkerState.STARTING:
        update |= {"pid": None, "base_url": ""}
    return status.model_copy(update=update)


def spawned(status: WorkerStatus, *, pid: int, port: int) -> WorkerStatus:
    """Return the status with its next incarnation."""
    base_url = f"http://127.0.0.1:{port}"
    update = {"pid": pid, "base_url": base_url, "incarnation": status.incarnation + 1}
    return status.model_copy(update=update)


def noted(status: WorkerStatus, notes: Iterable[Note]) -> WorkerStatus:
    """Return the status with what is told of the worker now, by whomever; it may be the same one."""
    told = tuple(notes)
    withheld = min(max((note.withheld_bytes for note in told), default=0), given_bytes(status))
    update: dict[str, object] = {
        "condition": "; ".join(note.text for note in told if note.text),
        "withheld_bytes": withheld,
        "memory_bytes": given_bytes(status) - withheld,
        "stuck_loads": sum(note.stuck_loads for note in told),
    }
    return status.model_copy(update=update)


def given_bytes(status: WorkerStatus) -> int:
    """Return the memory that the worker was given, before anything was withheld."""
    return status.memory_bytes + status.withheld_bytes


def with_status(snapshot: FleetSnapshot, status: WorkerStatus) -> FleetSnapshot:
    """Return the next snapshot, in which the worker of that name has `status`."""
    workers = tuple(status if old.worker == status.worker else old for old in snapshot.workers)
    return snapshot.model_copy(update={"generation": snapshot.generation + 1, "workers": workers})


def with_workers(snapshot: FleetSnapshot, workers: Iterable[WorkerStatus]) -> FleetSnapshot:
    """Return the next snapshot, with these workers."""
    return snapshot.model_copy(
        update={"generation": snapshot.generation + 1, "workers": tuple(workers)},
    )


def with_accepted_settings(snapshot: FleetSnapshot) -> FleetSnapshot:
    """Return the next snapshot, after a configuration was accepted."""
    update = {"generation": snapshot.generation + 1, "settings": snapshot.settings + 1}
    return snapshot.model_copy(update=update)


def respecified(status: WorkerStatus, spec: WorkerSpec) -> WorkerStatus:
    """Return the status of the same process after its limits changed; nothing is withheld of them yet."""
    return status.model_copy(update={**_limits(spec), "withheld_bytes": 0})


def drained_by_hand(name: str) -> str:
    """Return why a worker is stopped that an operator took out."""
    return f"drained by hand: `corral resume {name}` brings it back"


def not_started(
    spec: WorkerSpec, *, since_unix: float, incarnation: int = 0, rests: str = ""
) -> WorkerStatus:
    """Return the status of a worker to be.

    `incarnation` counts the processes that had its name before; `rests` says why it is not to run yet.
    """
    return WorkerStatus(
        worker=spec.name,
        incarnation=incarnation,
        state=WorkerState.STOPPED,
        reason=rests or "not started yet",
        since_unix=since_unix,
        pid=None,
        base_url="",
        **_limits(spec),
    )


def _limits(spec: WorkerSpec) -> dict[str, Any]:
    """Return what a status says of the worker's specification."""
    return {
        "engine": spec.engine,
        "devices": spec.devices,
        "num_parallel": spec.num_parallel,
        "max_loaded_models": spec.max_loaded_models,
        "max_queue": spec.max_queue,
        "context_length": spec.context_length,
        "keep_alive_s": spec.keep_alive_s,
        "memory_bytes": spec.memory_bytes,
        "models": spec.models,
        "store": spec.store,
        "prunes": spec.prunes,
    }
