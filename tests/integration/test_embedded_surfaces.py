"""The embedded worker's other surfaces: Messages, Responses, reranking; real processes and sockets."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from http.client import IncompleteRead
from typing import Any

import pytest

from tests.support.embedded_worker import WorkerProcess, embedded_worker, wait_until
from tests.support.handmade_store import HandmadeStore
from tests.support.models import counting_model, ranking_model

GREEDY = {"temperature": 0}
HELLO = [{"role": "user", "content": "hello"}]
FROM_41 = "{{ range .Messages }}{{ .Role }} {{ .Content }} {{ end }}{{ if .Tools }}{{ .Tools }}{{ end }}41"
THINKS = "{{ range .Messages }}{{ if .Thinking }}5 {{ .Thinking }} 8{{ end }}{{ .Content }}{{ end }}"
CALLS = (
    "{{ range .Messages }}{{ .Content }}{{ if .ToolCalls }}"
    "{{ range .ToolCalls }}5 {{ .Function.Arguments }}{{ end }}{{ end }}{{ end }}{{ if .Tools }}4{{ end }}"
)
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with GGUF files, and a store with templates of its own."""
    models, weights = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("weights")
    counting_model(models)
    ranking_model(models)
    store = HandmadeStore(tmp_path_factory.mktemp("store"))
    made = counting_model(weights)
    store.add("from41", made, template=FROM_41)
    store.add("thinks", made, template=THINKS + "{{ if .Think }} 4{{ end }}")
    store.add("calls", made, template=CALLS)
    with embedded_worker(models, OLLAMA_MODELS=store.path) as process:
        yield process


SOON_S = 8.0
"""Long before what the slow model was asked for would have ended, on a machine that does nothing else."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker whose model takes milliseconds a token."""
    models = tmp_path_factory.mktemp("slow")
    counting_model(models, width=1024, layers=8, heads=8, feed_forward=4096)
    with embedded_worker(models, OLLAMA_CONTEXT_LENGTH=2048) as process:
        process.post("/api/generate", model="count")
        yield process


def message(worker: WorkerProcess, **fields: Any) -> Any:
    """Return the answer to a body of /v1/messages."""
    body = {"model": "count", "max_tokens": 3, "messages": HELLO, **GREEDY} | fields
    answer = worker.post("/v1/messages", **body)
    assert answer.status == 200, answer.text
    return answer.json


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return names and data of server-sent events."""
    pairs = [event.split("\ndata: ") for event in text.split("\n\n") if event]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in pairs]


def test_a_message_is_answered_with_its_usage(worker: WorkerProcess) -> None:
    """As Anthropic's API shapes it."""
    answer = message(worker)
    assert answer["content"] == [{"type": "text", "text": "1 2 3"}]
    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"] == {"input_tokens": 24, "output_tokens": 3}
    assert answer["id"].startswith("msg_")


def test_a_stream_of_a_message_tells_the_prompt_at_its_beginning(worker: WorkerProcess) -> None:
    """And the same text as the whole answer."""
    text = worker.post(
        "/v1/messages", model="count", max_tokens=3, messages=HELLO, stream=True, **GREEDY
    ).text
    names = [name for name, _ in events(text)]
    deltas = [data["delta"]["text"] for name, data in events(text) if name == "content_block_delta"]
    assert names == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(deltas) == "1 2 3"
    assert events(text)[0][1]["message"]["usage"] == {"input_tokens": 24, "output_tokens": 0}


@pytest.mark.parametrize("model", ["count", "from41", "calls"])
def test_counted_tokens_are_those_of_the_answer(worker: WorkerProcess, model: str) -> None:
    """With the template of the file, with one of a store, and with tools in it."""
    body: dict[str, Any] = {"model": model, "messages": HELLO, "system": "be brief"}
    if model == "calls":
        body["tools"] = [TOOL]
    counted = worker.post("/v1/messages/count_tokens", **body)
    assert counted.json == {"input_tokens": message(worker, **body)["usage"]["input_tokens"]}


