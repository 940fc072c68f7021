"""What placement must know of the machine. Plain data; who reads it off the hardware is the host's matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GpuVendor = Literal["nvidia", "amd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one MIG instance of a GPU, as its driver describes it."""

    index: int
    """In PCI order, as nvidia-smi counts; AMD's follow NVIDIA's. A MIG instance has its GPU's."""
    uuid: str
    """What pins a process to it: its UUID, or for an AMD GPU without one the position among them."""
    name: str
    memory_total_bytes: int
    pci_bus_id: str
    vendor: GpuVendor = "nvidia"
    mig: int | None = None
    """Which MIG instance of its GPU this is, or None for a whole GPU."""

    @property
    def number(self) -> str:
        """For people: `0`, or `0 MIG 1`."""
        return str(self.index) if self.mig is None else f"{self.index} MIG {self.mig}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The hardware and programs that this process may use."""

    gpus: tuple[Gpu, ...]
    cores: tuple[int, ...]
    """CPU cores that this process may run on."""
    ram_bytes: int
    """Of the machine, or of the control group where that has less."""
    ollama_path: str | None
    """The `ollama` binary, or None."""


def core_list(cores: tuple[int, ...]) -> str:
    """Return cores in the kernel's notation, ascending: `0-3,8`."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
