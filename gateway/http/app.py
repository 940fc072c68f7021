"""Builds the two aiohttp applications: the clients' port and the operator's socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from gateway.http.admin import AdminHandlers
from gateway.http.inference import InferenceHandlers
from gateway.http.listing import ListingHandlers
from gateway.surfaces.ollama import OllamaSurface
from gateway.surfaces.openai import OpenAISurface, error_object
from gateway.surfaces.surface import Surface

SURFACES: tuple[Surface, ...] = (OllamaSurface(), OpenAISurface())


def client_application(
    inference: InferenceHandlers, listing: ListingHandlers, admin: AdminHandlers, *, max_body_bytes: int
) -> web.Application:
    """Return the application of the main port: the surfaces and /corral/health, nothing else."""
    app = web.Application(client_max_size=max_body_bytes, middlewares=[_in_the_clients_shape])
    for surface in SURFACES:
        for route in sorted(surface.routes):
            app.router.add_post(route, inference.handler(surface, route))
    app.router.add_get("/", listing.root)
    app.router.add_get("/api/version", listing.version)
    app.router.add_get("/api/tags", listing.tags)
    app.router.add_get("/api/ps", listing.ps, allow_head=False)
    app.router.add_post("/api/show", listing.show)
    app.router.add_get("/v1/models", listing.openai_models, allow_head=False)
    app.router.add_get("/v1/models/{model:.+}", listing.openai_model, allow_head=False)
    app.router.add_get("/corral/health", admin.health)
    return app


def admin_application(admin: AdminHandlers) -> web.Application:
    """Return the application of the unix socket."""
    app = web.Application()
    app.router.add_get("/corral/health", admin.alive)
    app.router.add_get("/corral/fleet", admin.fleet)
    app.router.add_get("/corral/requests/{id}", admin.request)
    return app


@web.middleware
async def _in_the_clients_shape(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give unknown routes and wrong methods an error that the client's library can read."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        phrase = "page not found" if error.status == HTTPStatus.NOT_FOUND else "method not allowed"
        text = f"{error.status} {phrase}"
        if not request.path.startswith("/v1/"):
            return web.Response(status=error.status, text=text, headers=_allow(error))
        answer = error_object(error.status, f"{text}: {request.method} {request.path}")
        return web.json_response(answer, status=error.status, headers=_allow(error))


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
