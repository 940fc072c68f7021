"""The life of one supervised process, as a state machine without I/O.

Everything that decides when a process is spawned, signalled or given up is a row of TABLE below. The
table is not a comment on the code, it is the code; the diagram in the documents is drawn from it.

This file knows no event loop, no clock and no pid. Events and the time come in, effects go out. It
does not know what the process does either: workers and the gateway live by the same table.
"""
# ruff: noqa: SLF001 -- the table stands below the class and names its actions

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from supervisor.contract.fleet import WorkerState
from supervisor.core.backoff import RestartPolicy

ALIVE: Final = frozenset(
    {WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING, WorkerState.STOPPING}
)
"""States in which a process exists."""


# Events: what happened.


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Somebody wants the process to run."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants it gone; with `drain` only after its requests have ended."""

    drain: bool = True
    remark: str = ""
    """What is said of it once it is gone, for people: who wanted that, and how it comes back."""


@dataclass(frozen=True, slots=True)
class DrainCancelled:
    """Whoever had it drained wants it to serve on, with the process that it has."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The readiness probe was answered, or not."""

    ok: bool


@dataclass(frozen=True, slots=True)
class Idle:
    """No request holds a slot of this worker any more."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The process is gone, and so is every process it started."""

    code: int
    """Exit status, or minus the number of the signal that ended it."""
    why: str = ""
    """What is known of its end beyond that, such as that the kernel killed it because memory ran out."""


@dataclass(frozen=True, slots=True)
class Condemned:
    """It must not go on, though it may still run: its GPU is lost, or its answers are good for nothing."""

    reason: str
    quarantine: bool = False
    """It rests until it is pardoned; without, it is started again as after a crash."""


@dataclass(frozen=True, slots=True)
class Pardoned:
    """What it was sent to quarantine for is over."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time in `WorkerMachine.deadline` has come."""


Event = (
    StartRequested
    | StopRequested
    | DrainCancelled
    | Probed
    | Idle
    | Exited
    | Condemned
    | Pardoned
    | DeadlinePassed
)
EVENTS: Final[tuple[type, ...]] = (
    StartRequested,
    StopRequested,
    DrainCancelled,
    Probed,
    Idle,
    Exited,
    Condemned,
    Pardoned,
    DeadlinePassed,
)


# Effects: what the shell must now do.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the process to end (SIGTERM)."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End it (SIGKILL)."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the world of a move, and why."""

    old: WorkerState
    new: WorkerState
    reason: str


