"""A model for which memory runs out at one worker is served by another."""

from __future__ import annotations

from pathlib import Path

from supervisor.contract.fleet import Device, DeviceKind
from supervisor.contract.reports import Hung, decode_report
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import gateway

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
