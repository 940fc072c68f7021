"""When what the scheduler has learned is read and written: once at the start, seldom, and at the end.

The estimates themselves are the scheduler's. They are copied on the event loop, because there is one writer,
and made into a file on a thread of its own, because a slow disk must not delay requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from gateway.learning.file import Boot, LearnedFile, Saved, encode
from gateway.scheduling.estimates import Estimates, ModelLearned
from gateway.scheduling.names import Variant
from gateway.scheduling.types import Arrived, Event, Finished, Loaded

_log = structlog.get_logger("learned")

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

EVERY_S: Final = 30.0
"""Between two writings: what a crash may lose."""


class Learning:
    """Keeps the estimates in a file as long as `kept` lasts."""

    def __init__(
        self,
        estimates: Estimates,
        file: Path,
        name: Callable[[Variant], str],
        clock: Callable[[], float],
        every_s: float = EVERY_S,
    ) -> None:
        """`name` is what people call a model, `clock` the scheduler's."""
        self._estimates = estimates
        self._file = LearnedFile(file)
        self._name = name
        self._clock = clock
        self._every_s = every_s
        self._names: dict[Variant, str] = {}
        self._learned = asyncio.Event()
        self._handed_over = False
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learned")

    def saw(self, event: Event) -> None:
        """Note that there may be something new: a measured load or answer, not each arrival."""
        match event:
            case Arrived() if event.variant not in self._names:
                self._names[event.variant] = self._name(event.variant)
            case Loaded() | Finished():
                self._learned.set()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Begin with what an earlier gateway knew, write while the block lasts, and once more at its end."""
        self._restore()
        writing = asyncio.create_task(self._write_now_and_then())
        try:
            yield
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            await self._write()  # after the one that may be under way: the thread does one at a time
            self._writer.shutdown()

    async def hand_over(self) -> None:
        """Write once more and never again: the file is another gateway's."""
        await self._write()
        self._handed_over = True

    def take_back(self) -> None:
        """Write again: nobody came for the file."""
        self._handed_over = False

    def _restore(self) -> None:
        saved = self._file.read()
        if saved is None:
            return
        passed_s = saved.passed_s(time.time(), _boot())
        self._estimates.restore(saved.learned, passed_s, self._clock())
        self._names.update(saved.names)
        _log.info("knows what was learned", models=len(saved.learned), seconds_ago=round(passed_s, 1))

    async def _write_now_and_then(self) -> None:
        while True:
            await self._learned.wait()
            await self._write()
            await asyncio.sleep(self._every_s)

    async def _write(self) -> None:
        self._learned.clear()
        if self._handed_over:
            return
        learned = self._estimates.export(self._clock())
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self._write_file, learned, dict(self._names))

    def _write_file(self, learned: Mapping[Variant, ModelLearned], names: Mapping[Variant, str]) -> None:
        self._file.write(encode(Saved(time.time(), learned, names, _boot())))


def _boot() -> Boot:
    """Return the machine's own clock, which nobody sets; without one, nothing."""
    try:
        return Boot(_BOOT_ID.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME))
    except (OSError, AttributeError):  # not Linux
        return Boot()
