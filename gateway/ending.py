"""How a gateway's life ends: what is under way is finished, for so long and no longer.

Decides how long. Told to end (SIGTERM), it refuses what is new and what waits, because nobody serves any
more; relieved by another gateway it passes that on. Told once more, it ends at once. Whoever is broken off is
told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.http.entrances import Entrances
from gateway.http.turn import ENDING, Turn, Whose
from gateway.runtime import Hold, Runtime
from supervisor.contract.config import GatewayConfig

_LAST_WORDS_S: Final = 1.0
"""For those whose answers are broken off to be told."""

_TOO_LONG: Final = "the gateway was replaced, and this answer took longer than gateway.finish_timeout"

_log = structlog.get_logger("gateway")


@dataclass(slots=True)
class Ending:
    """The first signal asks for the end, the second for the end now."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def signalled(self) -> None:
        """Take note of a signal."""
        (self.hurried if self.asked.is_set() else self.asked).set()

    async def wait_for_either(self, given_up: asyncio.Event, link: asyncio.Task[None] | None) -> None:
        """Return when the end was asked for, or the gateway was relieved.

        What breaks `link`, which follows the supervisor as long as the gateway serves, is raised: without it
        the workers of this moment would be served for ever, whatever became of them.
        """
        waits = [*(event.wait() for event in (self.asked, given_up)), *([_broken(link)] if link else [])]
        tasks = [asyncio.create_task(wait) for wait in waits]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        for task in done:
            task.result()

    async def finish(self, turn: Turn, runtime: Runtime, entrances: Entrances, limits: GatewayConfig) -> None:
        """Return when nothing is under way any more, broken off or not."""
        _log.info("gateway stops", under_way=len(runtime.under_way), turn=turn.whose)
        limit_s, why = limits.stop_timeout, ENDING
        if turn.whose is Whose.ANOTHERS:
            if await _ends(_left(turn, entrances), limits.finish_timeout, unless=self.asked):
                return
            if not self.asked.is_set():
                limit_s, why = 0.0, _TOO_LONG
        else:
            turn.whose = Whose.NOBODYS
            runtime.hold(Hold.FOR_EVER)
        if not await _ends(turn.wait_until_idle(), limit_s, unless=self.hurried):
            _log.warning("answers are broken off", under_way=len(runtime.under_way), why=why)
            turn.break_off(why)
            await _ends(turn.wait_until_idle(), _LAST_WORDS_S, unless=asyncio.Event())
        entrances.give_up_port()


async def _broken(link: asyncio.Task[None]) -> None:
    """Raise what ends the task; one that is cancelled has ended well."""
    await asyncio.wait([link])
    if link.cancelled():
        await asyncio.Event().wait()
    link.result()


async def _left(turn: Turn, entrances: Entrances) -> None:
    """Return when nothing is answered and nobody is connected who might ask for more."""
    await turn.wait_until_idle()
    await entrances.wait_until_left()


async def _ends(what: Coroutine[None, None, None], within_s: float, *, unless: asyncio.Event) -> bool:
    """Whether it ends in time, and before the event comes."""
    task = asyncio.create_task(what)
    given_up = asyncio.create_task(unless.wait())
    await asyncio.wait([task, given_up], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    ended = task.done()
    for each in (task, given_up):
        each.cancel()
    await asyncio.gather(task, given_up, return_exceptions=True)
    return ended
