"""A scenario out of Corral's own log: the fleet, the models and the speeds that it shows. Pure.

The procedure, so that its numbers can be judged:

- Workers, their limits and the models' slots and sizes are as the log lines `worker serves` and `loaded` say.
- An answer's time per token is taken as c * (1 + slowdown * (n - 1)) * (a + l * load_weight). There n counts
  the answers of its model and a the models that computed on its worker, and l is the share of the time in
  which its worker loaded something: each the mean over the answer's time. `batch_slowdown` and
  `load_weight` are those of a grid that leave the least relative deviation; c is the model's own.
- A prompt's time, less the first token's, is taken as c * r * (1 + w) * (a + l * load_weight), with r
  prompts of its model read at once and w the share of the time in which its model also wrote.
- A model's `load_s` is the mean of its loads, each over 1 + load_weight times the models that computed beside
  it; `unload_seconds` is the mean of what making room took.
- Answers that came whole tell no time of their first token. They count as neighbours; of a model that has no
  others, a token of a prompt is taken to take 1/48 of what a written one does.
- A model of which the log shows no answer gets the mean of the others, by size.
- Workers whose memory differs by less than a fiftieth are written as alike, with the least of it.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple

from gateway.simulate.shown import Answer, Limits, LoadSpan, Shown

_MOST_ANSWERS: Final = 3000
"""The latest so many are looked at: more would not make the means any better."""
_SLOWDOWNS: Final = tuple(step / 20 for step in range(41))
_LOAD_WEIGHTS: Final = tuple(step / 10 for step in range(21))
_LEAST_S: Final = 1e-5
"""Of a prompt, where the first token explains all of its time."""
_GB: Final = 1e9
_ALIKE: Final = 1.02
"""Workers whose memory differs by no more than this factor are alike."""


class NothingShownError(ValueError):
    """The log lacks what a scenario is made of; the text says which lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """One model's figures; None was not seen."""

    name: str
    size_gb: float
    slots: int
    load_s: float
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A scenario without a workload."""

    workers: Sequence[Limits]
    models: Sequence[FittedModel]
    batch_slowdown: float
    load_weight: float
    unload_s: float
    answers: int
    loads: int


def fit(shown: Shown) -> Fitted:
    """Return the scenario that explains what was seen.

    Raises:
        NothingShownError: there are no workers, loads or answers to learn from.
    """
    for found, line in ((shown.limits, "worker serves"), (shown.loads, "loaded"), (shown.answers, "request")):
        if not found:
            raise NothingShownError(
                f"the log has no line {line!r} to learn from: it must be JSON (`log: {{format: json}}`), "
                "begin with the gateway's start, and hold loads and answers"
            )
    answers = sorted(shown.answers, key=lambda answer: answer.ended_at)[-_MOST_ANSWERS:]
    near = _by_worker(answers, shown.loads)
    seen = _telling([one for worker in near.values() for one in worker.all_seen()])
    slowdown, load_weight = _least_deviation(seen)
    of_model, load_s = _grouped(seen), _load_seconds(shown.loads, near, load_weight)
    return Fitted(
        workers=[shown.limits[name] for name in sorted(shown.limits)],
        models=[
            _model(name, shown, of_model.get(name, []), fmean(load_s[name]), (slowdown, load_weight))
            for name in sorted(shown.slots)
        ],
        batch_slowdown=slowdown,
        load_weight=load_weight,
        unload_s=fmean(shown.room_s) if shown.room_s else 0.0,
        answers=len(seen),
        loads=len(shown.loads),
    )


class _Seen(NamedTuple):
    """An answer and what went on around it, as means over its time of writing."""

    answer: Answer
    same: float
    """Answers of its model in a batch with it, itself among them."""
    models: float
    """Models that computed on its worker."""
    loading: float
    """The share of the time in which its worker loaded something."""
    reading: float
    """By how much its model's other requests slowed the reading of its prompt."""
    reading_models: float
    """Like `models`, while its prompt was read."""
    reading_loads: float
    """Like `loading`, while its prompt was read."""


def _by_worker(answers: Sequence[Answer], loads: Sequence[LoadSpan]) -> dict[str, _Near]:
    theirs: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        theirs[answer.worker].append(answer)
    return {
        worker: _Near(own, [load for load in loads if load.worker == worker])
        for worker, own in theirs.items()
    }


