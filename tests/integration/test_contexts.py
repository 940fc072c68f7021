"""Runner options in requests: what becomes of them, and what is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from supervisor.contract.config import ModelConfig, SchedulingConfig
from supervisor.contract.fleet import Device, DeviceKind
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import Bench, gateway, until

PASS = SchedulingConfig(context="pass")
GPU = (Device(kind=DeviceKind.GPU, id="GPU-1", label="GPU 0 NVIDIA L4"),)


@pytest.fixture
def log() -> Iterator[list[EventDict]]:
    """What is logged meanwhile."""
    with capture_logs() as lines:
        yield lines


def request_line(log: list[EventDict]) -> EventDict:
    """Return the line of the last request."""
    return [line for line in log if line["event"] == "request"][-1]


async def until_waiting(bench: Bench, number: int) -> None:
    """Wait until so many requests for `count` wait in the gateway."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with asyncio.timeout(10), aiohttp.ClientSession(connector=connector) as session:
        while True:
            async with session.get("http://corral/corral/fleet") as response:
                if (await response.json())["queue"] == [{"model": "count:latest", "waiting": number}]:
                    return
            await asyncio.sleep(0.01)


# The log line ---------------------------------------------------------------------------


async def test_one_line_is_enough_to_replay_a_request(tmp_path: Path, log: list[EventDict]) -> None:
    """When it came, whose it was, what it asked, where it ran and how long; no prompt and no credential."""
    worker = FakeOllama("w0")
    models = {"count": ModelConfig(aliases=("short",))}
    async with gateway(tmp_path, worker, wishes=models) as bench:
        bench.http.headers["Authorization"] = "Bearer very-secret-key-4711"
        await bench.post(model="short", prompt="a secret prompt")
    line = request_line(log)
    assert line["tenant"].startswith("key:")
    assert len(line["session"]) == 16
    assert (line["model"], line["worker"], line["surface"], line["route"]) == (
        "count:latest",
        "w0",
        "ollama",
        "/api/generate",
    )
    assert (line["prompt_tokens"], line["tokens"], line["outcome"], line["context"]) == (
        7,
        1,
        "done",
        "configured",
    )
    assert line["started_unix"] > 1.6e9
    assert 0 <= line["queued_s"] <= line["first_byte_s"] <= line["total_s"]
    assert line["why"]
    assert "secret" not in json.dumps(line)


# pin ------------------------------------------------------------------------------------


async def test_pinned_context_is_told(tmp_path: Path, log: list[EventDict]) -> None:
    """What was left out, and the tokens of the slot that it runs in."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        answer = await bench.post(options={"num_ctx": 32768, "seed": 1})
    assert json.loads(answer.headers["X-Corral-Ignored-Options"]) == {"num_ctx": 32768}
    assert answer.headers["X-Corral-Context"] == "64"
    line = request_line(log)
    assert (line["context"], line["context_tokens"], line["ignored_options"]) == (
        "pinned",
        64,
        {"num_ctx": 32768},
    )


async def test_request_that_says_nothing_of_its_context_hears_nothing(tmp_path: Path) -> None:
    """No header that nobody asked for."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        answer = await bench.post()
    assert [name for name in answer.headers if name in ("X-Corral-Context", "X-Corral-Warning")] == []


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
async def test_prompt_that_will_be_cut_is_told(tmp_path: Path, log: list[EventDict], path: str) -> None:
    """Ollama leaves out what does not fit and says nothing."""
    long = "word " * 100
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        answer = await bench.post(path, prompt=long, messages=[])
    assert "about 125 tokens is longer than the context of 64" in answer.headers["X-Corral-Warning"]
    assert request_line(log)["warning"] == answer.headers["X-Corral-Warning"]


# pass -----------------------------------------------------------------------------------


async def test_passed_options_make_a_variant_that_is_loaded_beside(
    tmp_path: Path, log: list[EventDict]
) -> None:
    """Each on a worker of its own where there are two, so that alternating between them costs no load."""
    workers = FakeOllama("w0"), FakeOllama("w1")
    async with gateway(tmp_path, *workers, scheduling=PASS, max_loaded_models=2) as bench:
        answers = [
            await bench.post(options={"seed": 1, **({"num_ctx": 128} if turn % 2 else {})})
            for turn in range(6)
        ]
    assert [answer.status for answer in answers] == [200] * 6
    assert sorted(str(worker.load_options) for worker in workers) == ["[{'num_ctx': 128}]", "[{}]"]
    assert answers[1].headers["X-Corral-Context"] == "128"
    assert "X-Corral-Ignored-Options" not in answers[1].headers
    assert request_line(log)["context"] == "passed"


