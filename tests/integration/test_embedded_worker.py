"""The embedded worker as its clients see it: real processes, real models, real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract import wire
from tests.support.embedded_worker import WorkerProcess, alive, embedded_worker, wait_until
from tests.support.models import corrupt_model, counting_model, unsupported_model

GREEDY = {"temperature": 0}
ENDLESS = {"temperature": 0, "num_predict": 5000}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with the counting model under two names and two broken files."""
    models = tmp_path_factory.mktemp("models")
    counting_model(models)
    counting_model(models, name="other")
    corrupt_model(models)
    unsupported_model(models)
    (models / "empty.gguf").touch()
    with embedded_worker(models) as process:
        yield process


SOON_S = 8.0
"""Long before what the slow model was asked for would have ended, on a machine that does nothing else."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker whose model takes milliseconds a token, with a queue of two."""
    models = tmp_path_factory.mktemp("slow")
    counting_model(models, width=1024, layers=8, heads=8, feed_forward=4096)
    with embedded_worker(models, OLLAMA_MAX_QUEUE=2, OLLAMA_CONTEXT_LENGTH=2048) as process:
        process.post("/api/generate", model="count")
        yield process


def numbers(text: str) -> list[int]:
    """Return the numbers that the counting model said."""
    return [int(word) for word in text.split()]


def counted(worker: WorkerProcess, start: str = "1", **options: Any) -> list[int]:
    """Return what the model counts on from a raw prompt."""
    asked = {"temperature": 0, "num_predict": 5} | options
    answer = worker.post("/api/generate", model="count", prompt=start, raw=True, stream=False, options=asked)
    assert answer.status == 200, answer.text
    return numbers(answer.json["response"])


def test_a_stream_counts_without_a_gap_and_ends_with_its_figures(worker: WorkerProcess) -> None:
    """Every token comes once, in order, in a frame of its own; the last frame says what it cost."""
    body = {"model": "count", "prompt": "1", "raw": True, "options": GREEDY | {"num_predict": 50}}
    *frames, last = worker.post("/api/generate", **body).frames
    assert numbers("".join(frame["response"] for frame in frames)) == list(range(2, 52))
    assert len(frames) == 50
    assert last["done"] is True
    assert last["done_reason"] == "length"
    assert last["eval_count"] == 50


def test_an_answer_longer_than_the_context_goes_on(worker: WorkerProcess) -> None:
    """As in Ollama, the context is shifted; nothing is lost or repeated in the answer."""
    assert counted(worker, num_predict=700) == list(range(2, 702))


def test_a_last_message_of_the_assistant_is_continued(worker: WorkerProcess) -> None:
    """The model goes on where the given text ends, and the answer holds only what is new."""
    messages = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "1 2 3"}]
    options = GREEDY | {"num_predict": 3}
    answer = worker.post("/api/chat", model="count", messages=messages, stream=False, options=options)
    assert numbers(answer.json["message"]["content"]) == [4, 5, 6]


@pytest.mark.parametrize("count", [2, 3])
def test_several_last_messages_of_the_assistant_are_accepted(worker: WorkerProcess, count: int) -> None:
    """Agents that hand over to each other send such lists; the last one is continued."""
    said = [{"role": "assistant", "content": f"1 2 {n}"} for n in range(3, 3 + count)]
    body = {"model": "count", "messages": [{"role": "user", "content": "count"}, *said], "stream": False}
    answer = worker.post("/api/chat", **body, options=GREEDY | {"num_predict": 2})
    assert numbers(answer.json["message"]["content"]) == [3 + count, 4 + count]


