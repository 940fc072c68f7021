"""All that the scheduler knows, and how it is looked up. Decides nothing.

One writer: the functions that `Scheduler.handle` calls. What has to be looked at again after an event is
noted here (`touched`, `opened`), so that no event scans the fleet or the queues.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple

from gateway.scheduling.estimates import Estimates
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.queues import ModelQueue, Weighing
from gateway.scheduling.rankings import Ranking, Rotation
from gateway.scheduling.residency import GONE, RESIDENT, ModelState, Replica, WorkerResidency
from gateway.scheduling.sessions import Sessions
from gateway.scheduling.sharing import Use
from gateway.scheduling.tenants import Tenants
from gateway.scheduling.types import Arrived, Effect
from supervisor.contract.config import SchedulingConfig


@dataclass(slots=True)
class Lease:
    """A granted slot."""

    replica: Replica
    request: Arrived
    granted_at: float
    charged: float
    """Virtual tokens."""
    use: Use
    """The tenant's of the model."""
    answered: bool = False
    """Its first token is there."""


class Waiter(NamedTuple):
    """A request that waits."""

    model: ModelState
    worth: float
    """Virtual tokens."""


class AlarmKind(IntEnum):
    """What is due at a moment."""

    MODEL = 1
    REPLICA = 2
    FAILURE = 3


_MODEL: Final = AlarmKind.MODEL
REPLICA: Final = AlarmKind.REPLICA
"""For what is set often: to look up an attribute of an enum takes five times as long."""

Alarm = tuple[float, AlarmKind, Variant, Instance | None]


