"""The fleet snapshot: all that the supervisor tells the gateway, always whole, never a delta.

Decides the wire form (one JSON object a line) and nothing else. Must not know how workers are
spawned or what requests they serve.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

SCHEMA_VERSION: Final = 1


class WorkerState(StrEnum):
    """Where a worker process is in its life; see `supervisor/core/worker.py` for the moves."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    QUARANTINED = "quarantined"


class DeviceKind(StrEnum):
    """What a worker computes on."""

    GPU = "gpu"
    CPU = "cpu"
    REMOTE = "remote"
    """Whatever an external worker computes on."""


class Device(BaseModel):
    """One GPU, or the set of CPU cores, that a worker is pinned to; or where an external worker answers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    kind: DeviceKind
    id: str
    """The GPU's UUID, the core list in the kernel's notation (`0-3,8`), or an external worker's URL."""
    label: str
    """For people: `GPU 0 NVIDIA L4`, `CPU 0-3` or `http://10.0.0.7:11434`."""


class WorkerStatus(BaseModel):
    """One worker as the supervisor sees it now."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    worker: str
    incarnation: int
    """Counts the processes that have carried this name; 0 before the first. Leases, strikes and
    residency are keyed by (worker, incarnation), so a dead process cannot hurt its successor."""
    state: WorkerState
    reason: str
    """Why it is in this state, for people."""
    since_unix: float
    """Wall-clock seconds at which the state was entered; for people only, nothing decides by it."""
    pid: int | None
    engine: str
    base_url: str
    """`http://127.0.0.1:PORT` of the living process, or empty."""
    devices: tuple[Device, ...]
    num_parallel: int
    """Slots per resident model that were asked for; the effective number is the engine's to report."""
    max_loaded_models: int
    max_queue: int
    context_length: int
    """Tokens per slot."""
    keep_alive_s: float | None
    """Seconds an idle model stays loaded unless a request says otherwise; None is for ever."""
    memory_bytes: int
    """What the models on this worker may take together, now: `withheld_bytes` are taken off already."""
    models: tuple[str, ...] | None
    """Names this worker is dedicated to; None is any."""
    store: str = ""
    """Directory to which this worker writes models: workers with the same one see each other's changes.
    Empty when nobody told: a worker that somebody else runs has a store of its own."""
    prunes: bool = False
    """It may delete what nothing in its store refers to; what replaces models is best done by this one."""
    condition: str = ""
    """What is not as it should be with what it computes on, for people, whatever state it is in: memory
    that others took, a GPU that throttles. Empty while all is well."""
    withheld_bytes: int = 0
    """How much less memory it has than it was given, while that lasts."""
    stuck_loads: int = 0
    """How often its log told that it waits for ever for a process that died while it started: a load that
    is under way there when this grows comes to no end, and keeps others from beginning."""


class FleetSnapshot(BaseModel):
    """All workers at one moment. A higher generation of the same boot replaces a lower one."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    boot_id: str
    """Changes with every start of the supervisor."""
    generation: int
    settings: int = 0
    """How often the configuration was accepted: a gateway that runs with an older one takes the newer."""
    workers: tuple[WorkerStatus, ...]


class SnapshotError(ValueError):
    """A line that is no snapshot of a schema this program speaks."""


def encode(snapshot: FleetSnapshot) -> bytes:
    r"""Return the snapshot as one line of JSON that ends in ``\n``."""
    return snapshot.model_dump_json().encode() + b"\n"


def decode(line: bytes) -> FleetSnapshot:
    """Return the snapshot of one line.

    Raises:
        SnapshotError: the line is not JSON, or of another schema version.
    """
    try:
        snapshot = FleetSnapshot.model_validate_json(line)
    except ValidationError as error:
        raise SnapshotError(f"not a fleet snapshot: {error}") from error
    if snapshot.schema_version != SCHEMA_VERSION:
        found = snapshot.schema_version
        raise SnapshotError(f"fleet snapshot of schema {found}, this program speaks {SCHEMA_VERSION}")
    return snapshot
