"""Notices a worker that has lost its GPUs without a word: all that it holds lies on the CPU.

An Ollama whose driver broke after its start loads models all the same, a hundred times slower. The scheduler
unloads each of them as faulty; the process will not do better with the next one, so the supervisor is told to
replace it. A model that just did not fit leaves a part on the GPU, or others that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from gateway.runtime import Runtime
from gateway.scheduling.names import Instance
from gateway.scheduling.types import Event, Loaded, Observed, Resident
from supervisor.contract.reports import Hung

_log = structlog.get_logger("health")


def lost_its_gpus(residents: Iterable[Resident]) -> bool:
    """Whether all that a worker holds lies on the CPU, against what was ordered. Pure."""
    held = tuple(residents)
    return bool(held) and all(resident.fault and not resident.size_vram_bytes for resident in held)


@dataclass(slots=True)
class Fallback:
    """Follows what workers are seen to hold."""

    runtime: Runtime
    tell: Callable[[Hung], None]
    """Reaches the supervisor."""
    _told: set[Instance] = field(default_factory=set)

    def install(self) -> None:
        """Stand behind whoever is told of events already."""
        before = self.runtime.on_event

        def saw(event: Event) -> None:
            before(event)
            if isinstance(event, Loaded | Observed):
                self.look(event.instance)

        self.runtime.on_event = saw

    def look(self, instance: Instance) -> None:
        """Tell of the worker, once, if it has lost its GPUs."""
        workers = self.runtime.scheduler.workers
        replicas = (w.replicas.values() for w in workers if w.instance == instance)
        residents = [each.resident for some in replicas for each in some if each.resident is not None]
        if instance in self._told or not lost_its_gpus(residents):
            return
        self._told = {worker.instance for worker in workers} & self._told | {instance}
        why = "nothing of its models is on a GPU: see what `nvidia-smi` or `rocm-smi` says"
        _log.error("worker computes on the CPU", worker=str(instance), why=why)
        self.tell(Hung(worker=instance.worker, incarnation=instance.incarnation, why=why, what=_WHAT))


_WHAT = "computes on the CPU"
