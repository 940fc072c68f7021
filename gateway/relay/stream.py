"""Pumps an answer to the client with back-pressure and watches how it ends.

A stream that stops without its surface's final frame is a failure, however cleanly the connection was
closed: clients would take the stump for an answer. Knows no routes and no scheduler.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from gateway.relay.outcome import Broken, StreamFailedError

_TAIL_BYTES = 2048
"""Enough for the last frame's counters."""


@dataclass(slots=True)
class EndOfStream:
    """Sees the final mark go by, also when it is split between two chunks, and counts the frames."""

    mark: bytes
    frame_end: bytes
    """What no frame contains and each ends with."""
    seen: bool = False
    frames: int = 0
    tail: bytes = b""
    bytes_sent: int = 0

    def add(self, chunk: bytes) -> None:
        """Look at the next bytes of the answer."""
        self.bytes_sent += len(chunk)
        joined = self.tail + chunk
        self.seen = self.seen or joined.find(self.mark, max(0, len(self.tail) - len(self.mark))) >= 0
        split = self.tail[len(self.tail) - len(self.frame_end) + 1 :] if len(self.frame_end) > 1 else b""
        self.frames += (split + chunk).count(self.frame_end)
        self.tail = joined[-_TAIL_BYTES:]


async def pump(
    chunks: AsyncIterator[bytes],
    write: Callable[[bytes], Awaitable[None]],
    end: EndOfStream,
    *,
    must_end: bool,
) -> None:
    """Write every chunk as it comes; `write` waits while the client reads slowly.

    Raises:
        StreamFailedError: the answer broke off, or ended without the mark although it `must_end` with it.
    """
    async for chunk in chunks:
        end.add(chunk)
        await write(chunk)
    if must_end and not end.seen:
        raise StreamFailedError(Broken(end.bytes_sent, "the answer ended without its last frame"))