def test_the_template_of_the_store_makes_the_prompt(worker: WorkerProcess) -> None:
    """It ends with 41, so the counting model says 42; both other surfaces use it."""
    answer = message(worker, model="from41")
    assert answer["content"][0]["text"].split() == ["42", "43", "44"]
    response = worker.post("/v1/responses", model="from41", input="x", max_output_tokens=2, **GREEDY).json
    assert response["output"][0]["content"][0]["text"].split() == ["42", "43"]


@pytest.mark.parametrize("model", ["count", "from41"])
def test_the_stop_sequence_that_ended_an_answer_is_named(worker: WorkerProcess, model: str) -> None:
    """Whoever of us looks for it: llama.cpp with a store's template, this worker with the file's own."""
    word = "3" if model == "count" else "43"
    answer = message(worker, model=model, max_tokens=50, stop_sequences=["x", word])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", word)
    assert word not in answer["content"][0]["text"]
    assert answer["usage"]["output_tokens"] < 10


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "stop", "wanted"), [("count", " 2 x", "1 2"), ("from41", " 43 x", "42 43")]
)
def test_text_that_may_begin_a_stop_word_is_told_when_the_limit_comes(
    worker: WorkerProcess, model: str, stop: str, wanted: str, *, stream: bool
) -> None:
    """It was held back, and nothing follows that would make a stop word of it."""
    options = GREEDY | {"num_predict": 2, "stop": [stop]}
    frames = worker.post("/api/chat", model=model, messages=HELLO, options=options, stream=stream).frames
    assert "".join(frame["message"]["content"] for frame in frames).strip() == wanted
    assert frames[-1]["done_reason"] == "length"


def test_an_answer_that_must_not_shift_ends_when_the_context_is_full(worker: WorkerProcess) -> None:
    """Without `shift: false` it would go on."""
    options = GREEDY | {"num_predict": 100}
    body = {"model": "count", "prompt": "1 " * 500, "raw": True, "stream": False, "options": options}
    answer = worker.post("/api/generate", **body, shift=False).json
    assert answer["prompt_eval_count"] + answer["eval_count"] == 513
    assert worker.post("/api/generate", **body).json["eval_count"] == 100


def test_thoughts_are_a_block_of_their_own(worker: WorkerProcess) -> None:
    """The template's marks around them are 5 and 8."""
    answer = message(
        worker, model="thinks", max_tokens=6, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
    assert answer["content"][1]["text"].split() == ["9", "10"]


def test_a_model_that_cannot_think_answers_without_thoughts(worker: WorkerProcess) -> None:
    """Clients of Anthropic's ask for them always; Ollama answers so too."""
    answer = message(worker, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block["type"] for block in answer["content"]] == ["text"]


def test_results_of_tools_reach_the_template(worker: WorkerProcess) -> None:
    """As a message of the tool; the model counts on from what it holds."""
    blocks = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]
    result = [{"type": "tool_result", "tool_use_id": "t", "content": "7"}]
    told = [*HELLO, {"role": "assistant", "content": blocks}, {"role": "user", "content": result}]
    answer = message(worker, model="calls", messages=told)
    assert answer["content"][0]["text"].split()[0] == "8"


@pytest.mark.parametrize(
    ("fields", "status", "kind", "text"),
    [
        ({"model": ""}, 400, "invalid_request_error", "model is required"),
        ({"model": "none"}, 404, "not_found_error", "model 'none' not found"),
        ({"model": "none", "stream": True}, 404, "not_found_error", "model 'none' not found"),
        ({"model": "rank"}, 400, "invalid_request_error", '"rank" does not support chat'),
    ],
)
def test_refusals_of_messages_have_anthropics_form(
    worker: WorkerProcess, fields: dict[str, Any], status: int, kind: str, text: str
) -> None:
    """With an id of their own, also for the counting of tokens."""
    body = {"model": "count", "max_tokens": 3, "messages": HELLO} | fields
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        answer = worker.post(path, **body)
        assert answer.status == status
        assert answer.json["type"] == "error"
        assert answer.json["error"] == {"type": kind, "message": text}
        assert answer.json["request_id"].startswith("req_")


