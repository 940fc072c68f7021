"""NVIDIA GPUs and their MIG instances, by NVML: which there are, and how they are. The only file with pynvml.

Decides nothing of what a reading means. A machine without the driver is normal and has no GPUs. A driver that
is there and does not answer is an error: starting CPU workers on a box full of GPUs would hide it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pynvml

from supervisor.core.gpu_health import Foreign, Reading
from supervisor.core.machine import Gpu

_LOST: Final = (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_NotFound, pynvml.NVMLError_ResetRequired)
"""What the driver says of a card that computes no more; NotFound only of one that it has known."""
_NO_DRIVER: Final = (
    pynvml.NVMLError_Uninitialized,
    pynvml.NVMLError_DriverNotLoaded,
    pynvml.NVMLError_LibraryNotFound,
    pynvml.NVMLError_LibRmVersionMismatch,
)
"""What says nothing of a card: the driver itself does not answer."""
_ABSENT: Final = (
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_FunctionNotFound,
    pynvml.NVMLError_NoPermission,
)
"""What this card, driver or user cannot be told; it is left out."""
_FLAGS: Final = 6
"""Place in /proc/PID/stat after the name: see proc_pid_stat(5)."""
_EXITING: Final = 0x4
"""The kernel's PF_EXITING: what it holds is on its way back."""
_THROTTLING: Final = (
    (0x20 | 0x40, "it is too hot: look at its cooling"),
    (0x80, "its power is cut from outside: look at the power supply"),
    (0x08, "the hardware slows it down, for heat or power"),
)
"""Bits of NVML's clocks event reasons that mean no good; a power cap and an idle card are normal."""


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


# Looks at the GPUs, again and again -------------------------------------------------------


class DriverError(Exception):
    """The NVIDIA driver does not answer: nothing is known of any card."""


@dataclass(slots=True)
class Session:
    """The driver, open; a card that came back, or is new, is seen only by a new session."""

    uuids: tuple[str, ...]
    known: set[str]
    """Cards that the driver has shown once, in whatever session; a word about others means nothing."""
    is_ours: Callable[[int], bool]
    events: Events

    def read(self, xids: Mapping[str, list[int]]) -> dict[str, Reading]:
        """Return what there is to read of each card, by UUID, with these news of Xid errors.

        Raises:
            DriverError: the driver itself does not answer, so that no card is blamed for it.
        """
        try:
            pynvml.nvmlDeviceGetCount()
            found = {uuid: self._read_one(uuid) for uuid in self.uuids}
        except pynvml.NVMLError as error:
            raise DriverError(str(error)) from error
        return {
            uuid: replace(reading, xids=tuple(xids.get(uuid, ())))
            for uuid, reading in found.items()
            if reading is not None
        }

    def _read_one(self, uuid: str) -> Reading | None:
        try:
            reading = self._reading(pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except _NO_DRIVER:
            raise
        except pynvml.NVMLError as error:
            if uuid not in self.known and not isinstance(error, pynvml.NVMLError_GpuIsLost):
                return None
            return Reading(lost=str(error)) if isinstance(error, _LOST) else Reading(unreadable=str(error))
        self.known.add(uuid)
        return reading

    def _reading(self, handle: Any) -> Reading:  # noqa: ANN401 -- pynvml has no types
        remapped = _optional(lambda: pynvml.nvmlDeviceGetRemappedRows(handle)) or (0, 0, 0, 0)
        clocks = _optional(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return Reading(
            total_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            foreign=self._foreign(handle),
            uncorrected=_optional(lambda: pynvml.nvmlDeviceGetTotalEccErrors(handle, 1, 0)),
            remap_pending=bool(remapped[2]),
            remap_failed=bool(remapped[3]),
            throttled=_throttled(clocks),
        )

    def _foreign(self, handle: Any) -> tuple[Foreign, ...]:  # noqa: ANN401 -- pynvml has no types
        running = _optional(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
        strangers = (process for process in running if not self.is_ours(process.pid))
        named = ((process, _name(process.pid)) for process in strangers)
        return tuple(
            Foreign(int(process.pid), name, int(process.usedGpuMemory or 0))
            for process, name in named
            if name is not None
        )


@contextmanager
def session(uuids: tuple[str, ...], known: set[str], is_ours: Callable[[int], bool]) -> Iterator[Session]:
    """Open the driver; `is_ours` tells whether the process with a pid belongs to one of our workers.

    Raises:
        DriverError: it cannot be opened.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise DriverError(str(error)) from error
    try:
        with _events(uuids) as events:
            yield Session(uuids, known, is_ours, events)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


@dataclass(slots=True)
class Events:
    """The driver's news of Xid errors, where there are any."""

    set: Any
    """None where the driver has no events."""
    uuids: Mapping[int, list[str]]
    """What computes on a card, by the address of its handle: itself, or its MIG instances."""

    def wait(self, seconds: float, stopped: threading.Event) -> dict[str, list[int]]:
        """Sleep so long, or until something happens; return the Xid errors by UUID."""
        found: dict[str, list[int]] = {}
        if self.set is None:
            stopped.wait(seconds)
            return found
        timeout_ms = int(seconds * 1000)
        try:
            while True:
                event = pynvml.nvmlEventSetWait(self.set, timeout_ms)
                for uuid in self.uuids.get(_address(event.device), []):
                    found.setdefault(uuid, []).append(int(event.eventData))
                timeout_ms = 0
        except pynvml.NVMLError_Timeout:
            return found
        except pynvml.NVMLError:  # a lost card ends the wait at once; the next reading tells
            stopped.wait(0 if found else seconds)
            return found


@contextmanager
def _events(uuids: tuple[str, ...]) -> Iterator[Events]:
    events = _optional(pynvml.nvmlEventSetCreate)
    cards: dict[int, list[str]] = {}
    for uuid in uuids if events is not None else ():
        with suppress(pynvml.NVMLError):
            card = _card(pynvml.nvmlDeviceGetHandleByUUID(uuid))
            if _address(card) not in cards:
                pynvml.nvmlDeviceRegisterEvents(card, pynvml.nvmlEventTypeXidCriticalError, events)
            cards.setdefault(_address(card), []).append(uuid)
    try:
        yield Events(events if cards else None, cards)
    finally:
        if events is not None:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(events)


def _card(handle: Any) -> Any:  # noqa: ANN401 -- pynvml has no types
    """Return the card of a MIG instance, or the card itself."""
    try:
        return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except pynvml.NVMLError:
        return handle


def _address(handle: Any) -> int:  # noqa: ANN401 -- pynvml has no types
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _optional(ask: Callable[[], Any]) -> Any:  # noqa: ANN401 -- pynvml has no types
    try:
        return ask()
    except _ABSENT:
        return None


def _throttled(reasons: int) -> str:
    return next((text for bits, text in _THROTTLING if reasons & bits), "")


def _name(pid: int) -> str | None:
    """Return a process's name; None when it is ending, or cannot be seen from here."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    name, _, fields = stat.partition("(")[2].rpartition(")")
    state, flags = fields.split()[0], int(fields.split()[_FLAGS])
    return None if state in "ZX" or flags & _EXITING else name
