"""What systemd is told and when: readiness, the status line, reloads, the watchdog, more time.

Decides the datagrams of sd_notify(3), as text. Events and the time come in, the datagram to send comes out,
and `deadline` names the next moment at which something is due. Must not know sockets, nor how anything it
tells came about.

The watchdog is fed while the supervisor's loop turns and the gateway has answered within GATEWAY_LOST_S. A
gateway that hangs is replaced by the supervisor long before; where that did not help for so long, nobody is
served, and systemd may begin everything anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from supervisor.contract.fleet import WorkerState

GATEWAY_LOST_S: Final = 120.0
"""A gateway that has not answered for so long, through all attempts to replace it, does not come back."""
MORE_TIME_S: Final = 30.0
"""What a start, reload or stop that goes on asks for, again and again."""
LONGEST_S: Final = 900.0
"""No start, reload or stop is given more time than this after it began."""
_FEEDS_PER_LIMIT: Final = 3
"""How often the watchdog is fed within its limit; systemd advises two or more."""
_ASKS_PER_EXTENSION: Final = 3
_NAMED: Final = 5
"""Workers that the status names; of more it tells the number."""
_LONGEST_RESULT: Final = 600
"""Characters of a reload's result: a datagram has 4096 bytes, all told."""


class Phase(StrEnum):
    """Where the service is in its life."""

    STARTING = "Starting"
    SERVING = "Serving"
    RELOADING = "Reloading"
    STOPPING = "Stopping"


# Events: what happened.


@dataclass(frozen=True, slots=True)
class Served:
    """Clients are answered at this URL."""

    url: str


@dataclass(frozen=True, slots=True)
class FleetChanged:
    """The workers of this machine, by name, with their states."""

    workers: tuple[tuple[str, WorkerState], ...]


@dataclass(frozen=True, slots=True)
class GatewayAnswered:
    """The gateway's loop turns."""

    models_loaded: int | None = None
    """How many models its workers hold, counted once for each worker; None where it did not say."""


@dataclass(frozen=True, slots=True)
class GatewaySilent:
    """The gateway did not answer, or there is none at the moment."""


@dataclass(frozen=True, slots=True)
class ReloadBegan:
    """The configuration is being read again."""


@dataclass(frozen=True, slots=True)
class ReloadEnded:
    """It is in force, or refused."""

    result: str
    """One sentence for people."""
    at: str
    """The time of day, for people."""


@dataclass(frozen=True, slots=True)
class StopBegan:
    """Everything is being ended."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time in `Notifications.deadline` has come."""


Event = (
    Served
    | FleetChanged
    | GatewayAnswered
    | GatewaySilent
    | ReloadBegan
    | ReloadEnded
    | StopBegan
    | DeadlinePassed
)


