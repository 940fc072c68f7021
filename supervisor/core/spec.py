"""What a worker is to be: the outcome of placement, the input of engines. Plain data, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.contract.fleet import Device
from supervisor.core.machine import GpuVendor


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """One worker process to be: where it computes and under which limits."""

    name: str
    engine: str
    """A name in the engine registry; `auto` is resolved by placement."""
    devices: tuple[Device, ...]
    """For people and the fleet snapshot."""
    gpu_uuids: tuple[str, ...]
    """What it is pinned to by the variable of `gpu_vendor`; empty on a CPU worker."""
    gpu_vendor: GpuVendor | None
    """None on a CPU worker."""
    cpu_cores: tuple[int, ...]
    """The cores a CPU worker is bound to; empty on a GPU worker, which may use all."""
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    keep_alive_s: float | None
    """Seconds, or None for ever."""
    memory_bytes: int
    flash_attention: bool | None
    """On or off; None leaves it to the engine."""
    kv_cache_type: str | None
    """`f16`, `q8_0` or `q4_0`; None leaves it to the engine."""
    load_timeout_s: float
    """How long a load may stand still before the engine gives it up."""
    prunes: bool
    """It may delete what nothing in the store refers to: one of the workers that share the store."""
    models: tuple[str, ...] | None
    """Names it is dedicated to, or None for any."""
    env: Mapping[str, str]
    """The user's further variables."""
    store: str
    """Ollama's model store (absolute path)."""
    gguf_dir: str
    """Directory of GGUF files (absolute path)."""
