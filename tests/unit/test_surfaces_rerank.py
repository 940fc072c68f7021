from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.surfaces.rerank import RerankSurface
from gateway.surfaces.surface import BadRequestError, Facts

SURFACE, ROUTE = RerankSurface(), "/v1/rerank"


def facts(**body: Any) -> Facts:
    """Parse a request."""
    return SURFACE.parse(ROUTE, json.dumps({"model": "m", **body}).encode()).facts


@pytest.mark.parametrize("field", ["documents", "texts"])
def test_each_document_is_read_with_the_query(field: str) -> None:
    """And the longest of them has to fit with it."""
    read = facts(query="q" * 40, **{field: ["a" * 400, {"text": "b" * 80}]})
    assert (read.prompt_tokens, read.longest_prompt_tokens) == (10 + 100 + 10 + 20, 110)


@pytest.mark.parametrize("documents", [None, [], "text", 3])
def test_odd_documents_are_the_workers_to_refuse(documents: object) -> None:
    """The estimate is none then."""
    assert facts(query="q", documents=documents).prompt_tokens == 0


def test_nothing_is_streamed_or_remembered() -> None:
    """Reranking has no conversation."""
    read = facts(query="q", documents=["a"], stream=True)
    assert (read.stream, read.session) == (False, "")


def test_tokens_that_were_read_are_told_by_the_usage() -> None:
    """Jina tells only their total."""
    assert SURFACE.counts(ROUTE, b'"usage":{"prompt_tokens":7,"total_tokens":7}}', 0) == (0, 7)
    assert SURFACE.counts(ROUTE, b'"usage":{"total_tokens":9}}', 0) == (0, 9)
    assert SURFACE.counts(ROUTE, b"{}", 0) == (0, None)


def test_errors_are_openais() -> None:
    """As llama.cpp gives them."""
    assert json.loads(SURFACE.error(400, "why"))["error"]["message"] == "why"
    with pytest.raises(BadRequestError, match="model is required"):
        SURFACE.parse(ROUTE, b'{"query":"q"}')
