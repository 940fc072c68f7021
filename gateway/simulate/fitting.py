"""A scenario out of Corral's own log: the fleet, the models and the speeds that it shows. Pure.

The procedure, so that its numbers can be judged:

- Workers, their limits and the models' slots and sizes are as the log lines `worker serves` and `loaded` say.
- The rules of `machine` are turned round: each second counts as so much work as it would have been there,
  given what went on at that moment on the worker, and the work of an answer, prompt or load is the sum.
- `batch_slowdown` and `load_weight` are those with which the tokens of one model's answers differ least in
  work, relatively: each is sought in turn along a grid until neither changes. What the log cannot tell is 0.
- A model's tokens take the mean of their work. The first one counts as written behind the prompt, as it is
  in the simulator: answers are taken to begin by one token alone sooner than their first byte came.
- A model's `load_s` is the mean of its loads' work; `unload_seconds` is the mean of what making room took.
- Answers that came whole tell no time of their first token. They count as neighbours; of a model that has no
  others, a token of a prompt is taken to take 1/48 of what a written one does.
- A model of which the log shows no answer gets the mean of the others, by size.
- Workers whose memory differs by less than a fiftieth are written as alike, with the least of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple

from gateway.simulate.shown import Answer, Limits, LoadSpan, Shown
from gateway.simulate.surroundings import Beside, Seconds, Timeline

_MOST_ANSWERS: Final = 3000
"""The latest so many are looked at: more would not make the means any better."""
_SLOWDOWNS: Final = tuple(step / 20 for step in range(41))
_LOAD_WEIGHTS: Final = tuple(step / 10 for step in range(21))
_MOST_ROUNDS: Final = 5
"""Of the search for both: it has mostly settled after two."""
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
    ended = [answer for answer in shown.answers if answer.ended_at > answer.granted_at]
    answers = sorted(ended, key=lambda answer: answer.ended_at)[-_MOST_ANSWERS:]
    seen, crowding, token_s = _explained(answers, shown.loads)
    load_s = _load_seconds(answers, shown.loads, crowding.load_weight)
    return Fitted(
        workers=[shown.limits[name] for name in sorted(shown.limits)],
        models=[
            _model(
                name, shown, fmean(load_s[name]), token_s.get(name), _prompt_s(seen.get(name, []), crowding)
            )
            for name in sorted(shown.slots)
        ],
        batch_slowdown=crowding.batch_slowdown,
        load_weight=crowding.load_weight,
        unload_s=fmean(shown.room_s) if shown.room_s else 0.0,
        answers=sum(map(len, seen.values())),
        loads=len(shown.loads),
    )


class _Seen(NamedTuple):
    """An answer and what went on around it."""

    answer: Answer
    tokens: int
    """That were written after it began."""
    reading: Seconds
    writing: Seconds


class _Crowding(NamedTuple):
    """How much slower it is to be not alone."""

    batch_slowdown: float
    load_weight: float

    def read(self, seconds: Seconds) -> float:
        """Return how long a prompt would have taken alone."""
        return sum(s * self._share(beside) / beside.prompts for beside, s in seconds.items())

    def written(self, seconds: Seconds) -> float:
        """Return how long an answer would have taken alone."""
        slowdown = self.batch_slowdown
        return sum(
            s * self._share(beside) / (1 + slowdown * (beside.answers - 1)) for beside, s in seconds.items()
        )

    def loaded(self, seconds: Seconds) -> float:
        """Return how long a load would have taken alone."""
        return sum(s / (1 + self.load_weight * beside.models) for beside, s in seconds.items())

    def _share(self, beside: Beside) -> float:
        both = 2 if beside.prompts and beside.answers else 1
        return 1 / (both * (beside.models + self.load_weight * beside.loading))


_ByModel = dict[str, list[_Seen]]


def _explained(
    answers: Sequence[Answer], loads: Sequence[LoadSpan]
) -> tuple[_ByModel, _Crowding, dict[str, float]]:
    """Return what was seen by model, the crowding that explains it, and each model's seconds a token.

    Twice, because when an answer began depends on the time of its first token.
    """
    token_s: dict[str, float] = {}
    for _ in range(2):
        seen = _seen(answers, loads, token_s)
        crowding = _least_deviation(list(seen.values()))
        token_s = {model: _token_s(group, crowding) for model, group in seen.items()}
    return seen, crowding, token_s


def _seen(answers: Iterable[Answer], loads: Sequence[LoadSpan], token_s: Mapping[str, float]) -> _ByModel:
    found: _ByModel = defaultdict(list)
    begun = [_begun(answer, token_s.get(answer.model, 0.0)) for answer in answers]
    near = _timelines(begun, loads)
    for answer in _telling(begun):
        around = near[answer.worker].around
        tokens = answer.output - (not answer.whole and answer.model not in token_s)
        if tokens and answer.ended_at > answer.first_at:
            reading = around(answer.model, answer.granted_at, answer.first_at)
            writing = around(answer.model, answer.first_at, answer.ended_at)
            found[answer.model].append(_Seen(answer, tokens, reading, writing))
    return found


def _begun(answer: Answer, token_s: float) -> Answer:
    """Return the answer with its first token as part of the writing, and its moments in order."""
    first_at = min(answer.first_at, answer.ended_at) - (0.0 if answer.whole else token_s)
    return answer._replace(first_at=max(answer.granted_at, first_at))


def _timelines(answers: Sequence[Answer], loads: Sequence[LoadSpan]) -> dict[str, Timeline]:
    workers = {answer.worker for answer in answers} | {load.worker for load in loads}
    return {
        worker: Timeline(
            [answer for answer in answers if answer.worker == worker],
            [load for load in loads if load.worker == worker],
        )
        for worker in workers
    }


def _telling(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answers of each model that tell when they began, or all where none does."""
    streamed = {answer.model for answer in answers if not answer.whole}
    return [answer for answer in answers if not answer.whole or answer.model not in streamed]