async def test_two_variants_never_share_a_worker(tmp_path: Path) -> None:
    """An Ollama keeps runners by weights: with one worker they take turns, whatever room there is."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, scheduling=PASS, max_loaded_models=3) as bench:
        for options in ({}, {"num_ctx": 128}, {"num_ctx": 128}, {}):
            assert (await bench.post(options=options)).status == 200
    assert worker.load_options == [{}, {"num_ctx": 128}, {}]
    assert worker.offences == []


async def test_options_that_the_worker_has_anyway_load_nothing(tmp_path: Path) -> None:
    """They are honoured, and the request goes to the runner that is there."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, scheduling=PASS) as bench:
        await bench.post()
        answer = await bench.post(options={"num_ctx": 64, "num_batch": 512, "num_gpu": -1})
    assert worker.load_options == [{}]
    assert answer.headers["X-Corral-Context"] == "64"


async def test_context_beyond_the_trained_one_is_cut_to_it_and_told(tmp_path: Path) -> None:
    """As Ollama does, which does not say so."""
    worker = FakeOllama("w0", trained_context=256)
    async with gateway(tmp_path, worker, scheduling=PASS) as bench:
        answer = await bench.post(options={"num_ctx": 4096})
    assert worker.load_options == [{"num_ctx": 256}]
    assert answer.headers["X-Corral-Context"] == "256"
    assert "num_ctx 4096 is more than the 256 tokens" in answer.headers["X-Corral-Warning"]


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"num_ctx": 7}, 400, "too short"),
        ({"num_ctx": "8"}, 500, "type integer"),
        ({"num_batch": 0}, 400, "1 or more"),
    ],
)
async def test_option_that_cannot_be_honoured_is_refused(
    tmp_path: Path, options: dict[str, object], status: int, words: str
) -> None:
    """With what would be right; another type is Ollama's 500."""
    async with gateway(tmp_path, FakeOllama("w0"), scheduling=PASS) as bench:
        answer = await bench.post(options=options)
    assert answer.status == status
    assert words in answer.text


async def test_embedded_workers_honour_a_context_and_refuse_the_rest(tmp_path: Path) -> None:
    """An option that would be ignored there is no variant."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, scheduling=PASS, engine="embedded") as bench:
        assert (await bench.post(options={"num_ctx": 128})).status == 200
        answer = await bench.post(options={"num_ctx": 128, "num_thread": 2})
    assert answer.status == 400
    assert "with num_thread: leave that option out" in answer.text


async def test_one_variant_too_many_at_once_is_refused_for_now(tmp_path: Path) -> None:
    """While each of 64 is asked for; the answer says when to come again."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker, scheduling=PASS) as bench:
        asks = [asyncio.create_task(bench.post(options={"num_ctx": 1000 + more})) for more in range(64)]
        await until(lambda: len(worker.running) == 1, "the first answer runs")
        await until_waiting(bench, 63)
        answer = await bench.post(options={"num_ctx": 2000})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        for ask in asks:
            ask.cancel()
        await asyncio.wait(asks)


async def test_pinned_model_leaves_its_last_worker_to_no_variant(tmp_path: Path) -> None:
    """What could never be loaded is refused at once; on a second worker it may be."""
    models = {"count": ModelConfig(pin=True)}
    async with gateway(tmp_path, FakeOllama("w0"), wishes=models, scheduling=PASS) as bench:
        answer = await bench.post(options={"num_ctx": 128})
        assert answer.status == 400
        assert "kept loaded as configured on all its workers" in answer.text
        assert (await bench.post(options={"num_ctx": 64})).status == 200
    workers = FakeOllama("w0"), FakeOllama("w1")
    async with gateway(tmp_path, *workers, wishes=models, scheduling=PASS) as bench:
        assert (await bench.post(options={"num_ctx": 128})).status == 200
        assert sorted(str(worker.load_options) for worker in workers) == ["[{'num_ctx': 128}]", "[{}]"]


