"""The supervisor's end of the pipe to its keeper (`keeper.py`): tells it which process groups exist.

Decides when there is a keeper: always one. A keeper that dies is replaced and told everything again.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from supervisor.host import keeper
from supervisor.host.reaper import Reaper

_YOUNG_S: Final = 1.0
_DEATHS_AT_ONCE: Final = 3
"""A keeper that dies is replaced at once; after so many that died young in a row, with a pause."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Guard:
    """Sees to it that no process of this boot outlives the supervisor."""

    boot_id: str
    reaper: Reaper
    pid: int | None = None
    """The keeper's pid."""
    _groups: set[int] = field(default_factory=set)
    _pipe: int | None = None
    _started_at: float = 0.0
    _young_deaths: int = 0
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    def start(self) -> None:
        """Start a keeper and tell it what exists.

        Raises:
            OSError: the machine has no room for another process.
        """
        self._started_at = asyncio.get_running_loop().time()
        self.pid, self._pipe = _start_keeper(self.boot_id)
        self.reaper.watch(self.pid, sweep=_nothing, on_exit=self._keeper_ended)
        for pgid in self._groups:
            self._tell(f"+{pgid}\n")

    def add(self, pgid: int) -> None:
        """A process group came into being."""
        self._groups.add(pgid)
        self._tell(f"+{pgid}\n")

    def remove(self, pgid: int) -> None:
        """A process group is gone."""
        self._groups.discard(pgid)
        self._tell(f"-{pgid}\n")

    async def close(self) -> None:
        """Let the keeper end: it ends what is left of this boot, and then itself."""
        self._closing = True
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
            await self._gone.wait()

    def _tell(self, line: str) -> None:
        """Tell the keeper; one that is gone has a successor soon, which is told everything."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):
                os.write(self._pipe, line.encode())

    def _keeper_ended(self, code: int) -> None:
        self.pid = None
        if self._closing:
            self._gone.set()
            return
        assert self._pipe is not None
        os.close(self._pipe)
        self._pipe = None
        young = asyncio.get_running_loop().time() - self._started_at < _YOUNG_S
        self._young_deaths = self._young_deaths + 1 if young else 0
        wait_s = 0.0 if self._young_deaths <= _DEATHS_AT_ONCE else _YOUNG_S
        _log.warning("the keeper ended and is replaced", code=code, wait_s=wait_s)
        self._replace_after(wait_s)

    def _replace_after(self, wait_s: float) -> None:
        asyncio.get_running_loop().call_later(wait_s, self._replace)

    def _replace(self) -> None:
        if self._closing:
            return
        try:
            self.start()
        except OSError as error:
            _log.error("the keeper cannot be replaced", error=str(error), wait_s=_YOUNG_S)
            self._replace_after(_YOUNG_S)


def _start_keeper(boot_id: str) -> tuple[int, int]:
    """Return the pid of a keeper and the end of its pipe that only we hold."""
    reading, writing = os.pipe()
    argv = [sys.executable, "-I", "-S", keeper.__file__, boot_id]
    try:
        process = subprocess.Popen(
            argv, stdin=reading, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True
        )
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    process.returncode = 0  # the reaper waits for it, Popen must not
    return process.pid, writing


def _nothing() -> None:
    """A keeper leaves nothing to sweep."""
