"""What there is and what runs, for clients: tags, ps, show, version, /v1/models.

The order of steps and nothing else. How lists look is decided in `surfaces`, which names there are in
`offers`, when workers are asked in `catalogues` and `shown`; what runs is the scheduler's to say, and no
worker is asked for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from gateway.fleet.fleet import Fleet
from gateway.fleet.offers import offered, offers
from gateway.fleet.shown import NotShownError, Shows
from gateway.http.bodies import read_body
from gateway.http.edge import REQUEST_ID, moved
from gateway.runtime import Runtime
from gateway.scheduling.names import Variant
from gateway.scheduling.residency import Phase, Replica, WorkerResidency
from gateway.surfaces import anthropic, model_lists, openai, residents
from gateway.surfaces.model_lists import ANTHROPIC_HEADER, Listed
from gateway.surfaces.residents import Held
from gateway.surfaces.show import check_name, for_client, read_show
from gateway.surfaces.surface import BadRequestError
from supervisor.contract.fleet import DeviceKind
from supervisor.contract.wire import OLLAMA_API_VERSION, RUNNING_TEXT, model_not_found

_MAX_AGE_S: Final = 2.0
"""A change of a store that was not made through the gateway is seen this soon."""
_SOON_S: Final = "2"
"""When to ask again for a model whose workers are coming up."""


class ListingHandlers:
    """Handlers of the routes that need no slot."""

    def __init__(self, fleet: Fleet, runtime: Runtime, shows: Shows) -> None:
        """Look at fleet and scheduler; change neither."""
        self._fleet = fleet
        self._runtime = runtime
        self._shows = shows

    async def root(self, _: web.Request) -> web.Response:
        """Say what Ollama's clients look for."""
        return web.Response(text=RUNNING_TEXT)

    async def version(self, _: web.Request) -> web.Response:
        """Tell the version of the API that is spoken."""
        return web.json_response({"version": OLLAMA_API_VERSION})

    async def tags(self, _: web.Request) -> web.Response:
        """List the models of all workers, each once."""
        return web.json_response(model_lists.tags(await self._models()))

    async def v1_models(self, request: web.Request) -> web.Response:
        """List the same as OpenAI does, or Anthropic to its own clients."""
        models = await self._models()
        if ANTHROPIC_HEADER not in request.headers:
            return _json(model_lists.openai_list(models))
        try:
            return _json(model_lists.anthropic_list(models, request.query))
        except BadRequestError as error:
            return _v1_error(request, error.status, error.message)

    async def v1_model(self, request: web.Request) -> web.Response:
        """Describe one model in the same two ways."""
        name = request.match_info["model"]
        if name.endswith("/"):
            return moved(request, HTTPStatus.MOVED_PERMANENTLY, request.path.removesuffix("/"))
        try:
            check_name(name)
        except BadRequestError as error:
            return _v1_error(request, error.status, error.message)
        model = await self._find(name)
        if model is None:
            return _v1_error(request, HTTPStatus.NOT_FOUND, model_not_found(name))
        anthropic = ANTHROPIC_HEADER in request.headers
        shape = model_lists.anthropic_model if anthropic else model_lists.openai_model
        return _json(shape(model, name))

    async def ps(self, _: web.Request) -> web.Response:
        """List the resident replicas, with worker, GPUs and slots in extra fields."""
        now, wall = asyncio.get_running_loop().time(), datetime.now(UTC)
        return web.json_response(residents.ps(list(self._residents()), now, wall))

    async def show(self, request: web.Request) -> web.Response:
        """Tell all about one model, as a worker that has it does."""
        try:
            asked = read_show(await read_body(request))
            model = await self._find(asked.model)
            if model is None:
                return _error(HTTPStatus.NOT_FOUND, model_not_found(asked.model))
            shown = await self._shows.show(asked, model)
        except BadRequestError as error:
            return _error(error.status, error.message)
        except NotShownError as error:
            return _error(error.status, str(error))
        body = shown.body
        if shown.status == HTTPStatus.OK:
            body = for_client(body, asked.model, request.headers.get("User-Agent", ""))
        return web.Response(status=shown.status, body=body, content_type="application/json", charset="utf-8")

    async def _models(self) -> list[Listed]:
        await self._fleet.refresh(_MAX_AGE_S)
        return list(offers(self._fleet.roster).values())

    async def _find(self, name: str) -> Listed | None:
        """Look for a name in the lists; in those of all workers afresh before it is given up."""
        await self._fleet.refresh(_MAX_AGE_S)
        model = offered(self._fleet.roster, name)
        if model is None and await self._fleet.resolve(name, _MAX_AGE_S) is not None:
            model = offered(self._fleet.roster, name)
        return model

    def _residents(self) -> Iterator[Held]:
        kept = self._runtime.scheduler.protected()
        for worker in self._runtime.scheduler.workers:
            for variant, replica in worker.replicas.items():
                pinned = (worker.view.instance, variant) in kept
                held = held_by(self._fleet, worker, variant, replica, pinned=pinned)
                if held is not None and replica.phase is Phase.RESIDENT:
                    yield held


def held_by(
    fleet: Fleet, worker: WorkerResidency, variant: Variant, replica: Replica, *, pinned: bool
) -> Held | None:
    """Return what is known of a replica; None when no store has its model any more."""
    status = fleet.roster.status(worker.view.instance)
    row = fleet.roster.model_on(worker.view.instance.worker, variant)
    if row is None:
        return None
    devices = status.devices if status is not None else ()
    return Held(
        replica=replica,
        name=row.name,
        digest=row.digest,
        details=row.row.get("details") or {},
        worker=worker.view.instance.worker,
        gpus=[(device.id, device.label) for device in devices if device.kind is DeviceKind.GPU],
        pinned=pinned,
    )


def _json(answer: dict[str, Any], status: int = HTTPStatus.OK) -> web.Response:
    """Answer as Ollama does under /v1: without a charset."""
    return web.Response(status=status, body=json.dumps(answer).encode(), content_type="application/json")


def _v1_error(request: web.Request, status: int, message: str) -> web.Response:
    if ANTHROPIC_HEADER in request.headers:
        return _json(anthropic.error_object(status, message, request.get(REQUEST_ID, "")), status)
    return _json(openai.error_object(status, message), status)


def _error(status: int, message: str) -> web.Response:
    headers = {"Retry-After": _SOON_S} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return web.json_response({"error": message}, status=status, headers=headers)
