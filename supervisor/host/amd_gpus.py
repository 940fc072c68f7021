"""The inventory of AMD GPUs, by what the kernel's compute driver (amdkfd) shows of itself in sysfs.

ROCm's own tools read the same files, so none of its libraries is needed. A machine without the driver has no
such directory, and a node that this process may not use (in a container) cannot be read: both have no GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from supervisor.core.machine import Gpu

_NODES: Final = "sys/class/kfd/kfd/topology/nodes"
_FRAME_BUFFERS: Final = ("1", "2")
"""Kinds of memory (`heap_type`) that lie on the GPU: visible to the CPU, and private."""


def read_amd_gpus(root: Path = Path("/"), *, first_index: int = 0) -> tuple[Gpu, ...]:
    """Return the GPUs in the order in which ROCR_VISIBLE_DEVICES counts them.

    `first_index` is given to the first of them. A UUID is the `GPU-<unique id>` of ROCm where the card has
    one, else its position.
    """
    nodes = sorted((root / _NODES).glob("[0-9]*"), key=lambda path: int(path.name))
    properties = [(node, found) for node in nodes if (found := _properties(node / "properties"))]
    on_gpus = [(node, found) for node, found in properties if int(found.get("simd_count", "0")) > 0]
    return tuple(
        _gpu(node, found, position=at, index=first_index + at) for at, (node, found) in enumerate(on_gpus)
    )


def _gpu(node: Path, properties: dict[str, str], *, position: int, index: int) -> Gpu:
    unique_id = int(properties.get("unique_id", "0"))
    return Gpu(
        index=index,
        uuid=f"GPU-{unique_id:016x}" if unique_id else str(position),
        name=f"AMD {_architecture(int(properties.get('gfx_target_version', '0')))}",
        memory_total_bytes=_memory_bytes(node),
        pci_bus_id=_bus_id(int(properties.get("domain", "0")), int(properties.get("location_id", "0"))),
        vendor="amd",
    )


def _memory_bytes(node: Path) -> int:
    banks = (_properties(bank) for bank in sorted(node.glob("mem_banks/[0-9]*/properties")))
    return sum(int(bank["size_in_bytes"]) for bank in banks if bank.get("heap_type") in _FRAME_BUFFERS)


def _properties(file: Path) -> dict[str, str]:
    """Return the lines `NAME VALUE` of a file, nothing where it may not be read."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return dict(line.split(maxsplit=1) for line in lines if len(line.split(maxsplit=1)) == 2)  # noqa: PLR2004 -- name and value


def _architecture(version: int) -> str:
    """Return `gfx90a` for 90010, `gfx1100` for 110000: how ROCm calls what a GPU can run."""
    major, minor, step = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{step:x}"


def _bus_id(domain: int, location: int) -> str:
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 0x7}"
