"""What clients notice when workers are drained, resumed and restarted: nothing, unless a limit passes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.support.aftermath import all_comes_back
from tests.support.corral import Corral, corral
from tests.support.gateway import until
from tests.support.load import GO, load, order
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES

FOR_LONG = {"num_predict": 1900, "temperature": 0}


def make_models(directory: Path) -> None:
    """Write a model of short answers and one of long ones."""
    counting_model(directory, words=30)
    counting_model(directory, name="long", width=512, layers=6, feed_forward=2048)


@pytest.fixture(params=ENGINES)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A Corral of two workers."""
    make_models(tmp_path / "models")
    with corral(tmp_path, engine=request.param) as running:
        yield running


async def test_drain_resume_and_restart_under_load_refuse_and_break_nothing(running: Corral) -> None:
    """Eight clients ask on; the other worker answers meanwhile.

    Fails when the drain does not wait for the gateway's word (`Runtime._is_idle`), and when the gateway gives
    it while slots are held (`Reporting._idle`).
    """
    before = {name: running.worker(name) for name in ("cpu0", "cpu1")}
    with all_comes_back(running):
        async with load(running) as seen:
            await seen.grows()
            code, said = await order(running, "drain", "cpu0")
            assert code == 0
            assert "no other worker" not in said
            drained = running.worker("cpu0")
            assert drained["state"] == "stopped"
            assert drained["reason"].startswith("drained by hand: `corral resume cpu0` brings it back")
            await seen.grows()
            assert (await order(running, "resume", "cpu0"))[0] == 0
            await seen.grows()
            assert (await order(running, "restart", "cpu1"))[0] == 0
            await seen.grows()
    after = {name: running.worker(name) for name in before}
    for name, worker in before.items():
        assert after[name]["incarnation"] == worker["incarnation"] + 1
        assert after[name]["pid"] != worker["pid"]


async def test_with_a_single_worker_requests_wait_until_it_is_back(tmp_path: Path) -> None:
    """Nobody else could answer: they wait in the gateway and are answered by its successor.

    Who drains the last worker is told what that means.
    """
    make_models(tmp_path / "models")
    with corral(tmp_path, cpu_workers=1) as running, all_comes_back(running):
        async with load(running, clients=4) as seen:
            await seen.grows(4)
            assert (await order(running, "restart", "cpu0"))[0] == 0
            await seen.grows(4)
            code, said = await order(running, "drain", "cpu0")
            assert code == 0
            assert "no other worker of this machine is ready: requests" in said
            assert (await order(running, "resume", "cpu0"))[0] == 0
            await seen.grows(4)
        assert running.worker("cpu0")["incarnation"] == 3


@pytest.mark.parametrize("engine", ENGINES)
async def test_answers_that_outlast_the_limit_are_cut_and_told(tmp_path: Path, engine: str) -> None:
    """The client hears that its answer is not whole, the log why, and the worker goes."""
    make_models(tmp_path / "models")
    with corral(tmp_path, engine=engine, drain_timeout="500ms", cpu_workers=1) as running:
        client = ollama.AsyncClient(running.url)
        stream = await client.chat("long", GO, stream=True, options=FOR_LONG)
        await anext(stream)
        code, said = await order(running, "drain", "cpu0")
        assert code == 0, said
        assert "drain_timeout (0.5 s) passed: answers under way are cut" in said
        with pytest.raises(ollama.ResponseError):
            async for _ in stream:
                pass
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
        assert running.worker("cpu0")["state"] == "stopped"
        told = [line for line in running.log() if "drain_timeout" in str(line.get("reason"))]
        assert len(told) == 1


async def test_a_drain_that_is_cancelled_costs_nothing(running: Corral) -> None:
    """The answer goes on, and the process and its model stay."""
    client = ollama.AsyncClient(running.url)
    stream = await client.chat("long", GO, stream=True, options=FOR_LONG)
    await anext(stream)
    holder = next(w for w in running.ps()["workers"] if w["resident"])
    assert (await order(running, "drain", holder["worker"], "--no-wait"))[0] == 0
    await until(lambda: running.worker(holder["worker"])["state"] == "draining", "it drains")
    code, said = await order(running, "resume", holder["worker"])
    assert code == 0, said
    await anext(stream)
    now = running.worker(holder["worker"])
    assert (now["pid"], now["state"], len(now["resident"])) == (holder["pid"], "ready", 1)
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


async def test_a_draining_worker_gets_no_request_and_its_model_goes_elsewhere(running: Corral) -> None:
    """One answer holds it; the next request for the same model is answered by the other worker at once."""
    client = ollama.AsyncClient(running.url)
    stream = await client.chat("long", GO, stream=True, options=FOR_LONG)
    await anext(stream)
    holder = next(w["worker"] for w in running.ps()["workers"] if w["resident"])
    drain = asyncio.create_task(order(running, "drain", holder))
    await until(lambda: running.worker(holder)["state"] == "draining", "it drains")
    await client.chat("long", GO, options={"num_predict": 2})
    states: dict[str, Any] = {w["worker"]: w for w in running.ps()["workers"]}
    assert states[holder]["state"] == "draining"
    assert [m["name"] for name, w in states.items() if name != holder for m in w["resident"]] == [
        "long:latest"
    ]
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    assert (await drain)[0] == 0


async def test_orders_for_a_worker_that_is_not_there_name_those_that_are(running: Corral) -> None:
    """With the exit code of a wrong argument."""
    for command in ("drain", "resume", "restart"):
        code, said = await order(running, command, "gpu9")
        assert code == 2
        assert "there are: cpu0, cpu1" in said
