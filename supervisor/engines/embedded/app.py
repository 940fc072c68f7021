"""The worker's HTTP application: exact routes, and failures in each surface's form."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from supervisor.engines.embedded import anthropic, openai
from supervisor.engines.embedded.compatible import OpenAiRoutes
from supervisor.engines.embedded.delivery import json_response
from supervisor.engines.embedded.failures import TOO_LARGE, ApiError
from supervisor.engines.embedded.listing import ListingRoutes
from supervisor.engines.embedded.messages import AnthropicRoutes
from supervisor.engines.embedded.native import NativeRoutes
from supervisor.engines.embedded.reranking import PATHS as RERANK_PATHS
from supervisor.engines.embedded.reranking import RerankRoutes
from supervisor.engines.embedded.store_routes import store_routes
from supervisor.engines.embedded.vectors import VectorRoutes
from supervisor.engines.embedded.worker import Worker

_LARGEST_BODY_BYTES: Final = 2**30
"""The gateway has the limit that matters; this one keeps a stray client from filling the memory."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(worker: Worker) -> web.Application:
    """Return the application with all routes."""
    app = web.Application(middlewares=[translate_failures], client_max_size=_LARGEST_BODY_BYTES)
    native, listing = NativeRoutes(worker), ListingRoutes(worker)
    vectors, compatible = VectorRoutes(worker), OpenAiRoutes(worker)
    messages, reranking = AnthropicRoutes(worker), RerankRoutes(worker)
    app.add_routes(
        [
            web.get("/", listing.root),
            web.get("/api/version", listing.version),
            web.get("/api/tags", listing.tags),
            web.get("/api/ps", listing.ps, allow_head=False),
            web.post("/api/show", listing.show),
            *store_routes(worker),
            web.post("/api/generate", native.generate),
            web.post("/api/chat", native.chat),
            web.post("/api/embed", vectors.embed),
            web.post("/api/embeddings", vectors.embeddings),
            web.post("/v1/chat/completions", compatible.chat_completions),
            web.post("/v1/completions", compatible.completions),
            web.post("/v1/embeddings", compatible.embeddings),
            web.post("/v1/responses", compatible.responses),
            web.post("/v1/messages", messages.messages),
            web.post("/v1/messages/count_tokens", messages.count_tokens),
            *(web.post(path, reranking.rerank) for path in RERANK_PATHS),
            web.get("/v1/models", compatible.models, allow_head=False),
            web.get("/v1/models/{id:.+}", compatible.model, allow_head=False),
            web.get("/corral/slots", listing.slots, allow_head=False),
        ]
    )
    return app


@web.middleware
async def translate_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a refused request in the form of its surface."""
    try:
        return await handler(request)
    except ApiError as error:
        return _failure(request, error.status, error.text)
    except web.HTTPRequestEntityTooLarge:
        return _failure(request, TOO_LARGE, "request body too large")
    except web.HTTPNotFound:
        return _plain(404, "404 page not found", {})
    except web.HTTPMethodNotAllowed as error:
        allowed = {"Allow": ", ".join(sorted(error.allowed_methods))}
        return _plain(405, "405 method not allowed", allowed)


def _plain(status: int, text: str, headers: dict[str, str]) -> web.Response:
    body = text.encode()
    return web.Response(body=body, status=status, headers={**headers, "Content-Type": "text/plain"})


def _failure(request: web.Request, status: int, text: str) -> web.Response:
    path = request.path
    if path.startswith("/v1/messages"):
        identified = anthropic.error_body(status, text, f"req_{secrets.token_hex(12)}")
        return json_response(identified, status, "application/json")
    if path.startswith("/v1/") or path in RERANK_PATHS:
        return json_response(openai.error_body(status, text), status, "application/json")
    return json_response({"error": text}, status)
