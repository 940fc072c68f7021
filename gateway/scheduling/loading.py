"""Which loads begin after an event: the most urgent model first, where it costs least.

The state's side of `demand` (how urgent) and `placement` (where): only models that the event touched, and
the most urgent of the others for the workers that the event opened, are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from typing import Final

from gateway.scheduling.demand import (
    OVERDUE,
    Demand,
    Part,
    demand_of,
    guess_ends_at,
    hopeless_before,
    kept_demand,
    part_of,
)
from gateway.scheduling.events import enter_replica, unload
from gateway.scheduling.eviction import Idle, idle_on, room_not_before
from gateway.scheduling.names import NOWHERE
from gateway.scheduling.placement import NoPlan, Plan, may_load, need_bytes, plan_load
from gateway.scheduling.residency import LOADING, PLANNED, UNLOADING, ModelState, WorkerResidency
from gateway.scheduling.state import State
from gateway.scheduling.types import Load

Opened = dict[WorkerResidency, list[Idle] | None]
"""Workers to compare, with what is idle there, once somebody has asked."""

SHORTLIST: Final = 8
"""Models, and workers, up to which all are compared for a load."""
SAMPLE: Final = 4
"""Where there are more, so many are: the most urgent models, and workers in turn."""


def place(state: State, now: float) -> None:
    """Begin the loads that the event made possible or necessary, the most urgent model first."""
    touched = {number: refresh(state, model, now) for number, model in state.touched.items()}
    opened: Opened = dict.fromkeys(_opened(state)) if state.opened else {}
    few = len(state.wanting) <= SHORTLIST
    if opened and few:
        _refresh_all(state, touched, now)
    for number in _most_urgent(state, touched, (SHORTLIST if few else SAMPLE) if opened else 0):
        if number in touched:
            begun = _load(state, state.by_number[number], touched[number], None, now)
        else:
            begun = bool(opened) and _load_on_opened(state, state.by_number[number], opened, now)
        if begun:
            opened = {worker: idle for worker, idle in opened.items() if worker.accepts_load}
    if state.short:
        _keep_all(state, now)
    if not (few or state.out):
        for model in state.queued_models.some(1):
            refresh(state, model, now)  # one at a time, when there is little else to do


def _opened(state: State) -> list[WorkerResidency]:
    """Return the workers that might take a load now; busy ones only while a model is overdue."""
    accepting = [worker for worker in state.opened if worker.accepts_load]
    if not accepting or state.wanting.least <= -OVERDUE:
        return accepting
    return [worker for worker in accepting if worker.may_make_room(state.least_bytes)]


def _most_urgent(state: State, touched: Mapping[int, Demand | None], most: int) -> list[int]:
    """Return the models that might be loaded now: those touched, and so many of the most urgent of all."""
    wanting = state.wanting
    first = wanting.first(most) if most else []
    others = [number for number, demand in touched.items() if demand is not None and number not in first]
    if not others:
        return first
    return sorted(first + others, key=wanting.rank)


def _refresh_all(state: State, touched: Collection[int], now: float) -> None:
    """Bring all models that want a load up to date, which are few."""
    for number in state.wanting.first(SHORTLIST):
        if number not in touched:
            refresh(state, state.by_number[number], now)


def _load_on_opened(state: State, model: ModelState, opened: Opened, now: float) -> bool:
    """Begin the loads of a model that nothing else happened to, if what opened might have room for it."""
    policy, again_at = state.policy, inf
    for worker, known in opened.items():
        if not may_load(model, worker):
            continue
        idle = opened[worker] = idle_on(worker, policy, now) if known is None else known
        room_at = room_not_before(worker, idle, model, need_bytes(model, worker), policy, now)
        if room_at <= now:
            return _load(state, model, _demand(state, model, now), opened, now)
        again_at = min(again_at, room_at)
    state.look_again(model, again_at, now)
    return False


def refresh(state: State, model: ModelState, now: float) -> Demand | None:
    """Bring the model's place among those that want a load up to date."""
    demand = _demand(state, model, now)
    _rank(state, model, demand)
    return demand


def _rank(state: State, model: ModelState, demand: Demand | None) -> None:
    state.wanting.place(model.number, -demand.urgency if demand is not None else None)


def _demand(state: State, model: ModelState, now: float) -> Demand | None:
    """Return what loads are asked for; note who floods the model, and when it is to be looked at again."""
    queue, over = model.queue, state.tenants.over
    if queue.barred and not model.full:
        return _most_urgent_of(state, model, now)
    if len(queue.waiting) <= model.coming or model.full:
        if not queue.waiting:
            model.flooded_by = None
        return None
    queue.give_up_hope(hopeless_before(model, state.policy, now))
    weight = queue.need
    if over and not over.isdisjoint(queue.heavy):
        weight = _bounded_weight(state, model, now)
    elif model.flooded_by is not None:
        model.flooded_by = None
    return _demand_of(state, model, weight, now)


