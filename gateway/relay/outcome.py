"""How an attempt at a worker ended: a closed vocabulary, and one table of what follows from it.

Pure: decides whether a request is tried again, what that costs, what it says of the worker and which status a
client gets if it was the last attempt. Knows no HTTP client. How often in all is `budget.py`'s to say, how
many failures take a worker out is `gateway/health/breaker.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from random import Random
from typing import Final, assert_never


class Phase(StrEnum):
    """What was waited for in vain."""

    CONNECT = "connection"
    FIRST_BYTE = "first byte"
    """Longer than a worker that lives needs: `patience.py`."""
    REQUEST = "answer"
    """The request's own time was over, whoever is to blame."""
    NEXT_CHUNK = "next chunk"


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection: nothing of the request reached the worker."""

    why: str
    ours: bool = False
    """It is the gateway that lacks something, such as descriptors."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker answered that it is too busy."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nothing came within the time of this phase."""

    phase: Phase
    after_s: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection ended early, after so many bytes of the answer had gone to the client."""

    bytes_sent: int
    why: str
    times: int = 1
    """How often it was sent: a pooled connection that was found broken is no attempt, unless the next one is
    broken too."""


@dataclass(frozen=True, slots=True)
class Failing:
    """The worker answered that it, or the model's runner, is broken."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """What came is no answer of a worker: no HTTP, a web page, a piece of JSON."""

    why: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """The worker does not know the API that was asked for, as an older server of its engine may not."""

    why: str


Outcome = NotSent | Refused | TimedOut | Broken | Failing | Garbage | NoRoute


class Kind(StrEnum):
    """All that an attempt can end as, except well. The keys of `RULES`."""

    NOT_SENT = "not sent"
    NO_CONNECTION = "no connection"
    SHORTAGE = "shortage"
    REFUSED = "refused"
    SILENT = "silent"
    LATE = "late"
    BROKE_OFF = "broke off"
    FAILING = "failing"
    GARBAGE = "garbage"
    NO_ROUTE = "no route"
    BROKE_MID_STREAM = "broke mid-stream"
    STALLED = "stalled"


class Blame(StrEnum):
    """What an attempt says of its worker."""

    NONE = "none"
    FAILURE = "failure"
    """Counts against it; so many in a row take it out."""
    SUSPICION = "suspicion"
    """It may hang: out at once until it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What follows from a kind of end."""

    again: bool
    """It may be made again: nothing of an answer has reached the client."""
    costs: bool
    """Making it again costs retry budget; free where nothing of it was sent, or no worker did work."""
    breaks: bool
    """The request may be what the worker died of: so many of these and it is given up (`MAX_BREAKS`)."""
    blame: Blame
    status: HTTPStatus
    """For a client whose last attempt ended so."""


_BAD, _LATE = HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT
_NONE, _FAILURE, _SUSPICION = Blame.NONE, Blame.FAILURE, Blame.SUSPICION

# fmt: off
RULES: Final[Mapping[Kind, Rule]] = {
    Kind.NOT_SENT:         Rule(again=True,  costs=False, breaks=False, blame=_FAILURE,   status=_BAD),
    Kind.NO_CONNECTION:    Rule(again=True,  costs=False, breaks=False, blame=_SUSPICION, status=_LATE),
    Kind.SHORTAGE:         Rule(again=True,  costs=False, breaks=False, blame=_NONE,
                                status=HTTPStatus.SERVICE_UNAVAILABLE),
    Kind.REFUSED:          Rule(again=True,  costs=True,  breaks=False, blame=_NONE,
                                status=HTTPStatus.SERVICE_UNAVAILABLE),
    Kind.SILENT:           Rule(again=True,  costs=True,  breaks=True,  blame=_SUSPICION, status=_LATE),
    Kind.LATE:             Rule(again=False, costs=False, breaks=False, blame=_NONE,      status=_LATE),
    Kind.BROKE_OFF:        Rule(again=True,  costs=True,  breaks=True,  blame=_FAILURE,   status=_BAD),
    Kind.FAILING:          Rule(again=True,  costs=True,  breaks=True,  blame=_FAILURE,   status=_BAD),
    Kind.GARBAGE:          Rule(again=True,  costs=True,  breaks=False, blame=_FAILURE,   status=_BAD),
    Kind.NO_ROUTE:         Rule(again=True,  costs=False, breaks=False, blame=_NONE,
                                status=HTTPStatus.NOT_IMPLEMENTED),
    Kind.BROKE_MID_STREAM: Rule(again=False, costs=False, breaks=True,  blame=_FAILURE,   status=_BAD),
    Kind.STALLED:          Rule(again=False, costs=False, breaks=True,  blame=_SUSPICION, status=_LATE),
}
# fmt: on

FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 5.0
JITTER: Final = 0.25
MAX_BREAKS: Final = 2
"""So many broken attempts are made again; the third is the last."""


class AttemptFailedError(Exception):
    """An attempt that failed before anything went to the client, so that it may be made again."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(describe(outcome))
        self.outcome = outcome


