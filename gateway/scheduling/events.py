"""What each event changes in the scheduler's state. Whatever follows from that is settled afterwards."""

from __future__ import annotations

from math import inf
from typing import Final

from gateway.scheduling.dispatch import can_serve
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.placement import fits_nowhere
from gateway.scheduling.residency import (
    LOADING,
    PLANNED,
    RESIDENT,
    UNLOADING,
    Failure,
    ModelState,
    Phase,
    Replica,
    WorkerResidency,
)
from gateway.scheduling.state import REPLICA, AlarmKind, Lease, State, Waiter
from gateway.scheduling.tenants import PROMPT_SHARE
from gateway.scheduling.types import (
    Adopted,
    Answering,
    Arrived,
    Finished,
    Left,
    Loaded,
    LoadFailed,
    Observed,
    RanOutOfMemory,
    Reject,
    Rejection,
    RejectReason,
    Resident,
    Unload,
    UnloadAsked,
    Unloaded,
)

_BROKEN_RETRY_S: Final = 1.0
"""Before a load that broke off, for example because the worker died, is tried there again."""
_MOST_DOUBLINGS: Final = 5
"""Of the wait before a load that was refused is tried there again."""
_MOST_WISHES: Final = 32
"""Tenants whose keep-alive is remembered for a replica; those that passed are forgotten first."""


UNKNOWN: Final = Rejection(RejectReason.UNKNOWN_MODEL, "no worker serves this model")
BARRED: Final = Rejection(RejectReason.BARRED, "no worker that has this model can serve the request")

# Requests -------------------------------------------------------------------------


def arrived(state: State, event: Arrived, now: float) -> None:
    """Take a request in, or refuse at the door what can never be served or would overfill the queue."""
    model = state.models.get(event.variant)
    rejection = _admission(model, event)
    if rejection is not None or model is None:
        state.out.append(Reject(event.request, rejection or UNKNOWN))
        return
    if not event.avoid and not event.probe:
        model.learned.arrived(now)
        state.tenants.asks(event.tenant, now)
        model.sharing.asked(event.tenant, now)
    model.queue.push(event)
    worth = virtual_tokens(model, event)
    state.tenants.waits(event.tenant, worth, now)
    state.waiting[event.request] = Waiter(model, worth)
    if len(model.queue.waiting) == 1:
        state.queued_models.put(model, member=True)
    state.give_up_at(event.deadline, event.request)
    state.touch(model)


def _admission(model: ModelState | None, event: Arrived) -> Rejection | None:
    if model is None or not model.servers:
        return UNKNOWN
    too_large = model.too_large
    if event.barred:
        if model.servers.keys() <= event.barred:
            return BARRED
        too_large = fits_nowhere(model, event.barred)
    if too_large is not None and model.replicas.keys() <= event.barred:
        return Rejection(RejectReason.NO_MEMORY, too_large)
    if event.avoid or event.admitted or len(model.queue.waiting) < model.queue_bound:
        return None
    if model.free and (not event.barred or can_serve(model, event.barred)):
        return None
    return Rejection(RejectReason.QUEUE_FULL, f"{model.queue_bound} requests wait for this model already")


def adopted(state: State, event: Adopted, now: float) -> None:
    """Count the slot of an answer that another gateway began; a process that is gone computes none."""
    worker = state.workers.get(event.instance)
    if worker is None or event.request.request in state.leases:
        return
    request = event.request
    model = state.model(request.variant)
    replica = worker.replicas.get(request.variant) or _found_busy(worker, model, now)
    charge = virtual_tokens(model, request)
    lease = hold_slot(state, replica, request, charge, now)
    state.tenants.charge(request.tenant, charge, now)
    lease.granted_at, lease.answered = event.granted_at, True


def _found_busy(worker: WorkerResidency, model: ModelState, now: float) -> Replica:
    """Return the replica in which another gateway's answers are computed although nobody saw it yet."""
    replica = enter_replica(worker, model, RESIDENT, now)
    replica.size_bytes = model.typical_bytes
    replica.settle()
    return replica


def hold_slot(state: State, replica: Replica, request: Arrived, charged: float, now: float) -> Lease:
    """Have a request hold a slot of the replica from now on; its tenant is charged so many virtual tokens."""
    was_idle = not replica.busy
    replica.busy.add(request.request)
    use = replica.model.sharing.took(request.tenant, now)
    replica.unload_asked = False
    replica.settle_slots()
    if was_idle:
        state.changed(replica.worker)
    lease = state.leases[request.request] = Lease(replica, request, now, charged, use)
    return lease


def virtual_tokens(model: ModelState, request: Arrived) -> float:
    """Return what a request is expected to cost."""
    return PROMPT_SHARE * request.prompt_tokens + model.typical_output_tokens


def stop_waiting(state: State, request: RequestId) -> None:
    """Take a request out of its queue, which gets nothing."""
    tenant, worth = leave_queue(state, request)
    state.tenants.waits_no_more(tenant, worth)


