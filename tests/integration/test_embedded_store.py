"""The embedded worker over an Ollama store: its weights, templates and parameters, and nothing written."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.embedded_worker import WorkerProcess, embedded_worker
from tests.support.handmade_store import HandmadeStore
from tests.support.models import counting_model
from tests.support.real_ollama import MISSING, RealOllama, binary, real_ollama

GREEDY = {"temperature": 0, "num_predict": 3}
FROM_41 = "{{ range .Messages }}{{ .Content }} {{ end }}41"
THINKS = (
    "{{ range .Messages }}{{ if .Thinking }}5 {{ .Thinking }} 8{{ end }}{{ .Content }}{{ end }}"
    "{{ if .Think }} 4{{ end }}"
)
CALLS = (
    "{{ range .Messages }}{{ .Content }}{{ if .ToolCalls }}"
    "{{ range .ToolCalls }}5 {{ .Function.Arguments }}{{ end }}{{ end }}{{ end }}{{ if .Tools }}4{{ end }}"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> HandmadeStore:
    """Models over the same weights, and some that are broken."""
    made = HandmadeStore(tmp_path_factory.mktemp("store"))
    weights = counting_model(tmp_path_factory.mktemp("weights"))
    made.add("plain", weights)
    made.add("from41", weights, template=FROM_41, params={"stop": ["45"], "temperature": 0, "num_ctx": 64})
    made.add("system", weights, template="{{ .System }}{{ .Prompt }}", system="7 ", params={"temperature": 0})
    made.add("examples", weights, template=FROM_41, messages=[{"role": "user", "content": "E"}])
    made.add("thinks", weights, template=THINKS, params={"temperature": 0})
    made.add("calls", weights, template=CALLS)
    made.add("suffix", weights, template="{{ .Suffix }} {{ .Prompt }}")
    made.add("adapter", weights, adapter="lora")
    made.add("renders", weights, template="{{ .Messages.Content }}")
    made.add("broken", weights).write_text("{")
    made.blob(made.add("missing", counting_model(made.path / "tmp", words=50)), "model").unlink()
    return made


@pytest.fixture(scope="module")
def worker(store: HandmadeStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker over the store alone."""
    with embedded_worker(tmp_path_factory.mktemp("none"), OLLAMA_MODELS=store.path) as process:
        yield process


def chat(worker: WorkerProcess, model: str, content: str = "", **fields: Any) -> Any:
    """Return the answer to one message."""
    messages = [{"role": "user", "content": content or "1 2"}]
    answer = worker.post("/api/chat", model=model, messages=messages, stream=False, **fields)
    assert answer.status == 200, answer.text
    return answer.json


def test_models_are_listed_and_broken_ones_are_not(worker: WorkerProcess, store: HandmadeStore) -> None:
    """One line in the log for each that is left out; the weights are told and shared."""
    rows = {row["name"]: row for row in worker.get("/api/tags")["models"]}
    assert {"plain:latest", "from41:latest"} <= rows.keys()
    assert not {"broken:latest", "missing:latest"} & rows.keys()
    assert len({row["weights"] for row in rows.values()}) == 1
    assert rows["plain:latest"]["weights"] == "sha256:" + next(
        path.name.removeprefix("sha256-")
        for path in (store.path / "blobs").iterdir()
        if path.stat().st_size > 100_000
    )
    assert worker.log.read_text().count("store_model_skipped") == 2


def test_the_template_of_the_store_makes_the_prompt(worker: WorkerProcess) -> None:
    """It ends with 41, so the counting model says 42."""
    answer = chat(worker, "from41", options={"num_predict": 2})
    assert answer["message"]["content"].split() == ["42", "43"]


def test_a_stop_parameter_ends_the_answer(worker: WorkerProcess) -> None:
    """Unless the request gives another; temperature and num_ctx are the model's too."""
    answer = chat(worker, "from41")
    assert answer["message"]["content"].split() == ["42", "43", "44"]
    assert answer["done_reason"] == "stop"
    assert worker.resident()["from41:latest"]["context_length"] == 64
    longer = chat(worker, "from41", options={"stop": ["44"]})
    assert longer["message"]["content"].split() == ["42", "43"]


