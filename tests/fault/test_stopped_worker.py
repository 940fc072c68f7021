"""A worker that stands still (SIGSTOP): connections are taken, nobody answers. It is ended and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import ollama
import pytest

from tests.support.aftermath import assert_all_is_back
from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import children_of, eventually, exists

GO: Final = [{"role": "user", "content": "go"}]
SHORT: Final = {"num_predict": 3, "temperature": 0}
SELDOM: Final = 3600
"""Nobody is asked unless something was suspected."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Return the engine of the workers."""
    engine: str = request.param
    return engine


@asynccontextmanager
async def serving(
    directory: Path, engine: str, **times: float
) -> AsyncIterator[tuple[Corral, ollama.AsyncClient]]:
    """Run two workers, one of them with the model loaded; all is back at the end."""
    counting_model(directory / "models", width=256, layers=4)
    settings = {
        "probe_interval": SELDOM,
        "probe_timeout": 1,
        "first_byte_timeout": 2,
        "idle_timeout": 2,
        **times,
    }
    with corral(directory, engine=engine, gateway=settings, log={"level": "debug"}) as running:
        client = ollama.AsyncClient(running.url)
        await asyncio.wait_for(client.chat("count", GO, options=SHORT), 30)
        try:
            yield running, client
        finally:
            await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
        await asyncio.to_thread(assert_all_is_back, running)


def holder(running: Corral) -> dict[str, Any]:
    """Return the worker that has the model."""
    return next(worker for worker in running.ps()["workers"] if worker["resident"])


def stop(pid: int) -> None:
    """Have a process, and nothing it started, stand still."""
    os.kill(pid, signal.SIGSTOP)


async def until_replaced(running: Corral, victim: dict[str, Any]) -> None:
    """Wait for a successor; of the process nothing is left, its children included."""
    await asyncio.to_thread(running.wait_until_replaced, victim["worker"], after=victim["incarnation"])
    eventually(lambda: not exists(victim["pid"]), "its end")


async def test_an_idle_one_is_found_without_any_request(tmp_path: Path, engine: str) -> None:
    """It gave no sign of life for `probe_interval`, was asked, and said nothing twice."""
    async with serving(tmp_path, engine, probe_interval=1) as (running, client):
        victim = holder(running)
        stop(victim["pid"])
        await until_replaced(running, victim)
        reply = await client.chat("count", GO, options=SHORT)
        assert reply.message.content == "1 2 3"


@pytest.mark.slow
async def test_requests_before_the_first_byte_are_answered_by_others(tmp_path: Path, engine: str) -> None:
    """Every client gets its whole answer, though the only worker with the model stands still."""
    async with serving(tmp_path, engine) as (running, client):
        victim = holder(running)
        stop(victim["pid"])
        asks = (client.chat("count", GO, options=SHORT) for _ in range(3))
        replies = await asyncio.wait_for(asyncio.gather(*asks), 60)
        assert [reply.message.content for reply in replies] == ["1 2 3"] * 3
        await until_replaced(running, victim)


@pytest.mark.parametrize("stream", [pytest.param(True, marks=pytest.mark.slow), False])
async def test_nobody_waits_for_a_first_byte_as_long_as_a_slow_worker_may_take(
    tmp_path: Path, engine: str, *, stream: bool
) -> None:
    """Its server is asked soon whether it lives; that it is silent too is reason enough to go elsewhere."""
    patient = {"first_byte_timeout": SELDOM, "idle_timeout": SELDOM, "probe_timeout": 2}
    async with serving(tmp_path, engine, **patient) as (running, client):
        victim = holder(running)
        stop(victim["pid"])
        words = await asyncio.wait_for(whole(client, stream=stream), 60)
        assert words == "1 2 3"
        await until_replaced(running, victim)


async def whole(client: ollama.AsyncClient, *, stream: bool) -> str:
    """Return a whole answer, asked for in pieces or as one."""
    if not stream:
        return (await client.chat("count", GO, options=SHORT)).message.content or ""
    parts = await client.chat("count", GO, stream=True, options=SHORT)
    return "".join([part.message.content or "" async for part in parts])


async def test_a_stream_ends_with_an_error_and_others_are_served(tmp_path: Path, engine: str) -> None:
    """The words so far came in order, then an error; whoever comes meanwhile is answered elsewhere."""
    async with serving(tmp_path, engine) as (running, client):
        words: list[str] = []
        victim = holder(running)
        with pytest.raises(ollama.ResponseError, match=r"no next chunk within 2 s|broke off"):
            await read_and_stop(client, victim["pid"], words)
        reply = await asyncio.wait_for(client.chat("count", GO, options=SHORT), 60)
        numbers = [int(word) for word in "".join(words).split()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert reply.message.content == "1 2 3"
        await until_replaced(running, victim)


async def read_and_stop(client: ollama.AsyncClient, pid: int, words: list[str]) -> None:
    """Read an answer and stop its worker, with its runners, after the third word."""
    options = {"num_predict": 1900, "temperature": 0}
    async for part in await client.chat("count", GO, stream=True, options=options):
        words.append(part.message.content or "")
        if len(words) == 3:
            for each in (pid, *children_of(pid)):
                stop(each)


@pytest.mark.slow
async def test_a_runner_that_hangs_behind_a_green_server_is_found(tmp_path: Path, engine: str) -> None:
    """GET /api/version is answered all the while; only a token tells."""
    async with serving(tmp_path, engine, probe_interval=1) as (running, client):
        victim = holder(running)
        for runner in children_of(victim["pid"]):
            stop(runner)
        await until_replaced(running, victim)
        reply = await client.chat("count", GO, options=SHORT)
        assert reply.message.content == "1 2 3"


async def test_a_healthy_idle_worker_is_asked_and_left_alone(tmp_path: Path, engine: str) -> None:
    """Questions neither load nor unload, end in no incarnation, and leave no slot taken."""
    async with serving(tmp_path, engine, probe_interval=0.2) as (running, _):
        before = holder(running)
        await asyncio.to_thread(eventually, lambda: asked(running, before) >= 5, "some questions")
        after = holder(running)
        assert (after["worker"], after["incarnation"]) == (before["worker"], before["incarnation"])
        assert not [line for line in running.log() if line["event"] in ("worker left out", "worker hangs")]


def asked(running: Corral, worker: dict[str, Any]) -> int:
    """Return how often a worker was asked and answered; one that has a model was asked for a token."""
    questions = [line for line in running.log() if line["event"] == "worker asked"]
    named = [line for line in questions if line["worker"].startswith(f"{worker['worker']}#")]
    return sum("Alive" in line["sign"] for line in named)