@dataclass(slots=True)
class State:
    """Everything, in one place."""

    policy: SchedulingConfig
    estimates: Estimates = field(default_factory=Estimates)
    tenants: Tenants = field(init=False)
    sessions: Sessions = field(default_factory=Sessions)
    workers: dict[Instance, WorkerResidency] = field(default_factory=dict)
    models: dict[Variant, ModelState] = field(default_factory=dict)
    by_number: dict[int, ModelState] = field(default_factory=dict)
    _numbers: int = 0
    waiting: dict[RequestId, Waiter] = field(default_factory=dict)
    leases: dict[RequestId, Lease] = field(default_factory=dict)
    deadlines: list[tuple[float, RequestId]] = field(default_factory=list)
    """Of requests, the soonest on top. Apart from the alarms, which rise through a far smaller heap."""
    alarms: list[Alarm] = field(default_factory=list)
    wanting: Ranking = field(default_factory=Ranking)
    """Models that should be loaded somewhere, the most urgent first."""
    queued_models: Rotation[ModelState] = field(default_factory=Rotation)
    """Models that are waited for."""
    _open: Rotation[WorkerResidency] = field(default_factory=Rotation)
    """Workers on which a load needs no busy model drained."""
    _accepting: Rotation[WorkerResidency] = field(default_factory=Rotation)
    """All workers that could begin a load."""
    _changed: dict[WorkerResidency, None] = field(default_factory=dict)
    """Workers that changed since somebody looked at those; few fleets are so large that anybody does."""
    bounded_models: list[ModelState] = field(default_factory=list)
    """Models that the operator has wishes for."""
    least_bytes: int = 0
    """What the smallest model takes."""
    short: dict[Variant, ModelState] = field(default_factory=dict)
    """Models that fewer workers hold than the operator wants."""
    touched: dict[int, ModelState] = field(default_factory=dict)
    """Models about which something changed in this event, by their numbers."""
    opened: dict[WorkerResidency, None] = field(default_factory=dict)
    """Workers that might now take a load that they could not take before; in order."""
    out: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tenants = Tenants(self.policy.fair_share)

    def relearn(self, model: ModelState) -> None:
        """Bring what decisions need of the model's estimates up to date; after whatever taught something."""
        learned = model.learned
        model.measured_bytes = learned.size_bytes
        model.typical_bytes = model.measured_bytes or max(1, model.guessed_bytes)
        self.least_bytes = min(self.least_bytes, model.typical_bytes)
        model.typical_load_s = learned.typical_load_s(model.typical_bytes)
        model.service_known = bool(learned.answers_s)
        self.relearn_answers(model)

    def relearn_answers(self, model: ModelState) -> None:
        """The same after an answer."""
        learned = model.learned
        model.typical_service_s, model.typical_output_tokens = (
            learned.typical_service_s,
            learned.output_tokens,
        )

    def model(self, variant: Variant) -> ModelState:
        """Return the model's state, a new one if it was never heard of."""
        model = self.models.get(variant)
        if model is None:
            queue = ModelQueue(Weighing(self.policy.late_weight, inf))
            learned = self.estimates.of(variant)
            model = self.models[variant] = ModelState(variant, self._numbers, queue, learned)
            model.measured_bytes = learned.size_bytes
            model.typical_output_tokens = learned.output_tokens
            self.by_number[model.number] = model
            self._numbers += 1
        return model

    def forget(self, model: ModelState) -> None:
        """Drop a model that nobody serves, holds or waits for."""
        del self.models[model.variant], self.by_number[model.number]
        self.touched.pop(model.number, None)
        self.short.pop(model.variant, None)
        self.wanting.place(model.number, None)
        if model.variant.options:
            self.estimates.forget(model.variant)

    def replica(self, instance: Instance, variant: Variant) -> Replica | None:
        """Return the model's replica on that process, if both are there."""
        worker = self.workers.get(instance)
        return worker.replicas.get(variant) if worker is not None else None

    def touch(self, model: ModelState) -> None:
        """Have the model looked at before this event ends."""
        self.touched[model.number] = model
        if model.bounds.least:
            self.short[model.variant] = model

    def open(self, worker: WorkerResidency) -> None:
        """Have the worker looked at as a place for loads before this event ends."""
        self.opened[worker] = None

    def changed(self, worker: WorkerResidency) -> None:
        """Note that a worker holds or does something else now; to be called after every such change."""
        self._changed[worker] = None

    def some_open(self, most: int, *, draining: bool) -> list[WorkerResidency]:
        """Return a few workers that could begin a load, others each time: `draining` a busy model or not."""
        self._sort_workers()
        return (self._accepting if draining else self._open).some(most)

    def _sort_workers(self) -> None:
        for worker in self._changed:
            accepts = worker.accepts_load
            self._accepting.put(worker, member=accepts)
            self._open.put(worker, member=accepts and worker.may_make_room(self.least_bytes))
        self._changed.clear()

    def lose(self, worker: WorkerResidency) -> None:
        """Forget a worker."""
        self.opened.pop(worker, None)
        self._changed.pop(worker, None)
        self._accepting.put(worker, member=False)
        self._open.put(worker, member=False)

    def drop(self, replica: Replica) -> None:
        """Forget a replica; the requests that hold its slots keep their leases and free nothing any more."""
        worker, model = replica.worker, replica.model
        variant, instance = model.variant, worker.instance
        if worker.coming == variant:
            worker.coming = None
        replica.phase = GONE
        for request in replica.busy:
            model.sharing.gave_back(self.leases[request].use)
            worker.reading.pop(request, None)
        replica.busy = set()
        replica.settle()
        worker.replicas.pop(variant, None)
        model.replicas.pop(instance, None)
        for victim in worker.replicas.values():
            if victim.model.variant in replica.victims:
                self._spare(victim)
        self.touch(model)
        self.open(worker)
        self.changed(worker)

    def _spare(self, victim: Replica) -> None:
        """Have a replica stay that was to make room, unless it is not as it has to be."""
        if victim.phase is RESIDENT and not victim.fault:
            victim.draining = False
            victim.settle()
            self.touch(victim.model)

    def look_again(self, model: ModelState, when: float, now: float) -> None:
        """Set the model's alarm unless an earlier one is set."""
        if now < when < model.looks_again_at:
            model.looks_again_at = when
            self.wake(when, _MODEL, model.variant)

    def wake(self, when: float, kind: AlarmKind, model: Variant, where: Instance | None = None) -> None:
        """Set an alarm."""
        if when < inf:
            heappush(self.alarms, (when, kind, model, where))

    def give_up_at(self, when: float, request: RequestId) -> None:
        """Set a request's deadline."""
        if when < inf:
            heappush(self.deadlines, (when, request))

    def next_deadline(self) -> float:
        """Return the first deadline of those that wait; infinity for none."""
        deadlines = self.deadlines
        while deadlines:
            when, request = deadlines[0]
            if request in self.waiting:
                return when
            heappop(deadlines)
        return inf

    def is_due(self, now: float) -> bool:
        """Whether an alarm or a deadline is due, if only of somebody who does not wait any more."""
        deadlines, alarms = self.deadlines, self.alarms
        return (bool(deadlines) and deadlines[0][0] <= now) or (bool(alarms) and alarms[0][0] <= now)

    def next_alarm(self) -> float:
        """Return when the next alarm or deadline is due; infinity for none."""
        deadline = self.next_deadline()
        if not self.alarms:
            return deadline
        alarm = self.alarms[0][0]
        return min(deadline, alarm)
