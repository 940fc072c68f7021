"""Where a model that is waited for is loaded, and what must go for it.

The first rule, to be replaced by the full policy: a model's first replica goes where it costs least
(free room, else the least recently used idle models go); a further replica only takes free room or
models that have been idle for a while. A busy model is drained only when a model without any replica
has waited longer than `patience_s`. Pure functions over `WorkerResidency`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.residency import COMING, Phase, WorkerResidency


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """The constants of the rule, in seconds."""

    patience_s: float = 30.0
    """A model without a replica waits this long before a busy model is drained for it."""
    replica_idle_s: float = 10.0
    """A further replica may take the place only of models idle for at least this long."""
    load_broken_retry_s: float = 1.0
    """The same when the load broke off, for example because the worker died."""
    load_retry_s: float = 30.0
    """A model that an engine refused to load is not tried there again before this time."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A model whose waiting requests exceed what is free or coming."""

    variant: Variant
    oldest_arrival: float
    """When its oldest request arrived."""
    has_replica: bool
    """A replica that takes requests exists or is coming."""
    protected: frozenset[tuple[Instance, Variant]] = frozenset()
    """Replicas that the operator wants kept: never victims."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Load the model on this worker once the victims are gone."""

    worker: WorkerResidency
    victims: frozenset[Variant]
    why: str


def plan_load(
    demand: Demand, workers: Iterable[WorkerResidency], *, now: float, policy: PlacementPolicy
) -> Plan | None:
    """Return the cheapest admissible plan, or None when the model has to wait.

    `workers` are those that may be used: ready, able to serve the model, without a remembered failure.
    """
    candidates = [w for w in workers if w.coming is None and demand.variant not in w.replicas]
    min_idle_s = policy.replica_idle_s if demand.has_replica else 0.0
    plans = [plan for w in candidates if (plan := _idle_plan(demand, w, now, min_idle_s)) is not None]
    if plans:
        return min(plans, key=lambda plan: _cost(plan, now))
    if demand.has_replica or now < demand.oldest_arrival + policy.patience_s:
        return None
    drains = [plan for w in candidates if (plan := _drain_plan(demand, w, now)) is not None]
    return min(drains, key=_drain_cost, default=None)


def fits_nowhere(variant: Variant, workers: Iterable[WorkerResidency]) -> str | None:
    """Return a sentence with the numbers when no worker could ever hold the model, else None."""
    servers = [w.view for w in workers if variant in w.view.servable]
    if not servers or any(view.servable[variant] <= view.memory_bytes for view in servers):
        return None
    need = min(view.servable[variant] for view in servers)
    room = max(view.memory_bytes for view in servers)
    return (
        f"model requires more memory ({_gib(need)}) than any worker may use ({_gib(room)}): "
        "use a smaller model, context_length or num_parallel, or raise `memory`"
    )


def _idle_plan(demand: Demand, worker: WorkerResidency, now: float, min_idle_s: float) -> Plan | None:
    """Make room by unloading idle models only, least recently used first, and no more than needed."""
    need = worker.view.servable[demand.variant]
    leaving = [v for v, r in worker.replicas.items() if r.phase is Phase.UNLOADING]
    kept = _protected_on(worker, demand)
    idle = [
        (r.last_used, v) for v, r in worker.replicas.items() if r.idle and not r.draining and v not in kept
    ]
    victims = set(leaving)
    for last_used, variant in [(0.0, None), *sorted(idle)]:
        if variant is not None:
            if now < last_used + min_idle_s:
                return None
            victims.add(variant)
        if worker.room_without(frozenset(victims), need):
            return Plan(worker, frozenset(victims), _why(demand, len(victims) - len(leaving)))
    return None


def _drain_plan(demand: Demand, worker: WorkerResidency, now: float) -> Plan | None:
    """Make room by draining busy models too: the fewest requests in the way first."""
    need = worker.view.servable[demand.variant]
    kept = _protected_on(worker, demand)
    order = sorted(
        (len(r.busy), r.last_used, v)
        for v, r in worker.replicas.items()
        if r.phase not in COMING and v not in kept
    )
    victims: set[Variant] = set()
    for _, _, variant in order:
        victims.add(variant)
        if worker.room_without(frozenset(victims), need):
            waited_s = now - demand.oldest_arrival
            return Plan(worker, frozenset(victims), f"waited {waited_s:.0f} s; drains busy models")
    return None


def _protected_on(worker: WorkerResidency, demand: Demand) -> set[Variant]:
    return {variant for instance, variant in demand.protected if instance == worker.view.instance}


def _cost(plan: Plan, now: float) -> tuple[bool, int, float, int, int, str]:
    """A worker dedicated to the model, fewest victims, the longest idle ones, the least busy and emptiest."""
    used = [plan.worker.replicas[v].last_used for v in plan.victims]
    freshest = max(used, default=now) if plan.victims else 0.0
    view = plan.worker.view
    held = len(plan.worker.replicas)
    return (not view.dedicated, len(plan.victims), freshest, plan.worker.busy, held, view.instance.worker)


def _drain_cost(plan: Plan) -> tuple[int, str]:
    in_the_way = sum(len(plan.worker.replicas[v].busy) for v in plan.victims)
    return (in_the_way, plan.worker.view.instance.worker)


def _why(demand: Demand, evicted: int) -> str:
    kind = "further replica" if demand.has_replica else "not resident"
    return f"{kind}; evicts {evicted} idle" if evicted else f"{kind}; free room"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
