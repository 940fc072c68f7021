"""Reranking: how well documents fit a query, as llama.cpp, Jina and Cohere answer it.

The documents of one request are read one after the other on its one slot, so that a request never computes
more at once than it was granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from supervisor.contract import wire
from supervisor.engines.embedded import bodies, structs
from supervisor.engines.embedded.delivery import json_response
from supervisor.engines.embedded.failures import BAD_REQUEST, NOT_FOUND, NOT_IMPLEMENTED, ApiError
from supervisor.engines.embedded.upstream import Upstream
from supervisor.engines.embedded.worker import Worker
from supervisor.models.model import ModelFile

PATHS: Final = ("/v1/rerank", "/v1/reranking", "/v2/rerank", "/rerank", "/reranking")
"""All names by which clients know the one route."""
_NO_DOCUMENTS: Final = '"documents" must be a non-empty array of texts'


@dataclass(frozen=True, slots=True)
class Score:
    """What the model says of one document."""

    index: int
    score: float
    tokens: int
    """Of query and document together."""


class RerankRoutes:
    """The handler of reranking."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def rerank(self, request: web.Request) -> web.Response:
        """POST /v1/rerank."""
        body = bodies.decode(await request.read(), structs.RERANK)
        model = self._find(body.get("model", ""))
        query, texts = asked(body)
        options = self._worker.options(model, {})
        async with self._worker.lease(model, options, None) as runner:
            upstream = self._worker.upstream(runner)
            scores = [await _score(upstream, n, query, text) for n, text in enumerate(texts)]
        return json_response(ranking(body, scores, texts), content_type="application/json")

    def _find(self, name: str) -> ModelFile:
        if not name:
            raise ApiError(BAD_REQUEST, wire.MODEL_REQUIRED)
        model = self._worker.find(name)
        if model is None:
            raise ApiError(NOT_FOUND, wire.model_not_found(name))
        if not model.facts.ranks:
            text = f'"{name}" does not support reranking: its weights have no rank pooling; use a reranker'
            raise ApiError(NOT_IMPLEMENTED, text)
        return model


def asked(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return query and documents; a document may be an object with a `text`.

    Raises:
        ApiError: 400, one of them is missing or of another type.
    """
    if "query" not in body:
        raise ApiError(BAD_REQUEST, '"query" must be a string')
    documents = body.get("documents") or body.get("texts") or []
    given = [d.get("text") if isinstance(d, dict) else d for d in documents]
    texts = [text for text in given if isinstance(text, str)]
    if not texts or len(texts) != len(given):
        raise ApiError(BAD_REQUEST, _NO_DOCUMENTS)
    return body["query"], texts


def ranking(body: Mapping[str, Any], scores: Sequence[Score], texts: Sequence[str]) -> Any:  # noqa: ANN401 -- JSON
    """Return the answer, the best first; a plain list where the request was of the form with `texts`."""
    best = sorted(scores, key=lambda score: -score.score)[: body.get("top_n", len(scores))]
    if not body.get("documents"):
        return [_plain(item, texts[item.index] if body.get("return_text") else None) for item in best]
    results = [_result(item, texts[item.index] if body.get("return_documents") else None) for item in best]
    tokens = sum(score.tokens for score in scores)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"model": body["model"], "object": "list", "usage": usage, "results": results}


def _plain(item: Score, text: str | None) -> dict[str, object]:
    told: dict[str, object] = {"index": item.index, "score": item.score}
    return told if text is None else told | {"text": text}


def _result(item: Score, text: str | None) -> dict[str, object]:
    told: dict[str, object] = {"index": item.index, "relevance_score": item.score}
    return told if text is None else told | {"document": {"text": text}}


async def _score(upstream: Upstream, index: int, query: str, text: str) -> Score:
    answer = await upstream.call("/v1/rerank", {"query": query, "documents": [text]})
    return Score(index, answer["results"][0]["relevance_score"], answer["usage"]["prompt_tokens"])
