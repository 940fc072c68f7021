"""A model for which memory runs out at one worker is served by another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.contract.config import GatewayConfig
from supervisor.contract.fleet import Device, DeviceKind
from supervisor.contract.reports import Hung, decode_report
from tests.support.counting_worker import CountingWorker, rendered, stream
from tests.support.fake_ollama import NO_MEMORY, FakeOllama
from tests.support.gateway import Bench, gateway, until

GPU = (Device(kind=DeviceKind.GPU, id="GPU-1", label="GPU 0 NVIDIA L4"),)


async def test_memory_that_runs_out_at_an_answer_moves_the_model(tmp_path: Path) -> None:
    """The client gets its answer from the other worker; the first one unloads the model.

    Seeded away: `_heed` in gateway/runtime.py.
    """
    first, second = FakeOllama("a"), FakeOllama("b")
    first.script.append("no memory")
    async with gateway(tmp_path, first, second) as bench:
        answer = await bench.post()
        assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, "b")
        await bench.until_resident("b count")
        assert first.loaded == set()


BODIES: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": "go"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "go"}], "stream": True},
    "/v1/messages": {"messages": [{"role": "user", "content": "go"}], "stream": True, "max_tokens": 9},
}
ERRORS = {
    "/api/generate": json.dumps({"error": NO_MEMORY}).encode() + b"\n",
    "/v1/chat/completions": b"data: " + json.dumps({"error": {"message": NO_MEMORY}}).encode() + b"\n\n",
    "/v1/messages": b"event: error\ndata: "
    + json.dumps({"error": {"message": NO_MEMORY}}).encode()
    + b"\n\n",
}
"""By route: what a worker says in the middle of a stream when its runner died of it."""


@asynccontextmanager
async def two_counting(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Bench, CountingWorker]]:
    """Run two workers; yield the one that holds the model, with the gateway."""
    workers = {name: CountingWorker(name) for name in "ab"}
    config = GatewayConfig.model_validate(settings)
    async with gateway(tmp_path, *workers.values(), config=config) as bench:
        first = await bench.post(prompt="go", options={"num_predict": 1})
        yield bench, workers[first.headers["X-Corral-Worker"]]


def breaks_off(worker: CountingWorker, route: str, said: bytes) -> None:
    """Have the next answer there break off after three frames, with these words."""
    asked = {"model": "count", **BODIES[route]}
    worker.says_instead = b"".join(stream(route, asked, rendered(route, asked))[:3]) + said
    worker.cuts.append(0)


async def read(bench: Bench, route: str) -> str:
    """Return what comes of a stream, cut off or not."""
    data = bytearray()
    async with bench.http.post(bench.url + route, json={"model": "count", **BODIES[route]}) as response:
        with suppress(aiohttp.ClientPayloadError):  # the stump of an answer ends so
            async for chunk in response.content.iter_any():
                data += chunk
    return data.decode()


@pytest.mark.parametrize("route", BODIES)
async def test_memory_that_runs_out_in_the_middle_of_an_answer_moves_the_model(
    tmp_path: Path, route: str
) -> None:
    """Its client is told in the engine's words; whoever asks next is served by the other worker.

    Seeded away: `heed` in gateway/http/inference.py.
    """
    async with two_counting(tmp_path) as (bench, first):
        breaks_off(first, route, ERRORS[route])
        broken = await read(bench, route)
        await until(lambda: not first.loaded, "the model leaves the worker without memory")
        again = await bench.post(prompt="go")
    assert "the worker broke off" in broken
    assert NO_MEMORY in broken
    assert again.headers["X-Corral-Worker"] != first.name


async def test_memory_that_runs_out_moves_the_model_also_where_the_answer_goes_on(tmp_path: Path) -> None:
    """The client sees one whole answer; the worker does not keep the model."""
    async with two_counting(tmp_path, failover="continue") as (bench, first):
        breaks_off(first, "/api/generate", ERRORS["/api/generate"])
        whole = await read(bench, "/api/generate")
        await until(lambda: not first.loaded, "the model leaves the worker without memory")
    assert "".join(json.loads(line).get("response", "") for line in whole.splitlines()) == "1 2 3 4 5 6 7 8 9"


async def test_a_model_that_writes_of_memory_has_not_run_out_of_it(tmp_path: Path) -> None:
    """Only an error of the worker's is heeded, whatever its last text says."""
    async with two_counting(tmp_path) as (bench, first):
        line = {"model": "count", "response": f"it says {NO_MEMORY}", "done": False}
        breaks_off(first, "/api/generate", json.dumps(line).encode() + b"\n")
        assert "the worker broke off" in await read(bench, "/api/generate")
        assert (await bench.post(prompt="go")).headers["X-Corral-Worker"] == first.name
        assert first.loaded


async def test_memory_that_runs_out_at_a_load_moves_the_model(tmp_path: Path) -> None:
    """The client waits for the second load and gets its answer."""
    first, second = FakeOllama("a"), FakeOllama("b")
    first.load_errors.append("cudaMalloc failed: out of memory")
    async with gateway(tmp_path, first, second) as bench:
        answer = await bench.post()
        assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, "b")
        assert first.loads == second.loads == ["count"]


async def test_a_worker_that_computes_on_the_cpu_is_reported(tmp_path: Path) -> None:
    """All that it holds lies on the CPU though it has a GPU; the supervisor is to replace this process."""
    async with gateway(tmp_path, FakeOllama("a", vram_share=0.0), devices=GPU) as bench:
        assert (await bench.post()).status == 500
        reports = map(decode_report, bench.snapshots.told)
        (hung,) = (report for report in reports if isinstance(report, Hung))
        assert (hung.worker, hung.incarnation, hung.what) == ("a", 1, "computes on the CPU")


async def test_our_own_worker_computes_on_the_cpu_wherever_it_is(tmp_path: Path) -> None:
    """It was put on a machine with GPUs on purpose: that is no fault."""
    async with gateway(tmp_path, FakeOllama("a", engine="embedded"), devices=GPU) as bench:
        assert (await bench.post()).status == 200
        assert b"computes on the CPU" not in b"".join(bench.snapshots.told)