async def test_aliases_and_openai_run_on_the_configured_variant(tmp_path: Path) -> None:
    """An alias may bring options; a /v1 body cannot."""
    worker = FakeOllama("w0")
    models = {"count": ModelConfig(aliases=("gpt-4o-mini",))}
    async with gateway(tmp_path, worker, wishes=models, scheduling=PASS) as bench:
        assert (await bench.post(model="gpt-4o-mini", options={"num_ctx": 128})).status == 200
        chat = await bench.post(
            "/v1/chat/completions", model="gpt-4o-mini", messages=[], options={"num_ctx": 128}
        )
        assert chat.status == 200
    assert worker.load_options == [{"num_ctx": 128}, {}]
    assert worker.served[0]["body"]["model"] == "count"


async def test_unload_on_request_takes_all_variants(tmp_path: Path) -> None:
    """Who asks Ollama for it means the model."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, scheduling=PASS) as bench:
        await bench.post(options={"num_ctx": 128})
        await bench.post(prompt="", keep_alive=0)
        await until(lambda: not worker.loaded, "the model is unloaded")


async def test_restarted_gateway_knows_a_variant_again_by_its_context(tmp_path: Path) -> None:
    """What is resident with the context that is asked for is not loaded once more."""
    worker = FakeOllama("w0", loaded={"count"}, options={"count": {"num_ctx": 128}})
    models = {"count": ModelConfig(context_length=128)}
    async with gateway(tmp_path, worker, wishes=models, scheduling=PASS) as bench:
        assert (await bench.post(options={"num_ctx": 128})).status == 200
    assert worker.loads == []


async def test_context_that_nobody_ordered_is_not_used_and_goes(tmp_path: Path) -> None:
    """A request would make Ollama load the model anew in its place, unseen; so the gateway does it."""
    worker = FakeOllama("w0", loaded={"count"}, options={"count": {"num_ctx": 4096}})
    async with gateway(tmp_path, worker, max_loaded_models=2) as bench:
        assert (await bench.post()).status == 200
    assert worker.load_options == [{}]


# Faults ---------------------------------------------------------------------------------


async def test_model_that_spilled_is_placed_elsewhere(tmp_path: Path) -> None:
    """On the GPU that has room for it; the other one is rid of it."""
    small, large = FakeOllama("w0", vram_share=0.5), FakeOllama("w1", vram_share=1.0)
    async with gateway(tmp_path, small, large, devices=GPU) as bench:
        answers = [await bench.post() for _ in range(3)]
        await until(lambda: not small.loaded, "the small GPU is rid of it")
    assert {answer.headers.get("X-Corral-Worker") for answer in answers} == {"w1"}


async def test_model_that_spills_everywhere_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """The client hears how much of it would fit."""
    worker = FakeOllama("w0", vram_share=0.5, size_bytes=2**30)
    async with gateway(tmp_path, worker, devices=GPU) as bench:
        answer = await bench.post()
    assert answer.status == 500
    assert "0.5 of 1.0 GiB are on the GPU" in answer.text


async def test_shrunken_context_is_a_fault_and_a_short_training_is_none(tmp_path: Path) -> None:
    """Both are told by the same field."""
    worker = FakeOllama("w0", vram_share=1.0, most_context=32, trained_context=1000)
    async with gateway(tmp_path, worker, devices=GPU) as bench:
        answer = await bench.post()
        assert answer.status == 500
        assert "context shrunk to 32 tokens per slot; 64 were ordered" in answer.text
    short = FakeOllama("w1", vram_share=1.0, trained_context=32)
    async with gateway(tmp_path, short, devices=GPU) as bench:
        assert (await bench.post()).status == 200


async def test_modelfiles_own_context_is_no_fault(tmp_path: Path) -> None:
    """Whoever made the model wanted it so."""
    worker = FakeOllama("w0", vram_share=1.0, most_context=32, trained_context=1000, parameters="num_ctx 32")
    async with gateway(tmp_path, worker, devices=GPU) as bench:
        assert (await bench.post()).status == 200
