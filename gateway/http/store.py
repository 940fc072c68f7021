"""pull, push, create, copy and delete for clients: reads the request, follows the operation, tells it.

As Ollama answers: a stream of progress unless `stream` is false, an error before the first line with its
own status, one after it as a last line. Decides nothing else.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import aiohttp
from aiohttp import web

from gateway.http.arrival import BODY
from gateway.http.blobs import BlobHandlers, refusal
from gateway.http.bodies import read_body
from gateway.http.edge import REQUEST_ID, Handler
from gateway.store.joining import Follower
from gateway.store.merging import FINAL_LINE, Failure, error_line
from gateway.store.planning import RefusedError
from gateway.store.requests import Kind, StoreRequest, parse
from gateway.stores.operations import Stores
from gateway.stores.undertaking import Undertaking

_STREAM: Final = {"Content-Type": "application/x-ndjson"}


class StoreHandlers:
    """Handlers of the operations, and of the parts of models."""

    def __init__(self, stores: Stores, session: aiohttp.ClientSession) -> None:
        """Share the gateway's operations and session."""
        self.blobs = BlobHandlers(stores.sharers, session)
        self._stores = stores

    def handler(self, kind: Kind) -> Handler:
        """Return the handler of one operation."""
        return partial(self._handle, kind)

    async def _handle(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        request[BODY] = await read_body(request)  # what is handed over is passed on with it
        asked = parse(kind, request[BODY])
        try:
            async with self._stores.following(asked, request[REQUEST_ID]) as (undertaking, follower):
                if asked.stream and asked.shows_progress:
                    return await _streamed(request, undertaking, follower)
                return await _awaited(asked, undertaking, follower)
        except RefusedError as error:
            return refusal(error.status, error.message)


async def _streamed(request: web.Request, undertaking: Undertaking, follower: Follower) -> web.StreamResponse:
    response = web.StreamResponse(headers=_STREAM)
    async for lines in undertaking.lines(follower):
        if not response.prepared:
            response.headers.update(_workers(undertaking))
            await response.prepare(request)
        await response.write(lines)
    failure = undertaking.failure
    if failure is not None and not response.prepared:
        return _failed(failure)
    if not response.prepared:
        await response.prepare(request)
    await response.write(FINAL_LINE if failure is None else error_line(failure.text))
    await response.write_eof()
    return response


async def _awaited(asked: StoreRequest, undertaking: Undertaking, follower: Follower) -> web.Response:
    async for _ in undertaking.lines(follower):
        pass
    if not asked.shows_progress:
        failure = undertaking.failure
        done = web.Response(headers=_workers(undertaking))
        return done if failure is None else refusal(failure.status, failure.text)
    if undertaking.failure is not None:
        return _failed(undertaking.failure)
    headers = _workers(undertaking)
    return web.Response(body=FINAL_LINE.strip(), content_type="application/json", headers=headers)


def _workers(undertaking: Undertaking) -> dict[str, str]:
    """Tell who does it, as far as that is known."""
    asked = dict.fromkeys(undertaking.workers)
    return {"X-Corral-Worker": ", ".join(asked)} if asked else {}


def _failed(failure: Failure) -> web.Response:
    """One object where a stream might have come has no charset in its type."""
    body = error_line(failure.text).strip()
    return web.Response(status=failure.status, body=body, content_type="application/json")
