"""HEAD and POST of /api/blobs/:digest: the parts of models, streamed through to every store that lacks them.

Never held whole: a piece is read from the client when all stores have taken the one before. The limit for
bodies does not apply. Decides what the client hears when the stores do not agree.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from gateway.store.merging import Failure, Merge, error_line
from gateway.store.sharing import Store, writer
from gateway.stores.sharers import Sharers
from gateway.workers.client import WorkerUnreachableError
from gateway.workers.store import has_blob, send_blob

_DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}\Z")
_PAUSE_S: Final = 300.0
"""A client that sends nothing for so long is given up."""
_PIECES: Final = 2
"""Of a body that wait for a store, so that reading and writing overlap."""

_JSON: Final = {"Content-Type": "application/json; charset=utf-8"}

_log = structlog.get_logger("store")


@dataclass(slots=True, eq=False)
class _Upload:
    """A blob on its way to one store."""

    store: Store
    base_url: str
    pieces: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(_PIECES))
    """Empty at the end."""
    task: asyncio.Task[tuple[int, str]] | None = None

    async def put(self, piece: bytes) -> None:
        """Wait until there is room for a piece, or nobody wants it any more."""
        if not self.pieces.full():
            return self.pieces.put_nowait(piece)
        assert self.task is not None
        putting = asyncio.ensure_future(self.pieces.put(piece))
        await asyncio.wait({putting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()
        with suppress(asyncio.CancelledError):
            await putting
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what is to be sent."""
        while piece := await self.pieces.get():
            yield piece

    async def close(self) -> None:
        """Break off, so that the worker does not take a part for the whole."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


class BlobHandlers:
    """Handlers of the parts of models."""

    def __init__(self, sharers: Sharers, session: aiohttp.ClientSession) -> None:
        """Share the gateway's session."""
        self._sharers = sharers
        self._session = session

    async def head(self, request: web.Request) -> web.Response:
        """Tell whether every store that can be asked has the blob: else it is to be sent."""
        digest = request.match_info["digest"]
        if not _DIGEST.match(digest):
            return _invalid()
        uploads = await self._lacking(digest)
        if uploads is None:
            return _nobody()
        missing = HTTPStatus.NOT_FOUND, f'blob "{digest}" not found'
        return refusal(*missing) if uploads else web.Response()

    async def post(self, request: web.Request) -> web.Response:
        """Send the blob to the stores that lack it."""
        digest = request.match_info["digest"]
        if not _DIGEST.match(digest):
            return _invalid()
        uploads = await self._lacking(digest)
        if uploads is None:
            return _nobody()
        if not uploads:
            return web.Response()
        try:
            return await self._send(request, digest, uploads)
        finally:
            await asyncio.gather(*(upload.close() for upload in uploads))

    async def _send(self, request: web.Request, digest: str, uploads: Sequence[_Upload]) -> web.Response:
        for upload in uploads:
            answer = send_blob(
                self._session, upload.base_url, digest, upload.chunks(), request.content_length
            )
            upload.task = asyncio.create_task(answer)
        try:
            await _pump(request, uploads)
        except TimeoutError:
            return refusal(HTTPStatus.REQUEST_TIMEOUT, "the request body came too slowly")
        merge = Merge([upload.store.workers for upload in uploads])
        for upload in uploads:
            await _settle(upload, merge)
        failure = merge.verdict()
        stores = [upload.store.workers for upload in uploads]
        error = None if failure is None else failure.text
        _log.info("store", op="blob", digest=digest, stores=stores, error=error)
        if failure is not None:
            return refusal(failure.status, failure.text)
        return web.Response(status=HTTPStatus.CREATED)

    async def _lacking(self, digest: str) -> list[_Upload] | None:
        """Return the stores without the blob; None when nobody can be asked."""
        there = [store for store in await self._sharers.known() if store.reachable]
        uploads = await asyncio.gather(*(self._upload(store, digest) for store in there))
        return [upload for upload in uploads if upload is not None] if there else None

    async def _upload(self, store: Store, digest: str) -> _Upload | None:
        """Return what is to be sent; a store that does not answer lacks it, and fails when it is sent."""
        member = writer(store)
        base_url = self._sharers.base_url(member.worker) if member is not None else ""
        try:
            there = await has_blob(self._session, base_url, digest)
        except WorkerUnreachableError as error:
            _log.warning("store cannot be asked for a blob", workers=store.workers, error=str(error))
            there = False
        return None if there else _Upload(store, base_url)


async def _pump(request: web.Request, uploads: Sequence[_Upload]) -> None:
    """Read the body and give each piece to all who still take it."""
    tasks = [upload.task for upload in uploads]
    while not all(task is not None and task.done() for task in tasks):
        async with asyncio.timeout(_PAUSE_S):
            piece = await request.content.readany()
        await asyncio.gather(*(upload.put(piece) for upload in uploads))
        if not piece:
            return


async def _settle(upload: _Upload, merge: Merge) -> None:
    assert upload.task is not None
    name = upload.store.workers
    try:
        status, text = await upload.task
    except WorkerUnreachableError as error:
        _log.warning("blob not stored", workers=name, error=str(error))
        status, text = HTTPStatus.BAD_GATEWAY, "the worker broke off"
    if status < HTTPStatus.BAD_REQUEST:
        merge.ended(name)
    else:
        merge.failed(name, Failure(status, text))


def refusal(status: int, text: str) -> web.Response:
    """Return an error in Ollama's shape."""
    return web.Response(status=status, body=error_line(text).strip(), headers=_JSON)


def _invalid() -> web.Response:
    return refusal(HTTPStatus.BAD_REQUEST, "invalid digest format")


def _nobody() -> web.Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no worker is there to do it")
