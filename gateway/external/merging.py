"""One fleet out of two sources: the supervisor's workers and those that somebody else runs.

Decides how an external worker looks in a snapshot and who gives way when two have one name. Whether an
external worker is there is `health.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.external.health import Health
from supervisor.contract.config import ExternalWorker
from supervisor.contract.fleet import Device, DeviceKind, FleetSnapshot, WorkerState, WorkerStatus

NO_SUPERVISOR: Final = FleetSnapshot(boot_id="", generation=0, workers=())
"""Stands for the supervisor's word where there is none."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The whole fleet, and who was left out of it."""

    snapshot: FleetSnapshot
    left_out: tuple[str, ...] = ()
    """Names of external workers that a worker of our own has."""


def merged(own: FleetSnapshot | None, external: Sequence[WorkerStatus]) -> Merged | None:
    """Return all workers; None while the supervisor, if there is one, has not told of its own.

    Half a fleet would let models look unknown that the other half has.
    """
    if own is None:
        return None
    taken = {status.worker for status in own.workers}
    joining = tuple(status for status in external if status.worker not in taken)
    left_out = tuple(status.worker for status in external if status.worker in taken)
    return Merged(own.model_copy(update={"workers": (*own.workers, *joining)}), left_out)


def status_of(worker: ExternalWorker, health: Health, *, since_unix: float) -> WorkerStatus:
    """Return how an external worker stands in the fleet: limits are the file's, the rest was seen."""
    ready = health.state is WorkerState.READY
    return WorkerStatus(
        worker=worker.name,
        incarnation=health.incarnation,
        state=health.state,
        reason=health.reason,
        since_unix=since_unix,
        pid=None,
        engine=worker.engine,
        base_url=worker.url if ready else "",
        devices=(Device(kind=DeviceKind.REMOTE, id=worker.url, label=worker.url),),
        num_parallel=worker.num_parallel,
        max_loaded_models=worker.max_loaded_models,
        max_queue=worker.max_queue,
        context_length=worker.context_length,
        keep_alive_s=worker.keep_alive,
        memory_bytes=worker.memory,
        models=worker.models,
    )
