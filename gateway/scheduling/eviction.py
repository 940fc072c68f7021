"""Which models leave a worker so that another fits: those that are worth least for the room they take.

A model's worth is the chance that it is asked for soon times what loading it again costs, and more when
several would wait for that (GreedyDual with arrival rates). Pure functions.
"""

from __future__ import annotations

from math import exp, inf
from typing import Final, NamedTuple

from gateway.scheduling.demand import LEAST_NEED, Demand
from gateway.scheduling.names import Variant
from gateway.scheduling.reasons import KEPT
from gateway.scheduling.residency import RESIDENT, UNLOADING, ModelState, Replica, WorkerResidency
from supervisor.contract.config import SchedulingConfig

_MOST_WAITERS: Final = 5.0
"""Requests that would wait for a reload count so often at most."""
_LOADS_AHEAD: Final = 4.0
"""No further than so many load times is looked ahead: given longer, every small model is asked for again."""
_SPARE_LOAD: Final = 0.7
"""A replica is spare when the others would be used no more than this without it."""
_LRU_WEIGHT: Final = 1e-3
"""Among those worth nothing the least recently used goes."""
_DRAIN_SHARE: Final = 0.6
"""An answer under way has on average this share of a typical one before it."""


A_MOMENT_S: Final = 0.05
"""More than rounding can take from a time."""

_NONE: Final = frozenset[Variant]()


class Victims(NamedTuple):
    """What must go, and what that costs in seconds."""

    variants: tuple[Variant, ...]
    worth_s: float
    drain_s: float
    busy: int
    """How many of them answer requests now."""


class Blocked(NamedTuple):
    """There is no room now; `until` is when that may change by itself (infinity: never)."""

    until: float


class _Candidate(NamedTuple):
    """A model that may go."""

    replica: Replica
    worth_s: float
    drain_s: float
    size_bytes: int


_NOTHING: Final = Victims((), 0.0, 0.0, 0)


class Idle(NamedTuple):
    """A model that computes nothing now and may leave, tenure apart."""

    replica: Replica
    load_s: float
    worth_s: float


def idle_on(worker: WorkerResidency, policy: SchedulingConfig, now: float) -> list[Idle]:
    """Return what is idle on the worker: the same whoever asks for the room."""
    found: list[Idle] = []
    for replica in worker.replicas.values():
        if not (replica.busy or _must_stay(replica)):
            load_s = replica.load_s
            found.append(Idle(replica, load_s, worth_s(replica, load_s, policy, now)))
    return found


def victims_on(
    worker: WorkerResidency,
    idle: list[Idle] | None,
    demand: Demand,
    need_bytes: int,
    policy: SchedulingConfig,
    now: float,
) -> Victims | Blocked:
    """Return the cheapest set of models whose leaving makes room on the worker.

    `idle` is what `idle_on` says, if somebody has asked already.
    """
    view = worker.view
    free = view.memory_bytes - worker.used_bytes
    places = view.max_loaded_models - len(worker.replicas)
    rivals = _rivals(worker, demand.model.variant) if view.one_per_weights else _NONE
    if free >= need_bytes and places > 0 and not rivals:
        return _NOTHING
    for replica in worker.replicas.values():
        if replica.phase is UNLOADING:
            free += replica.size_bytes
            places += 1
    if free >= need_bytes and places > 0 and not rivals:
        return _NOTHING
    candidates: list[_Candidate] = []
    until = inf
    for replica, load_s, worth in idle_on(worker, policy, now) if idle is None else idle:
        may_from = _may_go_from(replica, load_s, demand, policy, now)
        if may_from <= now:
            candidates.append(_Candidate(replica, worth, 0.0, replica.size_bytes or 1))
        elif may_from < until:
            until = may_from
    if worker.active:
        until = min(until, _add_busy(candidates, worker, demand, policy, now))
    return _cheapest(candidates, rivals, free - need_bytes, places - 1) or Blocked(until)


def _must_stay(replica: Replica) -> bool:
    """Whether it cannot go, or goes for another."""
    return (
        replica.phase is not RESIDENT or replica.draining or (replica.model.bounds.least > 0 and replica.kept)
    )


def _add_busy(
    candidates: list[_Candidate],
    worker: WorkerResidency,
    demand: Demand,
    policy: SchedulingConfig,
    now: float,
) -> float:
    """Add those that may be drained although they compute; return when the next one may be."""
    until = inf
    for replica in worker.replicas.values():
        if not replica.busy or _must_stay(replica):
            continue
        load_s = replica.load_s
        may_from = _may_go_from(replica, load_s, demand, policy, now)
        if may_from > now:
            until = min(until, may_from)
            continue
        drain_s = _DRAIN_SHARE * replica.model.learned.service_s(worker.view.device)
        worth = worth_s(replica, load_s, policy, now) + drain_s / 2
        candidates.append(_Candidate(replica, worth, drain_s, replica.size_bytes or 1))
    return until


def _cheapest(
    candidates: list[_Candidate], rivals: frozenset[Variant], free: int, places: int
) -> Victims | None:
    """Return what goes so that neither bytes nor places are below 0 and no rival stays; None for no way."""
    if len(candidates) > 1:
        per_byte = free < 0  # else only places are missing, and each gives one
        candidates.sort(
            key=lambda c: (
                c.replica.model.variant not in rivals,
                c.worth_s / c.size_bytes if per_byte else c.worth_s,
            )
        )
    chosen: list[_Candidate] = []
    left = len(rivals)
    for candidate in candidates:
        if free >= 0 and places >= 0 and not left:
            break
        chosen.append(candidate)
        left -= candidate.replica.model.variant in rivals
        free += candidate.size_bytes
        places += 1
    if free < 0 or places < 0 or left:
        return None
    if len(chosen) > 1:
        _spare(chosen, rivals, free, places)
    return _together(chosen)


