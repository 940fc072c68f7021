"""What a worker really holds wins over what was believed, without polling it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.fleet import doubts
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import gateway, until


async def test_model_that_a_worker_suddenly_does_not_know_is_looked_for(tmp_path: Path) -> None:
    """The client hears the 404; the next request loads it again, when it is there again."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await bench.post()
        worker.tolerant = True
        worker.loaded.clear()
        worker.script.append("unknown")
        assert (await bench.post()).status == 404
        await bench.until_resident()
        worker.tolerant = False
        assert (await bench.post()).status == 200
    assert worker.loads == ["count", "count"]


async def test_eviction_that_a_load_shows_is_believed(tmp_path: Path) -> None:
    """An Ollama that made room by itself lists it when the load is done."""
    worker = FakeOllama("w0", evicts=True)
    async with gateway(tmp_path, worker, max_loaded_models=2) as bench:
        await bench.post()
        await bench.post(model="other")
        await bench.until_resident("w0 other")
        assert (await bench.post()).status == 200
    assert worker.loads == ["count", "other", "count"]


async def test_answer_that_took_a_load_makes_the_gateway_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody had unloaded one model and evicted the other, which Ollama loaded again by itself."""
    monkeypatch.setattr(doubts, "_USUAL_S", 0.0)
    monkeypatch.setattr(doubts, "_SLOW_TOKENS_PER_S", 1e9)
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, max_loaded_models=2) as bench:
        worker.loaded |= {"count", "other"}
        bench.publish(incarnation=2, max_loaded_models=2)
        await bench.until_resident("w0 count", "w0 other")
        worker.loaded.clear()
        worker.tolerant = True
        assert (await bench.post()).status == 200
        await bench.until_resident("w0 count")
    assert worker.loads == []


async def test_busy_worker_is_looked_at_when_its_last_answer_ends(tmp_path: Path) -> None:
    """Not before: /api/ps tells nothing certain while requests come and go."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await bench.post()
        worker.script.extend(["hold", "unknown"])
        held = asyncio.create_task(bench.post())
        await until(lambda: len(worker.running) == 1, "an answer runs")
        looks = worker.looks
        assert (await bench.post()).status == 404
        assert (await bench.post()).status == 200
        assert worker.looks == looks
        worker.hold.set()
        await held
        await until(lambda: worker.looks == looks + 1, "it is looked at")


async def test_good_answers_are_no_reason_to_look(tmp_path: Path) -> None:
    """Nothing polls: /api/ps can crash an Ollama."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await bench.post()
        looks = worker.looks
        for _ in range(20):
            await bench.post()
        assert worker.looks == looks
