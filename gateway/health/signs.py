"""What a worker's answer to a question tells of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.relay.outcome import Blame, Outcome, describe, rule_of


@dataclass(frozen=True, slots=True)
class Alive:
    """It answered; also that it is busy, or does not know the model."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing came."""

    why: str


@dataclass(frozen=True, slots=True)
class Ill:
    """It answered badly, or does not take connections."""

    why: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """It could not be asked without taking something from somebody."""


Sign = Alive | Silent | Ill | NotNow


def sign_of(outcome: Outcome) -> Sign:
    """Return what a question tells that failed so."""
    match rule_of(outcome).blame:
        case Blame.NONE:
            return Alive()
        case Blame.SUSPICION:
            return Silent(describe(outcome))
        case Blame.FAILURE:
            return Ill(describe(outcome))