def leave_queue(state: State, request: RequestId) -> tuple[str, float]:
    """Take a request out of its queue; return whose it is, and the virtual tokens that it counted there."""
    model, worth = state.waiting.pop(request)
    gone = model.queue.remove(request)
    if not model.queue.waiting:
        state.queued_models.put(model, member=False)
    return gone.tenant, worth


def refuse(state: State, request: RequestId, rejection: Rejection) -> None:
    """Tell a waiting request that there will be no slot."""
    state.touch(state.waiting[request].model)
    stop_waiting(state, request)
    state.out.append(Reject(request, rejection))


def ended(state: State, event: Left | Finished, now: float) -> None:
    """Free the slot, or the place in the queue; learn from an answer that ended well."""
    if event.request in state.waiting:
        state.touch(state.waiting[event.request].model)
        stop_waiting(state, event.request)
        return
    lease = state.leases.pop(event.request, None)
    if lease is None:
        return
    if isinstance(event, Finished):
        _learn(state, lease, event, now)
    elif not lease.answered:
        state.tenants.charge(lease.request.tenant, -lease.charged, now)  # it was given nothing
    if event.request in lease.replica.busy:
        _free_slot(state, lease, now)


def _learn(state: State, lease: Lease, event: Finished, now: float) -> None:
    request, worker, model = lease.request, lease.replica.worker, lease.replica.model
    model.learned.finished(worker.view.device, now - lease.granted_at, event.output_tokens)
    state.relearn_answers(model)
    model.service_known = True
    tokens = request.prompt_tokens if event.prompt_tokens is None else event.prompt_tokens
    output_tokens = event.output_tokens or 0
    if request.session:
        state.sessions.answered(request.session, request.variant, worker.instance, tokens + output_tokens)
    if event.output_tokens is not None:
        state.tenants.charge(request.tenant, PROMPT_SHARE * tokens + output_tokens - lease.charged, now)


def _free_slot(state: State, lease: Lease, now: float) -> None:
    replica, request = lease.replica, lease.request
    worker = replica.worker
    replica.busy.discard(request.request)
    replica.model.sharing.gave_back(lease.use)
    if not lease.answered:
        worker.reading.pop(request.request, None)
    if not request.probe:
        _note_use(replica, request, now)
    replica.settle_slots()
    if not replica.busy:
        state.open(worker)
        due = now if replica.draining else replica.stays_until
        state.wake(due, REPLICA, request.variant, worker.instance)
        state.changed(worker)
    state.touch(replica.model)
    for other in worker.replicas.values():
        if not other.busy and other.model.queue.waiting:
            state.touch(other.model)  # it may have been held back for this one


def _note_use(replica: Replica, request: Arrived, now: float) -> None:
    """Remember its use, and how long this tenant wants it to stay; what others want stays as it is."""
    replica.last_used = now
    if replica.unload_asked:
        return
    keep = request.keep_alive_s if request.keep_alive_given else replica.worker.view.keep_alive_s
    wishes = replica.wishes
    if len(wishes) >= _MOST_WISHES:
        for tenant in [tenant for tenant, until in wishes.items() if until <= now]:
            del wishes[tenant]
    wishes[request.tenant] = inf if keep is None else now + keep


def answering(state: State, event: Answering, now: float) -> None:
    """The prompt is read: learn how fast, if nothing else was computed there."""
    lease = state.leases.get(event.request)
    if lease is None:
        return
    lease.answered = True
    worker = lease.replica.worker
    if (
        worker.reading.pop(event.request, None) is not None
        and worker.busy == 1
        and lease.request.prompt_tokens
    ):
        seconds = now - lease.granted_at
        lease.replica.model.learned.prefilled(worker.view.device, lease.request.prompt_tokens, seconds)


# Loads and what workers hold --------------------------------------------------------


def loaded(state: State, event: Loaded, now: float) -> None:
    """A load is done; a model that is not as it was ordered has to go again."""
    replica = state.replica(event.instance, event.variant)
    if replica is None or replica.phase is not LOADING:
        return
    seconds = now - replica.since
    replica.model.learned.loaded(event.instance.worker, seconds, event.resident.size_bytes)
    replica.worker.coming = None
    replica.phase, replica.since, replica.last_used = RESIDENT, now, now
    _believe(state, replica, event.resident, now)
    if not event.resident.fault:
        replica.model.failures.pop(event.instance, None)
        replica.model.strikes.pop(event.instance, None)


def _believe(state: State, replica: Replica, resident: Resident, now: float) -> None:
    """Take what is seen of a resident replica."""
    replica.resident, replica.slots = resident, resident.slots
    model = replica.model
    model.known_slots = resident.slots
    replica.size_bytes = max(resident.size_bytes, model.learned.least_bytes)
    state.relearn(model)
    replica.settle()
    for each in model.replicas.values() if model.bounds.least else (replica,):
        # with one replica more, others of a model that the operator wants kept may go
        state.wake(max(now, each.stays_until), REPLICA, model.variant, each.worker.instance)
        state.open(each.worker)
    state.touch(model)
    state.changed(replica.worker)
    if resident.fault and not replica.fault:
        _reject_replica(state, replica, resident.fault, now, lasting=True)


