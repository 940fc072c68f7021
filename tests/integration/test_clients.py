"""The real `ollama` and `openai` clients against supervisor, gateway and two workers of each engine."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator

import ollama
import openai
import pytest

from tests.support.corral import Corral, corral
from tests.support.models import corrupt_model, counting_model, embedding_model, unsupported_model
from tests.support.ollama_store import ENGINES

GO = [{"role": "user", "content": "go"}]
COUNT_TO_FIVE = {"num_predict": 5, "temperature": 0}


@pytest.fixture(scope="module", params=ENGINES)
def running(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """One Corral for all tests of this file: it has to live with all of them."""
    directory = tmp_path_factory.mktemp("clients")
    counting_model(directory / "models")
    embedding_model(directory / "models", name="embed")
    corrupt_model(directory / "models")
    unsupported_model(directory / "models")
    with corral(directory, engine=request.param) as running:
        yield running


@pytest.fixture
def native(running: Corral) -> Iterator[ollama.Client]:
    """Ollama's own client, pointed at Corral and otherwise as it is."""
    with ollama.Client(running.url) as client:
        yield client


@pytest.fixture
def sdk(running: Corral) -> Iterator[openai.OpenAI]:
    """OpenAI's own client; it would retry, so that is switched off."""
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_ollama_chat_streams(native: ollama.Client) -> None:
    """Each token comes as a frame of its own and the last frame has the counts."""
    parts = list(native.chat("count", GO, stream=True, options=COUNT_TO_FIVE))
    assert "".join(part.message.content or "" for part in parts) == "1 2 3 4 5"
    assert len(parts) > 3
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].eval_count) == (True, "length", 5)


def test_ollama_chat_in_one_piece(native: ollama.Client) -> None:
    """Without streaming the whole answer comes as one object."""
    answer = native.chat("count", GO, options=COUNT_TO_FIVE)
    assert answer.message.content == "1 2 3 4 5"


def test_ollama_generate_goes_on_from_a_raw_prompt(native: ollama.Client) -> None:
    """`raw` gives the model the prompt as it is."""
    answer = native.generate("count", "39 40 41", raw=True, options={"num_predict": 3, "temperature": 0})
    assert answer.response == " 42 43 44"


def test_ollama_embeds(native: ollama.Client) -> None:
    """Several texts at once give as many vectors of length one; the old route gives one."""
    vectors = native.embed("embed", ["horse", "a ranch"]).embeddings
    assert len(vectors) == 2
    assert sum(x * x for x in vectors[0]) == pytest.approx(1.0, abs=1e-3)
    assert len(native.embeddings("embed", "horse").embedding) == len(vectors[0])


def test_ollama_lists_and_shows(native: ollama.Client) -> None:
    """Tags has every model that can be read, ps those that are loaded, show a model's header."""
    native.generate("count", "1", options={"num_predict": 1})
    names = {model.model for model in native.list().models}
    assert {"count:latest", "embed:latest"} <= names
    loaded = {model.model: model for model in native.ps().models}
    assert loaded["count:latest"].context_length == 2048
    assert loaded["count:latest"].digest
    assert native.show("count").modelinfo


def test_ollama_hears_which_models_exist(native: ollama.Client) -> None:
    """An unknown model is a 404 that names the others."""
    with pytest.raises(ollama.ResponseError, match="count:latest") as caught:
        native.chat("nobody", GO)
    assert caught.value.status_code == 404


@pytest.mark.parametrize("model", ["corrupt", "unsupported"])
def test_model_that_cannot_be_loaded_is_a_500_and_harms_nobody(native: ollama.Client, model: str) -> None:
    """The engine's reason reaches the client; the workers serve on as the same processes."""
    with pytest.raises(ollama.ResponseError) as caught:
        native.chat(model, GO)
    assert caught.value.status_code in (404, 500)
    assert native.chat("count", GO, options=COUNT_TO_FIVE).message.content == "1 2 3 4 5"


def test_openai_chat_streams(sdk: openai.OpenAI) -> None:
    """SSE chunks with deltas, and the usage at the end for who asks for it."""
    stream = sdk.chat.completions.create(
        model="count",
        messages=[{"role": "user", "content": "go"}],
        max_tokens=5,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "1 2 3 4 5"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


def test_openai_chat_in_one_piece(sdk: openai.OpenAI) -> None:
    """The message, the reason it ended for, and the usage."""
    answer = sdk.chat.completions.create(
        model="count", messages=[{"role": "user", "content": "go"}], max_tokens=5, temperature=0
    )
    assert answer.choices[0].message.content == "1 2 3 4 5"
    assert answer.choices[0].finish_reason == "length"


def test_openai_completes(sdk: openai.OpenAI) -> None:
    """The older route, in one piece and streamed."""
    answer = sdk.completions.create(model="count", prompt="go", max_tokens=4, temperature=0)
    assert answer.choices[0].text.split() == ["1", "2", "3", "4"]
    stream = sdk.completions.create(model="count", prompt="go", max_tokens=4, temperature=0, stream=True)
    assert "".join(c.text for chunk in stream for c in chunk.choices).split() == ["1", "2", "3", "4"]


def test_openai_embeds_as_numbers_and_as_base64(sdk: openai.OpenAI) -> None:
    """The SDK asks for base64 on its own; both forms hold the same vector."""
    plain = sdk.embeddings.create(model="embed", input="horse", encoding_format="float").data[0].embedding
    packed = sdk.embeddings.with_raw_response.create(model="embed", input="horse", encoding_format="base64")
    data = packed.http_response.json()["data"][0]["embedding"]
    assert struct.unpack(f"<{len(plain)}f", base64.b64decode(data)) == pytest.approx(plain, abs=1e-6)


def test_openai_lists_models(sdk: openai.OpenAI) -> None:
    """The same models as Ollama's list."""
    assert "count:latest" in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve("count").id == "count"


def test_openai_hears_which_models_exist(sdk: openai.OpenAI) -> None:
    """The SDK raises its own not-found error."""
    with pytest.raises(openai.NotFoundError, match="count:latest"):
        sdk.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "go"}])


def test_workers_are_pinned_to_cores_of_their_own(running: Corral) -> None:
    """No core is shared between two workers, and each worker keeps to what is said of it."""
    cores = [os.sched_getaffinity(worker["pid"]) for worker in running.ps()["workers"]]
    assert len(cores) == 2
    assert not cores[0] & cores[1]


def test_each_request_leaves_one_line(running: Corral, native: ollama.Client) -> None:
    """Id, model, worker, reason, times, tokens and outcome stand in one log line."""
    native.chat("count", GO, options=COUNT_TO_FIVE)
    line = [line for line in running.log() if line["event"] == "request"][-1]
    assert (line["model"], line["tokens"]) == ("count:latest", 5)
    assert (line["outcome"], line["status"]) == ("done", 200)
    assert line["worker"] in ("cpu0", "cpu1")
    assert line["why"]
    assert line["first_byte_s"] <= line["total_s"]
