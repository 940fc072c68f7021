"""Builds the two aiohttp applications: the clients' port and the operator's socket."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.http.admin import AdminHandlers
from gateway.http.bodies import BODY_LIMIT, BodyLimit
from gateway.http.edge import Edge
from gateway.http.inference import InferenceHandlers
from gateway.http.listing import ListingHandlers
from gateway.http.openapi import openapi
from gateway.http.store import StoreHandlers
from gateway.store.requests import Kind
from gateway.surfaces.anthropic import AnthropicSurface
from gateway.surfaces.audio import AudioSurface
from gateway.surfaces.ollama import OllamaSurface
from gateway.surfaces.openai import OpenAISurface
from gateway.surfaces.rerank import RerankSurface
from gateway.surfaces.responses import ResponsesSurface
from gateway.surfaces.surface import Surface

_OLLAMA, _OPENAI, _ANTHROPIC = OllamaSurface(), OpenAISurface(), AnthropicSurface()
SURFACES: Final[tuple[Surface, ...]] = (
    _OLLAMA,
    _OPENAI,
    _ANTHROPIC,
    ResponsesSurface(),
    RerankSurface(),
    AudioSurface(),
)
_BY_ROUTE: Final = {route: surface for surface in SURFACES for route in surface.routes}


def client_application(
    inference: InferenceHandlers,
    listing: ListingHandlers,
    admin: AdminHandlers,
    store: StoreHandlers,
    edge: Edge,
    *,
    body_limit: BodyLimit,
) -> web.Application:
    """Return the application of the main port: the surfaces, stores, health and description, nothing else."""
    app = web.Application()
    app[BODY_LIMIT] = body_limit
    edge.install(app)
    for surface in SURFACES:
        for route in sorted(surface.routes):
            app.router.add_post(route, inference.handler(surface, route))
    app.router.add_get("/", listing.root)
    app.router.add_get("/api/version", listing.version)
    app.router.add_get("/api/tags", listing.tags)
    app.router.add_get("/api/ps", listing.ps, allow_head=False)
    app.router.add_post("/api/show", listing.show)
    app.router.add_get("/v1/models", listing.v1_models, allow_head=False)
    app.router.add_get("/v1/models/{model:.+}", listing.v1_model, allow_head=False)
    for kind in Kind:
        app.router.add_route("DELETE" if kind is Kind.DELETE else "POST", f"/api/{kind}", store.handler(kind))
    app.router.add_head("/api/blobs/{digest:[^/]+}", store.blobs.head)
    app.router.add_post("/api/blobs/{digest:[^/]+}", store.blobs.post)
    app.router.add_get("/corral/health", admin.health)
    app.router.add_get("/corral/openapi.json", openapi)
    return app


def admin_application(admin: AdminHandlers) -> web.Application:
    """Return the application of the unix socket."""
    app = web.Application()
    app.router.add_get("/corral/health", admin.alive)
    app.router.add_get("/corral/fleet", admin.fleet)
    app.router.add_get("/corral/queue", admin.queue)
    app.router.add_get("/corral/requests/{id}", admin.request)
    return app


def surface_of(path: str) -> Surface:
    """Return the surface whose errors the clients of a path understand."""
    if path in _BY_ROUTE:
        return _BY_ROUTE[path]
    if path.startswith("/v1/messages/"):
        return _ANTHROPIC
    return _OPENAI if path.startswith("/v1/") else _OLLAMA


def error_body(path: str, status: int, message: str) -> bytes:
    """Return an error as the clients of a path understand it."""
    return surface_of(path).error(status, message)
