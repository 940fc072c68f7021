"""What follows from an event: who is granted a slot, what is loaded, and what goes for it.

Only what the event touched is looked at, and the most urgent of what else it may have made possible.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from gateway.scheduling.demand import Demand, demand_of, hopeless_before, kept_demand
from gateway.scheduling.dispatch import MOST_COMPARED, MOST_TOLD, bounded_load, compare, usable
from gateway.scheduling.events import enter_replica, refuse, stop_waiting, unload, virtual_tokens
from gateway.scheduling.placement import NoPlan, Plan, may_load, need_bytes, plan_load
from gateway.scheduling.reasons import GrantReason, ReplicaOption, Turn
from gateway.scheduling.residency import ModelState, Phase, Replica, WorkerResidency
from gateway.scheduling.state import AlarmKind, Lease, State
from gateway.scheduling.types import Arrived, Grant, Load, Rejection, RejectReason

SHORTLIST: Final = 8
"""Models, and workers, that are compared for a load; all of them in a fleet no larger than that."""
_LEAST_SHARED: Final = 2
"""Slots of a model; one alone cannot be shared."""
REFRESHED: Final = 2
"""Waiting models whose urgency is brought up to date with each event beyond those that it touched."""


def settle(state: State, now: float) -> None:
    """Grant what is free, then make room and load for what still waits."""
    for model in list(state.touched.values()):
        _reject_unloadable(state, model)
        _dispatch(state, model, now)
    _drop_idle_plans(state, now)
    if state.touched or state.opened:
        _place(state, now)
    _start_plans(state, now)
    state.touched.clear()
    state.opened.clear()


# Grants -----------------------------------------------------------------------------


def _dispatch(state: State, model: ModelState, now: float) -> None:
    queue = model.queue
    if queue.returned and model.free:
        _dispatch_returned(state, model, now)
    while queue.in_line and model.free:
        held_until = _held_until(state, model, now)
        if held_until > now:
            _look_again(state, model, held_until, now)
            return
        chosen = _next(state, model, now)
        if chosen is None:
            return
        _grant(state, model, *chosen, now)


def _dispatch_returned(state: State, model: ModelState, now: float) -> None:
    """Those that come back go first, each to a worker where it has not failed if there is one."""
    for request in sorted(model.queue.returned.values(), key=lambda request: request.arrived_at):
        if usable(request, model):
            _grant(state, model, request, Turn.RETURNED, now)


def _next(state: State, model: ModelState, now: float) -> tuple[Arrived, Turn] | None:
    """Return whose turn it is; None when the free slots are kept for others than those who wait."""
    policy, queue = state.policy, model.queue
    waited_s = now - queue.oldest_arrival
    every = policy.fifo_turn if waited_s < policy.patience / 2 else policy.impatient_turn
    impatient = waited_s >= policy.patience
    chosen = queue.next(
        now - policy.savable_share * policy.ttft_goal,
        plain=impatient or (model.grants + 1) % every == 0,
        excess=lambda tenant: state.tenants.excess(tenant, policy.fair_share, now),
        may_take=lambda tenant, waiting: _may_take(state, model, tenant, waiting, now),
    )
    if chosen is None or (len(queue) > 1 and not impatient):
        return chosen
    return chosen[0], Turn.PATIENCE if len(queue) > 1 else Turn.ALONE


def _may_take(state: State, model: ModelState, tenant: str, waiting: int, now: float) -> bool:
    """Whether one more slot for the tenant leaves those free that others need, if it floods the model."""
    slots = model.slots
    if slots < _LEAST_SHARED or waiting < slots or not _over_share(state, tenant, now):
        return True
    service_s = state.estimates.typical_service_s(model.variant)
    return slots - model.sharing.busy > model.sharing.kept_from(tenant, slots, service_s, now)


def _over_share(state: State, tenant: str, now: float) -> bool:
    return state.tenants.excess(tenant, state.policy.fair_share, now) > 0


def _held_until(state: State, model: ModelState, now: float) -> float:
    """Return until when the model's requests are held back for a fuller batch; now when they are not.

    On a worker where another model computes and its models have requests waiting, one more model would slow
    them all, while one more answer in a batch is nearly free. So a model that is idle there begins with
    a full batch, or once its oldest request has waited for `batch_hold`.
    """
    until = model.queue.oldest_arrival + state.policy.batch_hold
    if until <= now:
        return now
    for replica in islice(model.free.values(), MOST_COMPARED):
        if replica.busy or not replica.worker.active or len(model.queue) > replica.slots:
            return now
        if not any(other.model.queue for other in replica.worker.replicas.values() if other is not replica):
            return now
    return until


def _grant(state: State, model: ModelState, request: Arrived, turn: Turn, now: float) -> None:
    options = compare(request, usable(request, model), state.estimates, state.sessions, state.policy.crowding)
    option, replica = next(
        (chosen for chosen in options if not chosen[0].cached or _may_return(state, chosen[1])), options[0]
    )
    _take_slot(state, replica, request, option, now)
    model.grants += 1
    told = (option, *(other for other, _ in options[: MOST_TOLD + 1] if other is not option))[:MOST_TOLD]
    load = replica.reason if replica.since > request.arrived_at else None
    reason = GrantReason(turn, told, len(model.servers), load)
    queued_s = now - request.arrived_at
    state.out.append(Grant(request.request, replica.worker.view.instance, request.variant, queued_s, reason))


def _may_return(state: State, replica: Replica) -> bool:
    return bounded_load(replica, state.policy.affinity_bound)


def _take_slot(state: State, replica: Replica, request: Arrived, option: ReplicaOption, now: float) -> None:
    worker = replica.worker
    was_idle = not replica.busy
    replica.busy.add(request.request)
    replica.model.sharing.took(request.tenant, now)
    replica.unload_asked = False
    replica.settle_slots()
    if was_idle:
        state.settle_worker(worker)
    worker.reading[request.request] = option.prompt_s
    charge = virtual_tokens(state, request)
    state.tenants.charge(request.tenant, charge, now)
    state.leases[request.request] = Lease(replica, request, now, charge)
    stop_waiting(state, request.request)


# Loads ------------------------------------------------------------------------------


def _place(state: State, now: float) -> None:
    """Begin the loads that the event made possible or necessary, the most urgent model first."""
    for model in _refreshed(state):
        _refresh(state, model, now)
    opened = [worker for worker in state.opened.values() if worker.accepts_load]
    for number in _most_urgent(state, opened, now):
        model = state.by_number[number]
        demand = _refresh(state, model, now)
        if demand is not None:
            _load(state, demand, None if model.variant in state.touched else opened, now)
    for model in list(state.short.values()):
        _keep(state, model, now)


def _most_urgent(state: State, opened: list[WorkerResidency], now: float) -> list[int]:
    """Return the models that might be loaded now: those touched, and the most urgent for what opened."""
    for model in state.touched.values():
        _refresh(state, model, now)
    wanting = state.wanting
    if not opened or len(wanting) > SHORTLIST:
        first = wanting.first(SHORTLIST) if opened else []
        others = (model.number for model in state.touched.values() if model.number not in first)
        touched = sorted((number for number in others if number in wanting), key=wanting.key)
        return [n for n in first if _might_fit(state, n, opened)] + touched
    for number in wanting.first(SHORTLIST):
        _refresh(state, state.by_number[number], now)
    return wanting.first(SHORTLIST)


def _might_fit(state: State, number: int, opened: list[WorkerResidency]) -> bool:
    model = state.by_number[number]
    return model.variant in state.touched or any(
        may_load(model, worker) and worker.may_have_room(need_bytes(model, worker, state.estimates))
        for worker in opened
    )


def _keep(state: State, model: ModelState, now: float) -> None:
    """Load what the operator wants held, as far as there is room or somebody idle."""
    while (demand := kept_demand(model)) is not None:
        if not _begin(state, demand, None, now):
            return
    state.short.pop(model.variant, None)


def _refreshed(state: State) -> list[ModelState]:
    """With more models waiting than are compared, a few are brought up to date each time."""
    return state.queued_models.some(REFRESHED) if len(state.wanting) > SHORTLIST else []


def _refresh(state: State, model: ModelState, now: float) -> Demand | None:
    """Bring the model's place among those that want a load up to date."""
    model.queue.give_up_hope(hopeless_before(model, state.estimates, state.policy, now))
    model.flooded_by = model.queue.flooder(max(1, model.slots), lambda name: _over_share(state, name, now))
    weight = model.queue.weight(lambda name: _buys_no_more(state, model, name, now))
    demand = demand_of(model, weight, state.estimates, state.policy, now)
    state.wanting.place(model.number, -demand.urgency if demand is not None else None)
    if demand is not None and not demand.overdue:
        _look_again(state, model, now - demand.waited_s + state.policy.drain_after, now)
    return demand


