from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from supervisor.core.machine import Gpu
from supervisor.host.amd_gpus import read_amd_gpus


def write(file: Path, properties: Mapping[str, int]) -> None:
    """Write `NAME VALUE` lines, as the kernel does."""
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{name} {value}\n" for name, value in properties.items()))


def add_node(root: Path, number: int, properties: Mapping[str, int], *banks: tuple[int, int]) -> Path:
    """Add a node of the topology; banks are (heap type, bytes)."""
    node = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
    write(node / "properties", properties)
    for at, (heap, size) in enumerate(banks):
        write(node / f"mem_banks/{at}/properties", {"heap_type": heap, "size_in_bytes": size})
    return node


CPU = {"cpu_cores_count": 16, "simd_count": 0}
NAVI = {
    "simd_count": 192,
    "gfx_target_version": 110000,
    "unique_id": 0x1F2E3D4C5B6A7988,
    "location_id": 0x300,
}


def test_gpus_are_read_with_their_uuid_memory_and_place(tmp_path: Path) -> None:
    """Node 0 is the CPU with the RAM; node 10 comes after node 2."""
    add_node(tmp_path, 0, CPU, (0, 64 * 2**30))
    add_node(
        tmp_path, 10, {"simd_count": 440, "gfx_target_version": 90010, "domain": 1, "location_id": 0x2908}
    )
    add_node(tmp_path, 2, NAVI, (1, 16 * 2**30), (2, 8 * 2**30))
    assert read_amd_gpus(tmp_path, first_index=3) == (
        Gpu(
            index=3,
            uuid="GPU-1f2e3d4c5b6a7988",
            name="AMD gfx1100",
            memory_total_bytes=24 * 2**30,
            pci_bus_id="0000:03:00.0",
            vendor="amd",
        ),
        Gpu(
            index=4,
            uuid="1",
            name="AMD gfx90a",
            memory_total_bytes=0,
            pci_bus_id="0001:29:01.0",
            vendor="amd",
        ),
    )


def test_a_machine_without_the_driver_has_no_amd_gpus(tmp_path: Path) -> None:
    """Which is normal."""
    assert read_amd_gpus(tmp_path) == ()


def test_a_node_that_shows_nothing_is_no_gpu(tmp_path: Path) -> None:
    """In a container the kernel hides the properties of GPUs that it was not given."""
    (add_node(tmp_path, 1, NAVI) / "properties").unlink()
    assert read_amd_gpus(tmp_path) == ()
