"""The inventory of NVIDIA GPUs, by NVML. The only file that knows pynvml.

A machine without the driver is normal and has no GPUs. A driver that is there and does not answer is an
error: starting CPU workers on a box full of GPUs would hide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pynvml

from supervisor.core.machine import Gpu


class GpuInventoryError(Exception):
    """The NVIDIA driver is there but does not tell its GPUs; the text says what to do."""


def read_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs in NVML's order (PCI), or none on a machine without the driver.

    Raises:
        GpuInventoryError: the driver fails, or a GPU has fallen off the bus.
    """
    try:
        with _nvml():
            return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
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


def _gpu(index: int) -> Gpu:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            index=index,
            uuid=pynvml.nvmlDeviceGetUUID(handle),
            name=pynvml.nvmlDeviceGetName(handle),
            memory_total_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
        )
    except pynvml.NVMLError_GpuIsLost as error:
        raise GpuInventoryError(
            f"GPU {index} is lost ({error}): it has fallen off the bus; `dmesg | grep -i xid` tells why, "
            "and a reboot brings it back"
        ) from error
    except pynvml.NVMLError as error:
        raise GpuInventoryError(
            f"GPU {index} cannot be read ({error}): see what `nvidia-smi -i {index}` says"
        ) from error
