from __future__ import annotations

import pytest

from gateway.scheduling.types import Resident
from gateway.workers.devices import computes_on_gpu, device_of
from gateway.workers.faults import fault_of
from supervisor.contract.fleet import Device, DeviceKind

GIB = 2**30


def resident(*, vram: float, context: int = 4096) -> Resident:
    """A model of 8 GiB of which so much is on the GPU."""
    return Resident(slots=1, size_bytes=8 * GIB, size_vram_bytes=int(vram * GIB), context_length=context)


def test_a_spill_to_the_cpu_is_a_fault_with_both_numbers() -> None:
    """Every layer on the CPU slows all answers down."""
    fault = fault_of(resident(vram=6), on_gpu=True, ordered_context=4096, may_spill=False)
    assert fault == "spilled to the CPU: 6.0 of 8.0 GiB are on the GPU"


def test_a_shrunken_context_is_a_fault_with_both_numbers() -> None:
    """It would cut prompts in silence."""
    fault = fault_of(resident(vram=8, context=2048), on_gpu=True, ordered_context=4096, may_spill=False)
    assert fault == "context shrunk to 2048 tokens per slot; 4096 were ordered"


@pytest.mark.parametrize(
    ("on_gpu", "vram", "context", "ordered", "may_spill"),
    [
        (True, 8, 4096, 4096, False),
        (True, 8, 8192, 4096, False),
        (True, 8, 512, 512, False),
        (True, 8, 512, None, False),
        (True, 8, 0, 4096, False),
        (True, 3, 4096, 4096, True),
        (False, 0, 512, 4096, False),
    ],
    ids=[
        "as ordered",
        "longer",
        "trained for less",
        "trained unknown",
        "not told",
        "spill ordered",
        "no GPU of ours",
    ],
)
def test_what_is_as_ordered_is_no_fault(
    on_gpu: bool,  # noqa: FBT001 -- parameters of the table
    vram: float,
    context: int,
    ordered: int | None,
    may_spill: bool,  # noqa: FBT001 -- as above
) -> None:
    """Neither is what nobody can judge: a CPU has nothing to spill, a remote worker may be one."""
    found = resident(vram=vram, context=context)
    assert fault_of(found, on_gpu=on_gpu, ordered_context=ordered, may_spill=may_spill) == ""


L4 = Device(kind=DeviceKind.GPU, id="GPU-1", label="GPU 0 NVIDIA L4")
L4_TOO = Device(kind=DeviceKind.GPU, id="GPU-2", label="GPU 1 NVIDIA L4")
SLICE = Device(kind=DeviceKind.GPU, id="MIG-1", label="GPU 0 MIG 3 NVIDIA H100 MIG 1g.10gb")
CPU = Device(kind=DeviceKind.CPU, id="0-3,8", label="CPU 0-3,8")
FAR = Device(kind=DeviceKind.REMOTE, id="http://10.0.0.7:11434", label="http://10.0.0.7:11434")


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([L4], "NVIDIA L4"),
        ([L4, L4_TOO], "2 NVIDIA L4"),
        ([SLICE], "NVIDIA H100 MIG 1g.10gb"),
        ([CPU], "CPU, 5 cores"),
        ([Device(kind=DeviceKind.CPU, id="0", label="CPU 0")], "CPU, 1 core"),
        ([FAR], "http://10.0.0.7:11434"),
        ([], ""),
    ],
)
def test_speeds_are_learned_by_what_is_equally_fast(devices: list[Device], words: str) -> None:
    """A GPU's name without its index, a CPU with its cores, another host's address."""
    assert device_of(devices) == words
    assert computes_on_gpu(devices) == words.endswith(("L4", "10gb"))