def _buys_no_more(state: State, model: ModelState, tenant: str, now: float) -> bool:
    """Whether the tenant is over its share of what others want too, so that its queue buys no more loads."""
    return model.sharing.another_than(tenant, now) and _over_share(state, tenant, now)


def _load(state: State, first: Demand, workers: list[WorkerResidency] | None, now: float) -> None:
    """Begin loads until those that are coming suffice for those who wait."""
    demand: Demand | None = first
    while demand is not None and _begin(state, demand, workers, now):
        demand = _refresh(state, demand.model, now)


def _begin(state: State, demand: Demand, workers: list[WorkerResidency] | None, now: float) -> bool:
    candidates = _candidates(state, demand) if workers is None else workers
    plan = plan_load(demand, candidates, state.estimates, state.policy, now)
    if isinstance(plan, NoPlan):
        _look_again(state, demand.model, plan.look_again_at, now)
        return False
    _carry_out(state, demand.model, plan, now)
    return True


def _candidates(state: State, demand: Demand) -> list[WorkerResidency]:
    """Return workers to compare: all that may serve the model if they are few, else some that are open."""
    servers = demand.model.servers
    if len(servers) <= 2 * SHORTLIST:
        return list(servers.values())
    return (state.accepting if demand.overdue else state.open_workers).some(SHORTLIST)


