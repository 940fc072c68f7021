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
class Slowness:
    """What is learned from all models together."""

    loads: dict[str, float] = field(default_factory=dict)
    """How long a worker's loads take against what their sizes let expect."""
    answers: dict[str, float] = field(default_factory=dict)
    """How long answers take on a device against what is typical of their models."""


@dataclass(slots=True)
class ModelEstimates:
    """What was learned of one model; who decides about the model keeps it and need not look it up."""

    slowness: Slowness
    """The same for all models."""
    fast_s: float = FAST_S
    """The time constant of the fast rate."""
    fast: float = 0.0
    slow: float = 0.0
    at: float = 0.0
    tokens: float | None = None
    """Of an answer."""
    measured_bytes: int | None = None
    least_bytes: int = 0
    """What is planned with at least, whatever is measured: memory ran out with less."""
    answers: int = 0
    """How many were measured; the first few count alike."""
    loads_s: dict[str, float] = field(default_factory=dict)
    """Seconds to load, by worker."""
    answers_s: dict[str, float] = field(default_factory=dict)
    """Seconds in a slot, by device."""
    prefill: dict[str, float] = field(default_factory=dict)
    """Tokens per second, by device."""

    # What happened ----------------------------------------------------------------

    def arrived(self, now: float) -> None:
        """Count a new request."""
        passed, fast_s = now - self.at, self.fast_s
        self.fast = self.fast * exp(-passed / fast_s) + 1 / fast_s
        self.slow = self.slow * exp(-passed / SLOW_S) + 1 / SLOW_S
        self.at = now

    def loaded(self, worker: str, seconds: float, size_bytes: int) -> None:
        """Learn from a load; `size_bytes` is what it measures once resident."""
        slowness = max(seconds, _MOMENT_S) / _default_load_s(size_bytes)
        for where in (worker, _ANYWHERE):
            _learn(self.loads_s, where, seconds, _LOAD_GAIN)
            _learn(self.slowness.loads, where, slowness, _LOAD_GAIN)
        self.measured_bytes = size_bytes
        self.fast_s = _fast_s(self.loads_s[_ANYWHERE])

    def outgrew(self, planned_bytes: int, most_bytes: int) -> None:
        """Learn that memory ran out although the model had so much; more than `most_bytes` nobody has."""
        before = max(planned_bytes, self.least_bytes)
        self.least_bytes = max(before, min(int(before * _OUTGROWN), most_bytes))

    def prefilled(self, device: str, tokens: int, seconds: float) -> None:
        """Learn from a prompt that was read while nothing else was computed there."""
        _learn(self.prefill, device, tokens / max(seconds, _MOMENT_S), _SPEED_GAIN)

    def finished(self, device: str, seconds: float, output_tokens: int | None) -> None:
        """Learn from an answer that ended well after so long in its slot."""
        self.answers += 1
        known, devices = self.answers_s, self.slowness.answers
        slowness = devices.get(device, 1.0)
        measured = seconds / max(known.get(_ANYWHERE, DEFAULT_SERVICE_S), _MOMENT_S)
        devices[device] = slowness + _SLOWNESS_GAIN * (measured - slowness)
        gain = 1 / self.answers if self.answers < _ENOUGH else _SERVICE_GAIN
        _learn(known, device, seconds, gain)
        _learn(known, _ANYWHERE, seconds, gain)
        if output_tokens is not None:
            before = DEFAULT_OUTPUT_TOKENS if self.tokens is None else self.tokens
            self.tokens = before + _OUTPUT_GAIN * (output_tokens - before)

    # What is expected -------------------------------------------------------------

    def rate(self, now: float) -> float:
        """Return requests per second to be expected."""
        passed = now - self.at
        return max(self.fast * exp(-passed / self.fast_s), self.slow * exp(-passed / SLOW_S))

    def load_s(self, worker: str, size_bytes: int) -> float:
        """Return the seconds a load takes there: as measured, else as elsewhere, or as its size lets expect.

        Both by how slow that worker's loads are against all others; a worker of which nothing is known is
        like the others, or it would never be tried.
        """
        measured = self.loads_s.get(worker)
        if measured is not None:
            return measured
        loads = self.slowness.loads
        typical = loads.get(_ANYWHERE, 1.0)
        slowness = loads.get(worker, typical)
        elsewhere = self.loads_s.get(_ANYWHERE)
        if elsewhere is not None:
            return elsewhere * slowness / typical
        return _default_load_s(size_bytes) * slowness

    def typical_load_s(self, size_bytes: int) -> float:
        """Return the seconds a load takes on whatever worker."""
        return self.load_s(_ANYWHERE, size_bytes)

    @property
    def typical_service_s(self) -> float:
        """The seconds an answer holds its slot on whatever device."""
        return self.answers_s.get(_ANYWHERE, DEFAULT_SERVICE_S)

    def service_s(self, device: str) -> float:
        """Return the seconds an answer holds its slot there: measured, else as the device is with others."""
        measured = self.answers_s.get(device)
        if measured is not None:
            return measured
        return self.typical_service_s * self.slowness.answers.get(device, 1.0)

    @property
    def output_tokens(self) -> float:
        """The length of an answer."""
        return DEFAULT_OUTPUT_TOKENS if self.tokens is None else self.tokens

    def prefill_tokens_per_s(self, device: str) -> float:
        """Return the speed at which a prompt is read there with nothing beside it."""
        return self.prefill.get(device, DEFAULT_PREFILL_TOKENS_PER_S)

    def measured_prefill(self, device: str) -> float | None:
        """Return the same as it was measured there; None where it never was."""
        return self.prefill.get(device)

    @property
    def size_bytes(self) -> int | None:
        """What the model took when it was last resident; None when it never was."""
        return max(self.measured_bytes or 0, self.least_bytes) or self.measured_bytes

    # Across restarts --------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether anything was learned."""
        return self != ModelEstimates(self.slowness)

    def export(self, now: float) -> ModelLearned:
        """Return what is worth keeping."""
        passed = now - self.at
        return ModelLearned(
            fast_rate=self.fast * exp(-passed / self.fast_s),
            slow_rate=self.slow * exp(-passed / SLOW_S),
            output_tokens=self.tokens,
            load_s=dict(self.loads_s),
            service_s=dict(self.answers_s),
            prefill_tokens_per_s=dict(self.prefill),
            size_bytes=self.measured_bytes,
        )

    def restore(self, learned: ModelLearned, passed_s: float, now: float) -> None:
        """Take what an earlier gateway knew `passed_s` ago, and nothing else."""
        self.fast_s = _fast_s(learned.load_s.get(_ANYWHERE))
        self.fast = learned.fast_rate * exp(-passed_s / FAST_S)
        self.slow = learned.slow_rate * exp(-passed_s / SLOW_S)
        self.at, self.tokens = now, learned.output_tokens
        self.measured_bytes, self.least_bytes = learned.size_bytes, 0
        self.answers = _ENOUGH if learned.service_s else 0
        self.loads_s, self.answers_s = dict(learned.load_s), dict(learned.service_s)
        self.prefill = dict(learned.prefill_tokens_per_s)


@dataclass(slots=True)
class Estimates:
    """One per scheduler; `now` is monotonic seconds."""

    _models: dict[Variant, ModelEstimates] = field(default_factory=dict)
    _slowness: Slowness = field(default_factory=Slowness)

    def of(self, variant: Variant) -> ModelEstimates:
        """Return what is learned of the model from now on, too."""
        model = self._models.get(variant)
        if model is None:
            model = self._models[variant] = ModelEstimates(self._slowness)
        return model

    def forget(self, variant: Variant) -> None:
        """Drop what is known of a model that is not there any more."""
        self._models.pop(variant, None)

    def export(self, now: float) -> dict[Variant, ModelLearned]:
        """Return all that is worth keeping."""
        return {variant: model.export(now) for variant, model in self._models.items() if model.known}

    def restore(self, learned: Mapping[Variant, ModelLearned], passed_s: float, now: float) -> None:
        """Take what an earlier gateway knew `passed_s` ago."""
        for variant, known in learned.items():
            self.of(variant).restore(known, passed_s, now)


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
