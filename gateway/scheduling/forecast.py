"""Where those who wait stand, and when they may begin: for people who ask, never for a decision.

Reads the state and changes nothing. Its times are estimates by the same learned figures that decisions use:
an answer under way ends when a typical one would, and then the next begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from math import inf
from typing import NamedTuple

from gateway.scheduling.names import NOWHERE, Instance, RequestId, Variant
from gateway.scheduling.residency import COMING, ModelState, Phase, Replica, WorkerResidency
from gateway.scheduling.state import State
from gateway.scheduling.types import Arrived


class Awaiting(StrEnum):
    """What a request waits for."""

    SLOT = "a slot"
    LOAD = "its model to be loaded"
    ROOM = "room on a worker"


class Forecast(NamedTuple):
    """What is expected of one request that waits."""

    request: RequestId
    variant: Variant
    tenant: str
    background: bool
    waited_s: float
    position: int
    """Among those who wait for the model; 1 is next."""
    queued: int
    """How many those are."""
    awaiting: Awaiting
    starts_in_s: float | None
    """Until it has a slot, estimated; None while no worker that could serve it is up."""
    loading_on: Instance | None = None
    """Where its model is being loaded, or soon will be."""


def forecasts(state: State, now: float) -> Iterator[Forecast]:
    """Yield all who wait, model by model, in the order in which they are likely to have their turns."""
    for model in state.models.values():
        if model.queue.waiting:
            yield from _of_model(state, model, now)


def forecast(state: State, request: RequestId, now: float) -> Forecast | None:
    """Return the same of one request; None when it does not wait."""
    waiter = state.waiting.get(request)
    if waiter is None:
        return None
    return next((found for found in _of_model(state, waiter.model, now) if found.request == request), None)


def _of_model(state: State, model: ModelState, now: float) -> Iterator[Forecast]:
    slots = {barred: _slots(state, model, barred, now) for barred in (NOWHERE, *model.queue.barred)}
    coming = [r.worker.view.instance for r in model.replicas.values() if r.phase in COMING]
    waiting = in_order(state, model, now)
    for at, request in enumerate(waiting):
        awaiting, free_in_s = slots[request.barred]
        yield Forecast(
            request=request.request,
            variant=model.variant,
            tenant=request.tenant,
            background=request.background,
            waited_s=now - request.arrived_at,
            position=at + 1,
            queued=len(waiting),
            awaiting=awaiting,
            starts_in_s=_turn_s(free_in_s, at, model.typical_service_s),
            loading_on=next((instance for instance in coming if instance not in request.barred), None),
        )


def in_order(state: State, model: ModelState, now: float) -> list[Arrived]:
    """Return who waits for the model, in the likely order of turns.

    First who comes back from a failed attempt, then who can still meet the goal, then all others; tenants
    over their share after the rest of each, and else the oldest first.
    """
    queue, policy = model.queue, state.policy
    late_before = now - policy.savable_share * policy.ttft_goal

    def rank(request: Arrived) -> tuple[bool, bool, bool, float, RequestId]:
        late = request.background or request.arrived_at < late_before
        over = request.tenant in state.tenants.over
        return request.request not in queue.returned, late, over, request.arrived_at, request.request

    return sorted(queue.all(), key=rank)


def _turn_s(free_in_s: list[float], at: int, service_s: float) -> float | None:
    """Return when the `at`-th in line has its turn, where each slot is used again after an answer's time."""
    if not free_in_s:
        return None
    rounds, slot = divmod(at, len(free_in_s))
    return free_in_s[slot] + rounds * service_s


def _slots(
    state: State, model: ModelState, barred: frozenset[Instance], now: float
) -> tuple[Awaiting, list[float]]:
    """Return what is waited for, and in how many seconds each slot of the model is free, soonest first.

    By those who may not be served on some workers.
    """
    live = [replica for replica in model.live if replica.worker.instance not in barred]
    times = sorted(time for replica in live for time in _free_in_s(state, replica, now))
    if any(replica.phase is Phase.RESIDENT for replica in live):
        return Awaiting.SLOT, times
    if times:
        return Awaiting.LOAD, times
    servers = [worker for worker in model.ready_servers if worker.instance not in barred]
    room_s = min((_room_in_s(state, worker, now) for worker in servers), default=inf)
    slots = model.known_slots or max((w.view.num_parallel for w in servers), default=1)
    return Awaiting.ROOM, [room_s + model.typical_load_s] * slots if room_s < inf else []


def _free_in_s(state: State, replica: Replica, now: float) -> list[float]:
    if replica.phase is not Phase.RESIDENT:
        loading = replica.phase is Phase.LOADING
        left_s = replica.model.typical_load_s - (now - replica.since if loading else 0.0)
        return [max(0.0, left_s)] * replica.slots
    return _busy_s(state, replica, now) + [0.0] * max(0, replica.slots - len(replica.busy))


def _busy_s(state: State, replica: Replica, now: float) -> list[float]:
    """Return in how many seconds each answer under way would end if it were a typical one."""
    service_s = replica.model.typical_service_s
    return [max(0.0, service_s - (now - state.leases[request].granted_at)) for request in replica.busy]


def _room_in_s(state: State, worker: WorkerResidency, now: float) -> float:
    """Return when a model on the worker will be idle, so that another one may take its place."""
    if worker.active < len(worker.replicas) or not worker.replicas:
        return 0.0
    return min(max(_busy_s(state, replica, now), default=0.0) for replica in worker.replicas.values())
