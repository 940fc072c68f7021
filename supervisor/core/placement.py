"""Which workers there will be: the configuration meets the machine.

Decides each worker's GPUs or cores, its memory and its limits. Pure: the same file on the same machine
gives the same workers. Must not know how a worker is started or what it will serve.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from supervisor.contract.config import Config, WorkerConfig, WorkerDefaults
from supervisor.contract.fleet import Device, DeviceKind
from supervisor.contract.mistakes import Key, Mistake, MistakesError
from supervisor.core.devices import auto_gpus, auto_name, find_gpus, own_cores, share_cores
from supervisor.core.engine_choice import NoEngineError, choose_engine
from supervisor.core.machine import Gpu, Machine, core_list
from supervisor.core.memory import (
    NotEnoughMemoryError,
    Pool,
    claimed_bytes,
    divide,
    gpu_pool,
    ram_pool,
    split_claim,
)
from supervisor.core.paths import Paths
from supervisor.core.spec import WorkerSpec

AUTO_SLOTS: Final = 4
AUTO_SLOTS_BYTES: Final = 4 * 2**30
"""`num_parallel: auto` is `AUTO_SLOTS` on workers with at least this memory, and 1 on smaller ones."""


class PlacementError(MistakesError):
    """A configuration that is valid but asks for what this machine does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """One worker with the devices that were found for it."""

    key: Key
    """Where the file says it: `("workers", 1)`, or `("workers",)` for `auto`."""
    config: WorkerConfig
    gpus: tuple[Gpu, ...]
    cores: tuple[int, ...] = ()


@dataclass(slots=True)
class _Draft:
    """A placement in the making; it goes on after a mistake, so that all of them are found."""

    config: Config
    machine: Machine
    engines: Collection[str]
    mistakes: list[Mistake] = field(default_factory=list)

    def blame(self, wish: _Wish, setting: str, error: Exception) -> None:
        """Note a mistake once, at the key that holds for the worker."""
        own = len(wish.key) > 1 and setting in wish.config.model_fields_set
        mistake = Mistake((*wish.key, setting) if own else ("worker_defaults", setting), str(error))
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)


def place(
    config: Config, machine: Machine, *, paths: Paths, engines: Collection[str]
) -> tuple[WorkerSpec, ...]:
    """Return the workers of a configuration on a machine, in the file's order or by GPU index.

    `engines` are the names in the engine registry.

    Raises:
        PlacementError: GPUs, cores, memory or engines that are not there; holds every mistake.
    """
    draft = _Draft(config, machine, engines)
    wishes = _bind_cores(draft, _wishes(draft))
    _clashes_with_external(draft, wishes)
    memory = _divide_memory(draft, wishes)
    chosen = {wish.config.name: _choose_engine(draft, wish) for wish in wishes}
    _blame_ignored(draft, wishes, chosen)
    if draft.mistakes:
        raise PlacementError(draft.mistakes)
    pruner = next((name for name, engine in chosen.items() if engine == "ollama"), None)
    return tuple(
        _spec(
            wish,
            draft,
            paths=paths,
            engine=chosen[wish.config.name],
            memory_bytes=memory[wish.config.name],
            pruner=pruner,
        )
        for wish in wishes
    )


def _wishes(draft: _Draft) -> list[_Wish]:
    config, machine = draft.config, draft.machine
    if config.workers != "auto":
        listed: dict[Key, WorkerConfig] = {("workers", at): own for at, own in enumerate(config.workers)}
        return [
            _Wish(key=key, config=worker, gpus=find_gpus(key, worker, machine, draft.mistakes))
            for key, worker in listed.items()
        ]
    if gpus := auto_gpus(machine):
        return [
            _Wish(key=("workers",), config=WorkerConfig(name=auto_name(gpu), gpus=(gpu.uuid,)), gpus=(gpu,))
            for gpu in gpus
        ]
    names = (f"cpu{number}" for number in range(config.cpu_workers))
    return [_Wish(key=("workers",), config=WorkerConfig(name=name), gpus=()) for name in names]


def _clashes_with_external(draft: _Draft, wishes: list[_Wish]) -> None:
    """Blame external workers that are called as `workers: auto` calls one; lists are compared by the file."""
    automatic = {wish.config.name for wish in wishes if wish.key == ("workers",)}
    for at, worker in enumerate(draft.config.external):
        if worker.name in automatic:
            message = (
                f"workers: auto gives the name {worker.name} to a worker of this machine: choose another"
            )
            draft.mistakes.append(Mistake(("external", at, "name"), message))


def _bind_cores(draft: _Draft, wishes: list[_Wish]) -> list[_Wish]:
    """Give the CPU workers cores of their own: those they name, or a share of what is left over."""
    own = own_cores({wish.key: wish.config for wish in wishes}, draft.machine, draft.mistakes)
    taken = {core for cores in own.values() for core in cores}
    left = tuple(core for core in draft.machine.cores if core not in taken)
    sharing = [wish for wish in wishes if not wish.config.gpus and wish.key not in own]
    try:
        shares = iter(share_cores(left, len(sharing)))
    except ValueError as error:
        key: Key = ("workers",) if len(sharing[0].key) > 1 else ("cpu_workers",)
        besides = f" ({core_list(tuple(taken))} taken by workers with cores)" if taken else ""
        draft.mistakes.append(Mistake(key, f"{error}{besides}: write fewer"))
        return wishes
    return [
        wish if wish.config.gpus else replace(wish, cores=own[wish.key] if wish.key in own else next(shares))
        for wish in wishes
    ]


