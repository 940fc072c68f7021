"""Why a request went where it went and what was loaded for it: the numbers that were compared, and words.

Plain tuples that travel with the effects. The words are made only when somebody reads them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from gateway.scheduling.names import Instance, Variant


class Turn(StrEnum):
    """Why it was this request's turn among those that waited for the model."""

    ALONE = "nobody else waited"
    SAVABLE = "can still meet the goal"
    FIFO = "the oldest: every so many grants, or none can still meet the goal"
    PATIENCE = "waited longer than patience"
    RETURNED = "comes back after a failed attempt"


class ReplicaOption(NamedTuple):
    """A free replica that was considered for a request, in seconds until its answer would be complete."""

    instance: Instance
    backlog_s: float
    """Prompts that are being read there already."""
    prompt_s: float
    """Its own prompt, less what is cached."""
    crowding_s: float
    """Other models that compute there."""
    answer_s: float
    """What an answer of the model takes on that device."""
    busy: int
    slots: int
    cached: bool = False
    """Whether its conversation was answered there before."""

    @property
    def total_s(self) -> float:
        """What options are compared by."""
        return self.backlog_s + self.prompt_s + self.crowding_s + self.answer_s


class LoadOption(NamedTuple):
    """A worker that was considered for a load, in seconds that it would cost."""

    instance: Instance
    load_s: float
    drain_s: float
    """Until the last answer of its victims ends."""
    eviction_s: float
    """What its victims are worth."""
    crowding_s: float
    slower_s: float
    """What an answer takes longer there than elsewhere; negative where it is faster."""
    victims: tuple[Variant, ...] = ()

    @property
    def total_s(self) -> float:
        """What options are compared by."""
        return self.load_s + self.drain_s + self.eviction_s + self.crowding_s + self.slower_s


class LoadCause(StrEnum):
    """What a load is for."""

    FIRST = "not resident"
    FURTHER = "further replica"
    KEPT = "the operator wants it kept"


KEPT: Final = LoadCause.KEPT
"""For decisions: to look up an attribute of an enum takes five times as long."""


class LoadReason(NamedTuple):
    """Why a model was loaded, and why there."""

    cause: LoadCause
    at: float
    """Monotonic seconds of the decision."""
    queued: int
    """Requests that waited."""
    need: float
    """What they count for, less the slots that were coming already."""
    waited_s: float
    """Of the oldest of them."""
    expected_wait_s: float | None
    """How long they would wait without it; None is for ever."""
    options: tuple[LoadOption, ...]
    """The chosen one first, then the best others."""

    def __str__(self) -> str:
        """One clause for a log line."""
        chosen = self.options[0]
        room = f"evicts {len(chosen.victims)}" if chosen.victims else "free room"
        others = ", ".join(f"{other.instance.worker} {other.total_s:.1f}" for other in self.options[1:])
        against = f" against {others}" if others else ""
        return f"{self.cause}; {self.queued} wait; {room}; costs {chosen.total_s:.1f} s{against}"


class GrantReason(NamedTuple):
    """Why a request got this slot now."""

    turn: Turn
    options: tuple[ReplicaOption, ...]
    """The chosen one first, then the best others."""
    servers: int
    """Workers that may serve the model."""
    load: LoadReason | None = None
    """How the chosen replica came to be there, when that was while the request waited."""
    held_s: float = 0.0
    """How long a slot was free and the request held back all the same, for a fuller batch."""

    def __str__(self) -> str:
        """One clause for a log line."""
        chosen = self.options[0]
        came = "loaded for it" if self.load is not None else "resident"
        others = ", ".join(f"{other.instance.worker} {other.total_s:.2f}" for other in self.options[1:])
        against = f" against {others}" if others else ""
        cached = "; its conversation was here" if chosen.cached else ""
        return f"{came}; {chosen.busy} of {chosen.slots} slots busy; {chosen.total_s:.2f} s{against}{cached}"
