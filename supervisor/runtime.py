"""Which processes there are, what is asked of them, and what the fleet's snapshot says of them.

Decides nothing: it tells each machine what happened (`child.py` does what the machine answers), and hears
what came of it. It is the only writer of the fleet snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, TypeAlias

from supervisor.child import Child, Job
from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus
from supervisor.contract.reports import Hung, Known, Process
from supervisor.core.fleet import (
    Note,
    moved,
    not_started,
    noted,
    respecified,
    spawned,
    with_accepted_settings,
    with_status,
    with_workers,
)
from supervisor.core.gateways import is_idle, is_served, settings_in_force
from supervisor.core.spec import WorkerSpec
from supervisor.core.worker import (
    Announce,
    Condemned,
    DrainCancelled,
    Event,
    Exited,
    Idle,
    Pardoned,
    StartRequested,
    StopRequested,
    Timings,
    WorkerMachine,
)
from supervisor.host.process import Children


class ReplacementFailedError(Exception):
    """A process that was to take another's place did not come up; the text says how it ended."""


_DECIDED: Final = (WorkerState.READY, WorkerState.STOPPED)
"""What a process comes to that is to replace another."""

_Waiting: TypeAlias = tuple[Callable[[Mapping[str, WorkerState]], bool], asyncio.Future[None]]


