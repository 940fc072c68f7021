"""Reads what this machine offers: GPUs, cores, RAM, engine binaries. Decides nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from supervisor.core.cgroups import memory_limit_files, parse_limit, parse_memory_total
from supervisor.core.machine import Gpu, Machine
from supervisor.host.amd_gpus import read_amd_gpus
from supervisor.host.gpus import read_gpus


def read_machine() -> Machine:
    """Return the machine as this process may use it.

    Raises:
        GpuInventoryError: an NVIDIA driver is there, but does not answer.
    """
    nvidia = read_gpus()
    return Machine(
        gpus=(*nvidia, *read_amd_gpus(first_index=_next_index(nvidia))),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        ram_bytes=read_ram_bytes(),
        ollama_path=shutil.which("ollama"),
    )


def _next_index(gpus: tuple[Gpu, ...]) -> int:
    return max((gpu.index + 1 for gpu in gpus), default=0)


def read_ram_bytes() -> int:
    """Return the bytes of RAM, or the lowest limit of the control groups around this process."""
    total = parse_memory_total(Path("/proc/meminfo").read_text(encoding="ascii"))
    limits = (_limit(path) for path in memory_limit_files(_self_cgroup()))
    return min([total, *(limit for limit in limits if limit is not None)])


def _self_cgroup() -> str:
    try:
        return Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:  # a kernel without control groups sets no limits
        return ""


def _limit(path: str) -> int | None:
    try:
        return parse_limit(Path(path).read_text(encoding="ascii"))
    except OSError:  # outside this process's view of the groups, or no memory controller there
        return None
