"""Routes that tell what there is: version, tags, ps, show, and the slots as llama.cpp counts them."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from supervisor.contract import wire
from supervisor.engines.embedded import bodies, structs
from supervisor.engines.embedded.delivery import json_response
from supervisor.engines.embedded.failures import BAD_REQUEST, NOT_FOUND, ApiError
from supervisor.engines.embedded.frames import timestamp
from supervisor.engines.embedded.leases import Row
from supervisor.engines.embedded.pull_downloads import in_thread
from supervisor.engines.embedded.showing import Question, modified_at, shown
from supervisor.engines.embedded.worker import Worker
from supervisor.models.model import ModelFile

_FOR_EVER: Final = timedelta(seconds=2**63 / 1e9)
"""The longest duration Go knows, some 292 years: how Ollama says `for ever`."""


class ListingRoutes:
    """Handlers that change nothing."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def root(self, _request: web.Request) -> web.Response:
        """GET /: how clients see that a server is there."""
        return web.Response(text=wire.RUNNING_TEXT)

    async def version(self, _request: web.Request) -> web.Response:
        """GET /api/version."""
        return json_response({"version": wire.OLLAMA_API_VERSION})

    async def tags(self, _request: web.Request) -> web.Response:
        """GET /api/tags."""
        return json_response({"models": [self.entry(model) for model in await self._worker.models()]})

    def entry(self, model: ModelFile) -> dict[str, Any]:
        """Return a model's row in tags."""
        return {
            "name": model.name.short,
            "model": model.name.short,
            "modified_at": timestamp(modified_at(model)),
            "size": model.size_bytes,
            "digest": self._worker.digest(model),
            "details": model.details,
            wire.WEIGHTS_FIELD: self._worker.weights(model),
        }

    async def ps(self, _request: web.Request) -> web.Response:
        """GET /api/ps: loaded models, those that stay longest first.

        Names that share a runner have a row each, with the same weights.
        """
        await self._worker.models()  # so that the digests are known
        rows = sorted(self._worker.leases.rows(), key=lambda row: -row.resident.expires_at)
        listed = [(row, model) for row in rows for model in self._worker.served_as(row.resident)]
        return json_response({"models": [self._ps_row(row, model) for row, model in listed]})

    def _ps_row(self, row: Row, model: ModelFile) -> dict[str, Any]:
        resident = row.resident
        return {
            "name": model.name.short,
            "model": model.name.short,
            "size": resident.size_bytes,
            "digest": self._worker.digest(model),
            "details": model.details,
            "expires_at": timestamp(_expiry(row)),
            "size_vram": 0,
            "context_length": resident.variant.context_length,
            wire.SLOTS_FIELD: resident.slots,
            wire.WEIGHTS_FIELD: self._worker.weights(model),
        }

    async def show(self, request: web.Request) -> web.Response:
        """POST /api/show."""
        body = bodies.decode(await request.read(), structs.SHOW)
        name = body.get("model") or body.get("name") or ""
        if not name:
            raise ApiError(BAD_REQUEST, wire.MODEL_REQUIRED)
        model = self._worker.find(name)
        if model is None:
            raise ApiError(NOT_FOUND, wire.model_not_found(name))
        question = Question(
            verbose=body.get("verbose", False), system=body.get("system", ""), options=body.get("options")
        )
        return json_response(await in_thread(shown, model, question))

    async def slots(self, _request: web.Request) -> web.Response:
        """GET /corral/slots: what the runners compute now, counted at llama.cpp and not assumed."""
        rows = self._worker.leases.rows()
        waiting = self._worker.leases.waiting()
        counted = await asyncio.gather(*(self._count(row) for row in rows))
        models = [
            {
                "model": row.resident.names[0],
                "slots": row.resident.slots,
                "busy": busy,
                "waiting": sum(waiting.get(name, 0) for name in row.resident.names),
            }
            for row, busy in zip(rows, counted, strict=True)
        ]
        return json_response({"models": models, "pending": sum(waiting.values()), "busy": sum(counted)})

    async def _count(self, row: Row) -> int:
        try:
            slots = await self._worker.upstream(row.runner).call("/slots")
        except ApiError:  # it ends just now
            return 0
        return sum(slot["is_processing"] for slot in slots)


def _expiry(row: Row) -> datetime:
    now, resident = datetime.now(UTC), row.resident
    if math.isinf(resident.keep_alive_s):
        return now + _FOR_EVER
    if resident.busy:
        return now + timedelta(seconds=resident.keep_alive_s)
    return now + timedelta(seconds=resident.expires_at - asyncio.get_running_loop().time())
