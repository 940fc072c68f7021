"""Sends answers: a stream frame by frame, or one object. The only place that writes to clients.

Before the first byte a failure becomes a status; after it, the stream ends with the surface's error and
the connection is cut, so that no client takes it for complete.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web

from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.frames import Frame, whole
from supervisor.engines.embedded.rendering import JSON_TYPE, Rendering, encode

_SINGLE = ("load", "unload")


def json_response(value: Any, status: int = 200, content_type: str = JSON_TYPE) -> web.Response:  # noqa: ANN401
    """Return a JSON answer (any JSON value)."""
    return web.Response(body=encode(value), status=status, headers={"Content-Type": content_type})


async def deliver(
    request: web.Request, frames: AsyncGenerator[Frame], rendering: Rendering, *, stream: bool
) -> web.StreamResponse:
    """Send the answer that `frames` is.

    Raises:
        ApiError: it failed before the first byte.
    """
    async with aclosing(frames):
        if not stream:
            answer = rendering.whole(whole([frame async for frame in frames]))
            return json_response(answer, content_type=rendering.whole_type)
        first = await anext(frames)
        single = first.get("done_reason") in _SINGLE or "_debug_info" in first
        if single and not rendering.one_is_streamed:
            return json_response(rendering.whole(first))
        return await _send(request, first, frames, rendering)


async def _send(
    request: web.Request, first: Frame, frames: AsyncGenerator[Frame], rendering: Rendering
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": rendering.stream_type})
    with suppress(ConnectionResetError):  # the client has left between two frames; nobody is to be told
        await response.prepare(request)
        await response.write(rendering.chunk(first))
        try:
            async for frame in frames:
                await response.write(rendering.chunk(frame))
        except ApiError as error:
            await response.write(rendering.broken(error.text))
            _cut(request)
            return response
        await response.write_eof()
    return response


def _cut(request: web.Request) -> None:
    """Close without the end mark of the chunked body, after what was written has gone out."""
    if request.transport is not None:
        request.transport.close()
