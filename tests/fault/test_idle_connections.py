"""Ten thousand connections on which nothing is asked: they cost little, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.aftermath import resident_bytes
from tests.support.fake_ollama import FakeOllama
from tests.support.fronting import LOOPBACK, front

WANTED: Final = 10_000
EACH_BYTES: Final = 24 * 1024
SPARE: Final = 2000


@pytest.fixture
def idle() -> Iterator[int]:
    """How many connections can be opened here: ten thousand, or what the limit of open files allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = min(WANTED, hard * 7 // 8 - SPARE)
    if allowed < 100:
        pytest.skip(f"the limit of open files is {hard}: raise it (ulimit -Hn)")
    yield allowed
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_ten_thousand_idle_connections_cost_little_and_delay_nobody(tmp_path: Path, idle: int) -> None:
    """Every one is still there at the end and is answered when it asks at last."""
    worker = FakeOllama("w0", loaded={"count"})
    async with front(tmp_path, worker) as corral:
        assert (await corral.ask())[0] == 200
        before = resident_bytes(corral.pid)
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection((LOOPBACK, corral.port))) for _ in range(idle)
            ]
            for _ in range(5):
                assert (await corral.ask())[0] == 200
            cost = (resident_bytes(corral.pid) - before) / idle
            assert cost < EACH_BYTES, f"{cost:.0f} bytes for each of {idle} idle connections"
            answers = await asyncio.to_thread(asked_at_last, clients[:: idle // 50], corral.order())
            assert answers == {b"HTTP/1.1 200 OK"}
        await corral.assert_all_is_back()


def asked_at_last(clients: list[socket.socket], order: bytes) -> set[bytes]:
    """Send a request on each and return the different first lines of the answers."""
    firsts = set()
    for client in clients:
        client.settimeout(10)
        client.sendall(order)
        firsts.add(client.makefile("rb").readline().strip())
    return firsts
