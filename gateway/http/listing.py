"""What there is and what runs, for clients: tags, ps, show, version, /v1/models.

Decides how the merged lists look. The lists themselves are the roster's and the scheduler's; a worker is
asked only for fresh tags and for a model's details.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from math import inf
from typing import Any, Final

import aiohttp
from aiohttp import web

from gateway.fleet import Fleet
from gateway.roster import ModelRow, key_of, names_in_words
from gateway.runtime import Runtime
from gateway.scheduling.residency import Phase, Replica, WorkerResidency
from gateway.surfaces.openai import error_object
from gateway.surfaces.surface import BadRequestError, addressed, read_object
from supervisor.contract.wire import OLLAMA_API_VERSION, RUNNING_TEXT, model_not_found

TAGS_MAX_AGE_S: Final = 2.0
"""A change of a store is seen this soon."""
_FOR_EVER: Final = "2318-01-01T00:00:00Z"
"""Ollama tells a time as far away for a model that stays."""


class ListingHandlers:
    """Handlers of the routes that need no slot."""

    def __init__(self, fleet: Fleet, runtime: Runtime, session: aiohttp.ClientSession) -> None:
        """Share the gateway's session."""
        self._fleet = fleet
        self._runtime = runtime
        self._session = session

    async def root(self, _: web.Request) -> web.Response:
        """Say what Ollama's clients look for."""
        return web.Response(text=RUNNING_TEXT)

    async def version(self, _: web.Request) -> web.Response:
        """Tell the version of the API that is spoken."""
        return web.json_response({"version": OLLAMA_API_VERSION})

    async def tags(self, _: web.Request) -> web.Response:
        """List the models of all workers, each once."""
        return web.json_response({"models": [dict(row.row) for row in await self._models()]})

    async def openai_models(self, _: web.Request) -> web.Response:
        """List the same as OpenAI does."""
        return web.json_response(
            {"object": "list", "data": [_openai_model(row) for row in await self._models()]}
        )

    async def openai_model(self, request: web.Request) -> web.Response:
        """Describe one model as OpenAI does."""
        name = request.match_info["model"]
        row = next((row for row in await self._models() if key_of(row.name) == key_of(name)), None)
        if row is not None:
            return web.json_response({**_openai_model(row), "id": name})
        return web.json_response(error_object(404, model_not_found(name)), status=HTTPStatus.NOT_FOUND)

    async def ps(self, _: web.Request) -> web.Response:
        """List the resident replicas, with their worker and slots in extra fields."""
        return web.json_response({"models": list(self._residents())})

    async def show(self, request: web.Request) -> web.Response:
        """Pass the question on to a worker that has the model."""
        body = await request.read()
        try:
            asked = read_object(body)
        except BadRequestError as error:
            return web.json_response({"error": error.message}, status=error.status)
        name = asked.get("model") or asked.get("name") or ""
        target = await self._fleet.resolve(str(name), TAGS_MAX_AGE_S) if name else None
        holder = self._fleet.roster.holder(target.variant) if target is not None else None
        if target is None or holder is None:
            text = f"{model_not_found(str(name))}; {names_in_words(self._fleet.roster.models())}"
            return web.json_response({"error": text}, status=HTTPStatus.NOT_FOUND)
        return await self._ask(
            holder[0].base_url + "/api/show", addressed(body, model=target.name, options={})
        )

    async def _ask(self, url: str, body: bytes) -> web.Response:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=body, headers=headers) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            text = f"the worker could not be asked: {error}"
            return web.json_response({"error": text}, status=HTTPStatus.BAD_GATEWAY)
        return web.Response(status=response.status, body=answer, content_type="application/json")

    async def _models(self) -> list[ModelRow]:
        await self._fleet.refresh(TAGS_MAX_AGE_S)
        return self._fleet.roster.models()

    def _residents(self) -> Iterator[dict[str, Any]]:
        now, wall, kept = time.monotonic(), datetime.now(UTC), self._runtime.scheduler.protected()
        for worker in self._runtime.scheduler.workers:
            for variant, replica in worker.replicas.items():
                row = self._fleet.roster.model_on(worker.view.instance.worker, variant)
                if row is not None and replica.phase is Phase.RESIDENT:
                    pinned = (worker.view.instance, variant) in kept
                    stays = expires_at(replica, now, wall, pinned=pinned)
                    yield resident_row(row, worker, replica, stays)


def resident_row(row: ModelRow, worker: WorkerResidency, replica: Replica, expires: str) -> dict[str, Any]:
    """Return a row as /api/ps gives it, and Corral's extra fields behind."""
    resident = replica.resident
    return {
        "name": row.name,
        "model": row.name,
        "size": replica.size_bytes,
        "digest": row.digest,
        "details": row.row.get("details") or {},
        "expires_at": expires,
        "size_vram": resident.size_vram_bytes if resident is not None else 0,
        "context_length": resident.context_length if resident is not None else 0,
        "worker": worker.view.instance.worker,
        "num_parallel": replica.slots,
        "busy": len(replica.busy),
    }


def expires_at(replica: Replica, now: float, wall: datetime, *, pinned: bool) -> str:
    """Return when the gateway will unload a replica: for a busy one, if its requests ended now."""
    until = replica.would_stay_until(now) if replica.busy else replica.stays_until
    if pinned or until == inf:
        return _FOR_EVER
    moment = wall + timedelta(seconds=until - now)
    return moment.isoformat().replace("+00:00", "Z")


def _openai_model(row: ModelRow) -> dict[str, Any]:
    return {"id": row.name, "object": "model", "created": _created(row), "owned_by": "library"}


def _created(row: ModelRow) -> int:
    text = row.row.get("modified_at")
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return 0
