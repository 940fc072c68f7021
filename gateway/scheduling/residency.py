"""What each worker holds, loads and gives up, with the slots in use. State only; choices are placement's.

One `WorkerResidency` per living instance. Must not know queues or requests beyond their ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Resident, WorkerView


class Phase(StrEnum):
    """Where a replica is on its way through a worker's memory."""

    PLANNED = "planned"
    """Waits until its victims are gone; its room is spoken for."""
    LOADING = "loading"
    RESIDENT = "resident"
    UNLOADING = "unloading"


COMING = frozenset({Phase.PLANNED, Phase.LOADING})


@dataclass(slots=True, kw_only=True)
class Replica:
    """One model on one worker."""

    phase: Phase
    slots: int
    """Effective once resident, expected before that."""
    size_bytes: int
    """Measured once resident, estimated before that."""
    keep_alive_s: float | None
    """Sticky, as in Ollama: what the last request that said so asked for."""
    last_used: float
    """When it was loaded or its last request ended."""
    since: float
    """When the phase was entered."""
    resident: Resident | None = None
    busy: set[RequestId] = field(default_factory=set)
    draining: bool = False
    """Gets no more requests; unloaded when its last one ends."""
    victims: frozenset[Variant] = frozenset()
    """PLANNED only: what must be gone first."""
    why: str = ""
    """PLANNED only: the reason that its load will carry."""

    @property
    def free_slots(self) -> int:
        """Slots that may be granted now."""
        if self.phase is not Phase.RESIDENT or self.draining:
            return 0
        return self.slots - len(self.busy)

    @property
    def idle(self) -> bool:
        """Resident, and no request holds a slot."""
        return self.phase is Phase.RESIDENT and not self.busy

    @property
    def expires_at(self) -> float | None:
        """When an idle replica is to be unloaded; None while it is busy, or for ever."""
        if not self.idle or self.keep_alive_s is None:
            return None
        return self.last_used + self.keep_alive_s


@dataclass(slots=True)
class WorkerResidency:
    """A worker's limits and the replicas on it."""

    view: WorkerView
    replicas: dict[Variant, Replica] = field(default_factory=dict)

    @property
    def busy(self) -> int:
        """Requests that hold a slot here."""
        return sum(len(replica.busy) for replica in self.replicas.values())

    @property
    def coming(self) -> Variant | None:
        """The model that is being loaded or is about to be; a worker loads one at a time."""
        found = (v for v, replica in self.replicas.items() if replica.phase in COMING)
        return next(found, None)

    def holds(self, variant: Variant) -> bool:
        """Whether the model is here or on its way, and not on its way out."""
        replica = self.replicas.get(variant)
        return replica is not None and replica.phase is not Phase.UNLOADING and not replica.draining

    def room_without(self, victims: frozenset[Variant], need_bytes: int) -> bool:
        """Whether a model of that size fits beside all replicas but the victims."""
        staying = [r for v, r in self.replicas.items() if v not in victims]
        if len(staying) >= self.view.max_loaded_models:
            return False
        return sum(r.size_bytes for r in staying) + need_bytes <= self.view.memory_bytes


def quiet(workers: Iterable[WorkerResidency], instance: Instance) -> bool:
    """Whether nothing is loaded, unloaded or answered on that worker now, nor about to be."""
    worker = next((worker for worker in workers if worker.view.instance == instance), None)
    return worker is not None and all(replica.idle for replica in worker.replicas.values())
