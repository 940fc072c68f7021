"""Names over the same weights on a real Ollama: one runner there, so one model to the gateway."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import pytest

from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import NEEDS_OLLAMA, server
from tests.support.supervisor import eventually

pytestmark = NEEDS_OLLAMA
GO = [{"role": "user", "content": "go"}]


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """`count`, and `short` which is the same weights with a parameter of its own."""
    directory = tmp_path_factory.mktemp("shared")
    counting_model(directory / "models")
    with corral(directory, engine="ollama") as running:
        yield running


def test_two_names_over_the_same_weights_have_the_slots_of_one_runner(running: Corral) -> None:
    """They are counted once, whichever was asked for first."""
    with server(running.directory / "store") as port, ollama.Client(f"http://127.0.0.1:{port}") as alone:
        alone.create("short", from_="count", parameters={"num_predict": 2})
    with ollama.Client(running.url) as client:
        eventually(lambda: len(client.list().models) == 2, "the second name in the list")
        for model in ("count", "short", "count"):
            client.chat(model, GO, options={"num_predict": 1})
    resident = [model for worker in running.ps()["workers"] for model in worker["resident"]]
    assert len(resident) == 1
    assert sum(line["event"] == "load" for line in running.log()) == 1
