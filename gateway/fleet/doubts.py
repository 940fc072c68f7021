"""Looks again at workers that gave reason to doubt what is believed of them.

An Ollama may evict on its own, and somebody may load or unload behind our back. Nobody polls for that: a
worker is looked at after an answer that took as long as a load, a model that it suddenly does not know, a
refusal for lack of room, or a load after which it held other models than were loaded there. Decides when; a
look is refused while the worker is busy, and is then made up for when its last request ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog

from gateway.scheduling.names import Instance

_log = structlog.get_logger("fleet")

PAUSE_S: Final = 3.0
"""Between two looks at one worker."""
_USUAL_S: Final = 3.0
"""An answer that begins within this time is never suspicious."""
_SLOW_TOKENS_PER_S: Final = 100.0
"""Prompts are read at least so fast, on a CPU too; where not, a look too many does no harm."""
_DOUBTFUL: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE})


def took_a_load(seconds: float, prompt_tokens: int) -> bool:
    """Whether an answer of a resident model began so late that it must have been loaded first."""
    return seconds > _USUAL_S + prompt_tokens / _SLOW_TOKENS_PER_S


def doubtful(status: int) -> bool:
    """Whether an answer's status says that the worker does not hold what it should."""
    return status in _DOUBTFUL


class Doubts:
    """Which workers are to be looked at, and when that was last done."""

    def __init__(self, look: Callable[[Instance], Awaitable[bool]], pause_s: float = PAUSE_S) -> None:
        """`look` reads what a worker holds; False when it is busy or does not answer."""
        self._look = look
        self._pause_s = pause_s
        self._open: dict[Instance, str] = {}
        """Doubted, with the reason."""
        self._resting: dict[Instance, asyncio.TimerHandle] = {}
        """Looked at so recently that they are left alone for a moment."""
        self._tasks: dict[Instance, asyncio.Task[None]] = {}

    def doubt(self, instance: Instance, why: str) -> None:
        """Look at the worker as soon as it is quiet."""
        if instance not in self._open:
            _log.info("worker doubted", worker=str(instance), why=why)
        self._open[instance] = why
        self.quieted(instance)

    def quieted(self, instance: Instance) -> None:
        """Something that kept the worker busy has ended there."""
        if instance in self._open and instance not in self._resting and instance not in self._tasks:
            self._tasks[instance] = asyncio.get_running_loop().create_task(self._try(instance))

    def keep_only(self, living: set[Instance]) -> None:
        """Forget the doubts about processes that are gone: their successors are asked anyway."""
        self._open = {instance: why for instance, why in self._open.items() if instance in living}

    async def close(self) -> None:
        """Stop looking."""
        for timer in self._resting.values():
            timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _try(self, instance: Instance) -> None:
        why = self._open.pop(instance)
        try:
            if not await self._look(instance):
                self._open.setdefault(instance, why)
                return
        finally:
            del self._tasks[instance]
        _log.info("worker looked at", worker=str(instance), why=why)
        loop = asyncio.get_running_loop()
        self._resting[instance] = loop.call_later(self._pause_s, self._rested, instance)

    def _rested(self, instance: Instance) -> None:
        del self._resting[instance]
        self.quieted(instance)
