"""Whether the models that are to stay loaded fit where they may be loaded, by estimate.

Decides with sizes that somebody else found; a model whose file is not known is let through with a note,
because it may be pulled later. Must not know where files lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from supervisor.contract.config import Config, ModelConfig
from supervisor.contract.contradictions import Server, may_serve, wanted_replicas
from supervisor.contract.footprint import Footprint, estimate
from supervisor.contract.mistakes import Key, Mistake
from supervisor.contract.names import ModelName
from supervisor.core.memory import gib

_CACHE_SHARE: Final = {"f16": 1.0, "q8_0": 34 / 64, "q4_0": 18 / 64}
"""Bytes of a block of 32 values, against those of f16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model whose file was found."""

    size_bytes: int
    info: Mapping[str, object]
    """The header's values, as `estimate` takes them."""
    embeds: bool
    """It is an embedding model: engines give it one slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One worker as far as it matters for what fits there."""

    server: Server
    memory_bytes: int
    num_parallel: int
    context_length: int
    kv_cache_type: str | None
    """As in the configuration; None is f16."""
    files: Mapping[str, KnownModel] | None
    """What it finds, by the key of the model's name; None when nobody looked."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found about the models that are to stay loaded."""

    mistakes: tuple[Mistake, ...]
    notes: tuple[Mistake, ...]
    """Models whose files are not there yet."""


def fit_models(config: Config, places: Sequence[Place]) -> Fit:
    """Compare each model that is to stay loaded with the workers that may serve it."""
    mistakes: list[Mistake] = []
    notes: list[Mistake] = []
    together = 0
    for name, model in config.models.items():
        able = [place for place in places if may_serve(place.server, name)]
        wanted = wanted_replicas(model)
        if not wanted or len(able) < wanted:
            continue
        needs = {place.server.name: _need(name, model, place) for place in able}
        fitting = [place for place in able if _fits(place, needs[place.server.name])]
        together += wanted * min(0 if need is None else need.total_bytes for need in needs.values())
        if len(fitting) < wanted:
            key: Key = ("models", name, "min_replicas" if model.min_replicas >= wanted else "pin")
            mistakes.append(Mistake(key, _unfit(wanted, able, fitting, needs)))
        elif all(_is_missing(name, place) for place in able):
            message = "its file is not found: it cannot be loaded at start before it is pulled"
            notes.append(Mistake(("models", name), message))
    held = sum(place.memory_bytes for place in places)
    if not mistakes and together > held:
        message = (
            f"those that are to stay loaded (pin, min_replicas) need {gib(together)} together, "
            f"but all workers have {gib(held)}: pin fewer"
        )
        mistakes.append(Mistake(("models",), message))
    return Fit(tuple(mistakes), tuple(notes))


def _find(name: str, place: Place) -> KnownModel | None:
    return None if place.files is None else place.files.get(ModelName.parse(name).key)


def _is_missing(name: str, place: Place) -> bool:
    return place.files is not None and _find(name, place) is None


def _need(name: str, model: ModelConfig, place: Place) -> Footprint | None:
    known = _find(name, place)
    if known is None:
        return None
    need = estimate(
        size_bytes=known.size_bytes,
        model_info=known.info,
        context_length=model.context_length or place.context_length,
        slots=1 if known.embeds else place.num_parallel,
    )
    share = _CACHE_SHARE[place.kv_cache_type or "f16"]
    return replace(need, kv_cache_bytes=int(need.kv_cache_bytes * share))


def _fits(place: Place, need: Footprint | None) -> bool:
    return need is None or need.total_bytes <= place.memory_bytes


def _unfit(
    wanted: int, able: Sequence[Place], fitting: Sequence[Place], needs: Mapping[str, Footprint | None]
) -> str:
    """Tell the numbers of the largest worker on which it does not fit."""
    largest = max((place for place in able if place not in fitting), key=lambda place: place.memory_bytes)
    need = needs[largest.server.name]
    assert need is not None, "what is not known fits"
    weights, rest = gib(need.weights_bytes), gib(need.total_bytes - need.weights_bytes)
    text = (
        f"it needs {gib(need.total_bytes)} (weights {weights}, context and buffers {rest}), "
        f"but {largest.server.name} has {gib(largest.memory_bytes)}"
    )
    if fitting:
        names = ", ".join(place.server.name for place in fitting)
        text += f", so it fits on {len(fitting)} of {wanted} workers only ({names})"
    return f"{text}: shorten context_length, lower num_parallel, or give a worker more GPUs or memory"
