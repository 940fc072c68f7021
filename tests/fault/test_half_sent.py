"""Requests that are never sent to their end: they take no slot, delay nobody and leave nothing behind.

That such connections are given up in time is in `tests/integration/test_edge.py`, with shorter times.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.support.fake_ollama import FakeOllama
from tests.support.fronting import Front, front
from tests.support.raw_http import head

MANY: Final = 300
BY_LENGTH: Final = head("POST", "/api/generate", {"Host": "localhost", "Content-Length": "999"})
BY_CHUNKS: Final = head("POST", "/api/generate", {"Host": "localhost", "Transfer-Encoding": "chunked"})
HALVES: Final = {
    "nothing": b"",
    "half a head": b"POST /api/generate HTTP/1.1\r\nHost: loc",
    "half a body": head("POST", "/api/generate", {"Host": "localhost", "Content-Length": "999"})
    + b'{"model"',
    "half a chunk": head("POST", "/api/generate", {"Host": "localhost", "Transfer-Encoding": "chunked"})
    + b"f\r\n{",
}


@pytest.mark.parametrize("half", HALVES)
async def test_half_sent_requests_take_no_slot_and_delay_nobody(tmp_path: Path, half: str) -> None:
    """There is one slot, three hundred clients that never finish, and one that does."""
    worker = FakeOllama("w0", slots=1, loaded={"count"})
    async with front(tmp_path, worker) as corral, asyncio.timeout(30):
        for _ in range(MANY):
            _, writer = await corral.connect()
            writer.write(HALVES[half])
        assert [(await corral.ask())[0] for _ in range(5)] == [200] * 5
        await corral.hang_up()
        await corral.assert_all_is_back()
        assert [row["outcome"] for row in corral.log() if row["event"] == "request"].count("done") == 5


@pytest.mark.parametrize("half", [name for name in HALVES if name != "nothing"])
async def test_early_end_of_a_request_never_reaches_a_worker(tmp_path: Path, half: str) -> None:
    """The client closes its side half-way, as one does that was killed: nobody computes for it."""
    worker = FakeOllama("w0", slots=1, loaded={"count"})
    async with front(tmp_path, worker) as corral, asyncio.timeout(30):
        answers = await asyncio.gather(*(cut_short(corral, HALVES[half]) for _ in range(20)))
        assert {answer[:12] for answer in answers} <= {b"", b"HTTP/1.1 400"}
        await corral.hang_up()
        await corral.assert_all_is_back()
        assert not worker.served


async def cut_short(corral: Front, data: bytes) -> bytes:
    """Send the bytes and then the end of all; return what comes back."""
    reader, writer = await corral.connect()
    writer.write(data)
    writer.write_eof()
    return await reader.read()
