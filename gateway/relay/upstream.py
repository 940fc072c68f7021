"""Sends a request to a worker and reads the answer: the only file that sees aiohttp's client exceptions.

Translates them into the closed set of `Outcome`s, and tells whoever watches the workers of each attempt
that broke off. Decides nothing about retries or status codes, with one exception: a pooled connection that
turns out to have been closed is no attempt at all, so it is made again at once.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import aiohttp

from gateway.relay.answers import failure_of
from gateway.relay.outcome import (
    AttemptFailedError,
    Broken,
    Garbage,
    Kind,
    NotSent,
    Outcome,
    Phase,
    StreamFailedError,
    TimedOut,
    kind_of,
)
from gateway.relay.sockets import counting_connections

_OF_THE_ANSWER: Final = ("Content-Type", "Cache-Control")
_OUR_SHORTAGES: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""Why this process cannot have a socket: no worker's fault."""
_STALE_WITHIN_S: Final = 1.0
"""A connection that was closed before we sent on it tells so at once; later the worker had our request."""


@dataclass(slots=True)
class Pulse:
    """When a worker last sent something, and who waits for it to begin: monotonic seconds."""

    at: float = 0.0
    on_wait: Callable[[], None] = lambda: None
    """Told when somebody waits for a first byte and nobody did before."""
    waits: dict[asyncio.Timeout, float] = field(default_factory=dict)
    """The limits of those who wait for a first byte, and since when they do; the first came first."""

    @contextmanager
    def awaited(self, limit: asyncio.Timeout, now: float) -> Iterator[None]:
        """Count as one who waits for a first byte, as long as the block lasts."""
        self.waits[limit] = now
        if len(self.waits) == 1:
            self.on_wait()
        try:
            yield
        finally:
            del self.waits[limit]

    @property
    def silent_since(self) -> float | None:
        """Since when nothing came though somebody waits for a first byte; None where nobody does."""
        return max(self.at, next(iter(self.waits.values()))) if self.waits else None

    def give_up(self, now: float) -> None:
        """Have all who wait for a first byte wait no longer."""
        for limit in self.waits:
            if not limit.expired():
                limit.reschedule(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request as it goes to a worker."""

    url: str
    body: bytes
    content_type: str
    request_id: str
    deadline: float
    """Until when the first bytes of its answer are waited for, in event-loop seconds."""
    first_byte_s: float
    """After so long without them the worker is suspected of hanging."""
    pulse: Pulse = field(default_factory=Pulse)
    """Of the worker."""
    again_if_stale: bool = True
    """It has harmed no worker yet: a pooled connection that it finds broken was closed before."""


@dataclass(slots=True)
class Reply:
    """A worker's answer: its head, its first bytes, and the rest on demand."""

    response: aiohttp.ClientResponse
    first: bytes
    idle_timeout_s: float
    on_failure: Callable[[], None]
    pulse: Pulse
    is_patient: bool = False
    """The connection's own limit is that of the first byte, which was longer than that of the others."""
    bytes_read: int = 0

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.response.status

    @property
    def headers(self) -> dict[str, str]:
        """What the worker says of the answer itself; nothing of its connection or of what it is."""
        told = {name: self.response.headers.get(name) for name in _OF_THE_ANSWER}
        return {"Content-Type": "application/json", **{name: value for name, value in told.items() if value}}

    @property
    def content_length(self) -> int | None:
        """Bytes of the whole body when the worker told."""
        return self.response.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            StreamFailedError: it ended early, or nothing came for too long.
        """
        chunk, now = self.first, asyncio.get_running_loop().time
        while chunk:
            self.bytes_read += len(chunk)
            self.pulse.at = now()
            yield chunk
            try:
                chunk = await self._next()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.on_failure()
                raise StreamFailedError(self._outcome(error)) from error

    async def _next(self) -> bytes:
        if not self.is_patient:
            return await self.response.content.readany()
        async with asyncio.timeout(self.idle_timeout_s):
            return await self.response.content.readany()

    def _outcome(self, error: Exception) -> Broken | TimedOut:
        if isinstance(error, TimeoutError):
            return TimedOut(Phase.NEXT_CHUNK, self.idle_timeout_s)
        return Broken(self.bytes_read, _text(error))


class _BrokeTwiceError(aiohttp.ClientError):
    """A request broke a pooled connection, and then one of its own, or there was none to be had."""


class Upstream:
    """Requests to workers over one connection pool."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fresh: aiohttp.ClientSession,
        *,
        connect_timeout_s: float,
        idle_timeout_s: float,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """The sessions' owner closes them; `fresh` is one that keeps no connections.

        `on_failure` hears the URL of each request that broke off.
        """
        self.session = session
        self._fresh = fresh
        self._on_failure = on_failure
        self.use(connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s)

    def use(self, *, connect_timeout_s: float, idle_timeout_s: float) -> None:
        """Go by these limits with all requests that are made from now on."""
        self._timeouts = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s, sock_read=idle_timeout_s
        )
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s

    @asynccontextmanager
    async def open(self, message: Message) -> AsyncIterator[Reply]:
        """Send a request and yield its answer once its first bytes are there.

        On the way out the connection is given back if the answer was read to its end, and closed otherwise,
        which tells the worker to stop.

        Raises:
            AttemptFailedError: nothing came that could go to the client.
        """
        started = asyncio.get_running_loop().time()
        until = min(message.deadline, started + message.first_byte_s)
        try:
            async with asyncio.timeout_at(until) as limit:
                with message.pulse.awaited(limit, started):
                    response = await self._send(message, self._timeouts_for(message))
                    reply = await self._begin(response, message)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = self._outcome(error, message, started)
            if kind_of(outcome) is not Kind.SHORTAGE:
                self._on_failure(message.url)
            raise AttemptFailedError(outcome) from error
        try:
            yield reply
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _timeouts_for(self, message: Message) -> aiohttp.ClientTimeout:
        """Give an answer that comes in one piece the time that it needs; reading it has one limit for all."""
        if message.first_byte_s <= self._idle_timeout_s:
            return self._timeouts
        return aiohttp.ClientTimeout(
            total=None,
            connect=self._connect_timeout_s,
            sock_connect=self._connect_timeout_s,
            sock_read=message.first_byte_s,
        )

    async def _send(self, message: Message, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Send; once more on a connection of its own if a pooled one was closed before we used it."""
        sent_at = asyncio.get_running_loop().time()
        with counting_connections() as opened:
            try:
                return await self._post(self.session, message, limits)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                waited_s = asyncio.get_running_loop().time() - sent_at
                if opened.count or waited_s > _STALE_WITHIN_S or not message.again_if_stale:
                    raise
        try:
            return await self._post(self._fresh, message, limits)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # It took our request and broke, rather than having closed the connection before: what kills
            # workers must not look like a request that was never sent.
            raise _BrokeTwiceError(_text(error)) from error

    async def _post(
        self, session: aiohttp.ClientSession, message: Message, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Content-Type": message.content_type, "X-Request-Id": message.request_id}
        return await session.post(
            message.url, data=message.body, headers=headers, timeout=limits, allow_redirects=False
        )

    def _outcome(self, error: Exception, message: Message, started: float) -> Outcome:
        match error:
            case _BrokeTwiceError():
                return Broken(0, str(error), times=2)
            case aiohttp.ConnectionTimeoutError():
                return TimedOut(Phase.CONNECT, self._connect_timeout_s)
            case TimeoutError():
                now = asyncio.get_running_loop().time()
                phase = Phase.REQUEST if now >= message.deadline else Phase.FIRST_BYTE
                return TimedOut(phase, round(now - started, 1))
            case aiohttp.ClientConnectorError():
                return NotSent(_text(error), ours=error.os_error.errno in _OUR_SHORTAGES)
            case aiohttp.ClientResponseError():
                return Garbage("no HTTP")
            case _:
                return Broken(0, _text(error))

    async def _begin(self, response: aiohttp.ClientResponse, message: Message) -> Reply:
        """Wait for the first bytes: until they are there the request may still be given to another."""
        try:
            first = await response.content.readany()
        except BaseException:
            response.close()
            raise
        failure = failure_of(response.status, response.headers.get("Content-Type", ""), first)
        if failure is None:
            on_failure = partial(self._on_failure, message.url)
            patient = message.first_byte_s > self._idle_timeout_s
            return Reply(response, first, self._idle_timeout_s, on_failure, message.pulse, patient)
        response.close()
        if isinstance(failure, (Broken, Garbage)):
            self._on_failure(message.url)
        raise AttemptFailedError(failure)


def _text(error: BaseException) -> str:
    """Say for clients what happened; of a broken answer the library tells its parser's own worries."""
    match error:
        case aiohttp.ClientPayloadError():
            return "the connection ended in the middle of the answer"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case _:
            return str(error) or type(error).__name__
