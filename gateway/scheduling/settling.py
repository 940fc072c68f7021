"""What follows from an event: who is granted a slot, what is loaded, and what goes for it.

Decides only the order of these steps. Only what the event touched is looked at, and the most urgent of what
else it may have made possible.
"""

from __future__ import annotations

from typing import Final

from gateway.scheduling.events import refuse
from gateway.scheduling.granting import dispatch, dispatch_stranded
from gateway.scheduling.loading import place, start_plans
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
            _reject_unloadable(state, model)
            dispatch(state, model, now)
    _drop_idle_plans(state, now)
    place(state, now)
    for model in list(state.touched.values()):
        if model.queue.returned:
            dispatch_stranded(state, model, now)
    _drop_idle_plans(state, now)
    start_plans(state, now)
    state.touched.clear()
    state.opened.clear()


def _drop_idle_plans(state: State, now: float) -> None:
    """Give the victims of plans whose clients all left back, and use the slots that they free."""
    for model in list(state.touched.values()):
        if not model.coming or model.queue.waiting:
            continue
        plans = [r for r in model.replicas.values() if r.phase is PLANNED]
        if model.live_replicas <= model.bounds.least:
            continue
        for plan in plans:
            state.drop(plan)
            for victim in list(plan.worker.replicas.values()):
                dispatch(state, victim.model, now)


def _reject_unloadable(state: State, model: ModelState) -> None:
    """When every worker that could serve the model has refused to load it, its requests hear why."""
    if not model.failures or model.live_replicas:
        return
    servers = [worker.view.instance for worker in model.ready_servers]
    failures = [(instance.worker, model.failures.get(instance)) for instance in servers]
    told = [f"{name}: {failure.message}" for name, failure in failures if failure and failure.lasting]
    if told and len(told) == len(servers):
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        why = Rejection(RejectReason.LOAD_FAILED, "; ".join(told[:_MOST_TOLD]) + more)
        for request in model.queue.all():
            refuse(state, request.request, why)
