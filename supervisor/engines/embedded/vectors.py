"""Routes for embeddings: /api/embed, /api/embeddings and what /v1/embeddings needs of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from supervisor.contract import wire
from supervisor.engines.embedded import bodies, structs
from supervisor.engines.embedded.delivery import json_response
from supervisor.engines.embedded.embedding import embed, normalised
from supervisor.engines.embedded.failures import BAD_REQUEST, INTERNAL, NOT_FOUND, ApiError
from supervisor.engines.embedded.worker import Worker, keep_alive_of
from supervisor.models.model import ModelFile


async def embed_answer(worker: Worker, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a body of /api/embed.

    Raises:
        ApiError: it is refused, or fails.
    """
    began_ns = time.monotonic_ns()
    texts = input_texts(body.get("input"))
    name = body.get("model", "")
    model = worker.find(name)
    if model is None:
        missing = wire.model_not_found_try_pulling(name) if name else wire.model_not_found("")
        raise ApiError(NOT_FOUND, missing)
    options = worker.options(model, body)
    async with worker.lease(model, options, keep_alive_of(body)) as runner:
        load_ns = time.monotonic_ns() - began_ns
        if not texts:
            return {"model": name, "embeddings": []}
        upstream, limit = worker.upstream(runner), _limit(worker, model, options)
        truncate = body.get("truncate", True)
        found = [await embed(upstream, text, limit=limit, truncate=truncate) for text in texts]
    return {
        "model": name,
        "embeddings": [_vector(item.vector, body.get("dimensions", 0)) for item in found],
        "total_duration": time.monotonic_ns() - began_ns,
        "load_duration": load_ns,
        "prompt_eval_count": sum(item.tokens for item in found),
    }


def input_texts(value: object) -> list[str]:
    """Return the texts of `input`: none for nothing or an empty text.

    Raises:
        ApiError: 400, it is no text and no list of texts.
    """
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ApiError(BAD_REQUEST, "invalid input type")
    return texts


class VectorRoutes:
    """Handlers of Ollama's embedding routes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def embed(self, request: web.Request) -> web.Response:
        """POST /api/embed."""
        body = bodies.decode(await request.read(), structs.EMBED)
        return json_response(await embed_answer(self._worker, body))

    async def embeddings(self, request: web.Request) -> web.Response:
        """POST /api/embeddings, the older form: one text, its vector as the model gives it."""
        body = bodies.decode(await request.read(), structs.EMBEDDINGS)
        name = body.get("model", "")
        if not name:
            raise ApiError(BAD_REQUEST, wire.MODEL_REQUIRED)
        model = self._worker.find(name)
        if model is None:
            raise ApiError(NOT_FOUND, wire.model_not_found_try_pulling(name))
        options = self._worker.options(model, body)
        async with self._worker.lease(model, options, keep_alive_of(body)) as runner:
            if not body.get("prompt"):
                return json_response({"embedding": []})
            limit = _limit(self._worker, model, options)
            upstream = self._worker.upstream(runner)
            try:
                found = await embed(upstream, body["prompt"], limit=limit, truncate=False)
            except ApiError as error:
                raise ApiError(INTERNAL, error.text) from error
        return json_response({"embedding": list(found.vector)})


def _limit(worker: Worker, model: ModelFile, options: Mapping[str, Any]) -> int:
    """Return the tokens a text may have; llama.cpp keeps one of a chat model's context for an answer."""
    return worker.context_length(model, options) - (0 if model.facts.embeds else 1)


def _vector(vector: tuple[float, ...], dimensions: int) -> list[float]:
    unit = normalised(vector)
    return normalised(unit[:dimensions]) if 0 < dimensions < len(unit) else unit
