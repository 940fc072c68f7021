"""Where a model that is waited for is loaded, and what must go for it: the worker where that costs least.

Pure functions over the state of workers. Costs are seconds of waiting: the load itself, draining, what the
victims are worth, and the models that would compute beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple

from gateway.scheduling.demand import Demand
from gateway.scheduling.eviction import A_MOMENT_S, Blocked, Idle, Victims, victims_on
from gateway.scheduling.names import NOWHERE, Instance, Variant
from gateway.scheduling.reasons import LoadOption, LoadReason
from gateway.scheduling.residency import ModelState, WorkerResidency
from supervisor.contract.config import SchedulingConfig

MOST_TOLD: Final = 4
"""Options that a reason names."""


_RANK: Final = itemgetter(0, 1, 2, 3)
"""Dedicated workers first, then by cost, by what they hold, and by name."""


class Plan(NamedTuple):
    """Load the model on this worker once the victims are gone."""

    worker: WorkerResidency
    victims: tuple[Variant, ...]
    reason: LoadReason


class NoPlan(NamedTuple):
    """The model has to wait; `look_again_at` is when that may change by itself (infinity: never)."""

    look_again_at: float


def plan_load(
    demand: Demand,
    workers: Mapping[WorkerResidency, list[Idle] | None],
    policy: SchedulingConfig,
    now: float,
) -> Plan | NoPlan:
    """Return the cheapest admissible plan, or why there is none.

    `workers` with what is idle there, where somebody has asked already.
    """
    options: list[tuple[bool, float, int, str, WorkerResidency, LoadOption]] = []
    again_at = inf
    for worker, idle in workers.items():
        if not may_load(demand.model, worker) or worker.instance in demand.barred:
            continue
        if demand.where_idle and worker.active:
            continue
        need = need_bytes(demand.model, worker)
        if not (demand.overdue or worker.may_have_room(need)):
            continue
        found = victims_on(worker, idle, demand, need, policy, now)
        if isinstance(found, Blocked):
            again_at = min(again_at, found.until)
            continue
        price_s = policy.eviction_price * found.worth_s
        if not demand.overdue and price_s > demand.waiting_s + A_MOMENT_S:
            again_at = min(again_at, _worth_it_at(demand, price_s, now))
            continue
        option = _option(demand, worker, found, need, policy)
        total_s = option.total_s
        if total_s < demand.expected_wait_s * policy.replica_cost:
            view = worker.view
            options.append(
                (not view.dedicated, total_s, worker.used_bytes, view.instance.worker, worker, option)
            )
    if not options:
        return NoPlan(again_at)
    if len(options) > 1:
        options.sort(key=_RANK)
    told = tuple([option[5] for option in options[:MOST_TOLD]])
    return Plan(options[0][4], told[0].victims, _reason(demand, told, now))


def _worth_it_at(demand: Demand, price_s: float, now: float) -> float:
    """Return when those who wait will have waited enough for an eviction, if nothing else happens."""
    return now + (price_s - demand.waiting_s) / demand.need + A_MOMENT_S


def may_load(model: ModelState, worker: WorkerResidency) -> bool:
    """Whether the model may be loaded there, room apart."""
    return (
        worker.accepts_load
        and model.variant in worker.view.servable
        and worker.instance not in model.replicas
        and worker.instance not in model.failures
    )


def need_bytes(model: ModelState, worker: WorkerResidency) -> int:
    """Return what the model will take there: as measured before, else as estimated."""
    known = model.measured_bytes
    return worker.view.servable[model.variant] if known is None else known


def fits_nowhere(model: ModelState, barred: frozenset[Instance] = NOWHERE) -> str | None:
    """Return a sentence with the numbers when no worker but those could ever hold the model, else None."""
    variant = model.variant
    views = [worker.view for instance, worker in model.servers.items() if instance not in barred]
    if not views or any(view.servable[variant] <= view.memory_bytes for view in views):
        return None
    need = min(view.servable[variant] for view in views)
    room = max(view.memory_bytes for view in views)
    return (
        f"model requires more memory ({_gib(need)}) than any worker may use ({_gib(room)}): "
        "use a smaller model, context_length or num_parallel, or raise `memory`"
    )


def _option(
    demand: Demand, worker: WorkerResidency, found: Victims, need: int, policy: SchedulingConfig
) -> LoadOption:
    model, instance = demand.model, worker.instance
    staying = worker.active - found.busy
    return LoadOption(  # by position, which is faster
        instance,
        model.learned.load_s(instance.worker, need),
        found.drain_s,
        policy.eviction_weight * found.worth_s,
        policy.crowding * staying,
        model.learned.service_s(worker.view.device) - model.typical_service_s,
        found.variants,
    )


def _reason(demand: Demand, options: tuple[LoadOption, ...], now: float) -> LoadReason:
    expected_wait_s = None if demand.expected_wait_s == inf else demand.expected_wait_s
    return LoadReason(
        demand.cause, now, demand.queued, demand.need, demand.waited_s, expected_wait_s, options
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
