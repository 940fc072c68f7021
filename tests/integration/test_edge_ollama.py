"""The edge against a real Ollama: the same refusals, and none of the requests that it dies of gets there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.config import ExternalWorker
from tests.support.gateway import gateway
from tests.support.models import counting_model
from tests.support.ollama_store import NEEDS_OLLAMA, ask, import_models, server

pytestmark = NEEDS_OLLAMA

BRIEF = {"num_predict": 2}
ROUTES = ["/api/generate", "/api/chat", "/api/embed", "/api/embeddings"]
V1_ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
TALK = {"prompt": "1 2", "messages": [{"role": "user", "content": "1 2"}], "input": "1 2"}
SOUND: list[dict[str, Any]] = [
    {"format": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2000}}}},
    {"format": {"type": "string", "pattern": "^[a-z]{2,5}(x|y)*$"}},
    {"format": {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(150)}}},
    {"context": [53, 261, 262]},
]
DEADLY: list[dict[str, Any]] = [
    {"format": {"type": "string", "pattern": "^*$"}},
    {"format": {"type": "string", "pattern": "^(?:a)$"}},
    {"format": {"type": "object", "properties": {"!" * 100_000: {"type": "string"}}}},
    {"format": {"type": "string", "maxLength": 2001}},
    {"context": [99_999_999]},
    {"context": [-1]},
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a server with one model; the value is its port."""
    directory = tmp_path_factory.mktemp("edge")
    import_models(directory / "store", counting_model(directory))
    with server(directory / "store") as port:
        yield port


def worker(port: int) -> ExternalWorker:
    """Return what a file would say of it."""
    return ExternalWorker.model_validate(
        {"name": "w0", "url": f"http://127.0.0.1:{port}", "memory": "1GiB", "keep_alive": -1}
    )


async def test_real_server_lives_through_what_would_end_it(tmp_path: Path, real: int) -> None:
    """And answers what only looks like it."""
    async with gateway(tmp_path, external=[worker(real)]) as bench:
        for sound in SOUND:
            answer = await bench.post(prompt="1 2", stream=False, options=BRIEF, **sound)
            assert answer.status == 200, answer.text
        for deadly in DEADLY:
            answer = await bench.post(prompt="1 2", stream=False, options=BRIEF, **deadly)
            assert answer.status == 400, answer.text
    assert (
        ask(real, "/api/generate", {"model": "count", "prompt": "1", "options": BRIEF, "stream": False})[0]
        == 200
    )


@pytest.mark.parametrize("model", [None, "", " ", "nobody", "a b", "x/y/z/w", 3, ["m"]])
async def test_names_are_refused_in_the_real_servers_words(tmp_path: Path, real: int, model: Any) -> None:
    """On every route; a list of the models that there are may follow."""
    body = TALK if model is None else {**TALK, "model": model}
    async with gateway(tmp_path, external=[worker(real)]) as bench:
        for route in (*ROUTES, *V1_ROUTES):
            status, theirs = ask(real, route, body)
            async with bench.http.post(bench.url + route, json=body) as response:
                ours = await response.read()
            assert response.status == status, route
            assert message(ours).startswith(message(theirs)), route


def message(answer: bytes) -> str:
    """Return the text of an error."""
    error = json.loads(answer)["error"]
    return str(error["message"] if isinstance(error, dict) else error)