Effect = Spawn | Terminate | Kill | Announce


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long a worker may take for what is asked of it, in seconds."""

    start_timeout_s: float = 120.0
    drain_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    """Between SIGTERM and SIGKILL, and between one SIGKILL and the next."""
    probe_failures: int = 3
    """A ready worker that fails this many probes in a row is replaced."""
    probe_interval_s: float = 10.0
    """Between two probes of a ready process that nobody else looks after."""
    probe_timeout_s: float = 5.0
    """Silence for so long is a failed one."""


@dataclass(slots=True)
class WorkerMachine:
    """State of one process. Its only writer is `handle`."""

    policy: RestartPolicy
    timings: Timings
    rng: Random
    state: WorkerState = WorkerState.STOPPED
    wanted: bool = False
    """Whether the last request was to start or to stop."""
    deadline: float | None = None
    """When to send DeadlinePassed (monotonic seconds). The shell sleeps until then; nobody polls."""
    crashes: list[float] = field(default_factory=list)
    """Times of the crashes that are not forgiven yet."""
    on_probation: bool = False
    """It runs once more after a quarantine; one crash brings it back there."""
    held: bool = False
    """It is in quarantine until it is pardoned; without a deadline, because time heals no lost GPU."""
    _sentence: Condemned | None = None
    """Why the living process was condemned, for when it has ended."""
    _asked: bool = False
    """The living process was asked to stop, so that its exit is no crash."""
    _remark: str = ""
    """Of whoever asked for that."""
    _probe_failures: int = 0
    _effects: list[Effect] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Feed one event; return what the shell must now do, in order."""
        row = TABLE.get((self.state, type(event)))
        if row is None:
            return []  # TABLE and IGNORED together are total: tests/unit/test_worker_machine.py
        self._effects, before = [], self.state
        row.action(self, event, now)
        assert self.state is before or self.state in row.to, (before, event, self.state)
        return self._effects

    # Actions of the table, one verb each.

    def _start(self, _: StartRequested, now: float) -> None:
        """A request of its own starts a clean slate: nobody has to sit out a delay he ended."""
        self._forgive()
        self.wanted = True
        self._spawn(now, "start asked")

    def _start_again(self, _: DeadlinePassed, now: float) -> None:
        self.on_probation = self.on_probation or self.state is WorkerState.QUARANTINED
        self._spawn(now, "started again")

    def _want(self, _: StartRequested, __: float) -> None:
        self.wanted = True

    def _unwant(self, event: StopRequested, _: float) -> None:
        self.wanted, self._asked, self._remark = False, True, event.remark

    def _give_up(self, event: StopRequested, _: float) -> None:
        self.wanted = self.held = False
        self._move(WorkerState.STOPPED, None, event.remark or "stop asked")

    def _drain(self, event: StopRequested, now: float) -> None:
        self._unwant(event, now)
        if event.drain:
            self._move(WorkerState.DRAINING, now + self.timings.drain_timeout_s, "drain asked")
        else:
            self._terminate("stop asked", now)

    def _stop(self, event: StopRequested, now: float) -> None:
        self._unwant(event, now)
        self._terminate("stop asked", now)

    def _stop_draining(self, event: StopRequested, now: float) -> None:
        self._unwant(event, now)
        if not event.drain:  # asking twice does not shorten a drain, asking without one does
            self._terminate("stop asked", now)

    def _serve_on(self, _: DrainCancelled, now: float) -> None:
        self.wanted, self._asked = True, False
        self._move(WorkerState.READY, self._pardon_at(now), "drain cancelled")

    def _probed_while_starting(self, event: Probed, now: float) -> None:
        if event.ok:
            self._move(WorkerState.READY, self._pardon_at(now), "probe answered")

    def _probed_while_ready(self, event: Probed, now: float) -> None:
        self._probe_failures = 0 if event.ok else self._probe_failures + 1
        if self._probe_failures >= self.timings.probe_failures:
            self._terminate(f"{self._probe_failures} probes in a row failed", now)

    def _proved_stable(self, _: DeadlinePassed, __: float) -> None:
        self._forgive()
        self.deadline = None

    def _too_slow(self, _: DeadlinePassed, now: float) -> None:
        self._terminate(f"{self.state} took too long", now)

    def _cut(self, _: DeadlinePassed, now: float) -> None:
        limit_s = self.timings.drain_timeout_s
        self._terminate(f"drain_timeout ({limit_s:g} s) passed: answers under way are cut", now)

    def _drained(self, _: Idle, now: float) -> None:
        self._terminate("drained", now)

    def _kill(self, _: DeadlinePassed, now: float) -> None:
        self.deadline = now + self.timings.stop_timeout_s
        self._effects.append(Kill())

    def _condemn(self, event: Condemned, now: float) -> None:
        self._sentence = event
        self._terminate(event.reason, now)

    def _condemn_ending(self, event: Condemned, _: float) -> None:
        if self._sentence is None or not self._sentence.quarantine:
            self._sentence = event

    def _condemn_waiting(self, event: Condemned, _: float) -> None:
        if event.quarantine and not self.held:
            self._rest(event.reason)

    def _pardon_ending(self, _: Pardoned, __: float) -> None:
        """The process is on its way out and no success; it comes back as after a crash."""
        if self._sentence is not None:
            self._sentence = replace(self._sentence, quarantine=False)

    def _pardon(self, _: Pardoned, now: float) -> None:
        if self.held:
            self.on_probation = True
            self._spawn(now, "pardoned")

    def _exited(self, event: Exited, now: float) -> None:
        if not self.wanted:
            self._move(WorkerState.STOPPED, None, _why_gone(event, self._remark))
        elif self._sentence is not None and self._sentence.quarantine:
            self._rest(self._sentence.reason)
        elif self._asked:
            self._spawn(now, f"{_how(event)}; restart asked")
        else:
            self._crashed(event, now)

    # What actions are made of.

    def _crashed(self, event: Exited, now: float) -> None:
        self.crashes = [*self.policy.recent(self.crashes, now), now]
        restart = self.policy.after(len(self.crashes), on_probation=self.on_probation, rng=self.rng)
        state = WorkerState.QUARANTINED if restart.quarantined else WorkerState.BACKOFF
        how = _how(event) if self._sentence is None else self._sentence.reason
        reason = f"{how} (crash {len(self.crashes)}); again in {restart.delay_s:.1f} s"
        self._move(state, now + restart.delay_s, reason)

    def _pardon_at(self, now: float) -> float | None:
        """Return when a worker that is ready now has proved stable; None when there is nothing to forgive."""
        stained = bool(self.crashes) or self.on_probation
        return now + self.policy.stable_after_s if stained else None

    def _forgive(self) -> None:
        self.crashes, self.on_probation = [], False

    def _rest(self, reason: str) -> None:
        self.held = True
        self._move(WorkerState.QUARANTINED, None, reason)

    def _spawn(self, now: float, reason: str) -> None:
        self._asked, self._probe_failures = False, 0
        self._sentence, self.held = None, False
        self._move(WorkerState.STARTING, now + self.timings.start_timeout_s, reason)
        self._effects.append(Spawn())

    def _terminate(self, reason: str, now: float) -> None:
        self._move(WorkerState.STOPPING, now + self.timings.stop_timeout_s, reason)
        self._effects.append(Terminate())

    def _move(self, new: WorkerState, deadline: float | None, reason: str) -> None:
        old, self.state, self.deadline = self.state, new, deadline
        self._effects.append(Announce(old, new, reason))


