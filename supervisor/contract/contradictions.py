"""What cannot be true at once in one valid file: names that clash, counts that cannot be met.

Decides by the file alone in `contradictions`, and against the workers that there will be in
`models_without_workers`. Must not know the machine, sizes of models or how workers are started.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from supervisor.contract.config import Config, ModelConfig, WorkerConfig
from supervisor.contract.mistakes import Key, Mistake
from supervisor.contract.names import ModelName
from supervisor.contract.values import is_loopback, shown

_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 -- compared with, not bound to
_QUANTIZED: Final = frozenset({"q8_0", "q4_0"})
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One worker as far as it matters for which models it can hold."""

    name: str
    models: tuple[str, ...] | None
    """Names it is dedicated to, or None for any."""
    max_loaded_models: int


def contradictions(config: Config) -> list[Mistake]:
    """Return what cannot be true at once, whatever the machine."""
    return [
        *_no_workers(config),
        *_empty_dedications(config),
        *_clashing_names(config),
        *_repeated_urls(config),
        *_own_address(config),
        *_cores_beside_gpus(config),
        *_quantized_caches(config),
        *_clashing_models(config),
        *_dedications_to_aliases(config),
        *_replica_bounds(config),
        *_body_memory(config),
    ]


def models_without_workers(config: Config, servers: Sequence[Server]) -> list[Mistake]:
    """Return the models of the file that too few of these workers may serve or have places for."""
    mistakes: list[Mistake] = []
    wanted = 0
    for name, model in config.models.items():
        able = [server for server in servers if may_serve(server, name)]
        needed = wanted_replicas(model)
        wanted += needed
        if not able:
            message = f"no worker may serve it: all {len(servers)} are dedicated to other models"
            mistakes.append(Mistake(("models", name), message))
        elif needed > len(able):
            listed = ", ".join(server.name for server in able)
            message = f"{needed} workers are to hold it, but only {len(able)} may serve it ({listed})"
            mistakes.append(Mistake(("models", name, "min_replicas"), message))
    places = sum(server.max_loaded_models for server in servers)
    if not mistakes and wanted > places:
        message = (
            f"{wanted} models are to stay loaded (pin, min_replicas), but all workers together hold {places} "
            "(max_loaded_models): pin fewer or raise it"
        )
        mistakes.append(Mistake(("models",), message))
    return mistakes


def wanted_replicas(model: ModelConfig) -> int:
    """Return how many workers are to hold a model always."""
    return max(model.min_replicas, 1 if model.pin else 0)


def may_serve(server: Server, model: str) -> bool:
    """Tell whether a worker may be given requests for a model."""
    return server.models is None or _key(model) in map(_key, server.models)


def _key(model: str) -> str:
    return ModelName.parse(model).key


def _no_workers(config: Config) -> Iterator[Mistake]:
    if config.workers == () and not config.external:
        yield Mistake(("workers",), "is an empty list: write at least one worker, or auto")


def _dedicated(config: Config) -> Iterator[tuple[Key, tuple[str, ...]]]:
    for at, worker in enumerate(_listed(config)):
        if worker.models is not None:
            yield ("workers", at, "models"), worker.models
    for at, other in enumerate(config.external):
        if other.models is not None:
            yield ("external", at, "models"), other.models


def _listed(config: Config) -> tuple[WorkerConfig, ...]:
    return config.workers if config.workers != "auto" else ()


def _empty_dedications(config: Config) -> Iterator[Mistake]:
    for key, models in _dedicated(config):
        if not models:
            yield Mistake(key, "is an empty list, so it would serve nothing: name models, or leave it out")


def _clashing_names(config: Config) -> Iterator[Mistake]:
    """Find external workers named as others; those of `workers` are the schema's to compare."""
    first = {worker.name: f"workers[{at}]" for at, worker in enumerate(_listed(config))}
    for at, worker in enumerate(config.external):
        if worker.name in first:
            message = f"{shown(worker.name)} is the name of {first[worker.name]} already: each needs its own"
            yield Mistake(("external", at, "name"), message)
        first.setdefault(worker.name, f"external[{at}]")