def _reject_replica(state: State, replica: Replica, fault: str, now: float, *, lasting: bool) -> None:
    """A replica that spilled to the CPU, lost context or had too little memory is placed elsewhere."""
    remember_failure(state, replica.model, replica.worker.view.instance, fault, now, lasting=lasting)
    replica.draining, replica.fault = True, fault
    replica.settle()
    if replica.idle:
        unload(state, replica, fault, now)


def load_failed(state: State, event: LoadFailed, now: float) -> None:
    """A load came to nothing: remembered, so that it is tried elsewhere first."""
    replica = state.replica(event.instance, event.variant)
    if replica is None or replica.phase is not LOADING:
        return
    if event.out_of_memory:
        _expect_more(state, replica)
    remember_failure(state, replica.model, event.instance, event.message, now, lasting=event.lasting)
    state.drop(replica)


def ran_out_of_memory(state: State, event: RanOutOfMemory, now: float) -> None:
    """A replica that took more than it said is placed elsewhere, or where that is nowhere loaded anew."""
    replica = state.replica(event.instance, event.variant)
    if replica is None or replica.phase is not RESIDENT or replica.fault:
        return
    model = replica.model
    _expect_more(state, replica)
    others = (worker.instance for worker in model.ready_servers if worker is not replica.worker)
    elsewhere = any(instance not in model.failures for instance in others)
    _reject_replica(state, replica, event.message, now, lasting=elsewhere)


def _expect_more(state: State, replica: Replica) -> None:
    """Plan with more for the model from now on, though never with more than the largest worker has."""
    model = replica.model
    most = max((worker.view.memory_bytes for worker in model.servers.values()), default=0)
    model.learned.outgrew(replica.size_bytes, most)
    state.relearn(model)


def remember_failure(
    state: State, model: ModelState, instance: Instance, message: str, now: float, *, lasting: bool
) -> None:
    """Keep the model from that process for a while, longer each time."""
    times = model.strikes.get(instance, 0) + 1 if lasting else 0
    doublings = min(max(0, times - 1), _MOST_DOUBLINGS)
    until = now + (state.policy.load_retry * 2**doublings if lasting else _BROKEN_RETRY_S)
    model.failures[instance] = Failure(until, message, lasting)
    if lasting:
        model.strikes[instance] = times
    state.wake(until, AlarmKind.FAILURE, model.variant, instance)
    state.touch(model)


def unload(state: State, replica: Replica, why: str, now: float, in_favour_of: Variant | None = None) -> None:
    """Order an idle replica out of memory."""
    replica.phase, replica.since = UNLOADING, now
    replica.settle()
    instance, variant = replica.worker.view.instance, replica.model.variant
    state.out.append(Unload(instance, variant, why, in_favour_of))
    state.touch(replica.model)


def unloaded(state: State, event: Unloaded, _now: float) -> None:
    """An unload is done."""
    replica = state.replica(event.instance, event.variant)
    if replica is not None and replica.phase is UNLOADING:
        state.drop(replica)


def observed(state: State, event: Observed, now: float) -> None:
    """What a worker holds wins over what was believed of it."""
    worker = state.workers.get(event.instance)
    if worker is None:
        return
    for variant, replica in list(worker.replicas.items()):
        if replica.idle and variant not in event.residents:
            state.drop(replica)
    _drop_outdated_plan(state, worker, event)
    for variant, resident in event.residents.items():
        known = worker.replicas.get(variant) or enter_replica(worker, state.model(variant), RESIDENT, now)
        if known.phase is RESIDENT:
            known.model.learned.measured_bytes = resident.size_bytes
            _believe(state, known, resident, now)


def _drop_outdated_plan(state: State, worker: WorkerResidency, event: Observed) -> None:
    """Have a load planned anew if somebody else was quicker, or took the room that it counted on."""
    plan = worker.replicas.get(worker.coming) if worker.coming is not None else None
    if plan is None or plan.phase is not PLANNED:
        return
    for variant, resident in event.residents.items():
        known = worker.replicas.get(variant)
        if known is None or known is plan or known.size_bytes < resident.size_bytes:
            state.drop(plan)
            return


def enter_replica(worker: WorkerResidency, model: ModelState, phase: Phase, now: float) -> Replica:
    """Enter a replica on both books; its size is the caller's to set and settle."""
    replica = Replica(
        model=model,
        worker=worker,
        phase=phase,
        slots=model.known_slots or worker.view.num_parallel,
        size_bytes=0,
        last_used=now,
        since=now,
    )
    worker.replicas[model.variant] = replica
    model.replicas[worker.view.instance] = replica
    return replica


def unload_asked(state: State, event: UnloadAsked, now: float) -> None:
    """A client wants the model to leave as soon as it is idle; the operator's wishes come first."""
    model = state.models.get(event.variant)
    for replica in model.replicas.values() if model is not None else ():
        replica.unload_asked = True
        replica.wishes.clear()
        state.wake(now, REPLICA, event.variant, replica.worker.instance)
