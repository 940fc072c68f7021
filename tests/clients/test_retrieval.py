"""Retrieval: an embedding model and a chat model take turns, and both stay where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client_environments import command
from tests.support.clients import make_models, watch
from tests.support.corral import corral
from tests.support.ollama_store import ENGINES

ROUNDS = 9
REQUESTS_A_ROUND = 3


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_loaded_after_the_first_round(tmp_path: Path, engine: str) -> None:
    """The log has two loads, both before the first answer, and both models are resident at the end."""
    make_models(tmp_path / "models")
    with corral(tmp_path, engine=engine) as running:
        seen = watch(command("here", "rag"), running)
        resident = {model["model"] for worker in running.ps()["workers"] for model in worker["resident"]}
    assert seen["first_round"]["saw"] == "A horse is ridden. 1 2 3 4 5"
    assert seen["more_rounds"]["saw"] == [seen["first_round"]["saw"]] * (ROUNDS - 1)
    assert resident == {"five:latest", "embed:latest"}
    events = [line["event"] for line in running.log() if line["event"] in ("load", "request")]
    assert events.count("request") == ROUNDS * REQUESTS_A_ROUND
    assert "load" not in events[events.index("request", events.index("load")) + REQUESTS_A_ROUND :]
    assert events.count("load") == 2
