"""What changes when workers come, go or change, and what is due when time has passed."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop
from math import inf
from typing import Final

from gateway.scheduling.events import BARRED, UNKNOWN, refuse, unload
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.placement import fits_nowhere
from gateway.scheduling.queues import ModelQueue, Weighing
from gateway.scheduling.residency import PLANNED, ModelState, Replica, WorkerResidency
from gateway.scheduling.state import AlarmKind, State
from gateway.scheduling.types import (
    DeadlinePassed,
    FleetChanged,
    PolicyChanged,
    Rejection,
    RejectReason,
    ReplicaBounds,
    WorkerView,
)

_A_MOMENT_S: Final = 1.0
"""Before a model that has to go, but is waited for, is looked at again."""


def fleet_changed(state: State, event: FleetChanged, now: float) -> None:
    """Take the whole fleet; only workers that changed are looked at."""
    views = {view.instance: view for view in event.workers}
    served: dict[Variant, None] = {}  # a set's order differs from process to process
    for instance in [instance for instance in state.workers if instance not in views]:
        worker = state.workers.pop(instance)
        served.update(dict.fromkeys(worker.view.servable))
        _worker_gone(state, worker)
    for view in event.workers:
        known = state.workers.get(view.instance)
        if known is not None and known.view == view:
            continue
        worker = known or WorkerResidency(view)
        state.workers[view.instance] = worker
        served.update(dict.fromkeys((*worker.view.servable, *view.servable)))
        _worker_changed(state, worker, view)
    for variant in served:
        _bound(state, state.models[variant])
    state.least_bytes = min((model.typical_bytes for model in state.models.values()), default=0)
    _set_bounds(state, event.bounds)
    for variant in served:
        _forget_unless_needed(state, state.models[variant])
    for worker in state.workers.values():
        _rearm(state, worker, now)


def policy_changed(state: State, event: PolicyChanged, _now: float) -> None:
    """Weigh everything anew: what waits may now be loaded, served earlier or left where it is."""
    state.policy = event.policy
    state.tenants.fair_share = event.policy.fair_share
    for model in state.models.values():
        _bound(state, model)
    for worker in state.workers.values():
        state.open(worker)


def _forget_unless_needed(state: State, model: ModelState) -> None:
    if not (model.servers or model.replicas or model.queue.waiting or model in state.bounded_models):
        state.forget(model)


def _worker_gone(state: State, worker: WorkerResidency) -> None:
    for replica in list(worker.replicas.values()):
        state.drop(replica)
    instance = worker.view.instance
    for variant in worker.view.servable:
        model = state.models[variant]
        model.servers.pop(instance, None)
        model.failures.pop(instance, None)
        model.strikes.pop(instance, None)
    state.lose(worker)


def _worker_changed(state: State, worker: WorkerResidency, view: WorkerView) -> None:
    for variant in worker.view.servable:
        if variant not in view.servable:
            state.models[variant].servers.pop(view.instance, None)
            replica = worker.replicas.get(variant)
            if replica is not None and replica.phase is PLANNED:
                state.drop(replica)
    for variant in view.servable:
        state.model(variant).servers[view.instance] = worker
    worker.view = view
    _settle_all_on(state, worker)


def _bound(state: State, model: ModelState) -> None:
    """Bring up to date what follows from the workers that may serve the model."""
    views = [worker.view for worker in model.servers.values()]
    model.too_large = fits_nowhere(model)
    state.relearn(model)
    model.queue_bound = sum(view.max_queue for view in views)
    slots = max((view.num_parallel for view in views), default=1)
    model.queue.reweigh(Weighing(state.policy.late_weight, state.policy.tenant_cap * slots))
    if model.queue.waiting and not model.servers:
        _refuse_all(state, model.queue, UNKNOWN)  # it was deleted
    elif model.queue.waiting:
        state.touch(model)
        for barred, queue in list(model.queue.barred.items()):
            if model.servers.keys() <= barred:
                _refuse_all(state, queue, BARRED)


def _refuse_all(state: State, queue: ModelQueue, rejection: Rejection) -> None:
    """Whoever still waits would wait in vain."""
    for waiting in queue.all():
        refuse(state, waiting.request, rejection)


def _settle_all_on(state: State, worker: WorkerResidency) -> None:
    for replica in worker.replicas.values():
        replica.settle()
        state.touch(replica.model)
    state.open(worker)
    state.changed(worker)


def _set_bounds(state: State, bounds: Mapping[Variant, ReplicaBounds]) -> None:
    for model in state.bounded_models:
        model.bounds = ReplicaBounds()
        for replica in model.replicas.values():
            state.open(replica.worker)  # it may go now
        state.touch(model)
    state.bounded_models = []
    state.short.clear()
    for variant, wished in bounds.items():
        model = state.model(variant)
        model.bounds = wished
        state.bounded_models.append(model)
        state.touch(model)


def _rearm(state: State, worker: WorkerResidency, now: float) -> None:
    """A replica that could not leave when its time was over may now."""
    for replica in worker.replicas.values():
        if replica.idle:
            due = now if replica.draining else max(now, replica.stays_until)
            state.wake(due, AlarmKind.REPLICA, replica.model.variant, worker.view.instance)


def deadline_passed(_state: State, _event: DeadlinePassed, _now: float) -> None:
    """Do nothing yet: what is due is done after every event."""


def time_passed(state: State, now: float) -> None:
    """Do what was due until now."""
    while (due := state.next_alarm()) <= now:
        if state.next_deadline() == due:
            _give_up(state, heappop(state.deadlines)[1])
            continue
        _, kind, variant, where = heappop(state.alarms)
        if variant in state.models:
            _look_again(state, state.models[variant], kind, where, now)


def _give_up(state: State, request: RequestId) -> None:
    model = state.waiting[request].model
    message = f"no slot became free in time; {len(model.queue.waiting)} requests wait for this model"
    refuse(state, request, Rejection(RejectReason.DEADLINE, message))


def _look_again(state: State, model: ModelState, kind: AlarmKind, where: Instance | None, now: float) -> None:
    if kind is AlarmKind.MODEL:
        if model.looks_again_at <= now:
            model.looks_again_at = inf
        state.touch(model)
    elif kind is AlarmKind.FAILURE:
        failure = model.failures.get(where) if where is not None else None
        if where is not None and failure is not None and failure.until <= now:
            del model.failures[where]
            state.touch(model)
    elif where is not None:
        _expire(state, model, where, now)


def _end_drain(state: State, replica: Replica, now: float) -> None:
    """Unload what drained, unless it has become the last that the operator wants held."""
    worker, model = replica.worker, replica.model
    plan = worker.replicas.get(worker.coming) if worker.coming is not None else None
    makes_room = plan is not None and model.variant in plan.victims
    if plan is not None and makes_room and not replica.fault and len(model.live) < model.bounds.least:
        state.drop(plan)
    else:
        unload(state, replica, replica.fault or "drained to make room", now, worker.coming)


def _expire(state: State, model: ModelState, where: Instance, now: float) -> None:
    """Unload an idle model that drained, or that nobody wants to stay; the operator's wish comes first.

    One that is idle only because it has just come for a request, or its requests are held back for a fuller
    batch, stays for those.
    """
    replica = model.replicas.get(where)
    if replica is None or not replica.idle or not replica.worker.view.ready:
        return
    if replica.draining:
        _end_drain(state, replica, now)
    elif replica.stays_until <= now and not replica.kept:
        if replica.live and model.queue.is_wanted_on(where):
            held_until = model.queue.oldest_arrival + state.policy.batch_hold
            state.wake(max(held_until, now + _A_MOMENT_S), AlarmKind.REPLICA, model.variant, where)
            return
        why = "a client asked for it" if replica.unload_asked else "keep-alive passed"
        unload(state, replica, why, now)
