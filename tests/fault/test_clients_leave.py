"""Clients that leave, at any stage of any surface: their slot is free at once, nobody computes for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.support.aftermath import all_comes_back, ask_gateway
from tests.support.corral import Corral, corral
from tests.support.gateway import until
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.raw_http import head

CHAT: Final[dict[str, Any]] = {"messages": [{"role": "user", "content": "go"}], "stream": True}
SURFACES: Final[dict[str, dict[str, Any]]] = {
    "/api/generate": {"prompt": "go", "options": {"num_predict": 1900}},
    "/api/chat": {**CHAT, "options": {"num_predict": 1900}},
    "/v1/chat/completions": {**CHAT, "max_tokens": 1900},
    "/v1/completions": {"prompt": "go", "stream": True, "max_tokens": 1900},
    "/v1/responses": {"input": "go", "stream": True, "max_output_tokens": 1900},
    "/v1/messages": {**CHAT, "max_tokens": 1900},
}
SLOTS: Final = 2
AT_ONCE_S: Final = {"embedded": 2.0, "ollama": 10.0}
"""Until a worker computes nothing any more; on machines that test, with all their other work."""


@pytest.fixture(scope="module", params=ENGINES)
def running(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """One worker with two slots and a model that takes its time."""
    directory: Path = tmp_path_factory.mktemp("leaving")
    counting_model(directory / "models", width=512, layers=6, feed_forward=2048)
    defaults = {"engine": request.param, "context_length": 2048, "num_parallel": SLOTS}
    with corral(
        directory, engine=request.param, worker_defaults=defaults, workers=[{"name": "w0"}]
    ) as running:
        yield running


@asynccontextmanager
async def asked(running: Corral, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """Send one request; at the end of the block its client is killed."""
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = json.dumps({"model": "count", **SURFACES[path]}).encode()
    writer.write(head("POST", path, {"Host": "localhost", "Content-Length": str(len(body))}) + body)
    try:
        yield reader
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def begun(reader: asyncio.StreamReader) -> None:
    """Wait until the answer has begun."""
    async with asyncio.timeout(20):
        assert b"200" in await reader.readline()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readline()


def admin(running: Corral, path: str) -> Any:
    """Ask the operator's socket."""
    return ask_gateway(running.directory / "run", path)


def waiting(running: Corral) -> int:
    """Return how many requests wait in the gateway."""
    return len(admin(running, "/corral/queue")["waiting"])


def phases(running: Corral) -> list[str]:
    """Return what is done with models."""
    return [
        model["phase"]
        for worker in admin(running, "/corral/fleet")["workers"]
        for model in worker["resident"]
    ]


def one_word(running: Corral) -> str:
    """Ask for one word and return it."""
    connection = HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    try:
        order = {
            "model": "count",
            "prompt": "go",
            "stream": False,
            "options": {"num_predict": 1, "temperature": 0},
        }
        connection.request("POST", "/api/generate", json.dumps(order))
        return str(json.loads(connection.getresponse().read())["response"]).strip()
    finally:
        connection.close()


def unload(running: Corral) -> None:
    """Have the model leave memory."""
    connection = HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    connection.request("POST", "/api/generate", json.dumps({"model": "count", "keep_alive": 0}))
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("path", SURFACES)
async def test_client_that_leaves_in_the_middle_of_its_answer_stops_its_computation(
    running: Corral, path: str
) -> None:
    """Whichever API it speaks; llama.cpp itself is asked whether it computes."""
    with all_comes_back(running, within_s=AT_ONCE_S[running.engine]):
        async with asked(running, path) as reader:
            await begun(reader)
            assert running.busy("w0") == 1
    assert await asyncio.to_thread(one_word, running) == "1"


@pytest.mark.parametrize("path", SURFACES)
async def test_client_that_leaves_the_queue_leaves_no_trace(running: Corral, path: str) -> None:
    """Who runs and who waits beside it notice nothing."""
    with all_comes_back(running, within_s=AT_ONCE_S[running.engine]):
        async with asked(running, "/api/chat") as first, asked(running, "/api/chat") as second:
            await asyncio.gather(begun(first), begun(second))
            beside = asyncio.create_task(asyncio.to_thread(one_word, running))
            await until(lambda: waiting(running) == 1, "one waits")
            async with asked(running, path):
                await until(lambda: waiting(running) == 2, "another waits")
            await until(lambda: waiting(running) == 1, "it has left")
            assert await first.readline()
        assert await beside == "1"


@pytest.mark.parametrize("path", SURFACES)
async def test_client_that_leaves_while_its_model_loads_does_not_end_the_load(
    running: Corral, path: str
) -> None:
    """A load is the gateway's own request: another client, or a later one, uses it."""
    with all_comes_back(running, within_s=AT_ONCE_S[running.engine]):
        await asyncio.to_thread(unload, running)
        await until(lambda: phases(running) == [], "the model has left")
        loads = sum(line["event"] == "load" for line in running.log())
        async with asked(running, path):
            await until(lambda: "loading" in phases(running), "it loads")
        await until(lambda: phases(running) == ["resident"], "it is loaded")
        assert await asyncio.to_thread(one_word, running) == "1"
        assert sum(line["event"] == "load" for line in running.log()) == loads + 1