def test_a_last_message_that_calls_tools_is_accepted(worker: WorkerProcess) -> None:
    """There is no text to continue: the model begins anew."""
    call = {"function": {"name": "f", "arguments": {}}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answer = worker.post("/api/chat", model="count", messages=messages, options=GREEDY | {"num_predict": 1})
    assert answer.status == 200


def test_the_context_of_an_answer_lets_the_next_go_on(worker: WorkerProcess) -> None:
    """The token ids in `context` come before the next prompt."""
    options = GREEDY | {"num_predict": 3}
    first = worker.post("/api/generate", model="count", prompt="x", stream=False, options=options).json
    body = {"model": "count", "prompt": "y", "context": first["context"], "stream": False}
    second = worker.post("/api/generate", **body, options=options).json
    assert second["context"][: len(first["context"])] == first["context"]


def test_a_token_that_is_none_is_refused_before_it_reaches_the_engine(worker: WorkerProcess) -> None:
    """Ollama dies of it; this worker answers 400 and lives."""
    answer = worker.post("/api/generate", model="count", prompt="x", context=[99_999_999])
    assert answer.status == 400
    assert "99999999" in answer.json["error"]
    assert counted(worker, "7") == [8, 9, 10, 11, 12]


def test_num_ctx_reloads_the_model_and_ps_shows_it(worker: WorkerProcess) -> None:
    """A context of its own is another runner; the trained context is the limit."""
    counted(worker, num_ctx=256)
    assert worker.resident()["count:latest"]["context_length"] == 256
    counted(worker, num_ctx=1_000_000)
    assert worker.resident()["count:latest"]["context_length"] == 4096


def test_a_loaded_model_keeps_its_context_until_it_is_unloaded(worker: WorkerProcess) -> None:
    """A request that does not say one, as none of OpenAI's can, does not load the model anew."""
    counted(worker, num_ctx=256)
    counted(worker)
    assert worker.resident()["count:latest"]["context_length"] == 256
    worker.post("/api/generate", model="count", keep_alive=0)
    wait_until(lambda: "count:latest" not in worker.resident(), "the model is gone")
    counted(worker)
    assert worker.resident()["count:latest"]["context_length"] == 512


def test_ps_tells_the_slots_the_size_and_the_expiry(worker: WorkerProcess) -> None:
    """The row has Ollama's fields and the number of slots that the model really has."""
    counted(worker)
    row = worker.resident()["count:latest"]
    assert row[wire.SLOTS_FIELD] == 2
    assert row["size"] > 4_000_000
    assert row["size_vram"] == 0
    assert len(row["digest"]) == 64


def test_two_workers_report_the_same_digest(worker: WorkerProcess) -> None:
    """The digest is that of the file's content, whatever its name."""
    rows = {row["name"]: row["digest"] for row in worker.get("/api/tags")["models"]}
    assert len(rows["count:latest"]) == 64
    assert rows["count:latest"] != rows["corrupt:latest"]


@pytest.mark.parametrize("name", ["corrupt", "unsupported", "empty"])
def test_a_model_that_cannot_load_is_a_500_with_the_reason(worker: WorkerProcess, name: str) -> None:
    """The engine's own words reach the client, and the worker goes on."""
    answer = worker.post("/api/generate", model=name, prompt="x")
    assert answer.status == 500
    assert answer.json["error"].startswith("unable to load model: ")
    assert len(answer.json["error"]) > 40
    assert counted(worker, "7") == [8, 9, 10, 11, 12]


def test_a_new_file_is_a_new_model_at_once(worker: WorkerProcess) -> None:
    """Nothing has to be told or restarted."""
    path = counting_model(worker.log.parent, name="late", words=50)
    assert worker.post("/api/generate", model="late").json["done_reason"] == "load"
    path.unlink()
    assert worker.post("/api/generate", model="late").status == 404


def test_keep_alive_zero_unloads_when_the_answer_is_done(worker: WorkerProcess) -> None:
    """The runner ends by itself, without another request."""
    worker.post("/api/generate", model="other", prompt="x", keep_alive=0, options={"num_predict": 2})
    wait_until(lambda: "other:latest" not in worker.resident(), "the model is unloaded")


def test_an_idle_model_expires_by_its_keep_alive(worker: WorkerProcess) -> None:
    """A duration in Go's words, counted from the end of the last request."""
    worker.post("/api/generate", model="other", keep_alive="200ms")
    assert wait_until(lambda: "other:latest" not in worker.resident(), "the model expires") > 0.1


def test_keep_alive_sticks_to_the_model(worker: WorkerProcess) -> None:
    """A request without one leaves the last one in force."""
    worker.post("/api/generate", model="other", keep_alive=-1)
    worker.post("/api/generate", model="other", prompt="x", options={"num_predict": 1})
    assert worker.resident()["other:latest"]["expires_at"] > "2300"
    worker.post("/api/generate", model="other", keep_alive=0)


def test_tool_calls_and_thinking_are_refused_where_the_template_knows_none(worker: WorkerProcess) -> None:
    """A model without tools says so instead of ignoring them."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    answer = worker.post("/api/chat", model="count", messages=[{"role": "user", "content": "x"}], tools=tools)
    assert answer.status == 400
    assert answer.json["error"] == "registry.ollama.ai/library/count:latest does not support tools"


def test_slots_are_counted_at_the_engine_and_the_third_request_waits(slow: WorkerProcess) -> None:
    """Two slots compute, one request waits in the worker, and gets its turn when a slot is free."""
    body = {"model": "count", "prompt": "1", "raw": True, "options": ENDLESS}
    first, lines = slow.lines("/api/generate", **body)
    second, others = slow.lines("/api/generate", **body)
    next(lines)
    next(others)
    waiting = slow.send("POST", "/api/generate", {**body, "options": GREEDY | {"num_predict": 2}})
    wait_until(lambda: slow.pending() == 1, "the third waits")
    assert slow.busy() == 2
    first.close()
    assert waiting.getresponse().status == 200
    second.close()
    wait_until(lambda: slow.busy() == 0, "the slots are free")


def test_one_more_than_the_queue_takes_is_a_503(slow: WorkerProcess) -> None:
    """Two compute, two wait, the fifth is told that the server is busy; leaving makes room again."""
    body = {"model": "count", "prompt": "1", "raw": True, "options": ENDLESS}
    streams = [slow.lines("/api/generate", **body) for _ in range(2)]
    waiting = [slow.send("POST", "/api/generate", body) for _ in range(2)]
    wait_until(lambda: slow.pending() == 2, "two wait")
    refused = slow.post("/api/generate", **body)
    assert (refused.status, refused.json) == (503, {"error": wire.SERVER_BUSY})
    for connection in (*waiting, *(connection for connection, _ in streams)):
        connection.close()
    wait_until(lambda: slow.pending() == 0 and slow.busy() == 0, "all have left")


def test_a_client_that_leaves_while_tokens_come_frees_its_slot(slow: WorkerProcess) -> None:
    """Counted at the engine."""
    body = {"model": "count", "prompt": "1", "raw": True, "options": ENDLESS}
    connection, lines = slow.lines("/api/generate", **body)
    next(lines)
    connection.close()
    assert wait_until(lambda: slow.busy() == 0, "the slot is free") < SOON_S


def test_a_client_that_leaves_an_unstreamed_answer_frees_its_slot(slow: WorkerProcess) -> None:
    """It was to get one object at the end; the engine stops all the same."""
    body = {"model": "count", "prompt": "1", "raw": True, "stream": False, "options": ENDLESS}
    connection = slow.send("POST", "/api/generate", body)
    wait_until(lambda: slow.busy() == 1, "it computes")
    connection.close()
    assert wait_until(lambda: slow.busy() == 0, "the slot is free") < SOON_S


def test_a_client_that_leaves_during_a_long_prompt_frees_its_slot(slow: WorkerProcess) -> None:
    """Although no token has come."""
    prompt = " ".join(str(n) for n in range(1, 1900))
    connection = slow.send("POST", "/api/generate", {"model": "count", "prompt": prompt, "raw": True})
    wait_until(lambda: slow.busy() == 1, "the prompt is being read")
    connection.close()
    assert wait_until(lambda: slow.busy() == 0, "the slot is free") < SOON_S


def test_a_runner_that_is_killed_ends_its_streams_with_an_error(slow: WorkerProcess) -> None:
    """The stream does not look complete, the worker lives, and the next request loads the model anew."""
    body = {"model": "count", "prompt": "1", "raw": True, "options": ENDLESS}
    _, response = slow.open("POST", "/api/generate", body)
    (runner,) = slow.runners()
    os.kill(runner, signal.SIGKILL)
    with pytest.raises(IncompleteRead) as cut:
        response.read()
    last = cut.value.partial.splitlines()[-1]
    assert json.loads(last) == {"error": "llama runner process has terminated"}
    assert counted(slow, "7") == [8, 9, 10, 11, 12]


def test_a_runner_that_dies_before_the_first_byte_is_a_500(slow: WorkerProcess) -> None:
    """The client of an answer that has not begun gets a status it can act on."""
    body = {"model": "count", "prompt": "1", "raw": True, "stream": False, "options": ENDLESS}
    connection = slow.send("POST", "/api/generate", body)
    wait_until(lambda: slow.busy() == 1, "it computes")
    (runner,) = slow.runners()
    os.kill(runner, signal.SIGKILL)
    response = connection.getresponse()
    assert response.status == 500
    assert json.loads(response.read()) == {"error": "llama runner process has terminated"}


def test_those_who_wait_do_not_suffer_from_a_dead_runner(slow: WorkerProcess) -> None:
    """Two lose their answer, the third gets a new runner and its answer."""
    body = {"model": "count", "prompt": "1", "raw": True, "stream": False, "options": ENDLESS}
    lost = [slow.send("POST", "/api/generate", body) for _ in range(2)]
    wait_until(lambda: slow.busy() == 2, "both compute")
    waiting = slow.send("POST", "/api/generate", {**body, "options": GREEDY | {"num_predict": 2}})
    wait_until(lambda: slow.pending() == 1, "the third waits")
    (runner,) = slow.runners()
    os.kill(runner, signal.SIGKILL)
    assert [connection.getresponse().status for connection in lost] == [500, 500]
    assert waiting.getresponse().status == 200


def test_runners_die_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    """Nothing is left two seconds after a kill -9."""
    counting_model(tmp_path)
    with embedded_worker(tmp_path) as process:
        process.post("/api/generate", model="count")
        runners = process.runners()
        assert runners
        process.process.kill()
        wait_until(lambda: not any(map(alive, runners)), "the runners are gone", within_s=2.0)


def test_sigterm_ends_worker_and_runners_at_once(tmp_path: Path) -> None:
    """Also while a request computes; the exit code is 0."""
    counting_model(tmp_path)
    with embedded_worker(tmp_path) as process:
        _, lines = process.lines("/api/generate", model="count", prompt="1", raw=True, options=ENDLESS)
        next(lines)
        runners = process.runners()
        process.process.terminate()
        assert process.process.wait(2.0) == 0
        wait_until(lambda: not any(map(alive, runners)), "the runners are gone", within_s=1.0)


def test_a_model_makes_room_for_another_when_there_is_no_place(tmp_path: Path) -> None:
    """The one used longest ago goes."""
    for name in ("a", "b", "c"):
        counting_model(tmp_path, name=name, words=50)
    with embedded_worker(tmp_path, OLLAMA_MAX_LOADED_MODELS=2) as process:
        for name in ("a", "b", "a", "c"):
            assert process.post("/api/generate", model=name).status == 200
        assert set(process.resident()) == {"a:latest", "c:latest"}


def test_a_model_that_cannot_fit_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """Ollama's words, before anything is loaded."""
    counting_model(tmp_path)
    with embedded_worker(tmp_path, CORRAL_MEMORY_BYTES=10_000_000) as process:
        answer = process.post("/api/generate", model="count")
        assert answer.status == 500
        sizes = r"\(\d+\.\d MiB\) than is available \(9\.5 MiB\)"
        assert re.fullmatch(f"model requires more system memory {sizes}", answer.json["error"])
        assert not process.runners()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OLLAMA_NUM_PARALLEL", "many"),
        ("OLLAMA_HOST", "nowhere"),
        ("OLLAMA_KEEP_ALIVE", "soon"),
        ("OLLAMA_MAX_QUEUE", "0"),
        ("CORRAL_MEMORY_BYTES", "1.5"),
        ("CORRAL_GGUF_DIR", ""),
    ],
)
def test_a_wrong_variable_is_one_clear_line_and_exit_code_2(variable: str, value: str) -> None:
    """It names the variable; nothing is started."""
    env = {**os.environ, "CORRAL_GGUF_DIR": "/nonexistent", variable: value}
    argv = [sys.executable, "-m", "supervisor.engines.embedded"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 2
    assert variable in done.stderr
    assert len(done.stderr.splitlines()) == 1
