"""One process that is kept running: what its machine says is done, to the process, its timer and its probe.

Decides nothing; `core/worker.py` does. Must not know of other processes, nor of the fleet: whoever runs it
(`runtime.py`) is told what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, assert_never

import structlog

from supervisor.contract.fleet import WorkerState
from supervisor.core.backoff import RestartPolicy
from supervisor.core.fleet import Note
from supervisor.core.worker import (
    Announce,
    DeadlinePassed,
    Effect,
    Event,
    Kill,
    Probed,
    Spawn,
    Terminate,
    Timings,
    WorkerMachine,
)
from supervisor.host.probe import Loopback, Probe, answers, wait_until_ready
from supervisor.host.process import CANNOT_RUN, Children, Order, Process

_log = structlog.stdlib.get_logger(__name__)

_LEVELS: Final = {WorkerState.BACKOFF: "warning", WorkerState.QUARANTINED: "error"}
"""How loud a move is logged; the others are `info`."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One incarnation to be: what to start and how to ask it whether it is ready."""

    order: Order
    probe: Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A process to keep running, under the name it has in the fleet (where it is a worker)."""

    name: str
    attempt: Callable[[], Attempt]
    """Called for every incarnation, because each gets a port of its own."""
    policy: RestartPolicy
    timings: Timings


class Parent(Protocol):
    """Who runs it."""

    children: Children
    tasks: asyncio.TaskGroup
    """Owns the readiness probes."""

    def feed(self, child: Child, event: Event) -> None:
        """Let its machine know what happened; called back whenever something did."""

    def spawned(self, child: Child, pid: int, port: int) -> None:
        """Hear of a new process that will answer on this port."""

    def announced(self, child: Child, announce: Announce) -> None:
        """Hear of a move."""

    def exited(self, child: Child, code: int) -> None:
        """Hear that the process ended, or could not be started; `process_ended` and `feed` are to follow."""

    def has_gateways(self) -> bool:
        """Whether somebody else asks the workers whether they live."""


@dataclass(slots=True)
class Child:
    """A machine with its process, which is another one in every incarnation."""

    job: Job
    machine: WorkerMachine
    parent: Parent = field(repr=False)
    reason: str = ""
    """Of its last move that nobody asked for."""
    once: bool = False
    """It is not started again when it ends: it is to replace another, or is replaced."""
    process: Process | None = None
    notes: dict[str, Note] = field(default_factory=dict)
    """By who tells."""
    drains_since: int = 0
    """Generation of the snapshot that told of its last move: a drain, as long as it drains."""
    _timer: asyncio.TimerHandle | None = None
    _probing: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it ended for good."""
        return self.machine.state is WorkerState.STOPPED

    def handle(self, event: Event) -> None:
        """Do what the machine answers, and sleep until its next deadline."""
        for effect in self.machine.handle(event, asyncio.get_running_loop().time()):
            self._apply(effect)
        self._set_timer()

    def process_ended(self) -> None:
        """Have no process any more."""
        self.process = None
        if self._probing is not None:
            self._probing.cancel()

    def _apply(self, effect: Effect) -> None:
        match effect:
            case Spawn():
                self._spawn()
            case Terminate():
                if self.process is not None:
                    self.process.terminate()
            case Kill():
                if self.process is not None:
                    self.process.kill()
            case Announce():
                self._announce(effect)
            case _:
                assert_never(effect)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.machine.deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self.machine.deadline, self.parent.feed, self, DeadlinePassed())

    def _spawn(self) -> None:
        try:
            attempt = self.job.attempt()
            self.process = self.parent.children.spawn(attempt.order, partial(self.parent.exited, self))
        except OSError as error:
            _log.error("cannot start", worker=self.job.name, error=str(error))
            asyncio.get_running_loop().call_soon(self.parent.exited, self, CANNOT_RUN)
            return
        self._probing = self.parent.tasks.create_task(self._probe(attempt.probe))
        address = attempt.probe.address
        if isinstance(address, Loopback):
            self.parent.spawned(self, self.process.pid, address.port)

    async def _probe(self, probe: Probe) -> None:
        """Ask until it is ready, and then now and then whether it lives.

        A gateway looks after the workers better, and knows when they load: while there is one they are not
        asked. Who looks after the gateway is `host/pulse.py`.
        """
        await wait_until_ready(probe)
        self.parent.feed(self, Probed(ok=True))
        timings = self.job.timings
        while True:
            await asyncio.sleep(timings.probe_interval_s)
            if not self.parent.has_gateways() and isinstance(probe.address, Loopback):
                self.parent.feed(self, Probed(ok=await answers(probe, timings.probe_timeout_s)))

    def _announce(self, announce: Announce) -> None:
        level = _LEVELS.get(announce.new, "info")
        getattr(_log, level)(announce.new, worker=self.job.name, was=announce.old, reason=announce.reason)
        if not announce.reason.endswith(" asked"):
            self.reason = announce.reason
        self.parent.announced(self, announce)