def _how(event: Exited) -> str:
    how = f"killed by signal {-event.code}" if event.code < 0 else f"exited with status {event.code}"
    return f"{how}: {event.why}" if event.why else how


def _why_gone(event: Exited, remark: str) -> str:
    """Return what is said of a process that was asked to end: how, where it was not well."""
    if event.code == 0 and remark:
        return remark
    return f"{remark}; {_how(event)}" if remark else _how(event)


@dataclass(frozen=True, slots=True)
class Row:
    """What an event does in a state, and where it may lead (nowhere else: `handle` asserts it)."""

    action: Callable[[WorkerMachine, Any, float], None]
    to: tuple[WorkerState, ...] = ()


_S = WorkerState
_M = WorkerMachine
_GONE = (_S.STOPPED, _S.BACKOFF, _S.QUARANTINED, _S.STARTING)

# fmt: off
TABLE: Final[Mapping[tuple[WorkerState, type], Row]] = {
    (_S.STOPPED,     StartRequested): Row(_M._start,       (_S.STARTING,)),
    (_S.BACKOFF,     StartRequested): Row(_M._start,       (_S.STARTING,)),
    (_S.BACKOFF,     DeadlinePassed): Row(_M._start_again, (_S.STARTING,)),
    (_S.BACKOFF,     StopRequested):  Row(_M._give_up,     (_S.STOPPED,)),
    (_S.BACKOFF,     Condemned):      Row(_M._condemn_waiting, (_S.QUARANTINED,)),
    (_S.QUARANTINED, StartRequested): Row(_M._start,       (_S.STARTING,)),
    (_S.QUARANTINED, DeadlinePassed): Row(_M._start_again, (_S.STARTING,)),
    (_S.QUARANTINED, StopRequested):  Row(_M._give_up,     (_S.STOPPED,)),
    (_S.QUARANTINED, Condemned):      Row(_M._condemn_waiting),
    (_S.QUARANTINED, Pardoned):       Row(_M._pardon,      (_S.STARTING,)),
    (_S.STARTING,    Probed):         Row(_M._probed_while_starting, (_S.READY,)),
    (_S.STARTING,    DeadlinePassed): Row(_M._too_slow,    (_S.STOPPING,)),
    (_S.STARTING,    StopRequested):  Row(_M._stop,        (_S.STOPPING,)),
    (_S.STARTING,    Exited):         Row(_M._exited,      _GONE),
    (_S.STARTING,    Condemned):      Row(_M._condemn,     (_S.STOPPING,)),
    (_S.READY,       Probed):         Row(_M._probed_while_ready, (_S.STOPPING,)),
    (_S.READY,       DeadlinePassed): Row(_M._proved_stable),
    (_S.READY,       StopRequested):  Row(_M._drain,       (_S.DRAINING, _S.STOPPING)),
    (_S.READY,       Exited):         Row(_M._exited,      _GONE),
    (_S.READY,       Condemned):      Row(_M._condemn,     (_S.STOPPING,)),
    (_S.DRAINING,    StartRequested): Row(_M._want),
    (_S.DRAINING,    StopRequested):  Row(_M._stop_draining, (_S.STOPPING,)),
    (_S.DRAINING,    DrainCancelled): Row(_M._serve_on,    (_S.READY,)),
    (_S.DRAINING,    Idle):           Row(_M._drained,     (_S.STOPPING,)),
    (_S.DRAINING,    DeadlinePassed): Row(_M._cut,         (_S.STOPPING,)),
    (_S.DRAINING,    Exited):         Row(_M._exited,      _GONE),
    (_S.DRAINING,    Condemned):      Row(_M._condemn,     (_S.STOPPING,)),
    (_S.STOPPING,    StartRequested): Row(_M._want),
    (_S.STOPPING,    StopRequested):  Row(_M._unwant),
    (_S.STOPPING,    DeadlinePassed): Row(_M._kill),
    (_S.STOPPING,    Exited):         Row(_M._exited,      _GONE),
    (_S.STOPPING,    Condemned):      Row(_M._condemn_ending),
    (_S.STOPPING,    Pardoned):       Row(_M._pardon_ending),
}
# fmt: on

IGNORED: Final[frozenset[tuple[WorkerState, type]]] = frozenset(
    [(state, Probed) for state in _S if state not in (_S.STARTING, _S.READY)]
    + [(state, event) for state in _S if state is not _S.DRAINING for event in (Idle, DrainCancelled)]
    + [(state, StartRequested) for state in (_S.STARTING, _S.READY)]
    + [(state, Exited) for state in (_S.STOPPED, _S.BACKOFF, _S.QUARANTINED)]
    + [(state, Pardoned) for state in _S if state not in (_S.QUARANTINED, _S.STOPPING)]
    + [(_S.STOPPED, StopRequested), (_S.STOPPED, Condemned), (_S.STOPPED, DeadlinePassed)]
)
"""Events that may arrive and mean nothing. Spelled out, so that a new event or state does not quietly
become "do nothing"."""
