"""Which GPUs and cores a worker of the file means on this machine.

Decides by identity alone: what is named, what is there, what goes together. Memory and limits are
placement's. Every mistake says what there is instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from supervisor.contract.config import WorkerConfig
from supervisor.contract.mistakes import Key, Mistake
from supervisor.contract.values import parse_cores
from supervisor.core.machine import Gpu, Machine, core_list

AUTO_GPU_BYTES: Final = 2 * 2**30
"""`workers: auto` leaves smaller GPUs alone: the graphics unit in a CPU shows as a GPU of some 512 MiB."""

_VENDORS: Final = {"nvidia": "NVIDIA", "amd": "AMD"}


def auto_gpus(machine: Machine) -> tuple[Gpu, ...]:
    """Return the GPUs that `workers: auto` makes workers for."""
    return tuple(gpu for gpu in machine.gpus if gpu.memory_total_bytes >= AUTO_GPU_BYTES)


def auto_name(gpu: Gpu) -> str:
    """Return the name of the worker that `workers: auto` makes for a GPU or MIG instance."""
    return f"gpu{gpu.index}" if gpu.mig is None else f"gpu{gpu.index}-mig{gpu.mig}"


def find_gpus(key: Key, worker: WorkerConfig, machine: Machine, mistakes: list[Mistake]) -> tuple[Gpu, ...]:
    """Return the GPUs that a worker lists; what is wrong with the list is added to `mistakes`."""
    found: list[Gpu] = []
    for at, wanted in enumerate(worker.gpus):
        gpu = _find(wanted, machine)
        message = _no_such_gpu(wanted, machine) if gpu is None else _misfit(gpu, found)
        if message is not None:
            mistakes.append(Mistake((*key, "gpus", at), message))
        elif gpu is not None:
            found.append(gpu)
    return tuple(found)


def _find(wanted: int | str, machine: Machine) -> Gpu | None:
    for gpu in machine.gpus:
        if gpu.uuid == wanted or (gpu.index == wanted and gpu.mig is None):
            return gpu
    return None


def _no_such_gpu(wanted: int | str, machine: Machine) -> str:
    instances = ", ".join(gpu.uuid for gpu in machine.gpus if gpu.index == wanted)
    if instances:
        return f"GPU {wanted} is split into MIG instances: name one by its UUID ({instances})"
    if not machine.gpus:
        known = "this machine has none that a driver shows; leave gpus out to compute on the CPU"
    else:
        known = "this machine has " + ", ".join(
            f"{gpu.number} ({gpu.uuid}, {gpu.name})" for gpu in machine.gpus
        )
    return f"there is no GPU {wanted}: {known}"


def _misfit(gpu: Gpu, before: Sequence[Gpu]) -> str | None:
    """Return why a GPU cannot join those that a worker has already."""
    if gpu in before:
        return f"GPU {gpu.number} ({gpu.uuid}) is listed twice: name it once"
    if before and (gpu.mig is not None or before[0].mig is not None):
        return "CUDA gives a process one MIG instance and nothing beside it: name only that"
    if before and gpu.vendor != before[0].vendor:
        makers = f"{_VENDORS[gpu.vendor]} and GPU {before[0].number} of {_VENDORS[before[0].vendor]}"
        return f"GPU {gpu.number} is of {makers}: a worker computes on GPUs of one maker"
    return None


def share_cores(cores: tuple[int, ...], parts: int) -> tuple[tuple[int, ...], ...]:
    """Return disjoint runs of cores that are all of them together, as even as they can be.

    Raises:
        ValueError: more parts than cores.
    """
    if parts > len(cores):
        raise ValueError(f"{parts} CPU workers need a core each, but this process may use {len(cores)}")
    ordered = sorted(cores)
    bounds = [len(ordered) * part // parts for part in range(parts + 1)] if parts else []
    return tuple(tuple(ordered[start:end]) for start, end in pairwise(bounds))


def own_cores(
    workers: Mapping[Key, WorkerConfig], machine: Machine, mistakes: list[Mistake]
) -> dict[Key, tuple[int, ...]]:
    """Return the cores of the CPU workers that name theirs; what is wrong is added to `mistakes`."""
    owner: dict[int, str] = {}
    found: dict[Key, tuple[int, ...]] = {}
    for key, worker in workers.items():
        if worker.cores is not None and not worker.gpus:
            wanted = parse_cores(worker.cores)
            messages = _core_mistakes(wanted, machine.cores, owner)
            mistakes.extend(Mistake((*key, "cores"), message) for message in messages)
            owner |= dict.fromkeys(wanted, worker.name)
            found[key] = wanted
    return found


def _core_mistakes(
    wanted: tuple[int, ...], available: tuple[int, ...], owner: Mapping[int, str]
) -> Iterator[str]:
    absent = tuple(core for core in wanted if core not in available)
    if absent:
        yield f"this process may not use {core_list(absent)}: it has {core_list(available)}"
    for name in sorted({owner[core] for core in wanted if core in owner}):
        taken = tuple(core for core in wanted if owner.get(core) == name)
        yield f"{core_list(taken)} belongs to {name} already: each CPU worker needs cores of its own"
