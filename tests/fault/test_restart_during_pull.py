"""A worker that is killed while it pulls: its successor goes on with the pull, and the client sees one."""

from __future__ import annotations

import json
import os
import signal
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.aftermath import all_comes_back
from tests.support.corral import corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.registry import registry
from tests.support.supervisor import eventually


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pull_goes_on_when_its_worker_is_killed(tmp_path: Path, engine: str) -> None:
    """No byte that was there is fetched again beyond a part, and the model that was pulled answers."""
    counting_model(tmp_path / "models", name="other")
    weights = counting_model(tmp_path / "made")
    with (
        registry() as shop,
        corral(tmp_path, engine=engine, workers=[{"name": "w0"}]) as running,
        all_comes_back(running),
    ):
        model = shop.add("pulled", weights, template="{{ .Prompt }}")
        shop.faults.held[model.weights] = weights.stat().st_size // 2
        connection = HTTPConnection(urlsplit(running.url).netloc, timeout=60)
        connection.request("POST", "/api/pull", json.dumps({"model": model.name, "insecure": True}))
        answer = connection.getresponse()
        eventually(lambda: shop.fetched(model.weights), "the weights come")
        victim = running.worker("w0")
        os.kill(victim["pid"], signal.SIGKILL)
        running.wait_until_replaced("w0", after=victim["incarnation"])
        shop.release()
        lines = [json.loads(line) for line in answer.read().splitlines()]
        assert lines[-1] == {"status": "success"}, lines[-1]
        assert not [line for line in lines if "error" in line]
        order = {"model": model.name, "prompt": "1 2", "stream": False, "options": {"num_predict": 1}}
        connection.request("POST", "/api/generate", json.dumps(order))
        assert connection.getresponse().status == 200
        connection.close()
    assert shop.mistakes == []
