"""How many bytes of request bodies are held at a time, and who waits before his is read on.

One body has a limit, and a thousand clients at once would take a thousand times that. So what is held is
counted; who does not fit is not read, which TCP tells his client, and is refused when that lasts too long. In
the order of arrival, but small bodies have a lane and a part of the room of their own: whoever fills it with
large ones, or reserves it and sends them slowly, keeps nobody from asking a question. Reads nothing itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiohttp import web

SMALL_BYTES: Final = 2**20
"""Up to this a body never waits behind larger ones."""
_KEPT_FOR_SMALL: Final = 8
"""One in so many bytes of the room."""
WAIT_S: Final = 60.0
"""So long a client is not read; then he is refused."""

_log = structlog.get_logger("edge")


class NoRoomError(Exception):
    """Nothing of the room became free for too long."""


@dataclass(slots=True, eq=False)
class _Waiter:
    more_bytes: int
    let_in: asyncio.Future[None]


@dataclass(slots=True)
class BodyRoom:
    """Counts for all requests of a gateway."""

    most_bytes: int
    """It can change while requests are served."""
    held_bytes: int = 0
    _small: deque[_Waiter] = field(default_factory=deque)
    _large: deque[_Waiter] = field(default_factory=deque)
    _told: bool = False

    async def take(self, more_bytes: int, *, of_bytes: int) -> None:
        """Wait until so much more may be held of a body that then has `of_bytes`.

        Raises:
            NoRoomError: it took longer than `WAIT_S`.
        """
        small = of_bytes <= SMALL_BYTES
        lane = self._small if small else self._large
        if not lane and self._fits(more_bytes, small=small):
            self.held_bytes += more_bytes
            return
        self._tell()
        waiter = _Waiter(more_bytes, asyncio.get_running_loop().create_future())
        lane.append(waiter)
        try:
            async with asyncio.timeout(WAIT_S):
                await waiter.let_in
        except BaseException as error:  # whatever ends the wait must not leave a place behind
            self._leave(lane, waiter)
            if isinstance(error, TimeoutError):
                raise NoRoomError from error
            raise

    def give_back(self, freed_bytes: int) -> None:
        """Let others have what is not held any more."""
        self.held_bytes -= freed_bytes
        self._let_in()

    def use(self, most_bytes: int) -> None:
        """Go by another bound from now on."""
        self.most_bytes = most_bytes
        self._let_in()

    def _fits(self, more_bytes: int, *, small: bool) -> bool:
        kept = 0 if small else self.most_bytes // _KEPT_FOR_SMALL
        return self.held_bytes + more_bytes <= self.most_bytes - kept

    def _leave(self, lane: deque[_Waiter], waiter: _Waiter) -> None:
        if waiter in lane:
            lane.remove(waiter)
            self._let_in()  # who stood behind it may fit
        else:  # it was let in at the moment when it left
            self.give_back(waiter.more_bytes)

    def _let_in(self) -> None:
        for lane in (self._small, self._large):
            while lane and self._fits(lane[0].more_bytes, small=lane is self._small):
                waiter = lane.popleft()
                self.held_bytes += waiter.more_bytes
                if not waiter.let_in.done():
                    waiter.let_in.set_result(None)
        self._told = self._told and bool(self._small or self._large)

    def _tell(self) -> None:
        """Write once that clients are not read on, until none is."""
        if not self._told:
            _log.warning(
                "request bodies wait to be read",
                held_bytes=self.held_bytes,
                most_bytes=self.most_bytes,
                advice="raise gateway.body_memory, or lower gateway.max_body_size",
            )
        self._told = True


@dataclass(slots=True)
class HeldBody:
    """What one request holds of the room."""

    room: BodyRoom
    size_bytes: int = 0

    async def grow(self, to_bytes: int) -> None:
        """Hold so much; raises NoRoomError."""
        if to_bytes > self.size_bytes:
            await self.room.take(to_bytes - self.size_bytes, of_bytes=to_bytes)
            self.size_bytes = to_bytes

    def shrink(self, to_bytes: int) -> None:
        """Hold no more than that."""
        freed_bytes = self.size_bytes - to_bytes
        if freed_bytes > 0:
            self.size_bytes = to_bytes
            self.room.give_back(freed_bytes)


HELD: Final = web.RequestKey("held_body", HeldBody)
"""Under this key a request whose body is read holds its part of the room."""
