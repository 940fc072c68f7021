from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.core.machine import Gpu
from tests.support.fake_nvml import build_fake_nvml, environment, uuid_of

PROGRAM = """
from dataclasses import astuple
from supervisor.host.gpus import GpuInventoryError, read_gpus
try:
    print([astuple(gpu) for gpu in read_gpus()])
except GpuInventoryError as error:
    print(repr(str(error)))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the stand-in for NVIDIA's library."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


def inventory(variables: dict[str, str]) -> object:
    """Return what a process with these variables reads: GPUs as tuples, or the error's text."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ast.literal_eval(done.stdout)


def test_every_gpu_is_read_with_its_uuid_memory_and_place(library: Path) -> None:
    """By the real pynvml."""
    rows = inventory(environment(library, gpus=4, memory_mib=8192, name="NVIDIA A2"))
    assert isinstance(rows, list)
    gpus = [Gpu(**dict(zip(Gpu.__slots__, row, strict=True))) for row in rows]
    assert [gpu.index for gpu in gpus] == [0, 1, 2, 3]
    assert gpus[3] == Gpu(
        index=3, uuid=uuid_of(3), name="NVIDIA A2", memory_total_bytes=2**33, pci_bus_id="00000000:04:00.0"
    )


def test_the_instances_of_a_split_gpu_stand_in_its_place(library: Path) -> None:
    """With MIG mode on nothing can compute on the GPU as a whole; places may be empty."""
    rows = inventory(environment(library, gpus=3, mig=1, instances=2, name="NVIDIA A100"))
    assert isinstance(rows, list)
    gpus = [Gpu(**dict(zip(Gpu.__slots__, row, strict=True))) for row in rows]
    assert [gpu.number for gpu in gpus] == ["0", "1 MIG 1", "1 MIG 2", "2"]
    assert gpus[2] == Gpu(
        index=1,
        uuid="MIG-fa4e0000-0000-0000-0000-000000000002",
        name="NVIDIA A100 MIG 1g.5gb",
        memory_total_bytes=4864 * 2**20,
        pci_bus_id="00000000:02:00.0",
        mig=2,
    )


def test_a_gpu_with_mig_mode_on_and_no_instances_is_an_error_with_the_remedy(library: Path) -> None:
    """It would otherwise be missing without a word."""
    text = inventory(environment(library, gpus=2, mig=1))
    assert isinstance(text, str)
    assert text.startswith("GPU 1 has MIG mode on and no instances")


def test_a_driver_without_gpus_is_a_machine_without_gpus(library: Path) -> None:
    """A container may have the library and no device."""
    assert inventory(environment(library, gpus=0)) == []
    assert inventory(environment(library, gpus=4, init=9)) == []


def test_a_gpu_that_fell_off_the_bus_is_named(library: Path) -> None:
    """To go on without it would hide it."""
    text = inventory(environment(library, gpus=4, lost=2))
    assert isinstance(text, str)
    assert text.startswith("GPU 2 is lost")


def test_a_driver_that_fails_is_an_error_with_its_reason(library: Path) -> None:
    """Such as after an upgrade without a reboot."""
    text = inventory(environment(library, gpus=4, init=18))
    assert isinstance(text, str)
    assert text.startswith("the NVIDIA driver does not answer (")
    assert "mismatch" in text


def test_a_machine_without_the_driver_has_no_gpus(tmp_path: Path) -> None:
    """Which is normal; what stands there instead is a file that is no library."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    assert inventory({"LD_LIBRARY_PATH": str(tmp_path)}) == []
