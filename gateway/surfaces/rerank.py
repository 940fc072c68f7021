"""Reranking as Jina, Cohere and llama.cpp do it: a query, documents, and how well each fits.

Decides what its requests mean. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.surfaces.identity import Caller
from gateway.surfaces.openai import error_object
from gateway.surfaces.prompts import size_of
from gateway.surfaces.surface import (
    NOBODY,
    Counts,
    ParsedRequest,
    last_count,
    read_facts,
    read_object,
    with_known_keys,
)


class RerankSurface:
    """Reranking, under all the paths that clients know it by."""

    name = "rerank"
    routes = frozenset({"/v1/rerank", "/v1/reranking", "/v2/rerank", "/rerank", "/reranking"})
    carries_context = False
    id_header = "X-Request-Id"
    frame_end = b"\n"

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a request; its bytes go to the worker as they are."""
        written = read_object(body, route)
        request = with_known_keys(written)
        facts = read_facts(request, caller, stream=False, converses=False, route=route)
        tokens, longest = _size_of(request)
        facts = replace(facts, prompt_tokens=tokens, longest_prompt_tokens=longest)
        return ParsedRequest(facts, body if request is written else json.dumps(request).encode())

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:  # noqa: ARG002 -- no part of this shape
        """Return OpenAI's error object, as llama.cpp does."""
        return json.dumps(error_object(status, message)).encode()

    def error_frame(self, message: str, frames: int = 0) -> bytes:  # noqa: ARG002 -- nothing is streamed
        """Return the error object: an answer is one object."""
        return self.error(500, message)

    def final_marks(self, route: str) -> tuple[bytes, ...]:  # noqa: ARG002 -- nothing is streamed
        """Return none."""
        return ()

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:  # noqa: ARG002 -- the usage tells
        """Return the tokens that were read; none are generated."""
        told = last_count(b'"prompt_tokens":', tail)
        return Counts(0, last_count(b'"total_tokens":', tail) if told is None else told)


def _size_of(request: Mapping[str, Any]) -> tuple[int, int]:
    """Return about how many tokens are read, and with the longest document: each is read with the query."""
    documents = request.get("documents") or request.get("texts") or []
    texts = [_text(document) for document in documents] if isinstance(documents, list) else []
    query = size_of({"prompt": request.get("query")}).tokens
    read = size_of({"input": texts})
    return read.tokens + query * len(texts), read.longest + query


def _text(document: object) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    return text if isinstance(text, str) else ""
