"""Where a model that is waited for is loaded, and what must go for it: the worker where that costs least.

Pure functions over the state of workers. Costs are seconds of waiting: the load itself, draining, what the
victims are worth, and the models that would compute beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from gateway.scheduling.demand import Demand
from gateway.scheduling.estimates import Estimates
from gateway.scheduling.eviction import Blocked, Victims, victims_on
from gateway.scheduling.names import Variant
from gateway.scheduling.reasons import LoadOption, LoadReason
from gateway.scheduling.residency import ModelState, WorkerResidency
from supervisor.contract.config import SchedulingConfig

MOST_TOLD: Final = 4
"""Options that a reason names."""
_A_MOMENT_S: Final = 0.05
"""More than rounding can take from a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Load the model on this worker once the victims are gone."""

    worker: WorkerResidency
    victims: tuple[Variant, ...]
    reason: LoadReason


@dataclass(frozen=True, slots=True)
class NoPlan:
    """The model has to wait; `look_again_at` is when that may change by itself (infinity: never)."""

    look_again_at: float


def plan_load(
    demand: Demand,
    workers: Iterable[WorkerResidency],
    estimates: Estimates,
    policy: SchedulingConfig,
    now: float,
) -> Plan | NoPlan:
    """Return the cheapest admissible plan, or why there is none."""
    options: list[tuple[bool, float, int, str, WorkerResidency, LoadOption]] = []
    again_at = inf
    for worker in workers:
        if not may_load(demand.model, worker):
            continue
        need = need_bytes(demand.model, worker, estimates)
        if not (demand.overdue or worker.may_have_room(need)):
            continue
        found = victims_on(worker, demand, need, estimates, policy, now)
        if isinstance(found, Blocked):
            again_at = min(again_at, found.until)
            continue
        price_s = policy.eviction_price * found.worth_s
        if not demand.overdue and price_s > demand.relief_s:
            again_at = min(again_at, _worth_it_at(demand, price_s, now))
            continue
        option = _option(demand, worker, found, estimates, policy)
        if option.total_s < demand.expected_wait_s * policy.replica_cost:
            view = worker.view
            rank = (not view.dedicated, option.total_s, worker.used_bytes, view.instance.worker)
            options.append((*rank, worker, option))
    if not options:
        return NoPlan(again_at)
    options.sort(key=lambda option: option[:4])
    chosen = options[0]
    told = tuple(option[5] for option in options[:MOST_TOLD])
    return Plan(chosen[4], chosen[5].victims, _reason(demand, told, now))


def _worth_it_at(demand: Demand, price_s: float, now: float) -> float:
    """Return when those who wait will have waited enough for an eviction, if nothing else happens."""
    return now + (price_s - demand.relief_s) / demand.need + _A_MOMENT_S


def may_load(model: ModelState, worker: WorkerResidency) -> bool:
    """Whether the model may be loaded there, room apart."""
    instance = worker.view.instance
    return (
        worker.accepts_load
        and instance in model.servers
        and instance not in model.replicas
        and instance not in model.failures
    )


def need_bytes(model: ModelState, worker: WorkerResidency, estimates: Estimates) -> int:
    """Return what the model will take there: as measured before, else as estimated."""
    known = estimates.size_bytes(model.variant)
    return worker.view.servable[model.variant] if known is None else known


def fits_nowhere(model: ModelState) -> str | None:
    """Return a sentence with the numbers when no worker could ever hold the model, else None."""
    variant = model.variant
    views = [worker.view for worker in model.servers.values()]
    if not views or any(view.servable[variant] <= view.memory_bytes for view in views):
        return None
    need = min(view.servable[variant] for view in views)
    room = max(view.memory_bytes for view in views)
    return (
        f"model requires more memory ({_gib(need)}) than any worker may use ({_gib(room)}): "
        "use a smaller model, context_length or num_parallel, or raise `memory`"
    )


def _option(
    demand: Demand, worker: WorkerResidency, found: Victims, estimates: Estimates, policy: SchedulingConfig
) -> LoadOption:
    size = need_bytes(demand.model, worker, estimates)
    staying = sum(1 for v, r in worker.replicas.items() if r.busy and v not in found.variants)
    return LoadOption(
        instance=worker.view.instance,
        load_s=estimates.load_s(demand.model.variant, worker.view.instance.worker, size),
        drain_s=found.drain_s,
        eviction_s=policy.eviction_weight * found.worth_s,
        crowding_s=policy.crowding * staying,
        slower_s=estimates.service_s(demand.model.variant, worker.view.device)
        - demand.model.typical_service_s,
        victims=found.variants,
    )


def _reason(demand: Demand, options: tuple[LoadOption, ...], now: float) -> LoadReason:
    return LoadReason(
        cause=demand.cause,
        at=now,
        queued=demand.queued,
        need=demand.need,
        waited_s=demand.waited_s,
        expected_wait_s=None if demand.expected_wait_s == inf else demand.expected_wait_s,
        options=options,
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
