"""Sends a request to a worker and reads the answer: the only file that sees aiohttp's client exceptions.

Translates them into the closed set of `Outcome`s, and tells whoever watches the workers of each attempt
that broke off. Decides nothing about retries or status codes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import aiohttp

from gateway.relay.outcome import (
    AttemptFailedError,
    Broken,
    NoRoute,
    NotSent,
    Outcome,
    Refused,
    StreamFailedError,
    TimedOut,
)
from supervisor.contract.wire import RUNNER_TERMINATED

_OF_THE_ANSWER: Final = ("Content-Type", "Cache-Control")


@dataclass(slots=True)
class Reply:
    """A worker's answer: its head, its first bytes, and the rest on demand."""

    response: aiohttp.ClientResponse
    first: bytes
    idle_timeout_s: float
    on_failure: Callable[[], None]
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
        chunk = self.first
        while chunk:
            self.bytes_read += len(chunk)
            yield chunk
            try:
                chunk = await self.response.content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.on_failure()
                raise StreamFailedError(self._outcome(error)) from error

    def _outcome(self, error: Exception) -> Broken | TimedOut:
        if isinstance(error, TimeoutError):
            return TimedOut("next chunk", self.idle_timeout_s)
        return Broken(self.bytes_read, _text(error))


class Upstream:
    """Requests to workers over one connection pool."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        connect_timeout_s: float,
        idle_timeout_s: float,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """The session's owner closes it; `on_failure` hears the URL of each request that broke off."""
        self.session = session
        self._timeouts = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s, sock_read=idle_timeout_s
        )
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._on_failure = on_failure

    @asynccontextmanager
    async def open(
        self, url: str, body: bytes, *, content_type: str, request_id: str, deadline: float
    ) -> AsyncIterator[Reply]:
        """Send a request and yield its answer once its first bytes are there.

        `deadline` is in event-loop seconds. On the way out the connection is given back if the answer was
        read to its end, and closed otherwise, which tells the worker to stop.

        Raises:
            AttemptFailedError: nothing came that could go to the client.
        """
        headers = {"Content-Type": content_type, "X-Request-Id": request_id}
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                response = await self.session.post(
                    url, data=body, headers=headers, timeout=self._timeouts, allow_redirects=False
                )
                reply = await self._begin(response, url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._on_failure(url)
            raise AttemptFailedError(self._outcome(error, started)) from error
        try:
            yield reply
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _outcome(self, error: Exception, started: float) -> Outcome:
        match error:
            case aiohttp.ConnectionTimeoutError():
                return TimedOut("connect", self._connect_timeout_s)
            case TimeoutError():
                waited_s = asyncio.get_running_loop().time() - started
                return TimedOut("first byte", round(waited_s, 1))
            case aiohttp.ClientConnectorError():
                return NotSent(_text(error))
            case _:
                return Broken(0, _text(error))

    async def _begin(self, response: aiohttp.ClientResponse, url: str) -> Reply:
        """Wait for the first bytes: until they are there the request may still be given to another."""
        try:
            first = await response.content.readany()
        except BaseException:
            response.close()
            raise
        failure = failure_of(response.status, first)
        if failure is None:
            return Reply(response, first, self._idle_timeout_s, partial(self._on_failure, url))
        response.close()
        if isinstance(failure, Broken):
            self._on_failure(url)
        raise AttemptFailedError(failure)


def failure_of(status: int, first: bytes) -> Outcome | None:
    """Return why an answer that begins so is none for the client, or None when it is."""
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Refused(status, error_text(first))
    if status == HTTPStatus.NOT_FOUND and not first.lstrip().startswith(b"{"):
        # `404 page not found`: the server has no such route; of a model that it does not have it tells JSON
        return NoRoute("the worker does not know this API")
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and RUNNER_TERMINATED.encode() in first:
        return Broken(0, error_text(first))
    return None if first else Broken(0, "the answer was empty")


def error_text(body: bytes) -> str:
    """Return the message of an error body, whichever surface's shape it has."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace").strip()
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _text(error: BaseException) -> str:
    """Say for clients what happened; of a broken answer the library tells its parser's own worries."""
    match error:
        case aiohttp.ClientPayloadError():
            return "the connection ended in the middle of the answer"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case _:
            return str(error) or type(error).__name__
