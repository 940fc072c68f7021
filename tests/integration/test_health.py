from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from gateway.health import watch
from supervisor.contract.config import GatewayConfig
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import gateway, until

OFTEN: Final = GatewayConfig(probe_interval=0.1, probe_timeout=1.0)


@dataclass
class Watched(FakeOllama):
    """Notes which routes it was asked on; may be one whose models only embed."""

    inference_routes: tuple[str, ...] = ("/api/generate", "/api/embed")
    capability: str = "completion"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def show(self, request: web.Request) -> web.Response:
        """Tell what the models can do."""
        await super().show(request)
        return web.json_response({"model_info": {}, "capabilities": [self.capability], "details": {}})

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Note it."""
        self.asked.append((request.path, body))
        return await super().answer(request, body)


async def test_an_idle_model_is_asked_for_one_token(tmp_path: Path) -> None:
    """With the options that it was loaded with, and without a keep-alive of its own."""
    worker = Watched("w0", loaded={"count"})
    async with gateway(tmp_path, worker, config=OFTEN):
        await until(lambda: len(worker.asked) >= 3, "some questions")
    assert {path for path, _ in worker.asked} == {"/api/generate"}
    assert all(body["options"] == {"num_predict": 1} and body["raw"] for _, body in worker.asked)
    assert not any("keep_alive" in body for _, body in worker.asked)


async def test_an_embedding_model_is_asked_for_a_vector_and_never_to_chat(tmp_path: Path) -> None:
    """It could not."""
    worker = Watched("w0", loaded={"count"}, capability="embedding")
    async with gateway(tmp_path, worker, config=OFTEN):
        await until(lambda: len(worker.asked) >= 3, "some questions")
    assert {path for path, _ in worker.asked} == {"/api/embed"}


async def test_a_worker_without_a_model_is_only_asked_whether_it_lives(tmp_path: Path) -> None:
    """Health loads nothing."""
    worker = Watched("w0")
    async with gateway(tmp_path, worker, config=OFTEN):
        await until(lambda: worker.probes >= 3, "some questions")
    assert (worker.asked, worker.loads) == ([], [])


async def test_a_busy_worker_is_asked_for_no_token(tmp_path: Path) -> None:
    """Its slots are its clients'; a server that lives is enough while something is computed."""
    worker = Watched("w0", slots=2, loaded={"count"})
    worker.script.append("hold")
    async with gateway(
        tmp_path, worker, config=GatewayConfig(probe_interval=0.3, probe_timeout=1.0)
    ) as bench:
        asking = asyncio.create_task(bench.post())
        await until(lambda: bool(worker.running), "the answer runs")
        before = worker.probes
        asked = len(worker.asked)
        await until(lambda: worker.probes >= before + 3, "some questions")
        assert len(worker.asked) == asked
        worker.hold.set()
        assert (await asking).status == 200


@dataclass
class Standing(Watched):
    """Stands still when told to: it takes connections, and says nothing."""

    stands: bool = False
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell_version(self, request: web.Request) -> web.Response:
        """Say that it lives, if it does."""
        if self.stands:
            await self.goes_on.wait()
        return await super().tell_version(request)


async def test_a_worker_that_only_takes_long_is_asked_whether_it_lives_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long prompt moves nobody, and nothing is loaded elsewhere for it."""
    monkeypatch.setattr(watch, "_ASK_AFTER_S", 0.1)
    slow, other = Standing("w0", loaded={"count"}), Standing("w1")
    slow.script.append("mute")
    async with gateway(tmp_path, slow, other) as bench:
        asking = asyncio.create_task(bench.post())
        await until(lambda: slow.probes >= 5, "it was asked a few times")
        slow.hold.set()
        answer = await asking
    assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, "w0")
    assert (other.loads, other.probes) == ([], 0)


async def test_a_worker_whose_server_is_silent_too_is_left_until_it_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it is served elsewhere; nothing is unloaded, and once it lives it counts again."""
    monkeypatch.setattr(watch, "_ASK_AFTER_S", 0.1)
    stopped, other = Standing("w0", loaded={"count"}), Standing("w1")
    stopped.script.extend(["mute", "mute"])
    stopped.stands = True
    async with gateway(tmp_path, stopped, other, config=GatewayConfig(probe_timeout=0.5)) as bench:
        answers = await asyncio.gather(bench.post(), bench.post())
        assert [(a.status, a.headers["X-Corral-Worker"]) for a in answers] == [(200, "w1")] * 2
        assert stopped.loaded == {"count"}
        stopped.stands = False
        stopped.goes_on.set()
        stopped.hold.set()
        await until(lambda: not bench.served.fleet.roster.tripped, "it is back")
        assert set(await bench.resident()) == {"w0 count", "w1 count"}


async def test_a_question_does_not_keep_a_model_in_memory(tmp_path: Path) -> None:
    """It leaves when its users' time is over, however often it is asked meanwhile."""
    worker = Watched("w0")
    async with gateway(tmp_path, worker, config=OFTEN) as bench:
        await bench.post(keep_alive="1s")
        await until(lambda: not worker.loaded, "the model left")
    assert len(worker.asked) > 1


async def test_a_question_that_is_refused_or_unknown_is_a_sign_of_life(tmp_path: Path) -> None:
    """Busy is not ill."""
    worker = Watched("w0", loaded={"count"})
    worker.script.extend(["busy", "unknown"] * 3)
    async with gateway(tmp_path, worker, config=OFTEN) as bench:
        await until(lambda: not worker.script, "all were asked")
        assert (await bench.post()).status == 200
