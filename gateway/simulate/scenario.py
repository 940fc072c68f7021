"""The schema of a scenario file: every key, its default and what it means.

Decides which keys there are. A gigabyte here is 10^9 bytes; only the ratio of sizes to memory matters.
Reads no files: paths are texts here, and start at the scenario's folder.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from gateway.simulate.model import Fleet, Model, Speeds, WorkerPlan
from supervisor.contract.config import SchedulingConfig
from supervisor.contract.values import ModelNameText

GB: Final = 10**9
_DEFAULT_SLOTS: Final = 4

_LARGEST: Final = 1e9
"""Of any number, so that products of them are numbers still."""

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(ge=1 / _LARGEST, le=_LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=_LARGEST)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class WorkersSection(_Section):
    """Workers that are alike."""

    count: Count = 1
    """How many."""
    vram_gb: Positive
    """What the models on one worker may take together."""
    max_loaded_models: Count | None = None
    """Models that a worker holds at once; null is as many as fit."""
    speed: Positive = 1.0
    """Of prefill and decoding, as a factor of `hardware`'s."""
    load_speed: Positive = 1.0
    """Of loading, as a factor of `hardware`'s `load_gb_per_s`."""


class ModelSection(_Section):
    """One model. Its measured speeds, where known, take the place of `hardware`'s estimate from its size."""

    name: ModelNameText
    """As the trace or the request log calls it."""
    size_gb: Positive
    """What it takes once loaded, context included."""
    num_parallel: Annotated[int, Field(ge=1, le=256)] = _DEFAULT_SLOTS
    """Requests that a replica computes at once."""
    prefill_tokens_per_s: Positive | None = None
    """Of one prompt alone."""
    decode_tokens_per_s: Positive | None = None
    """Of one answer alone."""
    load_s: Positive | None = None
    """Seconds that a load takes."""


class HardwareSection(_Section):
    """The constants of the hardware model."""

    prefill_tokens_per_s_gb: Positive = 30000.0
    """Tokens per second at which one prompt is read, times the model's gigabytes."""
    decode_tokens_per_s_gb: Positive = 630.0
    """The same for one answer being written."""
    batch_slowdown: NotNegative = 0.10
    """By how much each further answer in a batch slows all of them, as a share."""
    load_seconds: NotNegative = 1.0
    """What every load takes, whatever the size."""
    load_gb_per_s: Positive = 2.0
    """Beside that, the model's gigabytes come at this speed."""
    load_weight: NotNegative = 0.0
    """As how many models that compute a load counts while it lasts: it slows them so much, and they slow
    it. None on a GPU, about one where a worker has one CPU core."""
    unload_seconds: NotNegative = 0.0
    """What an unload takes."""


class SyntheticSection(_Section):
    """Requests from a process: Zipf popularity over a shuffled order, Gamma gaps for each model."""

    rho: Annotated[float, Field(gt=0, le=10)] = 0.6
    """Offered load: GPU time that the requests take with all batches full, by the time there is."""
    requests: Count = 4000
    """About so many; the first tenth is left out of the report."""
    seed: int = 1
    """Another seed gives other requests from the same process."""
    zipf: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Popularity of the k-th model is 1 / k^zipf."""
    cv: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Coefficient of variation of the gaps between a model's requests; 1 is Poisson, more is burstier."""
    shifts: Annotated[int, Field(ge=0, le=1000)] = 0
    """How often popularity is shuffled anew, at equal parts of the requests."""
    tenants: Count = 10
    """Requests come from so many tenants in turn."""
    tokens: str | None = None
    """CSV file with the columns in_tokens and out_tokens, from which lengths are drawn in pairs. Without
    it lengths are exponential with means of 1000 tokens of prompt and 200 of answer."""
    prompt_scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Prompts are made this many times as long."""


class WorkloadSection(_Section):
    """What is asked: a trace, or a synthetic process."""

    trace: str | None = None
    """CSV file with the columns t_s, model, in_tokens, out_tokens and, if there are any, tenant."""
    rate_scale: Positive = 1.0
    """The trace's requests come so many times as fast."""
    synthetic: SyntheticSection | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> WorkloadSection:
        if (self.trace is None) == (self.synthetic is None):
            raise ValueError("needs one of trace (a CSV file) and synthetic (a process), and not both")
        if self.trace is None and "rate_scale" in self.model_fields_set:
            raise ValueError("has a rate_scale, which is for traces: write rho under synthetic instead")
        return self


def _kind_of_workers(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        return "list"
    return "alike" if isinstance(value, (dict, WorkersSection)) else None


Workers = Annotated[
    Annotated[WorkersSection, Tag("alike")]
    | Annotated[tuple[WorkersSection, ...], Field(min_length=1), Tag("list")],
    Discriminator(
        _kind_of_workers,
        custom_error_type="fleet",
        custom_error_message="write keys such as count: 4 and vram_gb: 22.5, or a list of such",
    ),
]


class Scenario(_Section):
    """The whole file."""

    workers: Workers
    """The GPUs, each with a worker: keys for all alike, or a list of groups."""
    models: Annotated[tuple[ModelSection, ...], Field(min_length=1)]
    """The models that requests ask for."""
    hardware: HardwareSection = HardwareSection()
    workload: WorkloadSection = WorkloadSection(synthetic=SyntheticSection())
    scheduling: SchedulingConfig = SchedulingConfig()
    """Constants of Corral's scheduler, as in its configuration file."""

    @property
    def groups(self) -> tuple[WorkersSection, ...]:
        """The workers, always as a list."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers,)


def fleet_of(scenario: Scenario) -> Fleet:
    """Return the hardware that a scenario means."""
    models = tuple(
        Model(at, model.name, round(model.size_gb * GB), model.num_parallel)
        for at, model in enumerate(scenario.models)
    )
    groups = [group for group in scenario.groups for _ in range(group.count)]
    return Fleet(models, tuple(_worker(at, group, scenario) for at, group in enumerate(groups)))


def _worker(at: int, group: WorkersSection, scenario: Scenario) -> WorkerPlan:
    return WorkerPlan(
        name=f"gpu{at}",
        device=f"speed {group.speed:g}",
        memory_bytes=round(group.vram_gb * GB),
        max_loaded_models=group.max_loaded_models or len(scenario.models),
        batch_slowdown=scenario.hardware.batch_slowdown,
        unload_s=scenario.hardware.unload_seconds,
        load_weight=scenario.hardware.load_weight,
        speeds=tuple(_speeds(model, group, scenario.hardware) for model in scenario.models),
        speed=group.speed,
    )


def _speeds(model: ModelSection, group: WorkersSection, hardware: HardwareSection) -> Speeds:
    prefill = model.prefill_tokens_per_s or hardware.prefill_tokens_per_s_gb / model.size_gb
    decode = model.decode_tokens_per_s or hardware.decode_tokens_per_s_gb / model.size_gb
    bytes_s = model.size_gb / hardware.load_gb_per_s
    load_s = (
        model.load_s / group.load_speed
        if model.load_s
        else hardware.load_seconds + bytes_s / group.load_speed
    )
    return Speeds(prefill * group.speed, decode * group.speed, load_s)
