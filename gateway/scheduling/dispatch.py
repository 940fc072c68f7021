"""Which of the resident replicas a request is given to.

The first rule: a replica with a free slot, the least loaded first. To be replaced by least estimated
completion. Pure functions over `WorkerResidency`.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.scheduling.names import Variant
from gateway.scheduling.residency import Replica, WorkerResidency
from gateway.scheduling.types import Arrived


def can_serve(worker: WorkerResidency, variant: Variant) -> bool:
    """Whether the worker is up and may serve the model, loaded or not."""
    return worker.view.ready and variant in worker.view.servable


def choose_replica(
    request: Arrived, workers: Iterable[WorkerResidency]
) -> tuple[WorkerResidency, str] | None:
    """Return the worker with the least loaded free replica and the reason, or None when all are full.

    Workers that the request avoids are taken only when nobody else can serve the model.
    """
    servers = [w for w in workers if can_serve(w, request.variant)]
    others = [w for w in servers if w.view.instance not in request.avoid]
    free = [w for w in others or servers if _free(w, request.variant) > 0]
    if not free:
        return None
    best = min(free, key=lambda worker: _load(worker, request.variant))
    replica = best.replicas[request.variant]
    return best, f"resident; {_slots_in_words(replica)}; {len(free)} of {len(servers)} workers free"


def _free(worker: WorkerResidency, variant: Variant) -> int:
    replica = worker.replicas.get(variant)
    return replica.free_slots if replica is not None else 0


def _load(worker: WorkerResidency, variant: Variant) -> tuple[float, int, str]:
    replica = worker.replicas[variant]
    return (len(replica.busy) / replica.slots, worker.busy, worker.view.instance.worker)


def _slots_in_words(replica: Replica) -> str:
    return f"{len(replica.busy)} of {replica.slots} slots busy"
