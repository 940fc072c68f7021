"""What the gateway asks of a worker for itself, where the worker does not do as it says."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.fleet.roster import ModelRow
from gateway.scheduling.names import Variant
from gateway.workers import client
from gateway.workers.client import WorkerClient, WorkerUnreachableError


async def _loads(_: web.Request) -> web.Response:
    return web.json_response({"model": "m", "done": True, "done_reason": "load", "response": ""})


async def _holds_nothing(_: web.Request) -> web.Response:
    return web.json_response({"models": []})


async def test_model_that_is_gone_right_after_its_load_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that made room by itself: the load has broken off, and all who wait for the model go on."""
    monkeypatch.setattr(client, "_LISTED_WITHIN_S", 0.1)
    app = web.Application()
    app.router.add_post("/api/generate", _loads)
    app.router.add_get("/api/ps", _holds_nothing)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        worker = WorkerClient(str(server.make_url("")), session)
        row = ModelRow("m:latest", Variant("0" * 64), {"digest": "0" * 64})
        with pytest.raises(WorkerUnreachableError, match="unloaded again"):
            await worker.load(row, embedding=False, slots=1)
        await worker.close()
