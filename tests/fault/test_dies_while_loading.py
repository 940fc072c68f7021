"""A model whose load kills its runner, every time: its clients are told, and everybody else is served."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ollama
import pytest

from tests.support.aftermath import all_comes_back, ask_gateway
from tests.support.corral import Corral, corral
from tests.support.exiting_runner import exiting_runners
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import gateway, until
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES, NEEDS_OLLAMA, environment
from tests.support.supervisor import children_of

ONE: Final = {"num_predict": 1, "temperature": 0}
DEADLINE_S: Final = 20.0


@pytest.fixture(params=ENGINES)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A small model, and one that takes long enough to load that it can be killed meanwhile."""
    counting_model(tmp_path / "models", name="sound")
    counting_model(tmp_path / "models", name="deadly", width=512, layers=6, feed_forward=2048)
    gateway = {"request_timeout": DEADLINE_S}
    with corral(tmp_path, engine=request.param, workers=[{"name": "w0"}], gateway=gateway) as running:
        yield running


async def kill_each_load(running: Corral, killed: list[int]) -> None:
    """Kill whatever process loads the deadly model, as soon as it is there."""
    while True:
        (worker,) = ask_gateway(running.directory / "run", "/corral/fleet")["workers"]
        loads = [m for m in worker["resident"] if m["phase"] == "loading" and m["name"].startswith("deadly")]
        for pid in children_of(worker["pid"])[-1:] if loads else ():
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        await asyncio.sleep(0.002)


async def ask(client: ollama.AsyncClient, model: str) -> Any:
    """Return a word, or the status of a refusal."""
    try:
        return (await client.generate(model, "1 2", options=ONE)).response
    except ollama.ResponseError as error:
        return error


async def test_a_load_that_always_dies_is_told_and_hurts_nobody_else(running: Corral) -> None:
    """Whoever asked for it gets an error before his deadline; the worker lives."""
    client, killed = ollama.AsyncClient(running.url), list[int]()
    with all_comes_back(running):
        killing = asyncio.create_task(kill_each_load(running, killed))
        async with asyncio.timeout(2 * DEADLINE_S):
            refused = await asyncio.gather(*(ask(client, "deadly") for _ in range(3)))
        killing.cancel()
        assert killed
        for error in refused:
            assert isinstance(error, ollama.ResponseError)
            assert error.status_code == 500, "of the model, not that the time is over"
            assert "deadly" in error.error, "and why"
        assert isinstance(await ask(client, "sound"), str)
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    assert running.worker("w0")["incarnation"] == 1


@NEEDS_OLLAMA
async def test_a_load_whose_runner_exits_as_it_starts_is_given_up(tmp_path: Path) -> None:
    """As one that cannot get a thread does: an Ollama waits for it for ever, and its log has one line of it.

    The time of a load (`gateway.load_timeout`) is minutes, and so is that of the request.
    """
    counting_model(tmp_path / "models", name="sound")
    flag = tmp_path / "runners_exit"
    flag.touch()
    environ = environment(tmp_path) | exiting_runners(tmp_path, flag)
    with corral(tmp_path, environ, engine="ollama", workers=[{"name": "w0"}]) as running:
        client = ollama.AsyncClient(running.url)
        async with asyncio.timeout(DEADLINE_S):
            refused = await ask(client, "sound")
        assert isinstance(refused, ollama.ResponseError)
        assert (refused.status_code, "died while it started" in refused.error) == (500, True)
        flag.unlink()
        async with asyncio.timeout(2 * DEADLINE_S):
            while not isinstance(refused, str):  # a load that failed is not tried again at once
                refused = await ask(client, "sound")
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


async def test_a_load_that_waits_for_a_dead_process_is_given_up(tmp_path: Path) -> None:
    """An Ollama does so for ever, and loads nothing else meanwhile; its log tells, so the supervisor can.

    The other model is loaded at once; the time of a load (`gateway.load_timeout`) is minutes.
    """
    worker = FakeOllama("w0", load_gate=asyncio.Event())
    async with gateway(tmp_path, worker) as bench:
        asked = asyncio.create_task(bench.post())
        await until(lambda: worker.loading == 1, "it loads")
        bench.publish(stuck_loads=1)
        answer = await asked
        worker.load_gate = None
        assert (answer.status, "died while it started" in answer.text) == (500, True)
        assert (await bench.post(model="other")).status == 200
