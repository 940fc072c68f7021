"""What went on around an answer or a load on its worker, out of a log: so many seconds of each sort. Pure.

Decides what counts as going on. Must not know how much slower it made anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.simulate.shown import Answer, LoadSpan


class Beside(NamedTuple):
    """What one worker did at a moment, as a model on it sees it."""

    prompts: int
    """Of the model that were read, the own one among them."""
    answers: int
    """Of the model that were written, the own one among them."""
    models: int
    """That computed, the own one among them."""
    loading: bool
    """Whether a load ran."""


Seconds = Mapping[Beside, float]
"""How long it was so."""


class _Change(NamedTuple):
    at: float
    model: str
    prompts: int = 0
    answers: int = 0
    loads: int = 0


class Timeline:
    """The time of one worker, cut wherever anything began or ended."""

    def __init__(self, answers: Iterable[Answer], loads: Iterable[LoadSpan]) -> None:
        changes = sorted([*_of_answers(answers), *_of_loads(loads)])
        self._cuts = [change.at for change in changes]
        self._states = list(_states(changes))

    def around(self, model: str, begin: float, end: float) -> Seconds:
        """Return what went on from `begin` to `end`, as the model sees it."""
        first = max(0, bisect_right(self._cuts, begin) - 1)
        found: dict[Beside, float] = defaultdict(float)
        for at in range(first, len(self._states)):
            if self._cuts[at] >= end:
                break
            seconds = min(end, self._cuts[at + 1]) - max(begin, self._cuts[at])
            if seconds > 0:
                found[self._states[at].seen_by(model)] += seconds
        return found


def _of_answers(answers: Iterable[Answer]) -> Iterator[_Change]:
    for answer in answers:
        yield _Change(answer.granted_at, answer.model, prompts=1)
        yield _Change(answer.first_at, answer.model, prompts=-1, answers=1)
        yield _Change(answer.ended_at, answer.model, answers=-1)


def _of_loads(loads: Iterable[LoadSpan]) -> Iterator[_Change]:
    for load in loads:
        yield _Change(load.began_at, load.model, loads=1)
        yield _Change(load.ended_at, load.model, loads=-1)


class _State(NamedTuple):
    phases: Mapping[str, tuple[int, int]]
    """Prompts and answers of each model that computes."""
    loading: bool

    def seen_by(self, model: str) -> Beside:
        return Beside(*self.phases.get(model, (0, 0)), len(self.phases), self.loading)


def _states(changes: Sequence[_Change]) -> Iterator[_State]:
    """Yield what goes on between each change and the next."""
    prompts, answers, loads = Counter[str](), Counter[str](), 0
    for change in changes[:-1]:
        prompts[change.model] += change.prompts
        answers[change.model] += change.answers
        loads += change.loads
        computing = [model for model in prompts if prompts[model] > 0 or answers[model] > 0]
        yield _State({model: (prompts[model], answers[model]) for model in computing}, loads > 0)
