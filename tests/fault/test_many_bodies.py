"""Many clients that send large bodies at once: the gateway's memory is bounded, and others are served.

Seed: let `HeldBody.grow` in gateway/http/body_room.py return at once.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from gateway.http import body_room
from supervisor.contract.config import GatewayConfig
from tests.support.aftermath import resident_bytes
from tests.support.fake_ollama import FakeOllama
from tests.support.fronting import LOOPBACK, Front, front
from tests.support.gateway import DEADLINE_S, Answer, Bench, gateway, until
from tests.support.raw_http import head

MIB: Final = 2**20
CLIENTS: Final = 60
EACH_BYTES: Final = 8 * MIB
ROOM: Final = {"max_body_size": EACH_BYTES, "body_memory": 32 * MIB}
MOST_BYTES: Final = 150 * MIB
"""The room, what a connection buffers each, and what passes; all bodies together are 480 MiB."""


def large(model: str = "count") -> bytes:
    """Return a body of the largest size."""
    asked = {"model": model, "prompt": ""}
    asked["prompt"] = "x" * (EACH_BYTES - len(json.dumps(asked)))
    return json.dumps(asked).encode()


WHOLE: Final = memoryview(
    head("POST", "/api/generate", {"Host": "localhost", "Content-Length": str(EACH_BYTES)}) + large()
)
"""A request that the worker would answer."""


async def send(corral: Front, data: memoryview) -> None:
    """Send so much and then nothing more, for ever."""
    with socket.socket() as connection:
        connection.setblocking(False)  # noqa: FBT003 -- the library's way
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (LOOPBACK, corral.port))
        await loop.sock_sendall(connection, data)
        await asyncio.Event().wait()


@pytest.mark.parametrize("whole", [False, True], ids=["half sent", "whole"])
async def test_bodies_of_many_clients_take_a_bounded_memory_and_delay_nobody(
    tmp_path: Path, *, whole: bool
) -> None:
    """Sixty of 8 MiB each, sent but for a byte, or waiting for the only slot; the room is for four."""
    worker = FakeOllama("w0", slots=1, loaded={"count"})
    async with front(tmp_path, worker, gateway=ROOM) as corral:
        assert (await corral.ask())[0] == 200
        before, data = resident_bytes(corral.pid), WHOLE if whole else WHOLE[:-1]
        if whole:
            worker.script.append("hold")
        sending = [asyncio.create_task(send(corral, data)) for _ in range(CLIENTS)]
        await until(lambda: "request bodies wait to be read" in corral.log_file.read_text(), "it is told")
        for _ in range(20):
            assert (await corral.ask("/api/show"))[0] == 200
        assert resident_bytes(corral.pid) - before < MOST_BYTES
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        worker.hold.set()
        await corral.assert_all_is_back()
        assert (await corral.ask())[0] == 200


@pytest.mark.parametrize("end", ["answer", "reset"])
async def test_a_body_is_forgotten_when_its_request_has_ended(tmp_path: Path, end: str) -> None:
    """Not when the garbage collector comes by: twelve of 8 MiB, one after the other.

    Seed: the last lines of `_answer` in gateway/http/inference.py.
    """
    worker = FakeOllama("w0", slots=1, loaded={"count"})
    async with (
        front(tmp_path, worker, gateway=ROOM) as corral,
        aiohttp.ClientSession() as http,
    ):
        assert (await corral.ask())[0] == 200
        before, body = resident_bytes(corral.pid), large()
        for _ in range(12):
            worker.script.append(end)
            worker.served.clear()
            async with http.post(f"{corral.url}/api/generate", data=io.BytesIO(body)) as response:
                assert response.status == 200
                await response.read()
        assert resident_bytes(corral.pid) - before < 6 * EACH_BYTES
        await http.close()
        await corral.assert_all_is_back()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/api/create"])
async def test_who_waits_too_long_to_be_read_is_refused_as_its_client_understands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """503 and when to come again; whoever asks with a small body is served all the time."""
    monkeypatch.setattr(body_room, "WAIT_S", 0.1)
    config = GatewayConfig.model_validate(ROOM)
    async with gateway(tmp_path, FakeOllama("w0", slots=9), config=config) as bench:
        corral = Front(bench.url, 0, tmp_path, tmp_path)
        sending = [asyncio.create_task(send(corral, WHOLE[:-1])) for _ in range(3)]
        answer = await ask_until(bench, path, 503)
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
        error = json.loads(answer.text)["error"]
        assert "gateway.body_memory" in (error if path.startswith("/api/") else error["message"])
        assert (await bench.post()).status == 200
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await ask_until(bench, "/api/generate", 404)


async def ask_until(bench: Bench, path: str, status: int) -> Answer:
    """Send a large request until it is answered so: what others send takes effect in its own time."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            data = io.BytesIO(large("missing"))
            async with bench.http.post(bench.url + path, data=data) as response:
                answer = Answer(response.status, await response.text(), dict(response.headers))
            if answer.status == status:
                return answer
