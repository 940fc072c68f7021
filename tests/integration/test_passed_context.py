"""`scheduling.context: pass` in the whole of Corral, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import eventually


@pytest.fixture(params=ENGINES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """One worker with room for two models, and one model."""
    directory = tmp_path_factory.mktemp("passed")
    counting_model(directory / "models")
    limits = {"engine": request.param, "context_length": 1024, "max_loaded_models": 2, "num_parallel": 2}
    changes: dict[str, Any] = {"worker_defaults": limits, "cpu_workers": 1, "scheduling": {"context": "pass"}}
    with corral(directory, engine=request.param, **changes) as running:
        yield running


def test_context_that_a_request_brings_is_what_it_runs_with(running: Corral) -> None:
    """The worker says so, each change costs one load, and the log tells all of it."""
    asked: dict[str, Any] = {"model": "count", "prompt": "1 2", "raw": True, "stream": False}
    seen = []
    with httpx.Client(base_url=running.url, timeout=60) as client:
        for more in ({}, {"num_ctx": 2048}, {"num_ctx": 2048}, {}):
            options = {"num_predict": 3, "temperature": 0, **more}
            answer = client.post("/api/generate", json={**asked, "options": options})
            assert answer.json()["response"].split() == ["3", "4", "5"]
            seen += [[model["context_length"] for model in client.get("/api/ps").json()["models"]]]
        chat = {"model": "count", "messages": [{"role": "user", "content": "go"}], "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
    assert seen == [[1024], [2048], [2048], [1024]]
    lines = eventually(lambda: requests_of(running), "five lines in the log") or []
    told = [(line["context"], line["context_tokens"]) for line in lines]
    assert told == [
        ("configured", 1024),
        ("passed", 2048),
        ("passed", 2048),
        ("configured", 1024),
        ("configured", 1024),
    ]
    assert (lines[-1]["surface"], lines[-1]["tokens"]) == ("openai", 2)
    assert sum(line["event"] == "load" for line in running.log()) == 3


def requests_of(running: Corral) -> list[dict[str, Any]] | None:
    """Return the lines of all five requests, once they are there: a line follows its answer."""
    lines = [line for line in running.log() if line["event"] == "request"]
    return lines if len(lines) == 5 else None
