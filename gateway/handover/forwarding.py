"""Passes a request on to the gateway that serves now, and its answer back, byte for byte.

For what an old gateway still gets: requests that waited when it was relieved, and those on connections that
clients keep open. The next gateway answers as if they had come to it. Until the first byte of the answer is
there another attempt can be made, also at that gateway's successor, should it die.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.http.arrival import ARRIVAL, BODY, PASSED_ON, told_of
from gateway.http.edge import REQUEST_ID, REQUEST_ID_HEADER
from gateway.http.turn import TURN
from gateway.relay.outcome import Broken, StreamFailedError
from gateway.relay.stream import AsItComes, EndOfStream, Passage, WholeFrames, pump
from gateway.surfaces.surface import BadRequestError, Surface

_AGAIN_S: Final = 0.05
"""Before a gateway that is not there, or not yet, is asked again; doubles up to a second."""
_MOST_BREAKS: Final = 2
_HOP_BY_HOP: Final = frozenset(
    name.lower()
    for name in (
        *(hdrs.CONNECTION, hdrs.KEEP_ALIVE, hdrs.PROXY_AUTHENTICATE, hdrs.PROXY_AUTHORIZATION, hdrs.TE),
        *(hdrs.TRAILER, hdrs.TRANSFER_ENCODING, hdrs.UPGRADE, hdrs.EXPECT, PASSED_ON),
    )
)
_STREAMS: Final = ("application/x-ndjson", "text/event-stream")
_GONE: Final = "Corral's gateway went away while it answered"

_log = structlog.get_logger("handover")


@dataclass(slots=True)
class Forwarding:
    """The way to whoever serves now."""

    socket_path: str
    """Always names the newest gateway's."""
    surface_of: Callable[[str], Surface]
    """Whose errors clients of a path understand."""
    patience_s: Callable[[], float]
    """So long a request may go without an answer beginning: as the settings are when it is passed on."""
    _session: aiohttp.ClientSession | None = field(default=None)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a request as the next gateway does.

        Raises:
            BadRequestError: no gateway answered in time, or each one died of it.
        """
        loop, arrival = asyncio.get_running_loop(), request[ARRIVAL]
        breaks, again_s = 0, _AGAIN_S
        while True:
            try:
                return await self._attempt(request)
            except aiohttp.ClientConnectorError as error:
                if loop.time() > arrival.at + self.patience_s():
                    raise BadRequestError(
                        f"no gateway serves: {error}", status=HTTPStatus.SERVICE_UNAVAILABLE
                    ) from error
            except (aiohttp.ClientError, OSError) as error:
                breaks += 1
                if BODY not in request or breaks > _MOST_BREAKS:
                    raise BadRequestError(_GONE, status=HTTPStatus.BAD_GATEWAY) from error
            await asyncio.sleep(again_s)
            again_s = min(1.0, 2 * again_s)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _attempt(self, request: web.Request) -> web.StreamResponse:
        body = request.get(BODY)
        async with self._connection().request(
            request.method,
            URL(f"http://gateway{request.rel_url.raw_path_qs}", encoded=True),
            headers=_headers(request),
            data=request.content.iter_any() if body is None and request.can_read_body else body,
            allow_redirects=False,
        ) as reply:
            return await self._relay(request, reply)

    def _connection(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self.socket_path, limit=0, force_close=True),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _relay(self, request: web.Request, reply: aiohttp.ClientResponse) -> web.StreamResponse:
        surface = self.surface_of(request.path)
        response = web.StreamResponse(
            status=reply.status, reason=reply.reason, headers=_end_to_end(reply.headers)
        )
        response.content_length = reply.content_length
        await response.prepare(request)
        end, passage = EndOfStream((), surface.frame_end), _passage(surface, reply)
        try:
            with request[TURN].breakable(reply.close):
                await pump(_chunks(reply), response.write, end, passage, must_end=False)
            await response.write_eof()
        except StreamFailedError as error:
            _log.warning("an answer that was passed on broke off", path=request.path, error=str(error))
            if isinstance(passage, WholeFrames) and b'"error"' not in end.tail:  # else it was told
                text = request[TURN].parting or _GONE
                await response.write(passage.closing() + surface.error_frame(text, end.frames))
            if request.transport is not None:
                request.transport.close()
        return response


def _passage(surface: Surface, reply: aiohttp.ClientResponse) -> Passage:
    return WholeFrames(surface.frame_end) if reply.content_type in _STREAMS else AsItComes()


async def _chunks(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    sent = 0
    try:
        async for chunk in reply.content.iter_any():
            sent += len(chunk)
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise StreamFailedError(Broken(sent, str(error))) from error


def _headers(request: web.Request) -> CIMultiDict[str]:
    """Return what the next gateway is told; a body that was read is told as it is now."""
    headers = _end_to_end(request.headers)
    if BODY in request:
        for name in (hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING):
            headers.pop(name, None)
    arrival, now = request[ARRIVAL], asyncio.get_running_loop().time()
    headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
    headers[PASSED_ON] = told_of(arrival, now, is_whole=BODY in request)
    return headers


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in [name for name in kept if name.lower() in _HOP_BY_HOP]:
        kept.popall(name, None)
    return kept
