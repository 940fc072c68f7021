"""How an attempt at a worker ended: a closed vocabulary, and the one rule about trying again.

Pure: decides whether and after how long a request is tried again; knows no HTTP client.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import Final, assert_never


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection: nothing of the request reached the worker."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker answered that it is too busy."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nothing came within the time of this phase: `connect`, `first byte` or `next chunk`."""

    phase: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection ended early, after so many bytes of the answer had gone to the client."""

    bytes_sent: int
    why: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """The worker does not know the API that was asked for, as an older server of its engine may not."""

    why: str


Outcome = NotSent | Refused | TimedOut | Broken | NoRoute

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


def may_retry(outcome: Outcome, *, breaks: int) -> bool:
    """Whether another attempt can be made, as long as time is not up.

    `breaks` counts the attempts of this request, with this one, that broke off: a request that keeps
    breaking connections is suspected of killing workers, and must not get at all of them.
    """
    match outcome:
        case NotSent() | Refused() | NoRoute():
            return True
        case Broken():
            return outcome.bytes_sent == 0 and breaks <= MAX_BREAKS
        case TimedOut():
            return outcome.phase == "connect"
        case _:
            assert_never(outcome)


def backoff_s(attempt: int, rng: Random) -> float:
    """Return the seconds to wait after the `attempt`-th failure (1 is the first): exponential with jitter."""
    base = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 20))
    return base * rng.uniform(1.0 - JITTER, 1.0 + JITTER)


def describe(outcome: Outcome) -> str:
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
        case NoRoute():
            return outcome.why
        case _:
            assert_never(outcome)


def status_of(outcome: Outcome) -> int:
    """Return the HTTP status for a request whose last attempt ended so."""
    match outcome:
        case Refused():
            return outcome.status
        case TimedOut():
            return HTTPStatus.GATEWAY_TIMEOUT
        case NotSent() | Broken():
            return HTTPStatus.BAD_GATEWAY
        case NoRoute():
            return HTTPStatus.NOT_IMPLEMENTED
        case _:
            assert_never(outcome)