def test_a_client_that_leaves_a_message_frees_its_slot(slow: WorkerProcess) -> None:
    """Streamed or not."""
    body = {"model": "count", "max_tokens": 5000, "messages": HELLO}
    for stream in (False, True):
        connection = slow.send("POST", "/v1/messages", body | {"stream": stream})
        wait_until(lambda: slow.busy() == 1, "it computes")
        connection.close()
        assert wait_until(lambda: slow.busy() == 0, "the slot is free") < SOON_S


def test_a_stop_word_frees_the_slot_at_once(slow: WorkerProcess) -> None:
    """Although llama.cpp was not told of it."""
    message(slow, max_tokens=5000, stop_sequences=["3"])
    assert wait_until(lambda: slow.busy() == 0, "the slot is free") < SOON_S


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 5000, "messages": HELLO}),
        ("/v1/responses", {"input": "hello"}),
    ],
)
def test_a_runner_that_is_killed_ends_a_stream_with_the_surfaces_error(
    slow: WorkerProcess, path: str, body: dict[str, Any]
) -> None:
    """As its last event, on a connection that is cut."""
    _, response = slow.open("POST", path, {"model": "count", "stream": True, **body})
    (runner,) = slow.runners()
    os.kill(runner, signal.SIGKILL)
    with pytest.raises(IncompleteRead) as cut:
        response.read()
    name, data = events(cut.value.partial.decode())[-1]
    assert name == data["type"] == "error"
    assert data["error"]["message"] == "llama runner process has terminated"


def rerank(worker: WorkerProcess, **fields: Any) -> Any:
    """Return the answer to a body of rerank."""
    body = {"model": "rank", "query": "the", "documents": ["music theory", "the cat", "of the"]} | fields
    answer = worker.post("/v1/rerank", **body)
    assert answer.status == 200, answer.text
    return answer.json


def test_documents_are_ranked_by_how_well_they_fit(worker: WorkerProcess) -> None:
    """The best first, each with its place in the request and its score."""
    answer = rerank(worker)
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2]
    assert answer["model"] == "rank"
    assert answer["usage"]["prompt_tokens"] > 3


def test_only_the_best_are_told_and_with_their_texts_if_asked(worker: WorkerProcess) -> None:
    """As Jina and Cohere do; a document may be an object."""
    texts = ["music theory", "the cat", "of the"]
    (best,) = rerank(worker, top_n=1, return_documents=True, documents=[{"text": t} for t in texts])[
        "results"
    ]
    assert best["document"] == {"text": texts[best["index"]]}


def test_the_form_with_texts_is_answered_with_a_list(worker: WorkerProcess) -> None:
    """That is how text-embeddings-inference has it."""
    answer = rerank(worker, documents=None, texts=["a", "b"], return_text=True)
    assert {(item["index"], item["text"]) for item in answer} == {(0, "a"), (1, "b")}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"model": ""}, 400, "model is required"),
        ({"model": "none"}, 404, "model 'none' not found"),
        ({"model": "count"}, 501, '"count" does not support reranking'),
        ({"query": None}, 400, '"query" must be a string'),
        ({"documents": []}, 400, '"documents" must be a non-empty array of texts'),
        ({"documents": [3]}, 400, '"documents" must be a non-empty array of texts'),
        ({"documents": ["one " * 700]}, 400, "exceeds the available context size"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_the_reason(
    worker: WorkerProcess, fields: dict[str, Any], status: int, text: str
) -> None:
    """In OpenAI's shape, under each name of the route."""
    for path in ("/v1/rerank", "/rerank"):
        answer = worker.post(path, **{"model": "rank", "query": "x", "documents": ["a"]} | fields)
        assert answer.status == status
        assert text in answer.json["error"]["message"]


def test_a_response_is_streamed_to_its_completion(worker: WorkerProcess) -> None:
    """Its last event holds what the whole answer would."""
    body = {"model": "count", "input": "hello", "max_output_tokens": 3, **GREEDY}
    one = worker.post("/v1/responses", **body).json
    name, last = events(worker.post("/v1/responses", **body, stream=True).text)[-1]
    assert name == "response.completed"
    for same in ("status", "usage", "model", "max_output_tokens"):
        assert last["response"][same] == one[same]
    assert last["response"]["output"][0]["content"] == one["output"][0]["content"]
