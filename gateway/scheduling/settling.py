"""What follows from an event: who is granted a slot, what is loaded, and what goes for it.

Decides only the order of these steps. Only what the event touched is looked at, and the most urgent of what
else it may have made possible.
"""

from __future__ import annotations

from typing import Final

from gateway.scheduling.events import refuse
from gateway.scheduling.granting import dispatch, dispatch_stranded
from gateway.scheduling.loading import place, start_plans
from gateway.scheduling.names import NOWHERE, Instance
from gateway.scheduling.residency import PLANNED, ModelState
from gateway.scheduling.state import State
from gateway.scheduling.types import Rejection, RejectReason

_MOST_TOLD: Final = 3
"""Workers whose words are told when none of them could load a model."""


def settle(state: State, now: float) -> None:
    """Grant what is free, then make room and load for what still waits."""
    if not state.touched and not state.opened:
        return
    for model in list(state.touched.values()):
        if model.queue.waiting:
            if model.failures:
                _reject_unloadable(state, model)
            dispatch(state, model, now)
    _drop_idle_plans(state, now)
    place(state, now)
    for model in list(state.touched.values()):
        if model.queue.returned:
            dispatch_stranded(state, model, now)
    _drop_idle_plans(state, now)
    if state.opened:
        start_plans(state, now)
    state.touched.clear()
    state.opened.clear()


def _drop_idle_plans(state: State, now: float) -> None:
    """Give the victims of plans whose clients all left back, and use the slots that they free."""
    for model in list(state.touched.values()):
        queue = model.queue
        if not model.coming or (queue.waiting and not queue.barred):
            continue
        plans = [r for i, r in model.replicas.items() if r.phase is PLANNED and not queue.is_wanted_on(i)]
        if model.live_replicas <= model.bounds.least:
            continue
        for plan in plans:
            state.drop(plan)
            for victim in list(plan.worker.replicas.values()):
                dispatch(state, victim.model, now)


def _reject_unloadable(state: State, model: ModelState) -> None:
    """When every worker that could serve them has refused to load the model, its requests hear why."""
    for barred, queue in [(NOWHERE, model.queue), *model.queue.barred.items()]:
        why = _refused_elsewhere(model, barred)
        for request in queue.all_here() if why is not None else ():
            refuse(state, request.request, Rejection(RejectReason.LOAD_FAILED, why or ""))


def _refused_elsewhere(model: ModelState, barred: frozenset[Instance]) -> str | None:
    """Return why none of the other workers loads the model; None if one has it, or may."""
    if model.live_replicas and (not barred or any(r.worker.instance not in barred for r in model.live)):
        return None
    servers = [worker.instance for worker in model.ready_servers if worker.instance not in barred]
    failures = [(instance.worker, model.failures.get(instance)) for instance in servers]
    told = [f"{name}: {failure.message}" for name, failure in failures if failure and failure.lasting]
    if not told or len(told) < len(servers):
        return None
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more