def _together(chosen: list[_Candidate]) -> Victims:
    if len(chosen) == 1:
        replica, worth, drain_s, _ = chosen[0]
        return Victims((replica.model.variant,), worth, drain_s, len(replica.busy) > 0)
    worth_s, drain_s, busy = 0.0, 0.0, 0
    for candidate in chosen:
        worth_s += candidate.worth_s
        drain_s = max(drain_s, candidate.drain_s)
        busy += len(candidate.replica.busy) > 0
    return Victims(tuple([c.replica.model.variant for c in chosen]), worth_s, drain_s, busy)


def room_not_before(
    worker: WorkerResidency,
    idle: list[Idle],
    model: ModelState,
    need_bytes: int,
    policy: SchedulingConfig,
    now: float,
) -> float:
    """Return a moment before which there is certainly no room for those who wait for the model.

    A quick look before all is weighed: there may be none at that moment either. Infinity when only an event
    makes room. `idle` is what `idle_on` says.
    """
    view = worker.view
    if view.memory_bytes - worker.used_bytes >= need_bytes and len(worker.replicas) < view.max_loaded_models:
        return -inf
    if len(idle) < len(worker.replicas) and (worker.holds_a_flood or _unloads(worker)):
        return -inf
    since, weight = model.queue.oldest_arrival, model.queue.need
    waiting_s = weight * (now - since)
    first = since + policy.drain_after
    for replica, load_s, worth in idle:
        at = min(replica.since, since) + policy.min_tenure * load_s
        price_s = policy.eviction_price * worth
        if price_s > waiting_s + A_MOMENT_S:
            at = max(at, now + (price_s - waiting_s) / max(weight, LEAST_NEED))
        first = min(first, at)
    return first


def _unloads(worker: WorkerResidency) -> bool:
    """Whether something is on its way out, beside which there may be room soon."""
    return any(replica.phase is UNLOADING for replica in worker.replicas.values())


def worth_s(replica: Replica, load_s: float, policy: SchedulingConfig, now: float) -> float:
    """Return what losing the replica now would cost, in seconds of waiting, if it loads in `load_s`."""
    model = replica.model
    rate = model.learned.rate(now)
    live = model.live_replicas
    horizon_s = min(policy.keep_horizon, _LOADS_AHEAD * load_s)
    worth = (1 - exp(-rate * horizon_s / (live or 1))) * load_s
    worth *= 1 + min(_MOST_WAITERS, rate * load_s)
    others = (live - 1) * replica.slots
    if others > 0 and rate * model.typical_service_s / others < _SPARE_LOAD:
        worth *= policy.spare_replica
    return worth + _LRU_WEIGHT * replica.last_used / (now + 1)


def _rivals(worker: WorkerResidency, variant: Variant) -> frozenset[Variant]:
    """Return what cannot stay beside the model: other variants of its weights, where the engine keeps one."""
    return frozenset(
        v for v, r in worker.replicas.items() if v.digest == variant.digest and r.phase is RESIDENT
    )


def _may_go_from(
    replica: Replica, load_s: float, demand: Demand, policy: SchedulingConfig, now: float
) -> float:
    """Return from when the replica may be given up for that demand; infinity when only an event can tell.

    An idle one once it has stayed for `min_tenure` of its load times, or when a model that has no replica
    has waited that long. A busy one only for a model that is overdue, if that has none or the busy one
    is not the last of its kind; or for one that has waited for `flood_drain_after`, if only a flood keeps
    it busy.
    """
    if demand.cause is KEPT and not replica.busy:
        return now
    nobody = demand.expected_wait_s == inf
    if not replica.busy:
        tenure = replica.since + policy.min_tenure * load_s
        if nobody:
            tenure = min(tenure, now - demand.waited_s + policy.min_tenure * load_s)
        return max(tenure, _held_until(replica, policy)) if replica.model.queue.waiting else tenure
    if replica.model.flooded_by is not None and _flood_can_do_without(replica, demand, now):
        arrived_at = now - demand.waited_s
        return max(replica.since + load_s, arrived_at + policy.flood_drain_after)
    if not demand.overdue or not (nobody or replica.model.live_replicas > 1):
        return inf
    return replica.since + load_s


def _flood_can_do_without(replica: Replica, demand: Demand, now: float) -> bool:
    """Whether only a flood would miss the replica, and somebody else waits for the room."""
    model, tenant = replica.model, replica.model.flooded_by
    others = model.slots - replica.slots_counted
    if tenant is None or others <= 0 or demand.model.queue.is_only(tenant):
        return False
    used = model.sharing.rate_of_others(tenant, now) * model.typical_service_s
    return used < _SPARE_LOAD * others


def _held_until(replica: Replica, policy: SchedulingConfig) -> float:
    """Return until when requests may be held back for a fuller batch on a replica that is idle."""
    queue = replica.model.queue
    waited_for = queue.in_line and replica.live and queue.in_line_for(replica.worker.instance)
    return queue.oldest_arrival + policy.batch_hold if waited_for else -inf


def _spare(chosen: list[_Candidate], rivals: frozenset[Variant], free: int, places: int) -> None:
    """Take back those that turned out not to be needed, the most worthy first."""
    for candidate in sorted(chosen, key=lambda c: -c.worth_s):
        if candidate.replica.model.variant in rivals:
            continue
        if free >= candidate.size_bytes and places > 0:
            chosen.remove(candidate)
            free -= candidate.size_bytes
            places -= 1
