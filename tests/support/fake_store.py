"""Fake workers with stores: they pull, create, copy, delete and take blobs as an Ollama does, on command.

Several may share one `StoreOnDisk`, as processes share a directory. What must not happen there is noted in
their `offences`: two processes that change it at once, and a model deleted while some process has it loaded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from supervisor.contract.fleet import WorkerStatus
from supervisor.contract.names import ModelName
from supervisor.contract.wire import model_not_found
from tests.support.fake_ollama import FakeOllama

LAYER = "sha256:" + "1" * 64
TOTAL = 1000


@dataclass
class StoreOnDisk:
    """What workers share."""

    path: str = "/models"
    models: dict[str, str] = field(default_factory=lambda: {"count:latest": "first", "other:latest": "other"})
    """Digests by short names."""
    blobs: dict[str, int] = field(default_factory=dict)
    """Sizes in bytes by digest."""
    fetched: int = 0
    """Bytes of `LAYER` that are there: a pull goes on where the last one ended."""
    changing: list[str] = field(default_factory=list)
    """Workers that change it now."""
    workers: list[StoreWorker] = field(default_factory=list)


@dataclass
class StoreWorker(FakeOllama):
    """One process."""

    store: StoreOnDisk = field(default_factory=StoreOnDisk)
    done: list[str] = field(default_factory=list)
    """What it did to the store: `pull new:latest`."""
    step: int = 250
    """Bytes between two lines of progress."""
    dies_at: int | None = None
    """Bytes of a pull after which its connection breaks."""
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    """By bytes of a pull: it waits there."""
    gate: asyncio.Event | None = None
    """Creations wait for it."""
    error: str = ""
    """What pulls and creations end with."""
    abandoned: int = 0
    """Operations whose client went away."""
    slow: asyncio.Event | None = None
    """Blobs are read only once it is set."""
    prunes: bool = False

    def __post_init__(self) -> None:
        self.store.workers.append(self)

    def status(self, incarnation: int = 1, **changes: Any) -> WorkerStatus:
        return super().status(incarnation, **{"store": self.store.path, "prunes": self.prunes, **changes})

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/api/pull", self.pull)
        app.router.add_post("/api/push", self.push)
        app.router.add_post("/api/create", self.create)
        app.router.add_post("/api/copy", self.copy)
        app.router.add_delete("/api/delete", self.delete)
        app.router.add_head("/api/blobs/{digest}", self.head_blob)
        app.router.add_post("/api/blobs/{digest}", self.post_blob)

    async def tags(self, _: web.Request) -> web.Response:
        rows = [
            {"name": name, "model": name, "digest": self.store.models[name], "size": self.size_bytes}
            for name in self.store.models
        ]
        return web.json_response({"models": rows})

    def digest(self, model: str) -> str:
        return self.store.models.get(short(model), f"gone-{model}")

    @contextmanager
    def changes(self, what: str) -> Iterator[None]:
        if set(self.store.changing) - {self.name}:
            self.offences.append(f"{what} while {self.store.changing} changes the same store")
        self.store.changing.append(self.name)
        try:
            yield
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        finally:
            self.store.changing.remove(self.name)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        name = short((await request.json())["model"])
        response = await streaming(request)
        with self.changes(f"pull {name}"):
            await tell(response, {"status": "pulling manifest"})
            while True:
                if self.store.fetched in self.gates:
                    await self.gates[self.store.fetched].wait()
                row = {"status": "pulling 1111", "digest": LAYER, "total": TOTAL}
                await tell(response, {**row, "completed": self.store.fetched})
                if self.dies_at is not None and self.store.fetched >= self.dies_at:
                    self.store.fetched -= self.step // 2  # what was not yet written down
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if self.store.fetched >= TOTAL:
                    break
                self.store.fetched = min(TOTAL, self.store.fetched + self.step)
            await self._finish(response, name, "pulled")
        self.done.append(f"pull {name}")
        return response

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = short(body["model"])
        missing = [blob for blob in (body.get("files") or {}).values() if blob not in self.store.blobs]
        if not body.get("from") and not body.get("files"):
            return web.json_response({"error": "neither 'from' or 'files' was specified"}, status=400)
        response = await streaming(request)
        with self.changes(f"create {name}"):
            await tell(response, {"status": "parsing GGUF"})
            if self.gate is not None:
                await self.gate.wait()
            self.error = self.error or (f"open {missing[0]}: no such file" if missing else "")
            await self._finish(response, name, f"made of {body.get('from') or body.get('files')}")
        self.done.append(f"create {name}")
        return response

    async def _finish(self, response: web.StreamResponse, name: str, digest: str) -> None:
        if self.error:
            await tell(response, {"error": self.error})
        else:
            await tell(response, {"status": "writing manifest"})
            self.store.models[name] = digest
            await tell(response, {"status": "success"})
        await response.write_eof()

    async def push(self, request: web.Request) -> web.StreamResponse:
        name = short((await request.json())["model"])
        response = await streaming(request)
        await tell(response, {"status": "retrieving manifest"})
        await tell(response, {"status": "success"} if name in self.store.models else {"error": "no manifest"})
        await response.write_eof()
        self.done.append(f"push {name}")
        return response

    async def copy(self, request: web.Request) -> web.Response:
        body = await request.json()
        source, destination = short(body["source"]), short(body["destination"])
        with self.changes(f"copy {destination}"):
            self.store.models[destination] = self.store.models[source]
        self.done.append(f"copy {destination}")
        return web.Response()

    async def delete(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = short(body["model"])
        for worker in self.store.workers:
            if name.removesuffix(":latest") in worker.loaded:
                self.offences.append(f"{name} deleted while {worker.name} has it loaded")
        with self.changes(f"delete {name}"):
            if self.store.models.pop(name, None) is None:
                return web.json_response({"error": model_not_found(body["model"])}, status=404)
        self.done.append(f"delete {name}")
        return web.Response()

    async def head_blob(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["digest"] in self.store.blobs else 404)

    async def post_blob(self, request: web.Request) -> web.Response:
        digest, hashed, size = request.match_info["digest"], hashlib.sha256(), 0
        if self.slow is not None:
            await self.slow.wait()
        async for piece in request.content.iter_any():
            hashed.update(piece)
            size += len(piece)
        found = f"sha256:{hashed.hexdigest()}"
        if found != digest:
            error = f'digest mismatch, expected "{digest}", got "{found}"'
            return web.json_response({"error": error}, status=400)
        self.store.blobs[digest] = size
        self.done.append(f"blob {digest}")
        return web.Response(status=201)


def short(name: str) -> str:
    """Return a name as a store has it."""
    return ModelName.parse(name).short


async def streaming(request: web.Request) -> web.StreamResponse:
    """Begin to tell of progress."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    return response


async def tell(response: web.StreamResponse, row: dict[str, Any]) -> None:
    """Write a line as Ollama does, which leaves zeros out."""
    kept = {key: value for key, value in row.items() if value != 0}
    await response.write(json.dumps(kept, separators=(",", ":")).encode() + b"\n")
