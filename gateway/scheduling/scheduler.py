"""Which request gets which slot, which model is loaded where, and what goes for it.

Events in, effects out: every call is synchronous and therefore atomic. The scheduler is the only writer
of residency and slots. Knows no clock (`now` is monotonic seconds), no sockets, no wire formats.

Promises, checked as properties: never more grants than effective slots; never a grant to a worker that is
not ready or a replica that is draining; at most one load a worker; first come first served per model and
tenant among those that can still meet the goal, and among those that cannot; nobody waits longer than
`patience` behind a younger request of the same tenant; a request that leaves holds nothing; same events,
same effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from gateway.scheduling import events, fleet_events
from gateway.scheduling.estimates import Estimates
from gateway.scheduling.forecast import Forecast, forecast, forecasts
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.residency import WorkerResidency
from gateway.scheduling.settling import settle
from gateway.scheduling.state import State
from gateway.scheduling.types import (
    Adopted,
    Answering,
    Arrived,
    DeadlinePassed,
    Effect,
    Event,
    Finished,
    FleetChanged,
    Left,
    Loaded,
    LoadFailed,
    Observed,
    PolicyChanged,
    RanOutOfMemory,
    UnloadAsked,
    Unloaded,
)
from supervisor.contract.config import SchedulingConfig

_HANDLERS: Final[Mapping[type[Event], Callable[[State, Any, float], None]]] = {
    Arrived: events.arrived,
    Adopted: events.adopted,
    Answering: events.answering,
    Left: events.ended,
    Finished: events.ended,
    Loaded: events.loaded,
    LoadFailed: events.load_failed,
    RanOutOfMemory: events.ran_out_of_memory,
    Unloaded: events.unloaded,
    Observed: events.observed,
    FleetChanged: fleet_events.fleet_changed,
    PolicyChanged: fleet_events.policy_changed,
    UnloadAsked: events.unload_asked,
    DeadlinePassed: fleet_events.deadline_passed,
}
"""What each event changes. Looked up, because a match asks for one class after the other."""


class Scheduler:
    """The single owner of residency and slots."""

    def __init__(self, policy: SchedulingConfig | None = None) -> None:
        """`policy` holds the constants; without it the defaults."""
        self._state = State(policy or SchedulingConfig())

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event in and return what is to be done, in order."""
        state = self._state
        state.out = []
        _HANDLERS[type(event)](state, event, now)
        if state.is_due(now):
            fleet_events.time_passed(state, now)
        settle(state, now)
        return state.out

    def next_deadline(self, now: float) -> float | None:
        """When after `now` a `DeadlinePassed` is due; None when nothing is timed."""
        due = self._state.next_alarm()
        return due if now < due < inf else None

    @property
    def estimates(self) -> Estimates:
        """What was learned, to be looked at, kept and restored before the first event."""
        return self._state.estimates

    @property
    def workers(self) -> tuple[WorkerResidency, ...]:
        """What each worker holds, to be looked at and not to be changed."""
        return tuple(self._state.workers.values())

    def queued(self, variant: Variant) -> int:
        """How many requests wait for the model."""
        model = self._state.models.get(variant)
        return len(model.queue) if model is not None else 0

    def leases_on(self, instance: Instance) -> int:
        """How many requests hold a slot of that process, also of a model that it was seen to have lost."""
        return sum(lease.replica.worker.instance == instance for lease in self._state.leases.values())

    @property
    def total_queued(self) -> int:
        """How many requests wait in all."""
        return len(self._state.waiting)

    def waiting(self, now: float) -> list[Forecast]:
        """Return all who wait, model by model, with their places in line and when they may begin."""
        return list(forecasts(self._state, now))

    def forecast(self, request: RequestId, now: float) -> Forecast | None:
        """Return the same of one request; None when it does not wait."""
        return forecast(self._state, request, now)

    def protected(self) -> frozenset[tuple[Instance, Variant]]:
        """Return the replicas that the operator wants kept: no victims, and longer there than keep-alive."""
        kept = (model for model in self._state.bounded_models if model.kept)
        return frozenset((r.worker.view.instance, m.variant) for m in kept for r in m.live)
