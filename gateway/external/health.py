"""Whether a worker that somebody else runs is there: a table of states and events.

Decides when it is asked, when it counts as gone, when what it holds is looked at again, and when it is
taken for another process than before. `external_link.py` carries the effects out. Knows no sockets and no
clock; times are monotonic seconds.

A worker comes back as a new incarnation, so that leases and residency of the vanished one are not
believed. A refused connection, or an answer that is no Ollama's, is proof that it is gone. Silence is
not: it may be computing on all its cores, so it takes two silent probes in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from supervisor.contract.fleet import WorkerState


@dataclass(frozen=True, slots=True)
class Timings:
    """How often somebody else's worker is bothered. Seconds."""

    probe_interval_s: float = 10.0
    """While it is ready."""
    probe_timeout_s: float = 5.0
    first_backoff_s: float = 0.5
    """While it is away; doubles with each failure."""
    max_backoff_s: float = 10.0
    look_interval_s: float = 30.0
    """Between looks at what it holds: polling /api/ps during a load can crash an Ollama before 0.32.4."""


USUAL: Final = Timings()


@dataclass(frozen=True, slots=True)
class Health:
    """What is believed of one worker."""

    state: WorkerState = WorkerState.STARTING
    """STARTING before it was first asked, then READY or BACKOFF; never another."""
    incarnation: int = 0
    """How often it came."""
    reason: str = "not asked yet"
    version: str = ""
    """Of its last answer."""
    failures: int = 0
    """Probes that failed in a row."""
    due: float | None = float("-inf")
    """When it is to be asked; None while an answer is awaited."""
    look_due: float = float("inf")
    """When what it holds is to be looked at."""


# Events ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """A probe was answered by an Ollama of this version."""

    version: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A probe was not answered, or not as an Ollama does."""

    why: str
    silent: bool
    """Nothing came at all, which proves nothing yet."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A client's request broke off there."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What it holds has been read."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The moment `Health.due` has come."""


Event = Answered | Failed | RequestFailed | Looked | DeadlinePassed

# Effects --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask it, then report `Answered` or `Failed`."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the fleet what is believed now."""


@dataclass(frozen=True, slots=True)
class Look:
    """Read what it holds if nothing of ours goes on there, then report `Looked`."""


Effect = Probe | Announce | Look
Step = tuple[Health, tuple[Effect, ...]]

_SILENCES: Final = 2
"""Silent probes in a row that count as gone."""


def step(health: Health, event: Event, now: float, timings: Timings) -> Step:
    """Return what is believed after the event, and what is to be done."""
    move = TABLE.get((health.state, type(event)))
    return (health, ()) if move is None else move(health, event, now, timings)


def _probe(health: Health, _: Event, now: float, __: Timings) -> Step:
    if health.due is None or health.due > now:
        return health, ()
    return replace(health, due=None), (Probe(),)


def _came(health: Health, event: Event, now: float, timings: Timings) -> Step:
    assert isinstance(event, Answered)
    came = Health(
        state=WorkerState.READY,
        incarnation=health.incarnation + 1,
        reason=f"answers, version {event.version}",
        version=event.version,
        due=now + timings.probe_interval_s,
        look_due=now + timings.look_interval_s,
    )
    return came, (Announce(),)


def _stays(health: Health, event: Event, now: float, timings: Timings) -> Step:
    assert isinstance(event, Answered)
    if event.version != health.version:
        return _came(health, event, now, timings)
    stays = replace(health, failures=0, due=now + timings.probe_interval_s)
    return stays, (Look(),) if now >= health.look_due else ()


def _lost(health: Health, event: Event, now: float, timings: Timings) -> Step:
    assert isinstance(event, Failed)
    if event.silent and health.state is WorkerState.READY and health.failures + 1 < _SILENCES:
        return replace(health, failures=health.failures + 1, due=None), (Probe(),)
    lost = replace(
        health,
        state=WorkerState.BACKOFF,
        reason=event.why,
        failures=1,
        due=now + timings.first_backoff_s,
        look_due=float("inf"),
    )
    return lost, (Announce(),)


def _still_away(health: Health, event: Event, now: float, timings: Timings) -> Step:
    assert isinstance(event, Failed)
    wait_s = min(timings.max_backoff_s, timings.first_backoff_s * 2.0 ** min(health.failures, 20))
    away = replace(health, reason=event.why, failures=health.failures + 1, due=now + wait_s)
    return away, (Announce(),) if event.why != health.reason else ()


def _doubt(health: Health, _: Event, now: float, __: Timings) -> Step:
    """It may have been restarted: ask at once, and then see what it holds."""
    doubted = replace(health, look_due=now)
    return (doubted, ()) if health.due is None else (replace(doubted, due=None), (Probe(),))


def _looked(health: Health, _: Event, now: float, timings: Timings) -> Step:
    return replace(health, look_due=now + timings.look_interval_s), ()


TABLE: Final[Mapping[tuple[WorkerState, type[Event]], Callable[[Health, Event, float, Timings], Step]]] = {
    (WorkerState.STARTING, DeadlinePassed): _probe,
    (WorkerState.STARTING, Answered): _came,
    (WorkerState.STARTING, Failed): _lost,
    (WorkerState.READY, DeadlinePassed): _probe,
    (WorkerState.READY, Answered): _stays,
    (WorkerState.READY, Failed): _lost,
    (WorkerState.READY, RequestFailed): _doubt,
    (WorkerState.READY, Looked): _looked,
    (WorkerState.BACKOFF, DeadlinePassed): _probe,
    (WorkerState.BACKOFF, Answered): _came,
    (WorkerState.BACKOFF, Failed): _still_away,
}

IGNORED: Final = frozenset(
    {
        (WorkerState.STARTING, RequestFailed),  # none was sent there
        (WorkerState.STARTING, Looked),
        (WorkerState.BACKOFF, RequestFailed),  # known already
        (WorkerState.BACKOFF, Looked),  # a look that was overtaken
    }
)
"""Pairs that change nothing. Together with `TABLE` these are all."""
