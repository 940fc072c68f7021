"""The inventory of NVIDIA GPUs and their MIG instances, by NVML. The only file that knows pynvml.

A machine without the driver is normal and has no GPUs. A driver that is there and does not answer is an
error: starting CPU workers on a box full of GPUs would hide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import pynvml

from supervisor.core.machine import Gpu


class GpuInventoryError(Exception):
    """The NVIDIA driver is there but does not tell its GPUs; the text says what to do."""


def read_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs in NVML's order (PCI), or none on a machine without the driver.

    A GPU with MIG mode on computes through its instances only, so these stand in its place.

    Raises:
        GpuInventoryError: the driver fails, or a GPU has fallen off the bus.
    """
    try:
        with _nvml():
            count = pynvml.nvmlDeviceGetCount()
            return tuple(chain.from_iterable(_devices_of(index) for index in range(count)))
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return ()
    except pynvml.NVMLError as error:
        raise GpuInventoryError(
            f"the NVIDIA driver does not answer ({error}): see what `nvidia-smi` says"
        ) from error


@contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _devices_of(index: int) -> list[Gpu]:
    """Return a GPU, or the MIG instances that it is split into."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        whole = _gpu(index, handle)
        return _instances(whole, handle) if _is_split(handle) else [whole]
    except pynvml.NVMLError_GpuIsLost as error:
        raise GpuInventoryError(
            f"GPU {index} is lost ({error}): it has fallen off the bus; `dmesg | grep -i xid` tells why, "
            "and a reboot brings it back"
        ) from error
    except pynvml.NVMLError as error:
        raise GpuInventoryError(
            f"GPU {index} cannot be read ({error}): see what `nvidia-smi -i {index}` says"
        ) from error


def _gpu(index: int, handle: Any) -> Gpu:  # noqa: ANN401 -- pynvml has no types
    return Gpu(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        memory_total_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
    )


def _is_split(handle: Any) -> bool:  # noqa: ANN401 -- pynvml has no types
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return False
    return bool(current)


def _instances(whole: Gpu, handle: Any) -> list[Gpu]:  # noqa: ANN401 -- pynvml has no types
    found: list[Gpu] = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:  # places without an instance
            continue
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(instance).total)
        uuid, name = pynvml.nvmlDeviceGetUUID(instance), pynvml.nvmlDeviceGetName(instance)
        found.append(replace(whole, uuid=uuid, name=name, memory_total_bytes=memory, mig=number))
    if not found:
        raise GpuInventoryError(
            f"GPU {whole.index} has MIG mode on and no instances, so nothing can compute on it: create some, "
            f"or switch MIG mode off (nvidia-smi -i {whole.index} -mig 0)"
        )
    return found
