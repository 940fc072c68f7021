"""What clients notice when processes of a whole Corral are killed: as little as can be."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.support.aftermath import assert_all_is_back
from tests.support.corral import Corral, corral
from tests.support.gateway import until
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import children_of, eventually, exists

GO = [{"role": "user", "content": "go"}]
FOR_LONG = {"num_predict": 1900, "temperature": 0}
"""Longer than any of these tests lets it go on, so that answers end only by what the test does."""
PROMPT_WORDS = {"embedded": 1800, "ollama": 300}
"""Of a prompt whose client leaves. Ollama's runner looks for who left only when it has a token to send, so it
reads the prompt to its end: there it must be one that ends within the time of the test."""


@pytest.fixture(params=ENGINES)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A Corral of two workers with a model that takes its time."""
    counting_model(tmp_path / "models", width=512, layers=6, feed_forward=2048)
    with corral(tmp_path, engine=request.param) as running:
        yield running


@asynccontextmanager
async def answer(running: Corral, **options: Any) -> AsyncIterator[AsyncIterator[str]]:
    """Begin a streamed answer; at the end of the block the client goes away."""
    client = ollama.AsyncClient(running.url)
    stream = await client.chat("count", GO, stream=True, options={**FOR_LONG, **options})
    try:
        yield (part.message.content or "" async for part in stream)
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


async def first_word(words: AsyncIterator[str]) -> str:
    """Wait until the answer has begun."""
    return await anext(words)


async def test_eight_streams_run_at_once_and_the_ninth_waits_in_the_gateway(running: Corral) -> None:
    """Two workers with four slots each: eight answers have begun, and none waits inside a worker."""
    async with asyncio.timeout(60):
        streams = [answer(running) for _ in range(9)]
        entered = await asyncio.gather(*(open_stream(stream) for stream in streams[:8]))
        ninth = asyncio.create_task(open_stream(streams[8]))
        await until(lambda: queued(running) == 1, "the ninth waits in the gateway")
        assert [running.busy(name) for name in ("cpu0", "cpu1")] == [4, 4]
        await streams[0].__aexit__(None, None, None)
        await ninth
        for stream in streams[1:]:
            await stream.__aexit__(None, None, None)
    assert len(entered) == 8
    await asyncio.to_thread(assert_all_is_back, running)


async def open_stream(stream: Any) -> str:
    """Begin the answer and return its first word."""
    return await first_word(await stream.__aenter__())


def queued(running: Corral) -> int:
    """Return how many requests wait in the gateway."""
    return sum(model["waiting"] for model in running.ps()["queue"])


async def test_client_that_leaves_frees_its_slot_in_the_worker_at_once(running: Corral) -> None:
    """The connection is the only signal; it goes through gateway and worker to llama.cpp."""
    async with answer(running) as words:
        await first_word(words)
        name = next(w["worker"] for w in running.ps()["workers"] if any(m["busy"] for m in w["resident"]))
        assert running.busy(name) == 1
    eventually(lambda: running.busy(name) == 0, "a free slot", within_s=5)
    await asyncio.to_thread(assert_all_is_back, running)


async def test_client_that_leaves_during_its_long_prompt_frees_its_slot(
    running: Corral,
) -> None:
    """Nothing has been answered yet; an embedded worker stops between two of the prompt's batches."""
    client = ollama.AsyncClient(running.url)
    await client.chat("count", GO, options={"num_predict": 1})
    prompt = " ".join(str(number % 100) for number in range(PROMPT_WORDS[running.engine]))
    asking = asyncio.create_task(client.generate("count", prompt, raw=True, options=FOR_LONG))
    holder = next(worker["worker"] for worker in running.ps()["workers"] if worker["resident"])
    await until(lambda: running.busy(holder) == 1, "the prompt is being read")
    asking.cancel()
    await asyncio.wait([asking])
    eventually(
        lambda: running.busy(holder) == 0, "a free slot", within_s=5 if running.engine == "embedded" else 20
    )
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    await asyncio.to_thread(assert_all_is_back, running)


