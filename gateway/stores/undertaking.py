"""One operation under way: what its followers hear, and how it ended.

Decides nothing. Must not know who carries it out, nor that its followers are HTTP requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from gateway.runtime import HandedOverError
from gateway.store.joining import Broadcast, Follower
from gateway.store.merging import Failure, Told
from gateway.store.requests import StoreRequest


@dataclass(slots=True, eq=False)
class Undertaking:
    """One operation under way."""

    request: StoreRequest
    joins_by: str | None
    broadcast: Broadcast = field(default_factory=Broadcast)
    failure: Failure | None = None
    ended: bool = False
    handed_over: bool = False
    """It ended before anything was done, because another gateway is to do it."""
    ids: list[str] = field(default_factory=list)
    """Of the requests for it."""
    workers: list[str] = field(default_factory=list)
    """Those that were asked to do it."""
    began_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    task: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, told: Iterable[Told]) -> None:
        """Have all followers hear this."""
        for line in told:
            self.broadcast.tell(line)
        self._wake()

    def end(self, failure: Failure | None) -> None:
        """Say how it ended."""
        self.failure, self.ended = failure, True
        self._wake()

    async def lines(self, follower: Follower) -> AsyncIterator[bytes]:
        """Yield what there is to tell, as it comes, until the end.

        Raises:
            HandedOverError: whoever asked is to ask the next gateway.
        """
        while True:
            news, lines = self._news, follower.take()
            if lines:
                yield lines
            elif self.handed_over:
                raise HandedOverError
            elif self.ended:
                return
            else:
                await news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
