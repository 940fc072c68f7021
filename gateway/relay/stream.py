"""Pumps an answer to the client with back-pressure and watches how it ends.

A stream that stops without its surface's final frame is a failure, however cleanly the connection was
closed: clients would take the stump for an answer. Of a stream only whole frames go on, so that an error
frame behind them is one of its own, and each can be given another name of the model. Knows no routes and no
scheduler.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from gateway.relay.answers import error_at_end
from gateway.relay.outcome import Broken, StreamFailedError

_TAIL_BYTES = 2048
"""Enough for the last frame's counters."""
LARGEST_FRAME_BYTES = 16 * 2**20
"""A frame beyond this, which no client expects, is passed on in pieces rather than kept in memory."""

Rewrite = Callable[[bytes], bytes]


@dataclass(slots=True)
class EndOfStream:
    """Sees a final mark go by, also when it is split between two chunks, and counts the frames."""

    marks: tuple[bytes, ...]
    frame_end: bytes
    """What no frame contains and each ends with."""
    seen: bool = False
    frames: int = 0
    tail: bytes = b"\n"  # marks may begin with a line's end, and a stream begins with a line
    bytes_sent: int = 0

    def add(self, chunk: bytes) -> None:
        """Look at the next bytes of the answer."""
        self.bytes_sent += len(chunk)
        joined = self.tail + chunk
        self.seen = self.seen or any(self._brings(mark, joined) for mark in self.marks)
        split = self.tail[len(self.tail) - len(self.frame_end) + 1 :] if len(self.frame_end) > 1 else b""
        self.frames += (split + chunk).count(self.frame_end)
        self.tail = joined[-_TAIL_BYTES:]

    def _brings(self, mark: bytes, joined: bytes) -> bool:
        return joined.find(mark, max(0, len(self.tail) - len(mark))) >= 0


@dataclass(slots=True)
class WholeFrames:
    """Holds back what comes of a frame until its end is there."""

    frame_end: bytes
    rewrite: Rewrite | None = None
    """Applied to whole frames, never to pieces of one that is too large."""
    largest_bytes: int = LARGEST_FRAME_BYTES
    in_pieces: bool = False
    """The beginning of a frame has been passed on and its end has not."""
    _held: bytearray = field(default_factory=bytearray)

    def take(self, chunk: bytes) -> bytes:
        """Return the frames that are whole now; empty when there is none."""
        if not self._held and chunk.endswith(self.frame_end):
            return self._pass_on(chunk)
        known = len(self._held)
        self._held += chunk
        cut = self._end_of_last_frame(max(0, known - 2 * len(self.frame_end)))
        if cut:
            whole = bytes(self._held[:cut])
            del self._held[:cut]
            return self._pass_on(whole)
        if len(self._held) <= self.largest_bytes:
            return b""
        self.in_pieces = True
        return self._release()

    def rest(self) -> bytes:
        """Return what is held: the last frame of a stream that ended may lack its end."""
        return self._pass_on(self._release()) if self._held else b""

    def closing(self) -> bytes:
        """Return what must stand before an error frame: the end of a frame that was begun."""
        return self.frame_end if self.in_pieces else b""

    def _end_of_last_frame(self, start: int) -> int:
        """Return where the last whole frame ends, 0 when none does; lines may end as in HTTP too."""
        ends = (self.frame_end, self.frame_end.replace(b"\n", b"\r\n"))
        return max(at + len(end) if (at := self._held.rfind(end, start)) >= 0 else 0 for end in ends)

    def _pass_on(self, frames: bytes) -> bytes:
        if self.rewrite is None or not frames:
            self.in_pieces = False
            return frames
        if not self.in_pieces:
            return self.rewrite(frames)
        self.in_pieces = False
        piece, end, whole = frames.partition(self.frame_end)
        return piece + end + self.rewrite(whole)

    def _release(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held


@dataclass(slots=True)
class AsItComes:
    """Passes everything on at once: a body that is no stream, or an error that came instead of one."""

    def take(self, chunk: bytes) -> bytes:
        """Return it."""
        return chunk

    def rest(self) -> bytes:
        """Return nothing."""
        return b""

    def closing(self) -> bytes:
        """Return nothing: there are no frames."""
        return b""


Passage = WholeFrames | AsItComes


async def pump(
    chunks: AsyncIterator[bytes],
    write: Callable[[bytes], Awaitable[None]],
    end: EndOfStream,
    passage: Passage,
    *,
    must_end: bool,
) -> None:
    """Write what comes as the passage lets it; `write` waits while the client reads slowly.

    A stream that has brought its last frame is complete, however its connection ends.

    Raises:
        StreamFailedError: the answer broke off, or ended without a mark although it `must_end` with one. It
            says what the last frame says went wrong, if that is an error.
    """
    try:
        async for chunk in chunks:
            passed = passage.take(chunk)
            if passed:
                end.add(passed)
                await write(passed)
    except StreamFailedError as error:
        if must_end and end.seen:
            return
        raise _as_told(error, end) from error.__cause__
    rest, sent = passage.rest(), end.bytes_sent
    end.add(rest)
    if must_end and not end.seen:  # the rest is the stump of a frame
        raise _as_told(StreamFailedError(Broken(sent, "the answer ended without its last frame")), end)
    if rest:
        await write(rest)


def _as_told(error: StreamFailedError, end: EndOfStream) -> StreamFailedError:
    """Return the failure in the worker's own words if its last frame has some."""
    said = error_at_end(end.tail)
    if not said or not isinstance(error.outcome, Broken):
        return error
    return StreamFailedError(replace(error.outcome, why=said))