def test_the_system_layer_comes_before_the_prompt(worker: WorkerProcess) -> None:
    """For generate and chat, unless the request brings a system text of its own."""
    body: dict[str, Any] = {"model": "system", "_debug_render_only": True}
    seen = [
        worker.post("/api/generate", **body, prompt="8").json,
        worker.post("/api/generate", **body, prompt="8", system="6 ").json,
        worker.post("/api/chat", **body, messages=[{"role": "user", "content": "8"}]).json,
        worker.post("/api/chat", **body, messages=[{"role": "system", "content": "5 "}]).json,
    ]
    assert [answer["_debug_info"]["rendered_template"] for answer in seen] == ["7 8", "6 8", "7 8", "5 "]
    assert chat(worker, "system", "8", options=GREEDY)["message"]["content"].split() == ["9", "10", "11"]


def test_the_messages_layer_comes_before_the_conversation(worker: WorkerProcess) -> None:
    """As examples that the model was created with; with a context of generate they were told before."""
    ask = {"model": "examples", "prompt": "x", "_debug_render_only": True}
    plain, resumed = worker.post("/api/generate", **ask), worker.post("/api/generate", **ask, context=[])
    assert plain.json["_debug_info"]["rendered_template"] == "E\n\nx 41"
    assert resumed.json["_debug_info"]["rendered_template"] == "x 41"


def test_a_template_of_the_request_is_used_instead(worker: WorkerProcess) -> None:
    """A bad one is a 500 that names what is wrong, as Ollama answers it."""
    ask = {"model": "plain", "prompt": "1", "stream": False, "options": GREEDY}
    answer = worker.post("/api/generate", **ask, template="{{ .Prompt }} 2 30")
    assert answer.json["response"].split() == ["31", "32", "33"]
    refused = worker.post("/api/generate", **ask, template="{{ nothing }}")
    assert (refused.status, refused.json) == (
        500,
        {"error": 'template: line 1: function "nothing" not defined'},
    )


def test_what_cannot_be_rendered_is_an_error_and_never_another_prompt(worker: WorkerProcess) -> None:
    """The text names the construct."""
    answer = worker.post("/api/chat", model="renders", messages=[{"role": "user", "content": "x"}])
    assert answer.status == 500
    assert "can't evaluate field Content" in answer.json["error"]


def test_a_model_with_an_adapter_is_refused(worker: WorkerProcess) -> None:
    """Without its adapter it would be another model."""
    answer = worker.post("/api/generate", model="adapter", prompt="1")
    assert answer.status == 500
    assert "adapter" in answer.json["error"]


def test_thoughts_are_taken_out_of_the_answer(worker: WorkerProcess) -> None:
    """The template's marks around them are 5 and 8; the model says 5 6 7 8 9 10."""
    message = chat(worker, "thinks", options={"num_predict": 6})["message"]
    assert (message["thinking"].split(), message["content"].split()) == (["6", "7"], ["9", "10"])
    plain = chat(worker, "thinks", "4", think=False, options={"num_predict": 3})["message"]
    assert plain["content"].split() == ["5", "6", "7"]


def test_thoughts_are_taken_out_of_what_follows_a_raw_prompt(worker: WorkerProcess) -> None:
    """The model thinks whether its template or the client wrote the prompt."""
    ask: dict[str, Any] = {"model": "thinks", "prompt": "4", "raw": True, "stream": False}
    answer = worker.post("/api/generate", **ask, options={"num_predict": 6}).json
    assert (answer["thinking"].split(), answer["response"].split()) == (["6", "7"], ["9", "10"])
    plain = worker.post("/api/generate", **ask, think=False, options={"num_predict": 3}).json
    assert plain["response"].split() == ["5", "6", "7"]


def test_thoughts_are_taken_out_also_when_the_prompt_was_cut(worker: WorkerProcess) -> None:
    """What was cut is sent as tokens, and the answer has the same form."""
    options = {"num_predict": 6, "num_ctx": 64}
    message = chat(worker, "thinks", "1 " * 300, options=options)["message"]
    assert (message["thinking"].split(), message["content"].split()) == (["6", "7"], ["9", "10"])


def test_a_gap_is_filled_with_the_models_template(worker: WorkerProcess) -> None:
    """`suffix` of generate; a model without a place for it says so."""
    ask = {"prompt": "8", "suffix": "7", "stream": False, "options": GREEDY}
    assert worker.post("/api/generate", model="suffix", **ask).json["response"].split() == ["9", "10", "11"]
    assert worker.post("/api/generate", model="plain", **ask).status == 400


def test_a_conversation_that_is_too_long_loses_its_oldest_messages(worker: WorkerProcess) -> None:
    """The template is rendered anew for what is left."""
    long = [{"role": "user", "content": "1 " * 300}, {"role": "assistant", "content": "2 " * 300}]
    messages = [*long, {"role": "user", "content": "3"}]
    answer = worker.post("/api/chat", model="from41", messages=messages, stream=False, options=GREEDY)
    assert answer.json["message"]["content"].split() == ["42", "43", "44"]
    assert answer.json["prompt_eval_count"] < 20


