"""Which faults happen when: a seeded schedule over the kinds that this Corral knows. Pure.

Every kind comes at least once if there is room. Who crashes too often is put into quarantine, as it should
be; that is no subject here, so no worker crashes more often than it may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

_MOST_CRASHES: Final = 4
"""Of one worker or of the gateway: the fifth within five minutes means quarantine."""
_HEAD, _TAIL = 0.02, 0.95
"""Shares of the requests before the first and after the last fault."""


class Kind(StrEnum):
    """What happens."""

    KILL_WORKER = "kill -9 of a worker"
    KILL_RUNNER = "kill -9 of a worker's runner"
    PAUSE_WORKER = "worker stopped for seconds"
    HANG_WORKER = "worker stopped for good"
    KILL_GATEWAY = "kill -9 of the gateway"
    RESTART_GATEWAY = "corral restart gateway"
    DRAIN_WORKER = "corral drain and resume"
    RESTART_WORKER = "corral restart"
    RELOAD = "SIGHUP with a changed file"
    BROKEN_RELOAD = "SIGHUP with a broken file"
    LEAVE_QUEUE = "clients leave the queue"
    LEAVE_LOAD = "clients leave during a load"
    LEAVE_STREAM = "clients leave mid-stream"
    SLOW_READERS = "clients read slowly"
    STORE = "model made and deleted"
    SLOW_LOG = "log not read for seconds"


NEEDS_COMMAND: Final = {
    Kind.RESTART_GATEWAY: ("restart", "gateway"),
    Kind.DRAIN_WORKER: ("drain", "WORKER"),
    Kind.RESTART_WORKER: ("restart", "WORKER"),
    Kind.RELOAD: ("reload", "reload"),
    Kind.BROKEN_RELOAD: ("reload", "reload"),
}
"""The command, and the word that its help must have: without it the fault cannot be made."""
_OF_A_WORKER: Final = (
    Kind.KILL_WORKER,
    Kind.KILL_RUNNER,
    Kind.PAUSE_WORKER,
    Kind.HANG_WORKER,
    Kind.DRAIN_WORKER,
    Kind.RESTART_WORKER,
)
_CRASHES: Final = (Kind.KILL_WORKER, Kind.PAUSE_WORKER, Kind.HANG_WORKER, Kind.KILL_GATEWAY)
"""What may count as a crash: also a pause, if the worker is taken for hung."""
_ALWAYS: Final = (Kind.KILL_WORKER, Kind.KILL_GATEWAY)
"""Come first where there is no room for all."""
_GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the schedule."""

    at: int
    """It happens when so many requests have begun."""
    kind: Kind
    worker: str
    """Empty where it is about none."""
    seconds: float
    """How long it lasts, where that is its own to say."""


def schedule(
    seed: int, *, requests: int, faults: int, workers: Sequence[str], kinds: Collection[Kind]
) -> list[Fault]:
    """Return the faults of a seed in their order."""
    chance = Random(seed)  # noqa: S311 -- a plan, not a secret
    drawn = _kinds(chance, faults, [kind for kind in Kind if kind in kinds])
    step = requests * (_TAIL - _HEAD) / faults
    crashes: Counter[str] = Counter()
    planned = []
    for number, kind in enumerate(drawn):
        at = round(requests * _HEAD + step * (number + chance.random() * 0.8))
        subject = _subject(chance, kind, workers, crashes)
        if kind in _CRASHES and crashes[subject] >= _MOST_CRASHES:
            kind = Kind.LEAVE_STREAM  # noqa: PLW2901 -- nobody is left who may crash once more
            subject = ""
        crashes[subject] += kind in _CRASHES
        worker = subject if kind in _OF_A_WORKER else ""
        planned.append(Fault(at, kind, worker, round(chance.uniform(1.0, 4.0), 1)))
    return planned


def _kinds(chance: Random, count: int, known: Sequence[Kind]) -> list[Kind]:
    first = [kind for kind in _ALWAYS if kind in known]
    others = [kind for kind in known if kind not in first]
    chance.shuffle(others)
    once = [*first, *others][:count]
    more = [chance.choice(known) for _ in range(count - len(once))]
    drawn = [*once, *more]
    chance.shuffle(drawn)
    return drawn


def _subject(chance: Random, kind: Kind, workers: Sequence[str], crashes: Counter[str]) -> str:
    """Return who is meant: of the workers one that crashed least."""
    if kind is Kind.KILL_GATEWAY:
        return _GATEWAY
    if kind not in _OF_A_WORKER:
        return ""
    least = min(crashes[worker] for worker in workers)
    return chance.choice([worker for worker in workers if crashes[worker] == least])