@dataclass(slots=True)
class Runtime:
    """Keeps every job running. All of it lives on one event loop, so nothing needs a lock."""

    children: Children
    tasks: asyncio.TaskGroup
    """Owns the readiness probes."""
    fleet: FleetSnapshot
    publish: Callable[[FleetSnapshot], None]
    wall_clock: Callable[[], float]
    """Unix seconds, for people; deadlines are the event loop's monotonic ones."""
    rng: Random
    cause_of_death: Callable[[str, int], str] = lambda _name, _code: ""
    """What is known of the end of a process that nobody here ended: its name and status are given."""
    _children: dict[str, Child] = field(default_factory=dict)
    _waiting: list[_Waiting] = field(default_factory=list)
    _gateways: tuple[Known, ...] = ()
    """What every gateway that lives told last."""
    _incarnations: dict[str, int] = field(default_factory=dict)
    """Of workers that were taken away, so that no later one is taken for them."""

    def start(self, job: Job) -> None:
        """Take the job on, and have it run from now on."""
        child = self._child(job, job.timings)
        self._children[job.name] = child
        self.feed(child, StartRequested())

    def _child(self, job: Job, timings: Timings) -> Child:
        return Child(job, WorkerMachine(job.policy, timings, self.rng), parent=self)

    async def stop(self, names: Iterable[str]) -> None:
        """Ask these jobs to end and wait until every process of theirs is gone."""
        stopping = tuple(names)
        for name in stopping:
            self.feed(self._children[name], StopRequested(drain=False))
        stopped = WorkerState.STOPPED
        await self.wait_until(lambda states: all(states.get(name, stopped) is stopped for name in stopping))

    async def replace(self, name: str, timings: Timings) -> tuple[int, int]:
        """Run a job in another process, and once that is ready let the old one drain; return both pids.

        `timings` are those of the start. Nothing is undone for the old process if the new one fails.

        Raises:
            ReplacementFailedError: it did not become ready, or there is nothing to replace now.
        """
        old, trial_name = self._children[name], f"{name} (next)"
        if old.machine.state is not WorkerState.READY or old.process is None or trial_name in self._children:
            raise ReplacementFailedError(f"was not started: the present one is {old.machine.state}")
        new, old_pid = self._child(old.job, timings), old.process.pid
        self._children[trial_name], new.once, old.once = new, True, True
        self.feed(new, StartRequested())
        await self.wait_until(lambda states: states[trial_name] in _DECIDED)
        self._children.pop(trial_name, None)
        if new.machine.state is not WorkerState.READY or new.process is None:
            self._keep(old)
            raise ReplacementFailedError(new.reason)
        self._children[name], new.once, new.machine.timings = new, False, old.job.timings
        if not old.has_ended:
            self._children[f"{name} ({old_pid})"] = old
            self.feed(old, StopRequested())
        return old_pid, new.process.pid

    def _keep(self, child: Child) -> None:
        """Keep a process running that was not replaced, and start it again if it ended meanwhile."""
        child.once = False
        self.feed(child, StartRequested())

    def timings_of(self, name: str) -> Timings:
        """Return how long a job may take."""
        return self._children[name].job.timings

    # What operators ask.

    @property
    def names(self) -> tuple[str, ...]:
        """All jobs."""
        return tuple(self._children)

    def status(self, name: str) -> WorkerStatus | None:
        """Return how a worker is; None when there is none of that name."""
        return next((status for status in self.fleet.workers if status.worker == name), None)

    def state_of(self, name: str) -> WorkerState:
        """Return where a process is in its life, the gateway's too."""
        return self._children[name].machine.state

    def is_wanted(self, name: str) -> bool:
        """Whether the worker is to run: nobody had it drained and not resumed."""
        return self._children[name].machine.wanted

    def drain(self, name: str, remark: str = "") -> None:
        """Have a worker end once its requests have ended, and stay away; `remark` then says why."""
        self.feed(self._children[name], StopRequested(remark=remark))

    def resume(self, name: str) -> None:
        """Have a drained worker serve again, with the process that it has if it still has one."""
        self.feed(self._children[name], DrainCancelled())
        self.feed(self._children[name], StartRequested())

    def restart(self, name: str) -> None:
        """Have a worker end once its requests have ended, and start it again."""
        self.feed(self._children[name], StopRequested())
        self.feed(self._children[name], StartRequested())

    def known(self, gateways: tuple[Known, ...]) -> None:
        """Take what all living gateways know: who drains and has nothing left to do may end."""
        self._gateways = tuple(known for known in gateways if known.boot_id == self.fleet.boot_id)
        for child in tuple(self._children.values()):
            if child.machine.state is WorkerState.DRAINING and self._is_idle(child):
                self.feed(child, Idle())
        self._wake()

    def has_gateways(self) -> bool:
        """Whether any gateway is heard, which then looks after the workers."""
        return bool(self._gateways)

    def is_served(self, name: str) -> bool:
        """Whether a gateway gives requests to the worker's process."""
        process = self._process(name)
        return process is not None and is_served(self._gateways, process)

    def _is_idle(self, child: Child) -> bool:
        process = self._process(child.job.name)
        since = child.drains_since
        return process is not None and is_idle(self._gateways, process, since_generation=since)

    def _process(self, name: str) -> Process | None:
        status = self.status(name)
        if status is None:
            return None
        return Process(worker=status.worker, incarnation=status.incarnation)

    # A new configuration.

    @property
    def settings_in_force(self) -> int:
        """Which accepted configuration all gateways run with at least; 0 while there is none."""
        return settings_in_force(self._gateways)

    def accepted(self) -> int:
        """Tell the gateways that a configuration was accepted; return its number."""
        self._publish(with_accepted_settings(self.fleet))
        return self.fleet.settings

    def retime(self, names: Iterable[str], timings: Timings) -> None:
        """Let these take so long from now on, for what they are asked after this."""
        for name in names:
            child = self._children[name]
            child.job, child.machine.timings = replace(child.job, timings=timings), timings

    def add(self, job: Job, spec: WorkerSpec, *, rests: str = "") -> None:
        """Take a worker on, in place of a stopped one of its name; `rests` says why it is not to run."""
        old = self.status(spec.name)
        before = self._incarnations.get(spec.name, 0) if old is None else old.incarnation
        status = not_started(spec, since_unix=self.wall_clock(), incarnation=before, rests=rests)
        others = (other for other in self.fleet.workers if other.worker != spec.name)
        self._children[spec.name] = self._child(job, job.timings)
        self._publish(with_workers(self.fleet, (*others, status)))
        if not rests:
            self.feed(self._children[spec.name], StartRequested())

    def respecify(self, job: Job, spec: WorkerSpec) -> None:
        """Give a worker new limits with which its process can go on."""
        child = self._children[spec.name]
        child.job, child.machine.timings = job, job.timings
        self._change(spec.name, lambda status: noted(respecified(status, spec), child.notes.values()))
        self._publish(self.fleet)

    def forget(self, name: str) -> None:
        """Drop a stopped worker."""
        status = self.status(name)
        assert status is not None, name
        self._incarnations[name] = status.incarnation
        del self._children[name]
        self._publish(with_workers(self.fleet, (o for o in self.fleet.workers if o.worker != name)))

    def order(self, names: Sequence[str]) -> None:
        """Show the workers in this order."""
        ordered = sorted(self.fleet.workers, key=lambda status: names.index(status.worker))
        if tuple(ordered) != self.fleet.workers:
            self._publish(with_workers(self.fleet, ordered))

    def _publish(self, fleet: FleetSnapshot) -> None:
        self.fleet = fleet
        self.publish(fleet)
        self._wake()

    # What others find out.

    def condemn(self, name: str, reason: str, *, quarantine: bool = False) -> None:
        """End a worker that must not go on; with `quarantine` it rests until `pardon`."""
        if (child := self._children.get(name)) is not None:
            self.feed(child, Condemned(reason, quarantine=quarantine))

    def replace_hung(self, name: str, reason: str) -> None:
        """Kill what hangs, which cannot be asked to end, and start it again as after a crash."""
        self.condemn(name, reason)
        if (process := self._children[name].process) is not None:
            process.kill()

    def hung(self, report: Hung) -> None:
        """End a worker that a gateway found to hang; a successor does not suffer for it."""
        found = (s for s in self.fleet.workers if s.worker == report.worker)
        if any(status.incarnation == report.incarnation for status in found):
            self.replace_hung(report.worker, f"{report.what}: {report.why}")

    def pardon(self, name: str) -> None:
        """Let a worker that was sent to quarantine run again; others are left as they are."""
        if (child := self._children.get(name)) is not None:
            self.feed(child, Pardoned())

    def note(self, name: str, source: str, note: Note) -> None:
        """Tell what `source` knows of a worker, in place of what it told before."""
        if (child := self._children.get(name)) is not None:
            child.notes[source] = note
            before = self.fleet
            self._change(name, lambda status: noted(status, child.notes.values()))
            if self.fleet is not before:
                self.publish(self.fleet)

    def ask_again(self, names: Iterable[str]) -> bool:
        """Ask these once more to end, which says that there is no time; return whether any of them lives."""
        living = [process for name in names if (process := self._children[name].process) is not None]
        for process in living:
            process.hurry()
        return bool(living)

    def kill(self) -> None:
        """End everything now; `stop` then has nothing left to wait for."""
        for child in self._children.values():
            self.feed(child, StopRequested(drain=False))
            if child.process is not None:
                child.process.kill()

    async def wait_until(self, reached: Callable[[Mapping[str, WorkerState]], bool]) -> None:
        """Return as soon as the states of all jobs, by name, are as `reached` wants them."""
        if not reached(self._states()):
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((reached, future))
            await future

    def _states(self) -> dict[str, WorkerState]:
        return {name: child.machine.state for name, child in self._children.items()}

    # One event, and what came of it.

    def feed(self, child: Child, event: Event) -> None:
        """Let a process's machine know what happened, and everybody else what changed by it."""
        before = self.fleet
        child.handle(event)
        if self.fleet is not before:
            self.publish(self.fleet)
        self._wake()

    def _wake(self) -> None:
        states = self._states()
        for waiting in [entry for entry in self._waiting if entry[0](states)]:
            self._waiting.remove(waiting)
            if not waiting[1].done():  # it was cancelled meanwhile
                waiting[1].set_result(None)

    def spawned(self, child: Child, pid: int, port: int) -> None:
        """Take note of a worker's new process."""
        self._change(child.job.name, lambda status: spawned(status, pid=pid, port=port))

    def exited(self, child: Child, code: int) -> None:
        """Take note that a process ended, or could not be started."""
        child.process_ended()
        if child.once and child.machine.wanted:
            self.feed(child, StopRequested(drain=False))
        ended_here = child.machine.state is WorkerState.STOPPING
        why = "" if ended_here else self.cause_of_death(child.job.name, code)
        self.feed(child, Exited(code, why))
        if child.once:
            self._children = {
                n: c for n, c in self._children.items() if c is not child or n == child.job.name
            }

    def announced(self, child: Child, announce: Announce) -> None:
        """Take note of a move."""
        since = self.wall_clock()
        self._change(child.job.name, lambda status: moved(status, announce, since_unix=since))
        child.drains_since = self.fleet.generation

    def _change(self, name: str, change: Callable[[WorkerStatus], WorkerStatus]) -> None:
        """Write the next snapshot; the gateway runs like a worker but is none of the fleet."""
        for status in self.fleet.workers:
            if status.worker == name and (changed := change(status)) != status:
                self.fleet = with_status(self.fleet, changed)
