"""What the scheduler has learned: how often models are asked for, how long they load, how fast they answer.

Decayed estimates, fed with what happened and when; pure. Knows no queues and no residency. Its contents
outlive the gateway as `Learned`, which has no clock of its own: rates decay by the time that went by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp
from typing import Final

from gateway.scheduling.names import Variant

FAST_S: Final = 120.0
SLOW_S: Final = 1800.0
"""The two time constants of arrival rates: the larger rate counts, so that a habit outlives a quiet hour."""

LOADS_LONG: Final = 24.0
"""The fast one is so many load times of the model, but no longer than `FAST_S`."""
LEAST_FAST_S: Final = 5.0

_ANYWHERE: Final = "*"
"""Stands for all workers, or devices, together."""

_SERVICE_GAIN: Final = 0.1
_ENOUGH: Final = round(1 / _SERVICE_GAIN)
"""Measurements after which the latest counts no less than that."""
_OUTPUT_GAIN: Final = 0.05
_LOAD_GAIN: Final = 0.3
_SPEED_GAIN: Final = 0.1
_SLOWNESS_GAIN: Final = 0.02
"""The weight of a new measurement against all before it."""
_OUTGROWN: Final = 1.15
"""By which factor more is planned with after memory ran out."""

DEFAULT_SERVICE_S: Final = 5.0
DEFAULT_OUTPUT_TOKENS: Final = 200.0
DEFAULT_PREFILL_TOKENS_PER_S: Final = 2000.0
DEFAULT_LOAD_S: Final = 1.0
DEFAULT_LOAD_BYTES_PER_S: Final = 2e9
"""Before anything was measured."""


_MOMENT_S: Final = 1e-3
"""Nothing takes less: what is divided by is never 0."""
_NOTHING: Final[Mapping[str, float]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLearned:
    """What is known of one model, as it is kept across restarts of the gateway."""

    fast_rate: float
    """Arrivals per second, decayed with `FAST_S`, at the moment of saving."""
    slow_rate: float
    output_tokens: float | None
    load_s: Mapping[str, float]
    """Seconds to load, by worker."""
    service_s: Mapping[str, float]
    """Seconds in a slot, by device."""
    prefill_tokens_per_s: Mapping[str, float]
    """By device."""
    size_bytes: int | None
    """Measured once resident."""


@dataclass(slots=True)
class _Model:
    fast_s: float = FAST_S
    """The time constant of the fast rate."""
    fast: float = 0.0
    slow: float = 0.0
    at: float = 0.0
    output_tokens: float | None = None
    size_bytes: int | None = None
    least_bytes: int = 0
    """What is planned with at least, whatever is measured: memory ran out with less."""
    answers: int = 0
    """How many were measured; the first few count alike."""
    load_s: dict[str, float] = field(default_factory=dict)
    service_s: dict[str, float] = field(default_factory=dict)
    prefill: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Estimates:
    """One per scheduler; `now` is monotonic seconds."""

    _models: dict[Variant, _Model] = field(default_factory=dict)
    _load_slowness: dict[str, float] = field(default_factory=dict)
    """How long a worker's loads take, over all models, against what their sizes let expect."""
    _slowness: dict[str, float] = field(default_factory=dict)
    """How long answers take on a device, against what is typical of their models."""

    # What happened ----------------------------------------------------------------

    def arrived(self, variant: Variant, now: float) -> None:
        """Count a new request."""
        model = self._of(variant)
        passed = now - model.at
        model.fast = model.fast * exp(-passed / model.fast_s) + 1 / model.fast_s
        model.slow = model.slow * exp(-passed / SLOW_S) + 1 / SLOW_S
        model.at = now

    def loaded(self, variant: Variant, worker: str, seconds: float, size_bytes: int) -> None:
        """Learn from a load; `size_bytes` is what it measures once resident."""
        model = self._of(variant)
        for where in (worker, _ANYWHERE):
            _learn(model.load_s, where, seconds, _LOAD_GAIN)
            slowness = max(seconds, _MOMENT_S) / _default_load_s(size_bytes)
            _learn(self._load_slowness, where, slowness, _LOAD_GAIN)
        model.size_bytes = size_bytes
        model.fast_s = _fast_s(model.load_s[_ANYWHERE])

    def measured(self, variant: Variant, size_bytes: int) -> None:
        """Learn what a model takes that is resident already."""
        self._of(variant).size_bytes = size_bytes

    def outgrew(self, variant: Variant, planned_bytes: int, most_bytes: int) -> None:
        """Learn that memory ran out although the model had so much; more than `most_bytes` nobody has."""
        model = self._of(variant)
        before = max(planned_bytes, model.least_bytes)
        model.least_bytes = max(before, min(int(before * _OUTGROWN), most_bytes))

    def prefilled(self, variant: Variant, device: str, tokens: int, seconds: float) -> None:
        """Learn from a prompt that was read while nothing else was computed there."""
        _learn(self._of(variant).prefill, device, tokens / max(seconds, _MOMENT_S), _SPEED_GAIN)

    def finished(self, variant: Variant, device: str, seconds: float, output_tokens: int | None) -> None:
        """Learn from an answer that ended well after so long in its slot."""
        model = self._of(variant)
        model.answers += 1
        typical_s = model.service_s.get(_ANYWHERE, DEFAULT_SERVICE_S)
        slowness = self._slowness.get(device, 1.0)
        self._slowness[device] = _moved(slowness, seconds / max(typical_s, _MOMENT_S), _SLOWNESS_GAIN)
        gain = max(_SERVICE_GAIN, 1 / model.answers)
        _learn(model.service_s, device, seconds, gain)
        _learn(model.service_s, _ANYWHERE, seconds, gain)
        if output_tokens is not None:
            before = DEFAULT_OUTPUT_TOKENS if model.output_tokens is None else model.output_tokens
            model.output_tokens = _moved(before, output_tokens, _OUTPUT_GAIN)

    # What is expected -------------------------------------------------------------

    def rate(self, variant: Variant, now: float) -> float:
        """Return requests per second to be expected."""
        model = self._models.get(variant)
        if model is None:
            return 0.0
        passed = now - model.at
        return max(model.fast * exp(-passed / model.fast_s), model.slow * exp(-passed / SLOW_S))

    def load_s(self, variant: Variant, worker: str, size_bytes: int) -> float:
        """Return the seconds a load takes there: as measured, else as elsewhere, or as its size lets expect.

        Both by how slow that worker's loads are against all others; a worker of which nothing is known is
        like the others, or it would never be tried.
        """
        model = self._models.get(variant)
        known = model.load_s if model is not None else _NOTHING
        if worker in known:
            return known[worker]
        typical = self._load_slowness.get(_ANYWHERE, 1.0)
        slowness = self._load_slowness.get(worker, typical)
        if _ANYWHERE in known:
            return known[_ANYWHERE] * slowness / typical
        return _default_load_s(size_bytes) * slowness

    def typical_load_s(self, variant: Variant, size_bytes: int) -> float:
        """Return the seconds a load takes on whatever worker."""
        return self.load_s(variant, _ANYWHERE, size_bytes)

    def typical_service_s(self, variant: Variant) -> float:
        """Return the seconds an answer holds its slot on whatever device."""
        model = self._models.get(variant)
        return DEFAULT_SERVICE_S if model is None else model.service_s.get(_ANYWHERE, DEFAULT_SERVICE_S)

    def knows_answers(self, variant: Variant) -> bool:
        """Whether an answer of the model was ever measured."""
        model = self._models.get(variant)
        return model is not None and bool(model.service_s)

    def service_s(self, variant: Variant, device: str) -> float:
        """Return the seconds an answer holds its slot there: measured, else as the device is with others."""
        model = self._models.get(variant)
        known = None if model is None else model.service_s.get(device)
        if known is not None:
            return known
        return self.typical_service_s(variant) * self._slowness.get(device, 1.0)

    def typical_answer(self, variant: Variant) -> tuple[float, float]:
        """Return the seconds that an answer holds its slot on whatever device, and its length in tokens."""
        return self.typical_service_s(variant), self.output_tokens(variant)

    def speeds(self, variant: Variant, device: str) -> tuple[float, float]:
        """Return what `prefill_tokens_per_s` and `service_s` do, for when both are needed."""
        model = self._models.get(variant)
        if model is None or (service_s := model.service_s.get(device)) is None:
            return self.prefill_tokens_per_s(variant, device), self.service_s(variant, device)
        return model.prefill.get(device, DEFAULT_PREFILL_TOKENS_PER_S), service_s

    def output_tokens(self, variant: Variant) -> float:
        """Return the length of an answer."""
        model = self._models.get(variant)
        known = None if model is None else model.output_tokens
        return DEFAULT_OUTPUT_TOKENS if known is None else known

    def prefill_tokens_per_s(self, variant: Variant, device: str) -> float:
        """Return the speed at which a prompt is read there with nothing beside it."""
        model = self._models.get(variant)
        known = None if model is None else model.prefill.get(device)
        return DEFAULT_PREFILL_TOKENS_PER_S if known is None else known

    def measured_prefill(self, variant: Variant, device: str) -> float | None:
        """Return the same as it was measured there; None where it never was."""
        model = self._models.get(variant)
        return None if model is None else model.prefill.get(device)

    def size_bytes(self, variant: Variant) -> int | None:
        """Return what the model took when it was last resident; None when it never was."""
        model = self._models.get(variant)
        if model is None:
            return None
        return max(model.size_bytes or 0, model.least_bytes) or model.size_bytes

    def least_bytes(self, variant: Variant) -> int:
        """Return what is to be planned with at least, because memory ran out with less; else 0."""
        model = self._models.get(variant)
        return 0 if model is None else model.least_bytes

    def forget(self, variant: Variant) -> None:
        """Drop what is known of a model that is not there any more."""
        self._models.pop(variant, None)

    # Across restarts --------------------------------------------------------------

    def export(self, now: float) -> dict[Variant, ModelLearned]:
        """Return all that is worth keeping."""
        return {variant: _exported(model, now) for variant, model in self._models.items()}

    def restore(self, learned: Mapping[Variant, ModelLearned], passed_s: float, now: float) -> None:
        """Take what an earlier gateway knew `passed_s` ago."""
        for variant, known in learned.items():
            self._models[variant] = _Model(
                fast=known.fast_rate * exp(-passed_s / FAST_S),
                fast_s=_fast_s(known.load_s.get(_ANYWHERE)),
                slow=known.slow_rate * exp(-passed_s / SLOW_S),
                at=now,
                output_tokens=known.output_tokens,
                size_bytes=known.size_bytes,
                answers=_ENOUGH if known.service_s else 0,
                load_s=dict(known.load_s),
                service_s=dict(known.service_s),
                prefill=dict(known.prefill_tokens_per_s),
            )

    def _of(self, variant: Variant) -> _Model:
        model = self._models.get(variant)
        if model is None:
            model = self._models[variant] = _Model()
        return model


def _exported(model: _Model, now: float) -> ModelLearned:
    passed = now - model.at
    return ModelLearned(
        fast_rate=model.fast * exp(-passed / model.fast_s),
        slow_rate=model.slow * exp(-passed / SLOW_S),
        output_tokens=model.output_tokens,
        load_s=dict(model.load_s),
        service_s=dict(model.service_s),
        prefill_tokens_per_s=dict(model.prefill),
        size_bytes=model.size_bytes,
    )


def _default_load_s(size_bytes: int) -> float:
    return DEFAULT_LOAD_S + size_bytes / DEFAULT_LOAD_BYTES_PER_S


def _fast_s(load_s: float | None) -> float:
    """Return the time constant of the fast rate of a model that loads in so many seconds.

    Where a load costs little, what was asked for last matters more than what is asked for often.
    """
    return FAST_S if load_s is None else min(FAST_S, max(LEAST_FAST_S, LOADS_LONG * load_s))


def _learn(known: dict[str, float], key: str, value: float, gain: float) -> None:
    before = known.get(key)
    known[key] = value if before is None else before + gain * (value - before)


def _moved(before: float, value: float, gain: float) -> float:
    return before + gain * (value - before)
