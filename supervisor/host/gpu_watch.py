"""Reads NVIDIA's GPUs every few seconds and tells what it read; decides nothing of what it means.

All of it runs on a thread of its own, because a call into a sick driver may take seconds or never return;
only what was read crosses over to the event loop. A driver that does not answer is told and asked again
later, further and further apart; nothing is concluded from it. Xid errors wake the thread, which otherwise
sleeps in the driver's own wait for them.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pynvml

from supervisor.core.gpu_health import Foreign, Reading

INTERVAL_S: Final = 5.0
_MOST_DOUBLINGS: Final = 4
"""Of the interval, while the driver does not answer."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was read, or why nothing could be."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    """By UUID; cards that the driver has never known are left out."""
    error: str = ""
    """The driver does not answer: nothing is known of any card."""
    next_in_s: float
    """When the next report is due."""


@dataclass(slots=True)
class GpuWatch:
    """The thread. `uuids` may be replaced at any time; they are read anew for each round."""

    uuids: tuple[str, ...]
    is_ours: Callable[[int], bool]
    """Whether the process with this pid belongs to one of our workers; called on the thread."""
    take: Callable[[Report], None]
    """Gets each report, on the event loop."""
    interval_s: float = INTERVAL_S
    _stopped: threading.Event = field(default_factory=threading.Event)
    _known: set[str] = field(default_factory=set)
    """Cards that the driver has shown once."""
    _xids: Mapping[str, list[int]] = field(default_factory=dict)
    """By UUID; those that came since the last reading."""

    def start(self) -> None:
        """Begin; a thread that hangs in the driver does not keep the program from ending."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="gpu-watch", daemon=True).start()

    def stop(self) -> None:
        """Tell the thread to end; it may still hang in the driver, so nobody waits for it."""
        self._stopped.set()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                for report in self._session():
                    failures = 0
                    self._tell(loop, report)
            except pynvml.NVMLError as error:
                pause_s = self.interval_s * 2 ** min(failures, _MOST_DOUBLINGS)
                failures += 1
                self._tell(loop, Report(error=str(error), next_in_s=pause_s))
                self._stopped.wait(pause_s)

    def _tell(self, loop: asyncio.AbstractEventLoop, report: Report) -> None:
        with suppress(RuntimeError):  # the loop has ended, and so does the program
            loop.call_soon_threadsafe(self._arrived, report)

    def _arrived(self, report: Report) -> None:
        if not self._stopped.is_set():
            self.take(report)

    def _session(self) -> Iterator[Report]:
        """Read again and again; a card that came back, or is new, is seen only by a new session."""
        uuids, complete = self.uuids, True
        with _nvml(), _events(uuids) as events:
            while complete and uuids == self.uuids and not self._stopped.is_set():
                readings = self._read_all(uuids)
                yield Report(readings=readings, next_in_s=self.interval_s)
                complete = not any(reading.lost or reading.unreadable for reading in readings.values())
                self._xids = events.wait(self.interval_s, self._stopped)

    def _read_all(self, uuids: tuple[str, ...]) -> dict[str, Reading]:
        pynvml.nvmlDeviceGetCount()  # raises when the driver is gone, so that no card is blamed for it
        readings: dict[str, Reading] = {}
        for uuid in uuids:
            try:
                reading = self._read(uuid)
                self._known.add(uuid)
            except _NO_DRIVER:
                raise
            except _LOST as error:
                if uuid not in self._known and not isinstance(error, pynvml.NVMLError_GpuIsLost):
                    continue
                reading = Reading(lost=str(error))
            except pynvml.NVMLError as error:
                if uuid not in self._known:
                    continue
                reading = Reading(unreadable=str(error))
            readings[uuid] = replace(reading, xids=tuple(self._xids.get(uuid, ())))
        return readings

    def _read(self, uuid: str) -> Reading:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        remapped = _optional(lambda: pynvml.nvmlDeviceGetRemappedRows(handle)) or (0, 0, 0, 0)
        return Reading(
            total_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            foreign=self._foreign(handle),
            uncorrected=_optional(lambda: pynvml.nvmlDeviceGetTotalEccErrors(handle, 1, 0)),
            remap_pending=bool(remapped[2]),
            remap_failed=bool(remapped[3]),
            throttled=_throttled(
                _optional(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
            ),
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
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


@dataclass(slots=True)
class _Events:
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
def _events(uuids: tuple[str, ...]) -> Iterator[_Events]:
    events = _optional(pynvml.nvmlEventSetCreate)
    cards: dict[int, list[str]] = {}
    for uuid in uuids if events is not None else ():
        with suppress(pynvml.NVMLError):
            card = _card(pynvml.nvmlDeviceGetHandleByUUID(uuid))
            if _address(card) not in cards:
                pynvml.nvmlDeviceRegisterEvents(card, pynvml.nvmlEventTypeXidCriticalError, events)
            cards.setdefault(_address(card), []).append(uuid)
    try:
        yield _Events(events if cards else None, cards)
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
