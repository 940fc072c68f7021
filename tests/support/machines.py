"""Machines and configurations for tests of placement, written short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from supervisor.contract.config import Config
from supervisor.core.machine import Gpu, Machine
from supervisor.core.paths import Paths

PATHS = Paths(
    runtime_dir="/run/corral", store="/models/ollama", gguf_dir="/models/gguf", state_dir="/var/lib/corral"
)


def a_config(tree: Mapping[str, object]) -> Config:
    """Return the configuration of a tree as a file could hold it."""
    return Config.model_validate_json(json.dumps(tree))


def a_gpu(index: int, *, gib: float = 24) -> Gpu:
    """Return one GPU; its UUID is `GPU-<index>`."""
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA L4",
        memory_total_bytes=int(gib * 2**30),
        pci_bus_id=f"00000000:{index + 1:02X}:00.0",
    )


def an_amd_gpu(index: int, *, gib: float = 24) -> Gpu:
    """Return one AMD GPU; its UUID is `GPU-<index as 16 digits>`."""
    return replace(a_gpu(index, gib=gib), uuid=f"GPU-{index:016x}", name="AMD gfx1100", vendor="amd")


def a_mig_instance(index: int, number: int, *, gib: float = 10) -> Gpu:
    """Return one instance of a split GPU; its UUID is `MIG-<index>-<number>`."""
    uuid, name = f"MIG-{index}-{number}", "NVIDIA A100 MIG 1g.10gb"
    return replace(a_gpu(index, gib=gib), uuid=uuid, name=name, mig=number)


def a_machine(
    *, gpus: int = 0, cores: Sequence[int] = range(8), ram_gib: float = 64, ollama_path: str | None = None
) -> Machine:
    """Return a machine of 24 GiB GPUs."""
    return Machine(
        gpus=tuple(a_gpu(index) for index in range(gpus)),
        cores=tuple(cores),
        ram_bytes=int(ram_gib * 2**30),
        ollama_path=ollama_path,
    )