def _load_seconds(
    loads: Iterable[LoadSpan], near: Mapping[str, _Near], load_weight: float
) -> dict[str, list[float]]:
    """Return, by model, what each load would have taken with nothing beside it."""
    found: dict[str, list[float]] = defaultdict(list)
    for load in loads:
        beside = near[load.worker].beside(load) if load.worker in near else 0.0
        found[load.model].append((load.ended_at - load.began_at) / (1 + load_weight * beside))
    return found


class _Near:
    """Finds what overlapped in time on one worker."""

    def __init__(self, answers: Sequence[Answer], loads: Sequence[LoadSpan]) -> None:
        self._answers = sorted(answers, key=lambda answer: answer.granted_at)
        self._starts = [answer.granted_at for answer in self._answers]
        self._longest_s = max(answer.ended_at - answer.granted_at for answer in answers)
        self._loads = loads

    def all_seen(self) -> Iterator[_Seen]:
        """Yield the answers with what went on around them."""
        return (self.around(answer) for answer in self._answers if answer.ended_at > answer.first_at)

    def around(self, answer: Answer) -> _Seen:
        """Return the means over the time in which the answer was written, and its prompt read."""
        begin, end = answer.first_at, answer.ended_at
        others = self._between(begin, end)
        same = sum(_overlap(o.first_at, o.ended_at, begin, end) for o in others if o.model == answer.model)
        models = _models(others, answer.model, begin, end)
        return _Seen(answer, max(1.0, same), models, self._loading(begin, end), *self._reading(answer))

    def _reading(self, answer: Answer) -> tuple[float, float, float]:
        begin, end = answer.granted_at, answer.first_at
        if end <= begin:
            return 1.0, 1.0, 0.0
        others = self._between(begin, end)
        own = [other for other in others if other.model == answer.model]
        prompts = sum(_overlap(o.granted_at, o.first_at, begin, end) for o in own)
        writing = _covered(((o.first_at, o.ended_at) for o in own), begin, end)
        models = _models(others, answer.model, begin, end)
        return max(1.0, prompts) * (1 + writing), models, self._loading(begin, end)

    def beside(self, load: LoadSpan) -> float:
        """Return how many models computed while one was loaded, as a mean over the time."""
        others = self._between(load.began_at, load.ended_at)
        return _models(others, load.model, load.began_at, load.ended_at) - 1

    def _between(self, begin: float, end: float) -> list[Answer]:
        first = bisect_left(self._starts, begin - self._longest_s)
        return self._answers[first : bisect_right(self._starts, end)]

    def _loading(self, begin: float, end: float) -> float:
        return min(1.0, sum(_overlap(load.began_at, load.ended_at, begin, end) for load in self._loads))


def _models(answers: Iterable[Answer], own: str, begin: float, end: float) -> float:
    """Return how many models computed, the own one among them, as a mean over the time."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for answer in answers:
        if answer.model != own:
            spans[answer.model].append((answer.granted_at, answer.ended_at))
    return 1 + sum(_covered(span, begin, end) for span in spans.values())


def _overlap(begin: float, end: float, first: float, last: float) -> float:
    """Return which share of the time from `first` to `last` lies between `begin` and `end`."""
    return max(0.0, min(end, last) - max(begin, first)) / (last - first)


def _covered(spans: Iterable[tuple[float, float]], first: float, last: float) -> float:
    """Return which share of the time is covered by any of the spans."""
    covered, until = 0.0, first
    for begin, end in sorted(spans):
        covered += max(0.0, min(end, last) - max(begin, until))
        until = max(until, end)
    return covered / (last - first)


def _slower(seen: _Seen, slowdown: float, load_weight: float) -> float:
    """Return how many times slower than alone the answer should have been."""
    return (1 + slowdown * (seen.same - 1)) * (seen.models + load_weight * seen.loading)


def _seconds_per_token(seen: _Seen) -> float:
    return (seen.answer.ended_at - seen.answer.first_at) / seen.answer.output


def _grouped(seen: Iterable[_Seen]) -> dict[str, list[_Seen]]:
    groups: dict[str, list[_Seen]] = defaultdict(list)
    for one in seen:
        groups[one.answer.model].append(one)
    return groups


def _telling(seen: Sequence[_Seen]) -> list[_Seen]:
    """Return the answers of each model that tell when they began, or all where none does."""
    streamed = {one.answer.model for one in seen if not one.answer.whole}
    return [one for one in seen if not one.answer.whole or one.answer.model not in streamed]


def _least_deviation(seen: Sequence[_Seen]) -> tuple[float, float]:
    """Return the slow-down by a batch and the weight of a load that explain the answers best."""
    groups = list(_grouped(seen).values())
    options = [(slowdown, share) for slowdown in _SLOWDOWNS for share in _LOAD_WEIGHTS]
    return min(options, key=lambda option: sum(_deviation(group, *option) for group in groups))


def _deviation(group: Sequence[_Seen], slowdown: float, load_weight: float) -> float:
    """Return the sum of squares of the relative deviations from the model's own mean."""
    alone = [_seconds_per_token(one) / _slower(one, slowdown, load_weight) for one in group]
    mean = fmean(alone)
    return sum((value / mean - 1) ** 2 for value in alone)