def _divide_memory(draft: _Draft, wishes: list[_Wish]) -> dict[str, int]:
    """Return each worker's bytes by its name, summed over its GPUs."""
    pools: dict[str, Pool] = {"": ram_pool(draft.machine.ram_bytes)}
    pools |= {
        gpu.uuid: gpu_pool(f"GPU {gpu.number} ({gpu.name})", gpu.memory_total_bytes)
        for gpu in draft.machine.gpus
    }
    claims: dict[str, dict[str, int | None]] = {device: {} for device in pools}
    for wish in wishes:
        for device, claim in _claims(draft, wish, pools).items():
            claims[device][wish.config.name] = claim
    total = {wish.config.name: 0 for wish in wishes}
    for device, pool in pools.items():
        try:
            for name, size in divide(pool, claims[device]).items():
                total[name] += size
        except NotEnoughMemoryError as error:
            sharing = [wish for wish in wishes if wish.config.name in claims[device]]
            claiming = [wish for wish in sharing if wish.config.memory not in (None, "auto")]
            draft.blame((claiming or sharing)[-1], "memory", error)
    return total


def _claims(draft: _Draft, wish: _Wish, pools: Mapping[str, Pool]) -> dict[str, int | None]:
    """Return what a worker claims of each pool; a worker whose GPUs were not found claims nothing."""
    devices = [gpu.uuid for gpu in wish.gpus] if wish.config.gpus else [""]
    totals = tuple(pools[device].total_bytes for device in devices)
    memory = wish.config.memory or draft.config.worker_defaults.memory
    claim = claimed_bytes(memory, total_bytes=sum(totals))
    return dict(zip(devices, split_claim(claim, totals), strict=True))


def _choose_engine(draft: _Draft, wish: _Wish) -> str:
    wanted = wish.config.engine or draft.config.worker_defaults.engine
    try:
        return choose_engine(
            wanted, has_gpus=bool(wish.config.gpus), machine=draft.machine, engines=draft.engines
        )
    except NoEngineError as error:
        draft.blame(wish, "engine", error)
        return wanted


def _blame_ignored(draft: _Draft, wishes: list[_Wish], chosen: Mapping[str, str]) -> None:
    """Blame what only Ollama heeds where no Ollama would see it."""
    for setting in ("flash_attention", "kv_cache_type"):
        for wish in wishes:
            if chosen[wish.config.name] == "embedded" and getattr(wish.config, setting) is not None:
                message = "is for Ollama, and this worker is embedded: remove it, or write engine: ollama"
                draft.mistakes.append(Mistake((*wish.key, setting), message))
        if getattr(draft.config.worker_defaults, setting) is not None and set(chosen.values()) == {
            "embedded"
        }:
            message = "is for Ollama, and all workers are embedded: remove it, or write engine: ollama"
            draft.mistakes.append(Mistake(("worker_defaults", setting), message))


def _devices(wish: _Wish) -> tuple[Device, ...]:
    if wish.gpus:
        return tuple(
            Device(kind=DeviceKind.GPU, id=gpu.uuid, label=f"GPU {gpu.number} {gpu.name}")
            for gpu in wish.gpus
        )
    cores = core_list(wish.cores)
    return (Device(kind=DeviceKind.CPU, id=cores, label=f"CPU {cores}"),)


def _spec(
    wish: _Wish, draft: _Draft, *, paths: Paths, engine: str, memory_bytes: int, pruner: str | None
) -> WorkerSpec:
    own, defaults = wish.config, draft.config.worker_defaults
    return WorkerSpec(
        name=own.name,
        engine=engine,
        devices=_devices(wish),
        gpu_uuids=tuple(gpu.uuid for gpu in wish.gpus),
        gpu_vendor=wish.gpus[0].vendor if wish.gpus else None,
        cpu_cores=wish.cores,
        num_parallel=_slots(own.num_parallel or defaults.num_parallel, memory_bytes),
        max_loaded_models=own.max_loaded_models or defaults.max_loaded_models,
        max_queue=own.max_queue or defaults.max_queue,
        context_length=own.context_length or defaults.context_length,
        keep_alive_s=_keep_alive_s(own, defaults),
        memory_bytes=memory_bytes,
        flash_attention=defaults.flash_attention if own.flash_attention is None else own.flash_attention,
        kv_cache_type=own.kv_cache_type or defaults.kv_cache_type,
        load_timeout_s=draft.config.gateway.load_timeout,
        prunes=own.name == pruner,
        models=own.models,
        env={**defaults.env, **own.env},
        store=paths.store,
        gguf_dir=paths.gguf_dir,
    )


def _slots(wanted: int | Literal["auto"], memory_bytes: int) -> int:
    """Every slot has a context of its own, which a small memory would rather give to the weights."""
    if wanted == "auto":
        return AUTO_SLOTS if memory_bytes >= AUTO_SLOTS_BYTES else 1
    return wanted


def _keep_alive_s(own: WorkerConfig, defaults: WorkerDefaults) -> float | None:
    """None means for ever, so whether the worker says anything is told by the fields that were set."""
    return own.keep_alive if "keep_alive" in own.model_fields_set else defaults.keep_alive
