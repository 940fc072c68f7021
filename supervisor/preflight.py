"""All that is known before anything starts: file, machine and environment become workers to be, or mistakes.

The one place where the readers of the host meet the decisions of the core; `corral check` shows what it finds
and `corral up` carries it out, so both say the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.contract.config import Config, ExternalWorker
from supervisor.contract.contradictions import Server, models_without_workers, wanted_replicas
from supervisor.contract.mistakes import Key, Mistake, MistakesError
from supervisor.contract.yaml_config import ConfigError, ConfigMistake
from supervisor.core.devices import auto_gpus
from supervisor.core.fitting import Fit, KnownModel, Place, fit_models
from supervisor.core.machine import Machine
from supervisor.core.memory import gib
from supervisor.core.paths import Paths, Surroundings, resolve_paths
from supervisor.core.placement import place
from supervisor.core.spec import WorkerSpec
from supervisor.engines.engine import Engine
from supervisor.host.config_file import load_source
from supervisor.host.gpus import GpuInventoryError
from supervisor.host.machine import read_machine
from supervisor.host.model_files import find_models
from supervisor.host.other_ollamas import OtherOllama, find_other_ollamas


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What would be started."""

    file: str
    """The configuration file as it was named, or `the defaults`."""
    config: Config
    text: str
    """The file, word for word."""
    paths: Paths
    machine: Machine
    workers: tuple[WorkerSpec, ...]
    notes: tuple[ConfigMistake, ...]
    """What is no mistake and yet better known before anything starts."""


def preflight(path: Path | None, *, engines: Mapping[str, Engine]) -> Preflight:
    """Read file and machine and return the workers they mean; starts and creates nothing.

    Raises:
        ConfigError: holds every mistake of the file; if there is none, every wish that this machine
            cannot meet (devices, memory, engines, paths).
    """
    source = load_source(path)
    machine = _read_machine()
    try:
        paths = resolve_paths(source.config, _surroundings(path))
        workers = place(source.config, machine, paths=paths, engines=engines)
    except MistakesError as error:
        raise source.blame(error.mistakes) from error
    fit = _fit(source.config, workers, paths)
    mistakes = [*_missing_engines(source.config, workers, engines), *fit.mistakes]
    if mistakes:
        raise source.blame(mistakes)
    notes = source.locate([*_unused_gpus(source.config, machine), *fit.notes])
    others = () if source.config.external else find_other_ollamas()  # an external one is to run
    return Preflight(
        file=source.file,
        config=source.config,
        text=source.text,
        paths=paths,
        machine=machine,
        workers=workers,
        notes=(*notes, *(ConfigMistake("this machine", None, "", advice_on(other)) for other in others)),
    )


def advice_on(other: OtherOllama) -> str:
    """Return who takes what Corral needs, and what to do about it."""
    reach = f"clients of {other.address}" if other.address else "its clients"
    takes = f"it takes memory that Corral counts on, and {reach} reach it, not Corral"
    if other.is_service:
        remedy = "stop it for good with `sudo systemctl disable --now ollama`; its models stay where they are"
        return f"ollama.service runs (process {other.pid}): {takes}: {remedy}, see `store`"
    return f"another `ollama serve` runs (process {other.pid}): {takes}: stop it (`kill {other.pid}`)"


def _fit(config: Config, workers: tuple[WorkerSpec, ...], paths: Paths) -> Fit:
    """Hold the models of the file against the workers; files are looked for only where some are to stay."""
    stay = any(wanted_replicas(model) for model in config.models.values())
    files = {spec.engine: find_models(spec.engine, paths) if stay else None for spec in workers}
    places = [_place(spec, spec.memory_bytes, files[spec.engine]) for spec in workers]
    places += [_place(worker, worker.memory, None) for worker in config.external]
    without = models_without_workers(config, [place.server for place in places])
    fit = fit_models(config, places)
    return Fit((*without, *fit.mistakes), fit.notes)


def _place(
    worker: WorkerSpec | ExternalWorker, memory_bytes: int, files: Mapping[str, KnownModel] | None
) -> Place:
    return Place(
        server=Server(name=worker.name, models=worker.models, max_loaded_models=worker.max_loaded_models),
        memory_bytes=memory_bytes,
        num_parallel=worker.num_parallel,
        context_length=worker.context_length,
        kv_cache_type=worker.kv_cache_type if isinstance(worker, WorkerSpec) else None,
        files=files,
    )


def _unused_gpus(config: Config, machine: Machine) -> list[Mistake]:
    """Name the GPUs that are too small for `workers: auto`."""
    if config.workers != "auto":
        return []
    return [
        Mistake(
            ("workers",),
            f"auto leaves GPU {gpu.number} ({gpu.name}) alone, because it has {gib(gpu.memory_total_bytes)}",
        )
        for gpu in machine.gpus
        if gpu not in auto_gpus(machine)
    ]


def _read_machine() -> Machine:
    try:
        return read_machine()
    except GpuInventoryError as error:
        raise ConfigError([ConfigMistake("this machine", None, "", str(error))]) from error


def _surroundings(path: Path | None) -> Surroundings:
    base_dir = Path.cwd() if path is None else path.absolute().parent
    return Surroundings(environ=os.environ, uid=os.getuid(), base_dir=str(base_dir), is_dir=os.path.isdir)


def _missing_engines(
    config: Config, workers: tuple[WorkerSpec, ...], engines: Mapping[str, Engine]
) -> list[Mistake]:
    """Name each engine that is not installed once, at the first worker that needs it."""
    first = {spec.engine: at for at, spec in reversed(list(enumerate(workers)))}
    mistakes: list[Mistake] = []
    for name, at in sorted(first.items()):
        lack = engines[name].missing()
        if lack is not None:
            own = config.workers != "auto" and config.workers[at].engine is not None
            key: Key = ("workers", at, "engine") if own else ("worker_defaults", "engine")
            mistakes.append(Mistake(key, lack))
    return mistakes
