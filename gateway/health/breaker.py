"""Whether a worker gets requests: a circuit breaker for each process, as a table of states and events.

Closed, it gets requests. Failures in a row, or one reason to believe that it hangs, open it: it gets no new
ones, and those that wait go elsewhere. After a while it is half open: it is asked for one token, and the
answer closes it. Silence in so many questions in a row says that it hangs. Pure: `watch.py` asks and carries
out; times are monotonic seconds. A successor begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from gateway.scheduling.names import Instance

TRIPS_AT: Final = 3
"""Failures in a row."""
SILENCES: Final = 2
"""Questions in a row that nothing came to: then it hangs."""
FIRST_WAIT_S: Final = 1.0
MAX_WAIT_S: Final = 30.0
"""Before it is asked again; doubles with each question that failed."""


class Circuit(StrEnum):
    """Whether requests flow."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is believed of one process."""

    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    """In a row, while closed."""
    questions: int = 0
    """That failed in a row since it opened."""
    silences: int = 0
    """Of those, the last ones to which nothing came at all."""
    due: float | None = None
    """When it is to be asked; only while open."""
    why: str = ""
    """What opened it."""


# Events ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """It answered a request or a question."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed there by its fault."""

    why: str


@dataclass(frozen=True, slots=True)
class Suspected:
    """It may hang. `silent`: it was asked, and nothing came."""

    why: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class QuestionFailed:
    """The question of a half open circuit was not answered well; `silent`: not at all."""

    why: str
    silent: bool


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The moment `Breaker.due` has come."""


Event = Answered | Failed | Suspected | QuestionFailed | DeadlinePassed
EVENTS: Final[tuple[type[Event], ...]] = (Answered, Failed, Suspected, QuestionFailed, DeadlinePassed)

# Effects --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask it, then report `Answered` or `QuestionFailed`."""


@dataclass(frozen=True, slots=True)
class Condemn:
    """It hangs: have it ended by whoever runs it."""

    why: str


Effect = Ask | Condemn
Step = tuple[Breaker, tuple[Effect, ...]]


def step(breaker: Breaker, event: Event, now: float) -> Step:
    """Return what is believed after the event, and what is to be done."""
    move = TABLE.get((breaker.circuit, type(event)))
    return (breaker, ()) if move is None else move(breaker, event, now)


def _fine(breaker: Breaker, _: Answered, __: float) -> Step:
    return (replace(breaker, failures=0) if breaker.failures else breaker), ()


def _close(_: Breaker, __: Answered, ___: float) -> Step:
    return Breaker(), ()


def _count(breaker: Breaker, event: Failed | QuestionFailed, now: float) -> Step:
    failures = breaker.failures + 1
    if failures < TRIPS_AT:
        return replace(breaker, failures=failures), ()
    why = f"{failures} failures in a row, the last: {event.why}"
    return Breaker(Circuit.OPEN, due=now + FIRST_WAIT_S, why=why), ()


def _suspect(_: Breaker, event: Suspected, now: float) -> Step:
    return Breaker(Circuit.OPEN, silences=int(event.silent), due=now, why=event.why), ()


def _suspect_more(breaker: Breaker, event: Suspected, now: float) -> Step:
    """What failed before may have been the first sign; what was asked since is told by the answers."""
    return (breaker if breaker.questions else replace(breaker, due=now, why=event.why)), ()


def _ask(breaker: Breaker, _: DeadlinePassed, now: float) -> Step:
    if breaker.due is None or breaker.due > now:
        return breaker, ()
    return replace(breaker, circuit=Circuit.HALF_OPEN, due=None), (Ask(),)


def _open_again(breaker: Breaker, event: QuestionFailed, now: float) -> Step:
    silences = breaker.silences + 1 if event.silent else 0
    wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(breaker.questions, 20))
    opened = replace(
        breaker,
        circuit=Circuit.OPEN,
        questions=breaker.questions + 1,
        silences=silences,
        due=now + wait_s,
        why=event.why,
    )
    return opened, (Condemn(event.why),) if silences >= SILENCES else ()


# fmt: off
TABLE: Final[Mapping[tuple[Circuit, type[Event]], Callable[[Breaker, Any, float], Step]]] = {
    (Circuit.CLOSED,    Answered):       _fine,
    (Circuit.CLOSED,    Failed):         _count,
    (Circuit.CLOSED,    QuestionFailed): _count,
    (Circuit.CLOSED,    Suspected):      _suspect,
    (Circuit.OPEN,      Answered):       _close,
    (Circuit.OPEN,      Suspected):      _suspect_more,
    (Circuit.OPEN,      DeadlinePassed): _ask,
    (Circuit.HALF_OPEN, Answered):       _close,
    (Circuit.HALF_OPEN, QuestionFailed): _open_again,
}
# fmt: on

IGNORED: Final = frozenset(
    {
        (Circuit.CLOSED, DeadlinePassed),  # it closed before it was asked
        (Circuit.OPEN, Failed),  # requests that were there before it opened
        (Circuit.OPEN, QuestionFailed),
        (Circuit.HALF_OPEN, Failed),  # the question is what counts
        (Circuit.HALF_OPEN, Suspected),
        (Circuit.HALF_OPEN, DeadlinePassed),  # it is being asked
    }
)
"""Pairs that change nothing. Together with `TABLE` these are all."""


def left_out(opened: AbstractSet[Instance], groups: Iterable[Collection[Instance]]) -> frozenset[Instance]:
    """Return which of the workers with an open circuit get no requests.

    `groups` holds for each model the workers that could serve it. Where more than half of them are open,
    something else is likely to be wrong, and all of them count as closed.
    """
    panicking: set[Instance] = set()
    for group in groups:
        if 2 * len(opened & frozenset(group)) > len(group):
            panicking.update(group)
    return frozenset(opened - panicking)