def _repeated_urls(config: Config) -> Iterator[Mistake]:
    first: dict[tuple[str, int], int] = {}
    for at, worker in enumerate(config.external):
        address = _address(worker.url)
        if address in first:
            message = f"is the address of external[{first[address]}] already: its slots would count twice"
            yield Mistake(("external", at, "url"), message)
        first.setdefault(address, at)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return host.lower(), parts.port or _PORTS[parts.scheme]


def _own_address(config: Config) -> Iterator[Mistake]:
    host, _, port = config.listen.rpartition(":")
    for at, worker in enumerate(config.external):
        other, other_port = _address(worker.url)
        same = other == host.strip("[]").lower() or (
            is_loopback(other) and (is_loopback(host) or host in _EVERY_ADDRESS)
        )
        if same and other_port == int(port):
            message = f"is where Corral itself listens ({config.listen}): write the worker's own address"
            yield Mistake(("external", at, "url"), message)


def _cores_beside_gpus(config: Config) -> Iterator[Mistake]:
    for at, worker in enumerate(_listed(config)):
        if worker.cores is not None and worker.gpus:
            message = "is for CPU workers, and this one has gpus: remove one of the two"
            yield Mistake(("workers", at, "cores"), message)


def _quantized_caches(config: Config) -> Iterator[Mistake]:
    """Ollama ignores a quantized cache without flash attention, with a line in its log."""
    defaults = config.worker_defaults
    places: dict[Key, tuple[str | None, bool | None]] = {}
    for at, worker in enumerate(_listed(config)):
        own = worker.kv_cache_type is not None
        key: Key = ("workers", at) if own else ("worker_defaults",)
        flash = defaults.flash_attention if worker.flash_attention is None else worker.flash_attention
        places.setdefault(key, (worker.kv_cache_type or defaults.kv_cache_type, flash))
    if not places:
        places["worker_defaults",] = (defaults.kv_cache_type, defaults.flash_attention)
    for key, (cache, flash) in places.items():
        if cache in _QUANTIZED and flash is not True:
            message = f"Ollama ignores {cache} without flash attention: write flash_attention: true too"
            yield Mistake((*key, "kv_cache_type"), message)


def _clashing_models(config: Config) -> Iterator[Mistake]:
    """Find names that would mean two models."""
    first: dict[str, str] = {}
    for name in config.models:
        if _key(name) in first:
            message = f"is the model {first[_key(name)]} again, in other words: keep one of the two"
            yield Mistake(("models", name), message)
        first.setdefault(_key(name), name)
    owner: dict[str, str] = {}
    for name, model in config.models.items():
        for at, alias in enumerate(model.aliases):
            key: Key = ("models", name, "aliases", at)
            if _key(alias) in first:
                yield Mistake(key, f"{shown(alias)} is a model of this file itself: choose another name")
            elif _key(alias) in owner:
                message = f"{shown(alias)} is an alias of {owner[_key(alias)]} already: it can mean one model"
                yield Mistake(key, message)
            owner.setdefault(_key(alias), name)


def _dedications_to_aliases(config: Config) -> Iterator[Mistake]:
    owner = {_key(alias): name for name, model in config.models.items() for alias in model.aliases}
    for key, models in _dedicated(config):
        for at, model in enumerate(models):
            if _key(model) in owner:
                message = f"{shown(model)} is an alias: write the model's name, {owner[_key(model)]}"
                yield Mistake((*key, at), message)


def _replica_bounds(config: Config) -> Iterator[Mistake]:
    for name, model in config.models.items():
        if model.max_replicas is not None and model.max_replicas < model.min_replicas:
            message = (
                f"{model.max_replicas} is less than min_replicas, {model.min_replicas}: "
                "raise it, or leave it out"
            )
            yield Mistake(("models", name, "max_replicas"), message)


def _body_memory(config: Config) -> Iterator[Mistake]:
    limits = config.gateway
    if limits.body_memory is not None and limits.body_memory < 2 * limits.max_body_size:
        message = (
            f"holds not even two of the largest bodies (max_body_size, {limits.max_body_size} bytes): "
            "raise it, or lower max_body_size"
        )
        yield Mistake(("gateway", "body_memory"), message)