@dataclass(slots=True)
class Notifications:
    """What was told and what is due. Its only writer is `handle`."""

    now: float
    """Monotonic seconds, as everywhere here; CLOCK_MONOTONIC's, because systemd compares."""
    watchdog_s: float | None
    """How long systemd waits to be told that we live; None where it does not."""
    deadline: float | None = None
    phase: Phase = Phase.STARTING
    _since: float = 0.0
    _url: str = ""
    _workers: tuple[tuple[str, WorkerState], ...] = ()
    _models_loaded: int | None = None
    _gateway_is_silent: bool = False
    _answered_at: float = 0.0
    _reload: str = ""
    _status: str = ""
    _feed_at: float | None = None
    _extend_at: float = 0.0
    _lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin in STARTING, with everything due at once."""
        self._since = self._extend_at = self.deadline = self.now
        self._feed_at = None if self.watchdog_s is None else self.now

    def handle(self, event: Event, now: float) -> str:
        """Feed one event; return the datagram that must be sent now, or the empty string."""
        self.now, self._lines = now, []
        self._take(event)
        self._feed_watchdog()
        self._ask_for_time()
        self._tell_status()
        self.deadline = min((at for at in (self._feed_at, self._next_ask()) if at is not None), default=None)
        return "\n".join(self._lines)

    def _take(self, event: Event) -> None:
        match event:
            case Served():
                self._url, self._answered_at, self._gateway_is_silent = event.url, self.now, False
                self._enter(Phase.SERVING, "READY=1")
            case FleetChanged():
                self._workers = event.workers
            case GatewayAnswered():
                self._gateway_is_silent, self._answered_at = False, self.now
                self._models_loaded = event.models_loaded
            case GatewaySilent():
                self._gateway_is_silent = True
            case ReloadBegan():
                self._enter(Phase.RELOADING, "RELOADING=1", f"MONOTONIC_USEC={int(self.now * 1e6)}")
            case ReloadEnded():
                self._reload = f"last reload at {event.at}: {_short(event.result)}"
                self._enter(Phase.SERVING, "READY=1")
            case StopBegan():
                self._enter(Phase.STOPPING, "STOPPING=1")
            case DeadlinePassed():
                pass

    def _enter(self, phase: Phase, *lines: str) -> None:
        """Move on. A stop is final, whatever ends meanwhile; a reload before READY is part of the start."""
        if self.phase is Phase.STOPPING or (phase is not Phase.STOPPING and not self._url):
            return
        self.phase, self._since, self._extend_at = phase, self.now, self.now
        self._lines.extend(lines)

    # What is due by time.

    def _feed_watchdog(self) -> None:
        if self._feed_at is None or self.watchdog_s is None or self.now < self._feed_at:
            return
        self._feed_at = self.now + self.watchdog_s / _FEEDS_PER_LIMIT
        if self.phase is not Phase.SERVING or self.now - self._answered_at <= GATEWAY_LOST_S:
            self._lines.append("WATCHDOG=1")

    def _ask_for_time(self) -> None:
        if self._next_ask() is not None and self.now >= self._extend_at:
            self._extend_at = self.now + MORE_TIME_S / _ASKS_PER_EXTENSION
            self._lines.append(f"EXTEND_TIMEOUT_USEC={int(MORE_TIME_S * 1e6)}")

    def _next_ask(self) -> float | None:
        """Return when to ask for more time; None where it is not needed, or would lead nowhere."""
        if self.phase is Phase.SERVING or self._extend_at - self._since >= LONGEST_S:
            return None
        given_up = [state is WorkerState.QUARANTINED for _, state in self._workers]
        hopeless = self.phase is Phase.STARTING and bool(given_up) and all(given_up)
        return None if hopeless else self._extend_at

    # The sentence.

    def _tell_status(self) -> None:
        status = self.status()
        if status != self._status:
            self._status = status
            self._lines.append(f"STATUS={status}")

    def status(self) -> str:
        """Return what `systemctl status` shows: one line, true now."""
        where = f" {self._url}" if self.phase is Phase.SERVING else ""
        parts = [_workers_text(self._workers, stopping=self.phase is Phase.STOPPING)]
        if self.phase in (Phase.SERVING, Phase.RELOADING):
            parts += self._of_gateway()
        return f"{self.phase}{where}: " + "; ".join([*parts, *([self._reload] if self._reload else [])])

    def _of_gateway(self) -> Iterable[str]:
        if self._gateway_is_silent:
            yield "the gateway does not answer and is replaced, clients wait"
        elif self._models_loaded is not None:
            yield "1 model loaded" if self._models_loaded == 1 else f"{self._models_loaded} models loaded"


def not_started(reason: str) -> str:
    """Return the datagram of a service that ends before it began, for `systemctl status` to say why."""
    return f"STATUS=Not started: {_short(reason)}"


def _workers_text(workers: tuple[tuple[str, WorkerState], ...], *, stopping: bool) -> str:
    if not workers:
        return "no workers of its own"
    if stopping:
        left = sum(state is not WorkerState.STOPPED for _, state in workers)
        return f"{left} of {len(workers)} workers left"
    counted = Counter(state for _, state in workers)
    lacking = [f"{name} {state}" for name, state in workers if state is not WorkerState.READY]
    more = [f"{len(lacking) - _NAMED} more"] if len(lacking) > _NAMED else []
    named = ", ".join([*lacking[:_NAMED], *more])
    return f"{counted[WorkerState.READY]} of {len(workers)} workers ready" + (f" ({named})" if named else "")


def _short(result: str) -> str:
    line = " ".join(result.split())
    return line if len(line) <= _LONGEST_RESULT else f"{line[:_LONGEST_RESULT]}... (the log has all of it)"