def _look_again(state: State, model: ModelState, when: float, now: float) -> None:
    """Set the model's alarm unless an earlier one is set."""
    if now < when < model.looks_again_at:
        model.looks_again_at = when
        state.wake(when, AlarmKind.MODEL, model.variant)


def _carry_out(state: State, model: ModelState, plan: Plan, now: float) -> None:
    worker = plan.worker
    for variant in plan.victims:
        victim = worker.replicas[variant]
        victim.draining = True
        victim.settle()
        state.touch(victim.model)
        if victim.idle:
            unload(state, victim, "makes room", now, model.variant)
    leaving = frozenset(v for v, r in worker.replicas.items() if r.phase is Phase.UNLOADING)
    replica = enter_replica(worker, model, Phase.PLANNED, now)
    replica.size_bytes = need_bytes(model, worker, state.estimates)
    replica.victims, replica.reason = frozenset(plan.victims) | leaving, plan.reason
    replica.settle()
    worker.coming = model.variant
    state.settle_worker(worker)
    state.open(worker)


def _start_plans(state: State, now: float) -> None:
    """Start the loads whose victims are gone."""
    for worker in state.opened.values():
        replica = worker.replicas.get(worker.coming) if worker.coming is not None else None
        if replica is None or replica.phase is not Phase.PLANNED or not worker.view.ready:
            continue
        if not replica.victims & worker.replicas.keys() and replica.reason is not None:
            replica.phase, replica.since, replica.victims = Phase.LOADING, now, frozenset()
            state.out.append(Load(worker.view.instance, replica.model.variant, replica.reason))


def _drop_idle_plans(state: State, now: float) -> None:
    """Give the victims of plans whose clients all left back, and use the slots that they free."""
    for model in list(state.touched.values()):
        plans = [r for r in model.replicas.values() if r.phase is Phase.PLANNED]
        if not plans or model.queue or len(model.live) <= model.bounds.least:
            continue
        for plan in plans:
            state.drop(plan)
            for victim in list(plan.worker.replicas.values()):
                _dispatch(state, victim.model, now)


def _reject_unloadable(state: State, model: ModelState) -> None:
    """When every worker that could serve the model has refused to load it, its requests hear why."""
    if not model.failures or not model.queue or model.live:
        return
    servers = [worker.view.instance for worker in model.ready_servers]
    failures = [model.failures.get(instance) for instance in servers]
    messages = [failure.message for failure in failures if failure is not None and failure.lasting]
    if messages and len(messages) == len(servers):
        for request in model.queue.all():
            refuse(state, request.request, Rejection(RejectReason.LOAD_FAILED, messages[0]))