def _most_urgent_of(state: State, model: ModelState, now: float) -> Demand | None:
    """Return the same where some are barred from some workers: each such set of requests asks for itself."""
    whole = model.queue
    whole.give_up_hope(hopeless_before(model, state.policy, now))
    floods = _floods(state, model, now)
    found: list[Demand] = []
    for barred, queue in ((NOWHERE, whole), *whole.barred.items()):
        weight = queue.weight(tenant for tenant in floods if tenant in queue.tenants)
        part = part_of(model, queue, barred)
        demand = _demand_of(state, model, weight, now, part) if part.queued > part.coming else None
        if demand is not None:
            found.append(demand)
    if not found:
        return None
    found.sort(key=lambda demand: -demand.urgency)
    return found[0]._replace(others=tuple(found[1:]))


def _demand_of(
    state: State, model: ModelState, weight: float, now: float, part: Part | None = None
) -> Demand | None:
    """Return what those who wait ask for, or a part of them, and set the alarm for when that may change."""
    demand = demand_of(model, weight, state.policy, now, part)
    if demand is None:
        if not model.service_known:
            state.look_again(model, guess_ends_at(model, state.policy), now)
    elif not demand.overdue:
        state.look_again(model, now - demand.waited_s + state.policy.drain_after, now)
    return demand


def _bounded_weight(state: State, model: ModelState, now: float) -> float:
    """Return what those who wait count for when some are over their share."""
    return model.queue.weight(_floods(state, model, now))


def _floods(state: State, model: ModelState, now: float) -> list[str]:
    """Return whose requests count no more than one replica would need; note who floods the model.

    The queue of a tenant over its share buys no more loads than that of a model that others want too.
    """
    heavy = [name for name in model.queue.heavy if state.tenants.excess(name, now)]
    slots = max(1, model.slots)
    floods = [name for name in heavy if model.queue.heavy[name].waiting >= slots]
    model.flooded_by = floods[0] if floods else None
    return [name for name in floods if model.sharing.another_than(name, now)]


def _keep_all(state: State, now: float) -> None:
    for model in list(state.short.values()):
        _keep(state, model, now)


def _keep(state: State, model: ModelState, now: float) -> None:
    """Load what the operator wants held, as far as there is room or somebody idle."""
    while (demand := kept_demand(model)) is not None:
        if not _begin(state, demand, None, now):
            return
    state.short.pop(model.variant, None)


def _load(state: State, model: ModelState, demand: Demand | None, workers: Opened | None, now: float) -> bool:
    """Begin loads until those that are coming suffice for those who wait; return whether any began."""
    begun = False
    while demand is not None and _begin(state, demand, workers, now):
        begun = True
        demand = _demand(state, model, now)
    _rank(state, model, demand)
    return begun


def _begin(state: State, demand: Demand, workers: Opened | None, now: float) -> bool:
    """Begin a load for the most urgent of those who wait, or where that finds no place for the others."""
    if _begin_for(state, demand, workers, now):
        return True
    others = demand.others
    return bool(others) and any(_begin_for(state, other, workers, now) for other in others)


def _begin_for(state: State, demand: Demand, workers: Opened | None, now: float) -> bool:
    candidates = _candidates(state, demand) if workers is None else workers
    plan = plan_load(demand, candidates, state.policy, now)
    if isinstance(plan, NoPlan):
        state.look_again(demand.model, plan.look_again_at, now)
        return False
    _carry_out(state, demand.model, plan, now)
    return True


def _candidates(state: State, demand: Demand) -> Opened:
    """Return workers to compare: all that may serve the model if they are few, else some that are open."""
    servers = demand.model.servers
    if demand.barred:
        servers = {instance: worker for instance, worker in servers.items() if instance not in demand.barred}
    if len(servers) <= 2 * SHORTLIST:
        return dict.fromkeys(servers.values())
    return dict.fromkeys(state.some_open(SAMPLE, draining=demand.overdue))


def _carry_out(state: State, model: ModelState, plan: Plan, now: float) -> None:
    worker = plan.worker
    for variant in plan.victims:
        victim = worker.replicas[variant]
        victim.draining = True
        if victim.idle:
            unload(state, victim, "makes room", now, model.variant)
        else:
            victim.settle()
            state.touch(victim.model)
    leaving = [v for v, r in worker.replicas.items() if r.phase is UNLOADING]
    replica = enter_replica(worker, model, PLANNED, now)
    replica.size_bytes = need_bytes(model, worker)
    replica.victims, replica.reason = frozenset((*plan.victims, *leaving)), plan.reason
    replica.settle()
    worker.coming = model.variant
    state.changed(worker)
    state.open(worker)


def start_plans(state: State, now: float) -> None:
    """Start the loads whose victims are gone."""
    for worker in state.opened:
        replica = worker.replicas.get(worker.coming) if worker.coming is not None else None
        if replica is None or replica.phase is not PLANNED or not worker.view.ready:
            continue
        if replica.victims.isdisjoint(worker.replicas) and replica.reason is not None:
            replica.phase, replica.since, replica.victims = LOADING, now, frozenset()
            state.out.append(Load(worker.instance, replica.model.variant, replica.reason))
