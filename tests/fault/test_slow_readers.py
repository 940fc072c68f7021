"""Clients that read their answers slowly or not at all: they cost a bounded amount and delay nobody."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest

from gateway.http import server
from tests.support.aftermath import resident_bytes
from tests.support.fronting import Flood, Front, Streams, front
from tests.support.gateway import gateway, until

SLOW: Final = 50
EACH_BYTES: Final = 4 * 2**20
"""What one stream may cost in the gateway, of 100 MiB that its worker would send: mostly what passed once."""


async def unread(corral: Front) -> Streams:
    """Begin an answer of 100 MiB and take no more of it than its beginning."""
    reader, writer = await corral.connect(limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
    writer.write(corral.order(prompt="flood"))
    return reader, writer


async def test_fifty_slow_readers_cost_a_bounded_memory_and_delay_nobody(tmp_path: Path) -> None:
    """Whoever buffers for them grows by 100 MiB each: seed `await` away in `relay.stream.pump`.

    One of them reads a byte now and then, and one all of it in the end: its answer is whole.
    """
    worker = Flood("w0", slots=SLOW + 1, loaded={"count"})
    async with front(tmp_path, worker) as corral:
        assert (await corral.ask())[0] == 200
        before = resident_bytes(corral.pid)
        slow = [await unread(corral) for _ in range(SLOW)]
        await until(lambda: len(worker.running) == SLOW, "all answers run")
        started = time.monotonic()
        for reader, writer in slow[:1]:
            writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
            assert await reader.read(1) == b"H"
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # as above
        for _ in range(20):
            assert (await corral.ask())[0] == 200
        assert time.monotonic() - started < 5, "others are delayed"
        assert resident_bytes(corral.pid) - before < SLOW * EACH_BYTES
        assert len(worker.running) == SLOW, "no worker sends 100 MiB that nobody takes"
        reader, writer = slow[-1]
        writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        taken = 0
        while b'"done":true' not in (part := await reader.read(2**20)):
            assert part
            taken += len(part)
        assert taken > 0.99 * Flood.bytes_each
        await corral.hang_up()
        await until(lambda: not worker.running, "the worker stops")
        await corral.assert_all_is_back()


async def test_who_takes_nothing_for_long_is_cut_and_the_next_gets_the_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own timeout; seed it away in `http/server.py` and nobody gets in."""
    monkeypatch.setattr(server, "STALLED_S", 1)
    worker = Flood("w0", slots=1, loaded={"count"})
    async with gateway(tmp_path, worker) as bench:
        corral = Front(bench.url, 0, tmp_path, tmp_path)
        await unread(corral)
        await until(lambda: bool(worker.running), "the answer runs")
        async with asyncio.timeout(20):
            assert (await bench.post()).status == 200
        assert worker.most_at_once == 1
        await corral.hang_up()
