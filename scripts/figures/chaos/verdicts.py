"""Judges what a client saw of its request: the vocabulary of the figures, and the one rule behind it.

Times are seconds of one clock (the wall's, because Corral's log has no other). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from math import isclose
from typing import Final

from scripts.figures.chaos.asks import Ask

_CLOSE: Final = 1e-3
"""Batches are computed in another order than single texts."""


class Verdict(StrEnum):
    """What came of a request."""

    WHOLE = "whole"
    LEFT = "client left"
    """As it meant to."""
    GONE = "model gone"
    """A 404 for a model that was deleted meanwhile."""
    CUT_WITH_GATEWAY = "cut with the gateway"
    """The gateway that held it was killed; the client was told by a reset."""
    TOLD = "broken, told"
    """After its first byte, by an error frame or a cut connection."""
    UNSERVABLE = "no worker"
    """Refused or given up while no worker could have served it inside its deadline."""
    REFUSED = "refused"
    FAILED = "failed before the first byte"
    SILENT = "broken silently"
    """It looked whole and was not, or its words were not those that had to come."""


MISSES: Final = (Verdict.REFUSED, Verdict.FAILED, Verdict.SILENT)
"""What must not be."""


class Trouble(StrEnum):
    """How a client learnt that it gets no answer, or no more of it."""

    CONNECT = "no connection"
    RESET = "connection reset"
    STATUS = "status"
    FRAME = "error frame"
    TIMEOUT = "client's own timeout"
    NONSENSE = "not understood"
    """What came is no answer of this API."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a client saw."""

    ask: Ask
    started_at: float
    first_at: float | None = None
    """When the head of an answer came that is none of refusal."""
    ended_at: float = 0.0
    text: str = ""
    vector: Sequence[float] = ()
    whole: bool = False
    """It ended as its API ends answers."""
    left: bool = False
    trouble: Trouble | None = None
    status: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something was so."""

    begin: float
    end: float

    def meets(self, other: Span) -> bool:
        """Whether they have a moment in common."""
        return self.begin <= other.end and other.begin <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of the time in which requests ran."""

    deadline_s: float
    gateway_deaths: Sequence[Span] = ()
    """From the kill until the process was gone: who had begun before that may be cut by it."""
    served: Sequence[Span] = ()
    """When some worker was ready, and not stopped."""
    vectors: dict[str, Sequence[float]]
    """What the embedding model makes of each text."""


def verdict(seen: Seen, known: Circumstances) -> Verdict:
    """Judge one request."""
    if seen.trouble is None:
        return _of_a_clean_end(seen, known)
    if not _right_so_far(seen) or seen.trouble is Trouble.NONSENSE:
        return Verdict.SILENT
    if seen.trouble is Trouble.RESET and _cut(seen, known):
        return Verdict.CUT_WITH_GATEWAY
    if seen.status == HTTPStatus.NOT_FOUND and seen.ask.may_be_gone:
        return Verdict.GONE
    told = seen.first_at is not None and seen.trouble is not Trouble.TIMEOUT
    return Verdict.TOLD if told else _of_no_answer(seen, known)


def _right_so_far(seen: Seen) -> bool:
    """Whether what came is a beginning of what had to come; its last word may be cut."""
    words = seen.text.split()
    return len(words) <= seen.ask.words and words[:-1] == seen.ask.expected()[: len(words)][:-1]


def _of_a_clean_end(seen: Seen, known: Circumstances) -> Verdict:
    if seen.left:
        return Verdict.LEFT if _right_so_far(seen) else Verdict.SILENT
    embeds, ask = seen.ask.call.embeds, seen.ask
    right = alike(seen.vector, known.vectors[ask.text]) if embeds else seen.text.split() == ask.expected()
    return Verdict.WHOLE if seen.whole and right else Verdict.SILENT


def _of_no_answer(seen: Seen, known: Circumstances) -> Verdict:
    life = Span(seen.started_at, max(seen.ended_at, seen.started_at + known.deadline_s))
    by_status = seen.trouble in (Trouble.STATUS, Trouble.TIMEOUT)
    if by_status and not any(life.meets(span) for span in known.served):
        return Verdict.UNSERVABLE
    busy = seen.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    at_the_door = seen.trouble in (Trouble.CONNECT, Trouble.RESET)
    return Verdict.REFUSED if busy or at_the_door else Verdict.FAILED


def _cut(seen: Seen, known: Circumstances) -> bool:
    return any(
        seen.started_at <= death.end and seen.ended_at >= death.begin for death in known.gateway_deaths
    )


def alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two vectors are the same but for rounding."""
    return len(one) == len(other) and all(
        isclose(a, b, abs_tol=_CLOSE) for a, b in zip(one, other, strict=True)
    )