def _model(
    name: str, shown: Shown, seen: Sequence[_Seen], load_s: float, crowding: tuple[float, float]
) -> FittedModel:
    slowdown, load_weight = crowding
    token_s = _token_seconds(seen, slowdown, load_weight) if seen else 0.0
    prompt_s = _prompt_seconds(seen, token_s, load_weight) if seen else 0.0
    return FittedModel(
        name=name,
        size_gb=shown.sizes[name] / _GB,
        slots=shown.slots[name],
        load_s=load_s,
        prefill_tokens_per_s=1 / prompt_s if prompt_s else None,
        decode_tokens_per_s=1 / token_s if token_s else None,
    )


def _token_seconds(seen: Sequence[_Seen], slowdown: float, load_weight: float) -> float:
    """Return the seconds that a token takes in an answer with nothing beside it."""
    measured = sum(one.answer.ended_at - one.answer.first_at for one in seen)
    return measured / sum(one.answer.output * _slower(one, slowdown, load_weight) for one in seen)


def _prompt_seconds(seen: Sequence[_Seen], token_s: float, load_weight: float) -> float:
    """Return the seconds that a token of a prompt takes with nothing beside it."""
    measured = sum(one.answer.first_at - one.answer.granted_at - token_s for one in seen)
    crowd = sum(
        one.answer.prompt * one.reading * (one.reading_models + load_weight * one.reading_loads)
        for one in seen
    )
    return max(_LEAST_S, measured / crowd)


# How it is written ----------------------------------------------------------------


def as_yaml(fitted: Fitted) -> Iterator[str]:
    """Yield the lines of a scenario file."""
    yield f"# Fitted to a log of {fitted.answers} answers and {fitted.loads} loads."
    yield "workers:"
    for limits, count in _alike(fitted.workers):
        memory = _number(limits.memory_bytes / _GB)
        yield f"  - {{count: {count}, vram_gb: {memory}, max_loaded_models: {limits.max_loaded_models}}}"
    yield ""
    yield "models:"
    for model in fitted.models:
        known = {
            "name": json.dumps(model.name),
            "size_gb": _number(model.size_gb),
            "num_parallel": str(model.slots),
            "prefill_tokens_per_s": _number(model.prefill_tokens_per_s),
            "decode_tokens_per_s": _number(model.decode_tokens_per_s),
            "load_s": _number(model.load_s),
        }
        yield f"  - {{{', '.join(f'{key}: {value}' for key, value in known.items() if value)}}}"
    yield ""
    yield "hardware: # the speeds per gigabyte are for models that the log does not show"
    for key, constant in _hardware(fitted).items():
        yield f"  {key}: {_number(constant)}"


def _alike(workers: Iterable[Limits]) -> list[tuple[Limits, int]]:
    """Return the workers in groups that are alike, so that `--workers` can change their number."""
    groups: list[tuple[Limits, int]] = []
    for limits in sorted(workers):
        least, count = groups[-1] if groups else (limits, 0)
        if count and not _is_like(limits, least):
            least, count = limits, 0
        elif count:
            groups.pop()
        groups.append((least, count + 1))
    return groups


def _is_like(limits: Limits, least: Limits) -> bool:
    same_places = limits.max_loaded_models == least.max_loaded_models
    return same_places and limits.memory_bytes <= least.memory_bytes * _ALIKE


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _hardware(fitted: Fitted) -> dict[str, float]:
    constants = {
        "batch_slowdown": fitted.batch_slowdown,
        "load_weight": fitted.load_weight,
        "unload_seconds": fitted.unload_s,
    }
    means = {
        "prefill_tokens_per_s_gb": [
            m.prefill_tokens_per_s * m.size_gb for m in fitted.models if m.prefill_tokens_per_s
        ],
        "decode_tokens_per_s_gb": [
            m.decode_tokens_per_s * m.size_gb for m in fitted.models if m.decode_tokens_per_s
        ],
        "load_gb_per_s": [m.size_gb / m.load_s for m in fitted.models],
    }
    return constants | {"load_seconds": 0.0} | {key: fmean(values) for key, values in means.items() if values}
