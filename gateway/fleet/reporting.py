"""Tells the supervisor what only the gateway knows: which draining workers have nothing to do any more.

Decides what goes into a report. A worker that drains gets no new request, so once none holds a slot of it,
none ever will: only then may its process end. Told after every event that could have changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import instance_of
from gateway.runtime import Runtime
from gateway.scheduling.types import Event, FleetChanged
from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus
from supervisor.contract.reports import Known, Process


@dataclass(slots=True)
class Reporting:
    """Follows the scheduler's events, of which every new snapshot is one."""

    fleet: Fleet
    runtime: Runtime
    say: Callable[[Known], None]
    settings: Callable[[], int] = lambda: 0
    """The number of the configuration that is in force here."""
    _drains: bool = False
    """Somebody drains in the snapshot that was seen; otherwise requests change nothing."""

    def install(self) -> None:
        """Stand behind whoever is told of events already."""
        before = self.runtime.on_event

        def saw(event: Event) -> None:
            before(event)
            if self._drains or isinstance(event, FleetChanged):
                self.look()

        self.runtime.on_event = saw

    def look(self) -> None:
        """Tell what is so now."""
        snapshot = self.fleet.own
        if snapshot is not None:
            self._drains = any(status.state is WorkerState.DRAINING for status in snapshot.workers)
            self.say(self.report(snapshot))

    def report(self, snapshot: FleetSnapshot) -> Known:
        """Return what this gateway knows, as of a snapshot that the scheduler was told of."""
        return Known(
            boot_id=snapshot.boot_id,
            generation=snapshot.generation,
            settings=self.settings(),
            serving=tuple(_process(s) for s in snapshot.workers if self.fleet.roster.is_ready(s)),
            idle=tuple(self._idle(snapshot)),
        )

    def _idle(self, snapshot: FleetSnapshot) -> Iterator[Process]:
        for status in snapshot.workers:
            drains = status.state is WorkerState.DRAINING
            if drains and not self.runtime.scheduler.leases_on(instance_of(status)):
                yield _process(status)


def _process(status: WorkerStatus) -> Process:
    return Process(worker=status.worker, incarnation=status.incarnation)
