"""A whole Corral of embedded workers over an Ollama store that nobody else serves."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import pytest

from tests.support.corral import Corral, corral
from tests.support.handmade_store import HandmadeStore
from tests.support.models import counting_model

GO = [{"role": "user", "content": "go"}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """Two names over one weights file; one of them begins its answers at 42."""
    directory = tmp_path_factory.mktemp("store")
    weights = counting_model(directory / "made")
    store = HandmadeStore(directory / "store")
    store.add("plain:latest", weights)
    store.add("from41:latest", weights, template="{{ .Prompt }} 41", params={"num_predict": 3})
    before = store.state()
    with corral(directory) as running:
        yield running
    assert store.state() == before, "the store was changed"


def test_models_of_the_store_are_served_with_their_templates(running: Corral) -> None:
    """The Modelfile's template and parameters hold, for chat too."""
    with ollama.Client(running.url) as client:
        assert {model.model for model in client.list().models} == {"plain:latest", "from41:latest"}
        answer = client.chat("from41", GO, options={"temperature": 0})
        assert answer.message.content == " 42 43 44"
        assert client.chat("plain", GO, options={"temperature": 0, "num_predict": 3}).message.content


def test_names_over_the_same_weights_share_a_runner_and_its_slots(running: Corral) -> None:
    """The gateway counts them once: one model is resident, whichever name was asked for."""
    with ollama.Client(running.url) as client:
        for model in ("plain", "from41", "plain"):
            client.chat(model, GO, options={"num_predict": 1})
    resident = [model for worker in running.ps()["workers"] for model in worker["resident"]]
    assert len(resident) == 1
    assert sum(line["event"] == "load" for line in running.log()) == 1
