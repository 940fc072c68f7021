"""Sends the progress of a pull or a create: a line at a time, or only the last one.

As Ollama does: a failure before the first line is a status; after it, it is a last line of its own and the
answer ends as others do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from supervisor.engines.embedded.delivery import json_response
from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.pull import Tell
from supervisor.engines.embedded.rendering import Native, encode
from supervisor.models.progress import SUCCESS, Line

_TYPE = "application/json"

Work = Callable[[Tell], Awaitable[None]]


async def narrate(request: web.Request, work: Work, *, stream: bool) -> web.StreamResponse:
    """Do the work and let the client hear of it; a client that leaves ends it.

    Raises:
        ApiError: it failed before the first line.
    """
    if stream:
        return await _streamed(request, work)
    try:
        await work(unheard)
    except ApiError as error:
        return json_response({"error": error.text}, error.status, _TYPE)
    return json_response(SUCCESS, content_type=_TYPE)


async def _streamed(request: web.Request, work: Work) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": Native.stream_type})

    async def tell(line: Line) -> None:
        if not response.prepared:
            await response.prepare(request)
        await response.write(encode(line) + b"\n")

    with suppress(ConnectionResetError):  # the client has left between two lines; nobody is to be told
        try:
            await work(tell)
            await tell(SUCCESS)
        except ApiError as error:
            if not response.prepared:
                raise
            await tell({"error": error.text})
        await response.write_eof()
    return response


async def unheard(_line: Line) -> None:
    """Take a line that nobody listens to."""
