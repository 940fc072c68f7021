"""How urgently a model that is waited for should be loaded somewhere, or somewhere else too.

Pure functions of a model's queue, its replicas and what was learned.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Final, NamedTuple

from gateway.scheduling.dispatch import stranded
from gateway.scheduling.names import NOWHERE, Instance
from gateway.scheduling.queues import ModelQueue
from gateway.scheduling.reasons import LoadCause
from gateway.scheduling.residency import ModelState
from supervisor.contract.config import SchedulingConfig

_A_MOMENT_S: Final = 0.01
"""More than rounding can take from a time."""
LEAST_NEED: Final = 0.1
"""However hopeless those are who wait, they are still loaded for."""
OVERDUE: Final = 1e12
"""Above every weight that a queue can have."""


class Demand(NamedTuple):
    """What a model's waiting requests amount to."""

    model: ModelState
    cause: LoadCause
    queued: int
    need: float
    """What those who wait count for, less the slots that are coming."""
    waited_s: float
    """Of the oldest."""
    expected_wait_s: float
    """How long those who wait would without a further replica; infinity when there is none."""
    waiting_s: float
    """The waiting so far, over all that wait."""
    overdue: bool
    """It has waited so long that busy models are drained for it."""
    urgency: float
    """Larger goes first."""
    barred: frozenset[Instance] = NOWHERE
    """Workers of no use to those who wait."""
    where_idle: bool = False
    """The waiting repays a load only where nothing computes."""
    others: tuple[Demand, ...] = ()
    """What those of the model's requests ask for that are barred from other workers, less urgent."""


class Part(NamedTuple):
    """Some of the requests that wait for a model, and what may serve them."""

    barred: frozenset[Instance]
    """Where those may not be served."""
    queued: int
    oldest_arrival: float
    slots: int
    coming: int
    helpless: bool
    """One of them failed wherever the model is that may serve it, or will be soon."""


def part_of(model: ModelState, queue: ModelQueue, barred: frozenset[Instance]) -> Part:
    """Return those of a queue that are not apart in another."""
    useful = [replica for instance, replica in model.replicas.items() if instance not in barred]
    back = (request for request in queue.returned.values() if request.barred == barred)
    return Part(
        barred=barred,
        queued=queue.waiting_here,
        oldest_arrival=queue.oldest_arrival_here,
        slots=sum(replica.slots_counted for replica in useful),
        coming=sum(replica.coming_counted for replica in useful),
        helpless=any(stranded(request, model) for request in back),
    )


def demand_of(
    model: ModelState, weight: float, policy: SchedulingConfig, now: float, part: Part | None = None
) -> Demand | None:
    """Return what loads those who wait ask for; None when what is there or coming has to do.

    `weight` is what they count for; there are more of them than slots coming. They are all who wait for the
    model, or a part of them.
    """
    if part is None:
        queue = model.queue
        queued, oldest_arrival = len(queue.waiting), queue.oldest_arrival
        slots, coming, barred = model.slots, model.coming, NOWHERE
        helpless = bool(queue.returned) and any(stranded(back, model) for back in queue.returned.values())
    else:
        barred, queued, oldest_arrival, slots, coming, helpless = part
    load_s = model.typical_load_s
    need = max(LEAST_NEED, weight - coming)
    there = 0 if helpless else slots + coming
    waited_s = now - oldest_arrival
    expected_wait_s = _expected_wait_s(model, need, there, waited_s) if there else inf
    if expected_wait_s <= least_repay(policy) * load_s:
        return None
    overdue = waited_s >= policy.drain_after
    urgency = need * (min(waited_s, policy.ttft_goal) + load_s) / sqrt(model.typical_bytes)
    return Demand(  # by position, which is faster
        model,
        LoadCause.FURTHER if there else LoadCause.FIRST,
        queued,
        need,
        waited_s,
        expected_wait_s,
        weight * waited_s,
        overdue,
        OVERDUE + waited_s if overdue else urgency,
        barred,
        expected_wait_s <= policy.load_repay * load_s,
    )


def least_repay(policy: SchedulingConfig) -> float:
    """Return how many load times those who wait have to wait longer than for any load to begin."""
    return min(policy.load_repay, policy.idle_repay)


def _expected_wait_s(model: ModelState, need: float, slots: int, waited_s: float) -> float:
    """Return how long those who wait would without a further replica.

    While nobody knows how long an answer of the model takes, they are expected to wait as long again.
    """
    expected_s = need * model.typical_service_s / slots
    return expected_s if model.service_known else min(expected_s, waited_s)


def guess_ends_at(model: ModelState, policy: SchedulingConfig) -> float:
    """Return when those who wait for a model of which no answer was measured will have waited long enough."""
    return model.queue.oldest_arrival + least_repay(policy) * model.typical_load_s + _A_MOMENT_S


def hopeless_before(model: ModelState, policy: SchedulingConfig, now: float) -> float:
    """Return the moment before which those arrived whom a load begun now cannot serve in time any more."""
    return now + policy.load_lead * model.typical_load_s - policy.ttft_goal


def kept_demand(model: ModelState) -> Demand | None:
    """Return what the operator's wish to have a model held asks for."""
    if model.live_replicas >= model.bounds.least or model.full:
        return None
    return Demand(
        model=model,
        cause=LoadCause.KEPT,
        queued=len(model.queue.waiting),
        need=1.0,
        waited_s=inf,
        expected_wait_s=inf,
        waiting_s=inf,
        overdue=False,
        urgency=0.0,
    )
