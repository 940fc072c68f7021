"""Tasks that go on beside whoever began them, the same in both programs and in the workers.

asyncio holds tasks weakly, so somebody has to keep them; and one that fails while nobody waits for it would
be told of when it is collected, if at all, and not in the log's words. Must not know what the tasks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

_log = structlog.stdlib.get_logger(__name__)

_Result = TypeVar("_Result")


class BackgroundTasks:
    """What one part of a program has begun and not seen the end of; the log says which failed, and how."""

    def __init__(self) -> None:
        """Nothing is under way yet, and no event loop is needed."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Begin this in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self) -> None:
        """Return when none is under way, those included that are begun meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Break all of them off, and what they begin as they end; return when they have ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            work = getattr(task.get_coro(), "__qualname__", "")
            _log.error("a background task failed", task=work, exc_info=error)
