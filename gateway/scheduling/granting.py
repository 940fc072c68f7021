"""Whose turn it is when slots are free, and on which of the free replicas.

The state's side of `queues` (whose turn) and `dispatch` (where): holds batches back, keeps slots from floods.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from math import inf
from typing import Final

from gateway.scheduling.dispatch import (
    MOST_COMPARED,
    MOST_TOLD,
    bounded_load,
    can_serve,
    compare,
    stranded,
    usable,
)
from gateway.scheduling.events import hold_slot, leave_queue, virtual_tokens
from gateway.scheduling.reasons import GrantReason, ReplicaOption, Turn
from gateway.scheduling.residency import ModelState, Replica
from gateway.scheduling.state import State
from gateway.scheduling.types import Arrived, Grant

_LEAST_SHARED: Final = 2
"""Slots of a model; one alone cannot be shared."""


def dispatch(state: State, model: ModelState, now: float) -> None:
    """Grant the model's free slots to those who wait for it."""
    queue = model.queue
    if queue.returned and model.free:
        _dispatch_returned(state, model, now)
    while model.free and queue.in_line:
        held_until = _held_until(state, model, now)
        if held_until > now:
            model.held_since = min(model.held_since, now)
            state.look_again(model, held_until, now)
            return
        chosen = _next(state, model, now)
        if chosen is None:
            break
        request, turn = chosen
        _grant(state, model, request, turn, usable(request, model), now)
    model.held_since = inf


def _dispatch_returned(state: State, model: ModelState, now: float) -> None:
    """Those that come back go first, each to a worker where it has not failed."""
    for request in _returned_by_age(model):
        free = usable(request, model)
        if free:
            _grant(state, model, request, Turn.RETURNED, free, now)


def dispatch_stranded(state: State, model: ModelState, now: float) -> None:
    """Those for whom the model could not be loaded elsewhere stand in line again for where they failed."""
    for request in _returned_by_age(model):
        if stranded(request, model):
            model.queue.avoid_no_more(request)
    dispatch(state, model, now)


def _returned_by_age(model: ModelState) -> list[Arrived]:
    return sorted(model.queue.returned.values(), key=lambda request: request.arrived_at)


def _next(state: State, model: ModelState, now: float) -> tuple[Arrived, Turn] | None:
    """Return whose turn it is; None when the free slots are kept for others than those who wait."""
    policy, queue = state.policy, model.queue
    waited_s = now - queue.oldest_arrival
    impatient = waited_s >= policy.patience
    plain = impatient or (model.grants + 1) % policy.fifo_turn == 0
    late_before = now - policy.savable_share * policy.ttft_goal
    chosen: tuple[Arrived, Turn] | None
    over = state.tenants.over
    if not queue.returned and not queue.barred and (not over or over.isdisjoint(queue.tenants)):
        chosen = queue.oldest(late_before, plain=plain)
    else:
        chosen = queue.next(
            late_before,
            plain=plain,
            excess=lambda tenant: state.tenants.excess(tenant, now),
            may_take=lambda tenant, waiting: _may_take(state, model, tenant, waiting, now),
            can_serve=lambda barred: can_serve(model, barred),
        )
    if chosen is None or (len(queue.waiting) > 1 and not impatient):
        return chosen
    return chosen[0], Turn.PATIENCE if len(queue.waiting) > 1 else Turn.ALONE


def _may_take(state: State, model: ModelState, tenant: str, waiting: int, now: float) -> bool:
    """Whether one more slot for the tenant leaves those free that others need, if it floods the model."""
    slots = model.slots
    if slots < _LEAST_SHARED or waiting < slots or not state.tenants.excess(tenant, now):
        return True
    kept = model.sharing.kept_from(tenant, slots, model.typical_service_s, now)
    if not kept:
        return True
    return sum(replica.slots_counted - len(replica.busy) for replica in model.free.values()) > kept


def _held_until(state: State, model: ModelState, now: float) -> float:
    """Return until when the model's requests are held back for a fuller batch; now when they are not.

    On a worker where another model computes and its models have requests waiting, one more model would slow
    them all, while one more answer in a batch is nearly free. So a model that is idle there begins with
    a full batch, or once its oldest request has waited for `batch_hold`, or for as long as an answer takes.
    """
    for replica in islice(model.free.values(), MOST_COMPARED):
        alone = replica.slots == 1  # one request is a full batch
        if alone or replica.busy or not replica.worker.active or len(model.queue.waiting) > replica.slots:
            return now
        if not any(
            other.model.queue.waiting for other in replica.worker.replicas.values() if other is not replica
        ):
            return now
    until = model.queue.oldest_arrival + min(state.policy.batch_hold, model.typical_service_s)
    if until <= now:
        return now
    return until


def _grant(
    state: State, model: ModelState, request: Arrived, turn: Turn, free: Collection[Replica], now: float
) -> None:
    options = compare(request, free, state.sessions, state.policy.crowding)
    option, replica = options[0]
    told: tuple[ReplicaOption, ...] = (option,)
    if len(options) > 1:
        option, replica = _best(state, options)
        told = (option, *[other for other, _ in options[: MOST_TOLD + 1] if other is not option])[:MOST_TOLD]
    _take_slot(state, replica, request, option, now)
    model.grants += 1
    load = replica.reason if replica.since > request.arrived_at else None
    held_s = max(0.0, now - max(model.held_since, request.arrived_at))
    reason = GrantReason(turn, told, len(model.servers), load, held_s)
    queued_s = now - request.arrived_at
    state.out.append(Grant(request.request, replica.worker.instance, request.variant, queued_s, reason))


def _best(state: State, options: list[tuple[ReplicaOption, Replica]]) -> tuple[ReplicaOption, Replica]:
    """Return the soonest, unless a conversation would pile up there."""
    bound = state.policy.affinity_bound
    for option, replica in options:
        if not option.cached or bounded_load(replica, bound):
            return option, replica
    return options[0]


def _take_slot(state: State, replica: Replica, request: Arrived, option: ReplicaOption, now: float) -> None:
    replica.worker.reading[request.request] = option.prompt_s
    charged = virtual_tokens(replica.model, request)
    hold_slot(state, replica, request, charged, now)
    tenant, worth = leave_queue(state, request.request)
    state.tenants.begins(tenant, worth, charged, now)
