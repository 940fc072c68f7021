"""Reads NVIDIA's GPUs every few seconds and tells what it read; decides nothing of what it means.

All of it runs on a thread of its own, because a call into a sick driver may take seconds or never return;
only what was read crosses over to the event loop. A driver that does not answer is told and asked again
later, further and further apart; nothing is concluded from it. Xid errors wake the thread, which otherwise
sleeps in the driver's own wait for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from supervisor.core.gpu_health import Reading
from supervisor.host.gpus import DriverError, session

INTERVAL_S: Final = 5.0
_MOST_DOUBLINGS: Final = 4
"""Of the interval, while the driver does not answer."""


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
            except DriverError as error:
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
        with session(uuids, self._known, self.is_ours) as opened:
            while complete and uuids == self.uuids and not self._stopped.is_set():
                readings = opened.read(self._xids)
                yield Report(readings=readings, next_in_s=self.interval_s)
                complete = not any(reading.lost or reading.unreadable for reading in readings.values())
                self._xids = opened.events.wait(self.interval_s, self._stopped)
