"""How many tokens a streamed answer had, where the worker does not say: the log against the truth."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import eventually


@pytest.fixture(params=ENGINES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """One worker and one model."""
    directory = tmp_path_factory.mktemp("streamed")
    counting_model(directory / "models")
    with corral(directory, engine=request.param, cpu_workers=1) as running:
        yield running


def test_tokens_of_an_openai_stream_are_known_without_its_usage(running: Corral) -> None:
    """The same number as with it, and as Ollama's own API tells; else no log could be replayed."""
    messages = [{"role": "user", "content": "go"}]
    chat = {"model": "count", "messages": messages, "stream": True, "max_tokens": 7, "temperature": 0}
    native = {"model": "count", "messages": messages, "options": {"num_predict": 7, "temperature": 0}}
    text = {"model": "count", "prompt": "1 2", "stream": True, "max_tokens": 7, "temperature": 0}
    with httpx.Client(base_url=running.url, timeout=60) as client:
        for path, body in (
            ("/api/chat", native),
            ("/v1/chat/completions", {**chat, "stream_options": {"include_usage": True}}),
            ("/v1/chat/completions", chat),
            ("/v1/completions", text),
        ):
            assert client.post(path, json=body).status_code == 200
    assert eventually(lambda: tokens_of_four(running), "four lines in the log") == [7, 7, 7, 7]


def tokens_of_four(running: Corral) -> list[int] | None:
    """Return the tokens that the lines of all four requests tell, once they are there."""
    tokens = [line["tokens"] for line in running.log() if line["event"] == "request"]
    return tokens if len(tokens) == 4 else None
