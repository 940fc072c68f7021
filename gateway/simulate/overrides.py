"""What a command line changes in a scenario: "what if I had one more GPU, or 8 slots?". Pure.

Also decides what cannot be in a scenario although each key is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.simulate.scenario import Scenario
from supervisor.contract.mistakes import Mistake
from supervisor.contract.names import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """None leaves what the scenario says."""

    workers: int | None = None
    slots: int | None = None
    """Of every model."""
    vram_gb: float | None = None
    """Of every worker."""
    requests: int | None = None
    """Of a synthetic workload."""


def overridden(scenario: Scenario, by: Overrides) -> Scenario:
    """Return the scenario with the changes in it.

    Raises:
        ValueError: something is to be changed that the scenario does not have.
    """
    update: dict[str, object] = {}
    if by.workers is not None or by.vram_gb is not None:
        update["workers"] = _workers(scenario, by)
    if by.slots is not None:
        slots = {"num_parallel": by.slots}
        update["models"] = tuple(model.model_copy(update=slots) for model in scenario.models)
    if by.requests is not None:
        if scenario.workload.synthetic is None:
            raise ValueError("--requests: the workload is a trace, which has the requests that it has")
        synthetic = scenario.workload.synthetic.model_copy(update={"requests": by.requests})
        update["workload"] = scenario.workload.model_copy(update={"synthetic": synthetic})
    return scenario.model_copy(update=update)


def _workers(scenario: Scenario, by: Overrides) -> object:
    if by.workers is not None and len(scenario.groups) > 1:
        raise ValueError("--workers: the scenario lists several groups of workers; change a count there")
    given = {"count": by.workers, "vram_gb": by.vram_gb}
    update = {key: value for key, value in given.items() if value is not None}
    return tuple(group.model_copy(update=update) for group in scenario.groups)


def misfits(scenario: Scenario) -> list[Mistake]:
    """Return what cannot be true at once."""
    return [*_too_large_models(scenario), *_repeated_names(scenario)]


def _too_large_models(scenario: Scenario) -> Iterator[Mistake]:
    largest = max(group.vram_gb for group in scenario.groups)
    for at, model in enumerate(scenario.models):
        if model.size_gb > largest:
            sizes = f"{model.name} needs {model.size_gb:g} GB and the largest worker has {largest:g}"
            yield Mistake(("models", at, "size_gb"), f"{sizes}: it fits nowhere")


def _repeated_names(scenario: Scenario) -> Iterator[Mistake]:
    names = Counter(ModelName.parse(model.name).key for model in scenario.models)
    for at, model in enumerate(scenario.models):
        if names[ModelName.parse(model.name).key] > 1:
            yield Mistake(
                ("models", at, "name"), f"two models have the name {model.name}: each needs its own"
            )
            return
