"""Routes that change what models there are: pull, create, copy, delete, push, and the blobs of a create.

All of it is written to the store, in Ollama's layout; a GGUF file of the directory is only ever removed.
Other workers over the same store need not be told: they look at the files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from aiohttp import web

from supervisor.contract import wire
from supervisor.contract.names import ModelName
from supervisor.engines.embedded import bodies
from supervisor.engines.embedded import store_bodies as asked
from supervisor.engines.embedded.create import Creator
from supervisor.engines.embedded.failures import BAD_REQUEST, INTERNAL, NOT_FOUND, ApiError
from supervisor.engines.embedded.pull import Pulls, Tell, check_space, unwritable
from supervisor.engines.embedded.pull_downloads import Downloads, in_thread
from supervisor.engines.embedded.store_delivery import narrate, unheard
from supervisor.engines.embedded.worker import Worker
from supervisor.models.blob_files import Draft, WrongDigestError
from supervisor.models.creation import Wish, plan_creation
from supervisor.models.manifest import digest_of
from supervisor.models.model import ModelFile
from supervisor.models.store_files import StoreFiles

_CREATED: Final = 201
_NOT_IMPLEMENTED: Final = 501
_FLUSH_BYTES: Final = 2**20
_UNLOAD_S: Final = 10.0
"""How long a delete waits for a runner that is in use; it ends with its last request in any case."""
_NO_PUSH: Final = (
    "the embedded engine cannot push models: push from a worker with engine: ollama over the same store"
)


class StoreRoutes:
    """Handlers of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._files = StoreFiles(Path(worker.settings.store))
        self._pulls = Pulls(self._files, Downloads(self._files.blobs))
        self._creator = Creator(worker.library, worker.digests, self._files, self._pulls)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """POST /api/pull."""
        body = bodies.decode(await request.read(), asked.PULL)
        name = await self._new_name(asked.name_of(asked.name_in(body)))

        async def work(tell: Tell) -> None:
            with self._replacing(name):
                await self._pulls.pull(name, tell, insecure=body.get("insecure", False))

        return await narrate(request, work, stream=body.get("stream", True))

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /api/create."""
        body = bodies.decode(await request.read(), asked.CREATE)
        order = asked.order_of(body)
        order = replace(order, name=await self._new_name(order.name))
        if absent := await in_thread(self._files.blobs.missing, order.files.values()):
            text = f"there is no blob {absent[0]}: send it to /api/blobs/{absent[0]} first"
            raise ApiError(BAD_REQUEST, text)

        async def work(tell: Tell) -> None:
            with self._replacing(order.name):
                await self._creator.create(order, tell)

        return await narrate(request, work, stream=body.get("stream", True))

    async def copy(self, request: web.Request) -> web.Response:
        """POST /api/copy."""
        body = bodies.decode(await request.read(), asked.COPY)
        source, target = body.get("source", ""), body.get("destination", "")
        old = asked.name_of(source, f'source "{source}" is invalid')
        new = await self._new_name(asked.name_of(target, f'destination "{target}" is invalid'))
        with self._replacing(new):
            try:
                await self._copy(old, new)
            except FileNotFoundError as error:
                raise ApiError(NOT_FOUND, f'model "{source}" not found') from error
        return web.Response()

    async def _copy(self, source: ModelName, target: ModelName) -> None:
        """Give a model a second name; a file of the GGUF directory gets into the store by this.

        Raises:
            FileNotFoundError: there is no such model.
        """
        model = self._worker.library.find(source.key)
        if model is not None and model.entry is None:
            base = await self._creator.import_file(model)
            await self._creator.write(target, plan_creation(base, Wish()), unheard)
            return
        known = await in_thread(self._files.canonical, source)
        replaced = await in_thread(self._files.copy, known, target)
        await in_thread(self._files.remove_unused, replaced)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /api/delete."""
        body = bodies.decode(await request.read(), asked.DELETE)
        text = asked.name_in(body)
        if not text:
            raise ApiError(BAD_REQUEST, wire.MODEL_REQUIRED)
        name = asked.name_of(text, f'name "{text}" is invalid')
        model = self._worker.library.find(name.key)
        with self._writing():
            try:
                digests = await self._forget(name)
            except FileNotFoundError as error:
                raise ApiError(NOT_FOUND, wire.model_not_found(text)) from error
            if model is not None:
                await self._unload(model)
            await in_thread(self._files.remove_unused, digests)
        return web.Response()

    async def _forget(self, name: ModelName) -> list[str]:
        """Take a name away, so that no request begins with it any more; return its blobs.

        Raises:
            FileNotFoundError: there is no such model.
        """
        model = self._worker.library.find(name.key)
        if model is not None and model.entry is None:
            await in_thread(Path(model.id.path).unlink)
            return []
        known = await in_thread(self._files.canonical, name)
        return await in_thread(self._files.remove, known)

    async def _unload(self, model: ModelFile) -> None:
        """Let the model go here, and wait for it unless requests keep it."""
        gone = [runner.gone.wait() for runner in self._worker.lost_name(model)]
        with suppress(TimeoutError):
            async with asyncio.timeout(_UNLOAD_S):
                await asyncio.gather(*gone)

    async def push(self, request: web.Request) -> web.Response:
        """POST /api/push."""
        if not asked.name_in(bodies.decode(await request.read(), asked.PUSH)):
            raise ApiError(BAD_REQUEST, wire.MODEL_REQUIRED)
        raise ApiError(_NOT_IMPLEMENTED, _NO_PUSH)

    async def blob(self, request: web.Request) -> web.Response:
        """HEAD /api/blobs/sha256:…: whether a blob is there."""
        told = request.match_info["digest"]
        if await in_thread(self._files.blobs.size, _digest(told)) is None:
            raise ApiError(NOT_FOUND, f'blob "{told}" not found')
        return web.Response()

    async def put_blob(self, request: web.Request) -> web.Response:
        """POST /api/blobs/sha256:…: the bytes go to the disk as they come."""
        digest = _digest(request.match_info["digest"])
        with self._writing():
            if await in_thread(self._files.blobs.size, digest) is not None:
                async for _ in request.content.iter_any():
                    """Let a client that sends first and listens later come to its end."""
                return web.Response()
            await check_space(self._files, request.content_length or 0)
            with self._files.blobs.draft() as draft:
                await _receive(request, draft)
                try:
                    await in_thread(self._files.blobs.keep, draft, digest)
                except WrongDigestError as error:
                    text = f'digest mismatch, expected "{error.wanted}", got "{error.found}"'
                    raise ApiError(BAD_REQUEST, text) from error
        return web.Response(status=_CREATED)

    async def _new_name(self, name: ModelName) -> ModelName:
        """Return the name under which something will be written.

        Raises:
            ApiError: 400, a GGUF file has that name and would be served instead.
        """
        model = self._worker.library.find(name.key)
        if model is not None and model.entry is None:
            text = f"{name.short} is the file {model.id.path}, which would be served instead of the new model"
            raise ApiError(BAD_REQUEST, f"{text}: take another name, or delete {name.short} first")
        with self._writing():
            return await in_thread(self._files.canonical, name)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ApiError(INTERNAL, unwritable(self._files, error)) from error

    @contextmanager
    def _replacing(self, name: ModelName) -> Iterator[None]:
        """Write to a name; if another model had it that is loaded here, it goes when nobody uses it."""
        before = self._worker.library.find(name.key)
        with self._writing():
            yield
        after = self._worker.library.find(name.key)
        if before is not None and (after is None or after.id.path != before.id.path):
            self._worker.lost_name(before)


def _digest(told: str) -> str:
    found = digest_of(told)
    if found is None:
        raise ApiError(BAD_REQUEST, asked.INVALID_DIGEST)
    return found


async def _receive(request: web.Request, draft: Draft) -> None:
    held: list[bytes] = []
    async for chunk in request.content.iter_any():
        held.append(chunk)
        if sum(map(len, held)) >= _FLUSH_BYTES:
            await in_thread(draft.write, b"".join(held))
            held.clear()
    await in_thread(draft.write, b"".join(held))


def store_routes(worker: Worker) -> list[web.RouteDef]:
    """Return the routes of a worker's store."""
    store = StoreRoutes(worker)
    return [
        web.post("/api/pull", store.pull),
        web.post("/api/create", store.create),
        web.post("/api/copy", store.copy),
        web.delete("/api/delete", store.delete),
        web.post("/api/push", store.push),
        web.head("/api/blobs/{digest}", store.blob),
        web.post("/api/blobs/{digest}", store.put_blob),
    ]