def test_names_over_the_same_weights_share_one_runner(worker: WorkerProcess) -> None:
    """Both are listed as loaded, with the same weights."""
    chat(worker, "plain", options=GREEDY)
    before = worker.runners()
    chat(worker, "examples", options=GREEDY)
    assert worker.runners() == before
    resident = worker.resident()
    assert resident["plain:latest"]["weights"] == resident["examples:latest"]["weights"]


def test_the_store_is_left_as_it_was(worker: WorkerProcess, store: HandmadeStore) -> None:
    """Listing, loading and answering change nothing in it, not even a time."""
    before = store.state()
    worker.get("/api/tags")
    worker.post("/api/show", model="from41")
    chat(worker, "from41")
    assert store.state() == before


def test_a_runner_that_was_killed_while_idle_costs_no_request(worker: WorkerProcess) -> None:
    """It is noticed, and the next request loads another; however close they come."""
    chat(worker, "plain", options=GREEDY)
    for _ in range(5):
        for pid in worker.runners():
            os.kill(pid, signal.SIGKILL)
        chat(worker, "plain", options=GREEDY)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealOllama, WorkerProcess]]:
    """A real Ollama and an embedded worker over the store that it writes."""
    server = binary()
    if server is None:
        pytest.skip(MISSING)
    home = tmp_path_factory.mktemp("ollama")
    weights = counting_model(tmp_path_factory.mktemp("weights"))
    with real_ollama(server, home, OLLAMA_CONTEXT_LENGTH="512") as ollama:
        ollama.create("count", weights)
        parameters = {"stop": ["45"], "temperature": 0.0, "num_ctx": 128, "top_k": 3}
        layers = {"system": "be nice", "license": "free", "messages": [{"role": "user", "content": "E"}]}
        ollama.derive("full", "count", template=FROM_41, parameters=parameters, **layers)
        ollama.derive("calls", "count", template=CALLS + "{{ .Suffix }}")
        ollama.derive("thinks", "count", template=THINKS)
        with embedded_worker(tmp_path_factory.mktemp("none"), OLLAMA_MODELS=ollama.store) as worker:
            yield ollama, worker


def test_a_store_that_ollama_wrote_is_listed_as_by_ollama(pair: tuple[RealOllama, WorkerProcess]) -> None:
    """Names, digests, sizes, times and details."""
    ollama, worker = pair
    ours = worker.get("/api/tags")["models"]
    for row in ours:
        row.pop("weights")
    assert sorted(map(_without_time, ours)) == sorted(map(_without_time, ollama.get("/api/tags")["models"]))


def _without_time(row: dict[str, Any]) -> str:
    return str({key: value for key, value in sorted(row.items()) if key != "modified_at"})


@pytest.mark.parametrize("model", ["count", "full", "calls", "thinks"])
def test_show_tells_what_ollama_tells(pair: tuple[RealOllama, WorkerProcess], model: str) -> None:
    """Parameters, whose order is by chance there, sorted."""
    ollama, worker = pair
    ours, theirs = worker.post("/api/show", model=model).json, ollama.post("/api/show", model=model)[1]
    for shown in (ours, theirs):
        shown["parameters"] = sorted(shown.get("parameters", "").splitlines())
        shown["modelfile"] = sorted(shown["modelfile"].splitlines())
        shown["model_info"] = {k: v for k, v in shown["model_info"].items() if v is not None}
        for name in ("tensors", "modified_at"):
            shown.pop(name, None)
    info = theirs.pop("model_info")
    assert {key: ours["model_info"].get(key) for key in info} == info
    ours.pop("model_info")
    assert ours == theirs


@pytest.mark.parametrize("model", ["count", "full", "thinks"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_answers_are_those_of_ollama(pair: tuple[RealOllama, WorkerProcess], model: str, path: str) -> None:
    """Prompt and answer, greedily."""
    ollama, worker = pair
    said = {"messages": [{"role": "user", "content": "1 2"}]} if "chat" in path else {"prompt": "1 2"}
    for extra in ({"_debug_render_only": True}, {"options": {"num_predict": 8, "temperature": 0}}):
        body: dict[str, Any] = {"model": model, "stream": False, **said, **extra}
        ours, theirs = worker.post(path, **body).json, ollama.post(path, **body)[1]
        for answer in (ours, theirs):
            for name in [key for key in answer if key.endswith("duration") or key == "created_at"]:
                answer.pop(name)
        assert ours == theirs
