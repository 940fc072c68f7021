"""What a worker that gave no sign of life for a while is asked. Pure.

A question costs the worker something, so it is the least that tells: nothing while it loads in time, whether
its server lives where it computes for clients, one token where it is idle. A question takes a slot only where
one is free and nobody waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

LOAD_MARGIN: Final = 4.0
"""A load may take so many times as long as expected."""


class Question(Enum):
    """What to ask."""

    NOTHING = auto()
    VERSION = auto()
    """Whether the server lives: GET /api/version."""
    TOKEN = auto()
    """The same, and then one token, or one vector, of a model that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the gateway knows of a worker at this moment."""

    suspected: bool
    """Its circuit is not closed."""
    busy: int
    """Answers that it computes for clients."""
    loading_s: float | None
    """For how long it has been loading a model; None when it is not."""
    load_s: float = 0.0
    """How long that load was expected to take."""
    has_free_slot: bool = False
    """A model is there with a slot that nobody waits for."""


def question_for(sight: Sight, *, patience_s: float) -> Question:
    """Return what to ask; `patience_s` is what a load may take beyond its expected time."""
    if sight.loading_s is not None:
        overdue = sight.loading_s > patience_s + LOAD_MARGIN * sight.load_s
        return Question.VERSION if overdue or sight.suspected else Question.NOTHING
    if not sight.has_free_slot or (sight.busy and not sight.suspected):
        return Question.VERSION
    return Question.TOKEN