async def test_killed_worker_is_replaced_and_the_next_request_served(running: Corral) -> None:
    """Kill -9 of an idle worker with a loaded model: its successor loads it again."""
    client = ollama.AsyncClient(running.url)
    await client.chat("count", GO, options={"num_predict": 1})
    victim = next(worker for worker in running.ps()["workers"] if worker["resident"])
    orphans = children_of(victim["pid"])
    os.kill(victim["pid"], signal.SIGKILL)
    reply = await client.chat("count", GO, options={"num_predict": 3, "temperature": 0})
    assert reply.message.content == "1 2 3"
    assert orphans
    eventually(lambda: not any(map(exists, orphans)), "the runners' end")
    assert running.wait_until_replaced(victim["worker"], after=victim["incarnation"])["resident"] == []
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    await asyncio.to_thread(assert_all_is_back, running)


async def test_worker_killed_in_the_middle_of_an_answer_never_ends_it_cleanly(running: Corral) -> None:
    """The words so far came in order, none missing; then the client gets an error."""
    words: list[str] = []
    with pytest.raises(ollama.ResponseError, match="broke off"):
        await read_until_killed(running, words)
    numbers = [int(word) for word in "".join(words).split()]
    assert numbers == list(range(1, len(numbers) + 1))
    await asyncio.to_thread(assert_all_is_back, running)


async def read_until_killed(running: Corral, words: list[str]) -> None:
    """Read an answer and kill its worker after the third word."""
    async with answer(running) as stream:
        async for word in stream:
            words.append(word)
            if len(words) == 3:
                busy = (w for w in running.ps()["workers"] if any(m["busy"] for m in w["resident"]))
                os.kill(next(busy)["pid"], signal.SIGKILL)


async def test_killed_gateway_comes_back_without_a_refused_connection(running: Corral) -> None:
    """Clients that connect meanwhile wait in the listen backlog; loaded models stay loaded."""
    client = ollama.AsyncClient(running.url)
    await client.chat("count", GO, options={"num_predict": 1})
    gateway = next(p for p in children_of(running.process.pid) if b"gateway" in command(p))
    runners = [r for worker in running.ps()["workers"] for r in children_of(worker["pid"])]
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: not exists(gateway), "the gateway's end")
    fresh = [ollama.AsyncClient(running.url) for _ in range(8)]
    asks = (one.chat("count", GO, options={"num_predict": 2, "temperature": 0}) for one in fresh)
    assert [reply.message.content for reply in await asyncio.gather(*asks)] == ["1 2"] * 8
    assert all(map(exists, runners))
    for one in fresh:
        await one.close()  # type: ignore[no-untyped-call]  # the library left it bare
    await asyncio.to_thread(assert_all_is_back, running)


def command(pid: int) -> bytes:
    """Return a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_killed_supervisor_leaves_nothing(running: Corral) -> None:
    """Soon after kill -9 no worker, runner, gateway or keeper is left, with an answer under way."""
    async with answer(running) as words:
        await first_word(words)
        family = children_of(running.process.pid)
        family += [child for pid in family for child in children_of(pid)]
        assert len(family) >= 5
        running.process.kill()
        eventually(lambda: not any(map(exists, family)), "everybody's end", within_s=5)


async def test_crashed_runner_is_loaded_again(running: Corral) -> None:
    """Kill -9 of the process that holds the model: the worker lives, the next request is served."""
    client = ollama.AsyncClient(running.url)
    await client.chat("count", GO, options={"num_predict": 1})
    holder = next(worker for worker in running.ps()["workers"] if worker["resident"])
    (runner,) = children_of(holder["pid"])
    os.kill(runner, signal.SIGKILL)
    eventually(lambda: not exists(runner), "the runner's end")
    reply = await client.chat("count", GO, options={"num_predict": 3, "temperature": 0})
    assert reply.message.content == "1 2 3"
    assert exists(holder["pid"])
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    await asyncio.to_thread(assert_all_is_back, running)
