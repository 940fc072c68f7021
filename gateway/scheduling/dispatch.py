"""Which of the free replicas a request is given to: the one where its answer would be complete soonest.

Pure functions over the state of replicas; whose turn it is, is the queue's to say.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from math import ceil
from typing import Final

from gateway.scheduling.names import Instance
from gateway.scheduling.reasons import ReplicaOption
from gateway.scheduling.residency import ModelState, Replica
from gateway.scheduling.sessions import Sessions
from gateway.scheduling.types import Arrived

MOST_COMPARED: Final = 16
"""Free replicas that are compared; of so many one is as good as idle."""
MOST_TOLD: Final = 4
"""Options that a reason names."""

_SAME_MODEL: Final = 0.1
"""What an answer of the same model beside it costs, against another active model: batches are nearly free."""


def usable(request: Arrived, model: ModelState) -> Collection[Replica]:
    """Return the free replicas on workers that the request neither avoids nor is barred from."""
    if not (request.avoid or request.barred):
        return model.free.values()
    not_there = request.avoid | request.barred
    return [replica for instance, replica in model.free.items() if instance not in not_there]


def can_serve(model: ModelState, barred: frozenset[Instance]) -> bool:
    """Whether a slot is free for requests that are barred from those workers."""
    return not model.free.keys() <= barred


def stranded(request: Arrived, model: ModelState) -> bool:
    """Whether the request cannot be served, or has failed, wherever the model is or will be soon."""
    not_there = request.avoid | request.barred
    return all(replica.worker.view.instance in not_there for replica in model.live)


def compare(
    request: Arrived, free: Collection[Replica], sessions: Sessions, crowding_s: float
) -> list[tuple[ReplicaOption, Replica]]:
    """Return the free replicas by when an answer would be complete there, soonest first."""
    cached = sessions.cached(request.session, request.variant) if request.session else None
    if len(free) == 1:
        (only,) = free
        return [(_option(request, only, crowding_s, cached), only)]
    options = [
        (_option(request, replica, crowding_s, cached), replica) for replica in islice(free, MOST_COMPARED)
    ]
    options.sort(key=_soonest)
    return options


def bounded_load(replica: Replica, bound: float) -> bool:
    """Whether one more answer leaves the replica within `bound` times the mean load of its model's replicas.

    Consistent hashing with bounded loads: a conversation may return to its worker, but not pile up there.
    """
    live = [other for other in replica.model.live if other.resident is not None]
    total = sum(len(other.busy) for other in live) + 1
    return len(replica.busy) + 1 <= ceil(bound * total / max(1, len(live)))


def _soonest(option: tuple[ReplicaOption, Replica]) -> tuple[float, Instance]:
    return option[0].total_s, option[0].instance


def _option(
    request: Arrived,
    replica: Replica,
    crowding_s: float,
    cached: tuple[Instance, int] | None,
) -> ReplicaOption:
    worker, model = replica.worker, replica.model
    instance, busy = worker.instance, len(replica.busy)
    hit = cached is not None and cached[0] == instance
    unread = request.prompt_tokens - (min(cached[1], request.prompt_tokens) if hit and cached else 0)
    device, learned = worker.view.device, model.learned
    others = worker.active - (1 if busy else 0)
    return ReplicaOption(  # by position, which is faster
        instance,
        sum(worker.reading.values()) if worker.reading else 0.0,
        unread / learned.prefill_tokens_per_s(device),
        crowding_s * (others + _SAME_MODEL * busy),
        learned.service_s(device),
        busy,
        replica.slots,
        hit,
    )
