"""Which request gets which slot, which model is loaded where, and what goes for it.

Events in, effects out: every call is synchronous and therefore atomic. The scheduler is the only writer
of residency and slots. Knows no clock (`now` is monotonic seconds), no sockets, no wire formats.

Promises, checked as properties: never more grants than effective slots; never a grant to a worker that is
not ready or a replica that is draining; at most one load a worker; first come first served per model,
unless the earlier one avoids the free worker; a request that leaves holds nothing; same events, same effects.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from gateway.scheduling.dispatch import can_serve, choose_replica
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.placement import Demand, PlacementPolicy, Plan, fits_nowhere, plan_load
from gateway.scheduling.queues import ModelQueue
from gateway.scheduling.residency import COMING, Phase, Replica, WorkerResidency
from gateway.scheduling.types import (
    Answering,
    Arrived,
    DeadlinePassed,
    Effect,
    Event,
    Finished,
    FleetChanged,
    Grant,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Observed,
    Reject,
    Rejection,
    RejectReason,
    ReplicaBounds,
    Unload,
    UnloadAsked,
    Unloaded,
)


@dataclass(frozen=True, slots=True)
class _Lease:
    instance: Instance
    variant: Variant
    request: Arrived


@dataclass(frozen=True, slots=True)
class _Failure:
    until: float
    message: str
    lasting: bool


@dataclass(slots=True)
class Scheduler:
    """The single owner of residency and slots."""

    policy: PlacementPolicy = field(default_factory=PlacementPolicy)
    _workers: dict[Instance, WorkerResidency] = field(default_factory=dict)
    _queues: dict[Variant, ModelQueue] = field(default_factory=dict)
    _leases: dict[RequestId, _Lease] = field(default_factory=dict)
    _waiting: dict[RequestId, Variant] = field(default_factory=dict)
    _deadlines: list[tuple[float, RequestId]] = field(default_factory=list)
    _bounds: Mapping[Variant, ReplicaBounds] = field(default_factory=dict)
    _failures: dict[tuple[Instance, Variant], _Failure] = field(default_factory=dict)
    _measured: dict[Variant, int] = field(default_factory=dict)
    _out: list[Effect] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event in and return what is to be done, in order."""
        self._out = []
        self._take(event, now)
        self._settle(now)
        return self._out

    def next_deadline(self, now: float) -> float | None:
        """When after `now` a `DeadlinePassed` is due; None when nothing is timed."""
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        return min((moment for moment in self._timers() if moment > now), default=None)

    @property
    def workers(self) -> tuple[WorkerResidency, ...]:
        """What each worker holds, to be looked at and not to be changed."""
        return tuple(self._workers.values())

    def queued(self, variant: Variant) -> int:
        """How many requests wait for the model."""
        return len(self._queues.get(variant, ()))

    @property
    def total_queued(self) -> int:
        """How many requests wait in all."""
        return len(self._waiting)

    # Events ---------------------------------------------------------------------

    def _take(self, event: Event, now: float) -> None:  # noqa: C901 -- one line an event
        match event:
            case Arrived():
                self._arrived(event)
            case Left() | Finished():
                self._released(event.request, now)
            case Answering():
                pass
            case Loaded():
                self._loaded(event, now)
            case LoadFailed():
                self._load_failed(event, now)
            case Unloaded():
                self._unloaded(event)
            case Observed():
                self._observed(event, now)
            case FleetChanged():
                self._fleet_changed(event)
            case UnloadAsked():
                self._unload_asked(event)
            case DeadlinePassed():
                self._give_up_late_requests(now)
            case _:
                assert_never(event)

    def _arrived(self, event: Arrived) -> None:
        rejection = self._admission(event.variant, returning=bool(event.avoid))
        if rejection is not None:
            self._out.append(Reject(event.request, rejection))
            return
        self._queues.setdefault(event.variant, ModelQueue()).push(event)
        self._waiting[event.request] = event.variant
        heapq.heappush(self._deadlines, (event.deadline, event.request))

    def _admission(self, variant: Variant, *, returning: bool) -> Rejection | None:
        """Refuse at the door what can never be served, or would overfill the queue and is new."""
        servers = [w.view for w in self._workers.values() if variant in w.view.servable]
        if not servers:
            return Rejection(RejectReason.UNKNOWN_MODEL, "no worker serves this model")
        too_large = fits_nowhere(variant, self._workers.values())
        if too_large is not None:
            return Rejection(RejectReason.NO_MEMORY, too_large)
        bound = sum(view.max_queue for view in servers)
        if not returning and self.queued(variant) >= bound and not self._free_slot(variant):
            return Rejection(RejectReason.QUEUE_FULL, f"{bound} requests wait for this model already")
        return None

    def _free_slot(self, variant: Variant) -> bool:
        replicas = (w.replicas.get(variant) for w in self._workers.values() if w.view.ready)
        return any(replica is not None and replica.free_slots > 0 for replica in replicas)

    def _released(self, request: RequestId, now: float) -> None:
        variant = self._waiting.pop(request, None)
        if variant is not None:
            self._queues[variant].remove(request)
            return
        lease = self._leases.pop(request, None)
        replica = self._replica(lease.instance, lease.variant) if lease is not None else None
        if lease is None or replica is None or request not in replica.busy:
            return
        replica.busy.discard(request)
        replica.last_used = now
        if lease.request.keep_alive_given:
            replica.keep_alive_s = lease.request.keep_alive_s

    def _loaded(self, event: Loaded, now: float) -> None:
        replica = self._replica(event.instance, event.variant)
        if replica is None or replica.phase is not Phase.LOADING:
            return
        replica.phase, replica.since, replica.last_used = Phase.RESIDENT, now, now
        replica.resident = event.resident
        replica.slots, replica.size_bytes = event.resident.slots, event.resident.size_bytes
        self._measured[event.variant] = event.resident.size_bytes

    def _load_failed(self, event: LoadFailed, now: float) -> None:
        worker = self._workers.get(event.instance)
        replica = self._replica(event.instance, event.variant)
        if worker is None or replica is None or replica.phase is not Phase.LOADING:
            return
        del worker.replicas[event.variant]
        wait_s = self.policy.load_retry_s if event.lasting else self.policy.load_broken_retry_s
        self._failures[event.instance, event.variant] = _Failure(now + wait_s, event.message, event.lasting)

    def _unloaded(self, event: Unloaded) -> None:
        worker = self._workers.get(event.instance)
        replica = self._replica(event.instance, event.variant)
        if worker is not None and replica is not None and replica.phase is Phase.UNLOADING:
            del worker.replicas[event.variant]

    def _observed(self, event: Observed, now: float) -> None:
        worker = self._workers.get(event.instance)
        if worker is None:
            return
        for variant, replica in list(worker.replicas.items()):
            if replica.idle and variant not in event.residents:
                del worker.replicas[variant]
        for variant, resident in event.residents.items():
            known = worker.replicas.get(variant)
            if known is None:
                known = worker.replicas[variant] = _new_replica(worker, Phase.RESIDENT, now)
            if known.phase is Phase.RESIDENT:
                known.resident, known.slots = resident, resident.slots
                known.size_bytes = self._measured[variant] = resident.size_bytes

    def _fleet_changed(self, event: FleetChanged) -> None:
        before, self._workers = self._workers, {}
        self._bounds = event.bounds
        for view in event.workers:
            worker = before.get(view.instance) or WorkerResidency(view)
            worker.view = view
            self._workers[view.instance] = worker
        self._failures = {key: f for key, f in self._failures.items() if key[0] in self._workers}

    def _unload_asked(self, event: UnloadAsked) -> None:
        for worker in self._workers.values():
            replica = worker.replicas.get(event.variant)
            if replica is not None:
                replica.keep_alive_s = 0.0

    def _give_up_late_requests(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            _, request = heapq.heappop(self._deadlines)
            variant = self._waiting.get(request)
            if variant is not None:
                position = self.queued(variant)
                message = f"no slot became free in time; {position} requests wait for this model"
                self._refuse(request, Rejection(RejectReason.DEADLINE, message))

    # Decisions that follow from the state -----------------------------------------

    def _settle(self, now: float) -> None:
        """Grant what is free, then make room and load for what still waits."""
        self._failures = {key: f for key, f in self._failures.items() if f.until > now}
        for variant in self._models_that_wait():
            self._reject_unloadable(variant)
        self._dispatch_all(now)
        while self._drop_plans_nobody_waits_for():
            self._dispatch_all(now)  # to the slots that were being drained for nothing
        for variant in self._models_that_wait():
            self._place(variant, now)
        for variant, bounds in self._bounds.items():
            self._keep_at_least(variant, bounds.least, now)
        for worker in self._workers.values():
            self._expire_and_drain(worker, now)
            self._start_planned_load(worker, now)

    def _models_that_wait(self) -> list[Variant]:
        """The models with waiting requests, oldest head first; empty queues are dropped."""
        self._queues = {variant: queue for variant, queue in self._queues.items() if len(queue)}
        return sorted(self._queues, key=lambda variant: (self._queues[variant].oldest_arrival, variant))

    def _dispatch_all(self, now: float) -> None:
        for variant in self._models_that_wait():
            self._dispatch(variant, now)

    def _dispatch(self, variant: Variant, now: float) -> None:
        for request in self._queues[variant]:
            choice = choose_replica(request, self._workers.values())
            if choice is not None:
                self._grant(request, *choice, now)
            elif not request.avoid:
                break  # those behind it would find no slot either

    def _grant(self, request: Arrived, worker: WorkerResidency, why: str, now: float) -> None:
        instance = worker.view.instance
        self._queues[request.variant].remove(request.request)
        del self._waiting[request.request]
        worker.replicas[request.variant].busy.add(request.request)
        self._leases[request.request] = _Lease(instance, request.variant, request)
        queued_s = now - request.arrived_at
        self._out.append(Grant(request.request, instance, request.variant, queued_s, why))

    def _place(self, variant: Variant, now: float) -> None:
        """Plan loads until the slots that are coming suffice for those who wait."""
        while (demand := self._demand(variant)) is not None:
            usable = [w for w in self._workers.values() if self._may_load(w, variant)]
            plan = plan_load(demand, usable, now=now, policy=self.policy)
            if plan is None:
                return
            self._begin(plan, variant, now)

    def _demand(self, variant: Variant) -> Demand | None:
        """What more is needed of a model than is free or coming, within its bounds; None is nothing."""
        replicas = self._replicas_of(variant)
        coming = sum(replica.slots for replica in replicas if replica.phase in COMING)
        queue = self._queues.get(variant)
        if queue is None or len(queue) <= coming or self._at_most(variant):
            return None
        return Demand(variant, queue.oldest_arrival, bool(replicas), self.protected())

    def _at_most(self, variant: Variant) -> bool:
        """Whether as many workers hold the model, if only on its way in or out, as may."""
        most = self._bounds.get(variant, ReplicaBounds()).most
        holders = sum(w.view.ready and variant in w.replicas for w in self._workers.values())
        return most is not None and holders >= most

    def _replicas_of(self, variant: Variant) -> list[Replica]:
        """Return the model's replicas that take requests or are coming."""
        return [w.replicas[variant] for w in self._workers.values() if w.view.ready and w.holds(variant)]

    def _keep_at_least(self, variant: Variant, least: int, now: float) -> None:
        """Load what the operator wants kept, into free room or the room of idle models."""
        while len(self._replicas_of(variant)) < least and not self._at_most(variant):
            demand = Demand(variant, now, has_replica=False, protected=self.protected())
            usable = [w for w in self._workers.values() if self._may_load(w, variant)]
            plan = plan_load(demand, usable, now=now, policy=self.policy)
            if plan is None:
                return
            self._begin(plan, variant, now)

    def protected(self) -> frozenset[tuple[Instance, Variant]]:
        """Return the replicas that the operator wants kept: no victims, and longer there than keep-alive."""
        floors = {v: bounds.least for v, bounds in self._bounds.items() if bounds.least}
        return frozenset(
            (worker.view.instance, variant)
            for variant, least in floors.items()
            if sum(replica.phase is Phase.RESIDENT for replica in self._replicas_of(variant)) <= least
            for worker in self._workers.values()
            if worker.holds(variant)
        )

    def _may_load(self, worker: WorkerResidency, variant: Variant) -> bool:
        return can_serve(worker, variant) and (worker.view.instance, variant) not in self._failures

    def _begin(self, plan: Plan, variant: Variant, now: float) -> None:
        replica = _new_replica(plan.worker, Phase.PLANNED, now)
        replica.size_bytes = self._measured.get(variant, plan.worker.view.servable[variant])
        replica.victims, replica.why = plan.victims, plan.why
        for victim in plan.victims:
            plan.worker.replicas[victim].draining = True
        plan.worker.replicas[variant] = replica

    def _drop_plans_nobody_waits_for(self) -> bool:
        """Give the victims of plans whose clients all left back; whether there was one."""
        dropped = False
        for worker in self._workers.values():
            variant = worker.coming
            if variant is None or worker.replicas[variant].phase is not Phase.PLANNED:
                continue
            if self.queued(variant) or (worker.view.instance, variant) in self.protected():
                continue
            dropped = True
            for victim in worker.replicas.pop(variant).victims & worker.replicas.keys():
                worker.replicas[victim].draining = False
        return dropped

    def _expire_and_drain(self, worker: WorkerResidency, now: float) -> None:
        if not worker.view.ready:
            return
        kept = self.protected()
        for variant, replica in worker.replicas.items():
            expired = replica.expires_at is not None and replica.expires_at <= now
            if (worker.view.instance, variant) in kept:
                continue
            if replica.idle and (replica.draining or expired):
                replica.phase, replica.since = Phase.UNLOADING, now
                why = "makes room" if replica.draining else "keep-alive passed"
                self._out.append(Unload(worker.view.instance, variant, why))

    def _start_planned_load(self, worker: WorkerResidency, now: float) -> None:
        variant = worker.coming
        if variant is None or not worker.view.ready:
            return
        replica = worker.replicas[variant]
        if replica.phase is Phase.PLANNED and not replica.victims & worker.replicas.keys():
            replica.phase, replica.since, replica.victims = Phase.LOADING, now, frozenset()
            self._out.append(Load(worker.view.instance, variant, replica.why))

    def _reject_unloadable(self, variant: Variant) -> None:
        """When every worker that could serve the model has refused to load it, its requests hear why."""
        servers = [w for w in self._workers.values() if can_serve(w, variant)]
        failures = [self._failures.get((w.view.instance, variant)) for w in servers]
        messages = [failure.message for failure in failures if failure is not None and failure.lasting]
        if not messages or len(messages) < len(servers) or any(w.holds(variant) for w in servers):
            return
        for request in self._queues[variant]:
            self._refuse(request.request, Rejection(RejectReason.LOAD_FAILED, messages[0]))

    def _refuse(self, request: RequestId, rejection: Rejection) -> None:
        variant = self._waiting.pop(request)
        self._queues[variant].remove(request)
        self._out.append(Reject(request, rejection))

    # Looking things up ------------------------------------------------------------

    def _replica(self, instance: Instance, variant: Variant) -> Replica | None:
        worker = self._workers.get(instance)
        return worker.replicas.get(variant) if worker is not None else None

    def _timers(self) -> Iterator[float]:
        if self._deadlines:
            yield self._deadlines[0][0]
        for worker in self._workers.values():
            if worker.view.ready:
                yield from (r.expires_at for r in worker.replicas.values() if r.expires_at is not None)
        yield from (failure.until for failure in self._failures.values())
        for variant, queue in self._queues.items():
            if len(queue):
                yield from self._wakings(variant, queue)

    def _wakings(self, variant: Variant, queue: ModelQueue) -> Iterator[float]:
        """Moments at which a model that waits may be placed although no event comes."""
        holders = [w for w in self._workers.values() if w.view.ready and w.holds(variant)]
        if not holders:
            yield queue.oldest_arrival + self.policy.patience_s
        for worker in self._workers.values():
            if can_serve(worker, variant) and not worker.holds(variant):
                idle = (r.last_used for r in worker.replicas.values() if r.idle)
                yield from (used + self.policy.replica_idle_s for used in idle)


def _new_replica(worker: WorkerResidency, phase: Phase, now: float) -> Replica:
    return Replica(
        phase=phase,
        slots=worker.view.num_parallel,
        size_bytes=0,
        keep_alive_s=worker.view.keep_alive_s,
        last_used=now,
        since=now,
    )
