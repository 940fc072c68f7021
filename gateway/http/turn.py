"""Whose turn it is to answer requests: ours, the next gateway's, or nobody's, because Corral ends.

Knows also when all that this gateway still answers has ended. A connection that it keeps no longer is told so
with its last answer. One on which nothing is asked is left until it is used or its time is over: to close it
would break a request that is on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aiohttp import web

ENDING: Final = "Corral is being stopped; try again in a moment"

Forward = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Whose(StrEnum):
    """Who answers."""

    OURS = "ours"
    ANOTHERS = "another's"
    """The next gateway serves; requests that come here are passed on to it."""
    NOBODYS = "nobody's"
    """Corral ends; requests are refused."""


@dataclass(slots=True)
class Turn:
    """One gateway's; its only writer is whoever ends the turn."""

    whose: Whose = Whose.OURS
    forward: Forward | None = None
    """Passes a request on to the next gateway."""
    parting: str = ""
    """Why answers under way are broken off, once they are."""
    _answers: dict[asyncio.Task[object], Callable[[], object]] = field(default_factory=dict)
    """Requests that are being answered, each with what breaks it off."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        """Whether new requests are none of ours any more."""
        return self.whose is not Whose.OURS

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count the current task as a request as long as the block lasts; it is cancelled if it must end."""
        task = _current()
        self._answers[task] = task.cancel
        try:
            yield
        finally:
            del self._answers[task]
            if not self._answers:
                self._idle.set()

    @contextmanager
    def breakable(self, break_off: Callable[[], object]) -> Iterator[None]:
        """Have the current task told in this way, as long as the block lasts, that it must end."""
        task = _current()
        before = self._answers.get(task)
        self._answers[task] = break_off
        try:
            yield
        finally:
            if before is None:
                del self._answers[task]
            else:
                self._answers[task] = before

    async def wait_until_idle(self) -> None:
        """Return when nothing is being answered."""
        while self._answers:
            self._idle.clear()
            await self._idle.wait()

    def break_off(self, why: str) -> None:
        """End all answers that are under way; their clients are told why."""
        self.parting = why
        for break_off in list(self._answers.values()):
            break_off()


def _current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None, "requests are answered in tasks"
    return task


TURN: Final = web.RequestKey("turn", Turn)
"""Under this key each request holds whose turn it is."""
