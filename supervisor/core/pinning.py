"""The environment of a worker: what it sees of the machine, and what of the shell Corral was started in.

Decides by names only. Does not know how processes are started. The supervisor's shell is no place to
configure workers from, so whatever pins devices or steers an engine is left behind there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.core.spec import WorkerSpec

NO_DEVICE: Final = "-1"
"""An index that no GPU has. An empty value would do for CUDA, but some runtimes take it for unset."""

MARKER: Final = "CORRAL_WORKER"
"""`BOOT_ID/NAME` in the environment of a worker and of all it starts: so they are found when it dies."""

_FOREIGN: Final = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "GPU_DEVICE_ORDINAL",
        "ZE_AFFINITY_MASK",
        "ONEAPI_DEVICE_SELECTOR",
        "GGML_VK_VISIBLE_DEVICES",
    }
)
_FOREIGN_PREFIXES: Final = ("OLLAMA_", "LLAMA_ARG_", "CORRAL_", "HIP_", "ROCR_")
_OF_SYSTEMD: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "RUNTIME_DIRECTORY",
    }
)


def gateway_environment(base: Mapping[str, str], *, boot_id: str, name: str) -> dict[str, str]:
    """Return the supervisor's own environment less what systemd meant for the supervisor alone."""
    kept = {key: value for key, value in base.items() if key not in _OF_SYSTEMD}
    return kept | {MARKER: f"{boot_id}/{name}"}


def worker_environment(
    spec: WorkerSpec, engine_env: Mapping[str, str], base: Mapping[str, str], *, boot_id: str
) -> dict[str, str]:
    """Return the whole environment of a worker.

    That is the supervisor's own without foreign pinning, then the engine's, then the pinning to the
    devices of `spec`, then what the user wrote in the file. Only the marker stands above that.
    """
    kept = {key: value for key, value in base.items() if not _is_foreign(key)}
    marker = {MARKER: f"{boot_id}/{spec.name}"}
    return kept | dict(engine_env) | _pinning(spec) | dict(spec.env) | marker


def _pinning(spec: WorkerSpec) -> dict[str, str]:
    """Show the GPUs of the worker and none of another maker; indices in the order of nvidia-smi.

    HIP_VISIBLE_DEVICES counts among those that ROCR_VISIBLE_DEVICES shows, so it must not stand beside it.
    """
    shown = ",".join(spec.gpu_uuids) or NO_DEVICE
    cuda = shown if spec.gpu_vendor == "nvidia" else NO_DEVICE
    pinning = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cuda}
    if spec.gpu_vendor == "amd":
        return pinning | {"ROCR_VISIBLE_DEVICES": shown}
    return pinning | {"HIP_VISIBLE_DEVICES": NO_DEVICE, "ROCR_VISIBLE_DEVICES": NO_DEVICE}


def _is_foreign(key: str) -> bool:
    return key in _FOREIGN or key in _OF_SYSTEMD or key.startswith(_FOREIGN_PREFIXES)
