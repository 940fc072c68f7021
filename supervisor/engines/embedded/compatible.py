"""OpenAI's routes: each body is turned into a native one and the native answer back."""

from __future__ import annotations

import secrets
import time
from typing import Any

from aiohttp import web

from supervisor.contract import wire
from supervisor.engines.embedded import bodies, openai, structs
from supervisor.engines.embedded.delivery import deliver, json_response
from supervisor.engines.embedded.failures import NOT_FOUND, ApiError
from supervisor.engines.embedded.native import answer_frames, chat_call, generate_call
from supervisor.engines.embedded.responses import ResponsesRendering
from supervisor.engines.embedded.responses_input import to_chat
from supervisor.engines.embedded.showing import modified_at
from supervisor.engines.embedded.vectors import embed_answer
from supervisor.engines.embedded.worker import Worker
from supervisor.models.model import ModelFile


class OpenAiRoutes:
    """Handlers under /v1."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        body = bodies.decode(await request.read(), structs.OPENAI_CHAT)
        rendering = openai.ChatRendering(
            id=f"chatcmpl-{secrets.randbelow(1000)}", created=int(time.time()), include_usage=_usage(body)
        )
        frames = answer_frames(self._worker, chat_call(self._worker, openai.to_chat(body)))
        return await deliver(request, frames, rendering, stream=body.get("stream", False))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        body = bodies.decode(await request.read(), structs.OPENAI_COMPLETION)
        rendering = openai.CompletionRendering(
            id=f"cmpl-{secrets.randbelow(1000)}", created=int(time.time()), include_usage=_usage(body)
        )
        frames = answer_frames(self._worker, generate_call(self._worker, openai.to_generate(body)))
        return await deliver(request, frames, rendering, stream=body.get("stream", False))

    async def responses(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""
        body = bodies.decode(await request.read(), structs.RESPONSES)
        rendering = ResponsesRendering(
            number=secrets.randbelow(1_000_000), created=int(time.time()), request=body
        )
        frames = answer_frames(self._worker, chat_call(self._worker, to_chat(body)))
        return await deliver(request, frames, rendering, stream=body.get("stream", False))

    async def embeddings(self, request: web.Request) -> web.Response:
        """POST /v1/embeddings."""
        body = bodies.decode(await request.read(), structs.OPENAI_EMBED)
        answer = await embed_answer(self._worker, openai.to_embed(body))
        encoding = body.get("encoding_format", "")
        return _json(openai.embedding_list(body.get("model", ""), answer, encoding))

    async def models(self, _request: web.Request) -> web.Response:
        """GET /v1/models."""
        models = sorted(self._worker.library.scan().values(), key=lambda m: -m.modified_ns)
        data = [_entry(model, model.name.short) for model in models] or None
        return _json({"object": "list", "data": data})

    async def model(self, request: web.Request) -> web.Response:
        """GET /v1/models/{id}."""
        name = request.match_info["id"]
        model = self._worker.find(name)
        if model is None:
            raise ApiError(NOT_FOUND, wire.model_not_found(name))
        return _json(_entry(model, name))


def _usage(body: dict[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _entry(model: ModelFile, name: str) -> dict[str, Any]:
    return openai.model_entry(name, model.name.namespace, int(modified_at(model).timestamp()))


def _json(value: dict[str, Any]) -> web.Response:
    return json_response(value, content_type="application/json")