class StreamFailedError(Exception):
    """An answer that broke off after its first byte went to the client."""

    def __init__(self, outcome: Broken | TimedOut) -> None:
        super().__init__(describe(outcome))
        self.outcome = outcome


def kind_of(outcome: Outcome) -> Kind:  # noqa: PLR0911 -- one line a case
    """Return which rule holds."""
    match outcome:
        case NotSent():
            return Kind.SHORTAGE if outcome.ours else Kind.NOT_SENT
        case Refused():
            return Kind.REFUSED
        case TimedOut():
            return _TIMEOUTS[outcome.phase]
        case Broken():
            return Kind.BROKE_MID_STREAM if outcome.bytes_sent else Kind.BROKE_OFF
        case Failing():
            return Kind.FAILING
        case Garbage():
            return Kind.GARBAGE
        case NoRoute():
            return Kind.NO_ROUTE
        case _:
            assert_never(outcome)


_TIMEOUTS: Final[Mapping[Phase, Kind]] = {
    Phase.CONNECT: Kind.NO_CONNECTION,
    Phase.FIRST_BYTE: Kind.SILENT,
    Phase.REQUEST: Kind.LATE,
    Phase.NEXT_CHUNK: Kind.STALLED,
}


def rule_of(outcome: Outcome) -> Rule:
    """Return what follows from an attempt that ended so."""
    return RULES[kind_of(outcome)]


def may_retry(outcome: Outcome, *, breaks: int) -> bool:
    """Whether another attempt can be made, as long as time and budget allow.

    `breaks` counts the attempts of this request, with this one, that may have harmed a worker: a request
    that keeps doing so is suspected of killing workers, and must not get at all of them.
    """
    rule = rule_of(outcome)
    return rule.again and (not rule.breaks or breaks <= MAX_BREAKS)


def breaks_of(outcome: Outcome) -> int:
    """Return how often this attempt may have harmed its worker."""
    if not rule_of(outcome).breaks:
        return 0
    return outcome.times if isinstance(outcome, Broken) else 1


def backoff_s(attempt: int, rng: Random) -> float:
    """Return the seconds to wait after the `attempt`-th failure (1 is the first): exponential with jitter."""
    base = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 20))
    return base * rng.uniform(1.0 - JITTER, 1.0 + JITTER)


def describe(outcome: Outcome) -> str:  # noqa: PLR0911 -- one line a case
    """Return a sentence for clients and logs."""
    match outcome:
        case NotSent():
            return f"the worker could not be reached: {outcome.why}"
        case Refused():
            return f"the worker refused with {outcome.status}: {outcome.message}"
        case TimedOut():
            return f"the worker gave no {outcome.phase} within {outcome.after_s:g} s"
        case Broken():
            return f"the worker broke off: {outcome.why}"
        case Failing():
            return f"the worker failed with {outcome.status}: {outcome.message}"
        case Garbage():
            return f"what came is no worker's answer: {outcome.why}"
        case NoRoute():
            return outcome.why
        case _:
            assert_never(outcome)


def to_tell(last: Outcome, before: Outcome | None, since_arrival_s: float) -> Outcome:
    """Return which of two failures of a request tells a client more; `before` is None for the first.

    An attempt that began shortly before the request's time was over says nothing of why it failed: it is told
    only where most of the time went into it.
    """
    cut = kind_of(last) is Kind.LATE and isinstance(last, TimedOut) and last.after_s * 2 < since_arrival_s
    return before if cut and before is not None else last


def status_of(outcome: Outcome) -> int:
    """Return the HTTP status for a request whose last attempt ended so."""
    return rule_of(outcome).status