def _least_deviation(groups: Sequence[Sequence[_Seen]]) -> _Crowding:
    """Return the slow-down by a batch and the weight of a load that explain the answers best."""

    def deviation(crowding: _Crowding) -> float:
        return sum(_deviation(group, crowding) for group in groups)

    best = _Crowding(0.0, 0.0)
    for _ in range(_MOST_ROUNDS):
        before = best
        best = min((best._replace(batch_slowdown=slowdown) for slowdown in _SLOWDOWNS), key=deviation)
        best = min((best._replace(load_weight=weight) for weight in _LOAD_WEIGHTS), key=deviation)
        if best == before:
            break
    return best


def _deviation(group: Sequence[_Seen], crowding: _Crowding) -> float:
    """Return the sum of squares of the relative deviations from the model's own mean."""
    alone = [crowding.written(one.writing) / one.tokens for one in group]
    mean = fmean(alone)
    return sum((value / mean - 1) ** 2 for value in alone)


def _token_s(group: Sequence[_Seen], crowding: _Crowding) -> float:
    """Return the seconds that a token takes in an answer with nothing beside it."""
    return sum(crowding.written(one.writing) for one in group) / sum(one.tokens for one in group)


def _prompt_s(group: Sequence[_Seen], crowding: _Crowding) -> float | None:
    """Return the seconds that a token of a prompt takes with nothing beside it; None was not seen."""
    if not group:
        return None
    alone = sum(crowding.read(one.reading) for one in group)
    return max(_LEAST_S, alone / sum(one.answer.prompt for one in group))


def _load_seconds(
    answers: Sequence[Answer], loads: Sequence[LoadSpan], load_weight: float
) -> dict[str, list[float]]:
    """Return, by model, what each load would have taken with nothing beside it."""
    near, crowding = _timelines(answers, loads), _Crowding(0.0, load_weight)
    found: dict[str, list[float]] = defaultdict(list)
    for load in loads:
        beside = near[load.worker].around(load.model, load.began_at, load.ended_at)
        found[load.model].append(crowding.loaded(beside))
    return found


def _model(
    name: str, shown: Shown, load_s: float, token_s: float | None, prompt_s: float | None
) -> FittedModel:
    return FittedModel(
        name=name,
        size_gb=shown.sizes[name] / _GB,
        slots=shown.slots[name],
        load_s=load_s,
        prefill_tokens_per_s=1 / prompt_s if prompt_s else None,
        decode_tokens_per_s=1 / token_s if token_s else None,
    )


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
