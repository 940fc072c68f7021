"""More clients than the gateway may have open files: nobody is refused and nothing is disturbed."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path
from typing import Final

from gateway.http import door
from tests.support.fake_ollama import FakeOllama
from tests.support.fronting import Front, Streams, front
from tests.support.gateway import until

DESCRIPTORS: Final = 160
ROOM: Final = door.most_clients(DESCRIPTORS)


def cpu_ticks(pid: int) -> int:
    """Return how much a process has computed."""
    columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(columns[11]) + int(columns[12])


async def answered(corral: Front, connection: Streams) -> bytes:
    """Ask on a connection and return the first line of the answer."""
    reader, writer = connection
    writer.write(corral.order())
    return await reader.readline()


async def test_clients_beyond_the_limit_wait_and_streams_go_on(tmp_path: Path) -> None:
    """All are answered in the end; one line tells the operator what to raise."""
    worker = FakeOllama("w0", slots=16, loaded={"count"}, script=deque(["hold"]))
    async with (
        front(tmp_path, worker, descriptors=DESCRIPTORS, max_queue=1000) as corral,
        asyncio.timeout(60),
    ):
        stream = await corral.connect()
        stream[1].write(corral.order())
        assert b"200" in await stream[0].readline()
        waiting = [await corral.connect() for _ in range(2 * ROOM)]
        asked = [asyncio.create_task(answered(corral, one)) for one in waiting]
        await until(
            lambda: any("no further connection" in row["event"] for row in corral.log()), "it is told"
        )
        before = cpu_ticks(corral.pid)
        assert all(b"200" in line for line in await asyncio.gather(*asked)), "nobody was hung up on"
        worker.hold.set()
        assert b'"done":true' in await stream[0].readuntil(b'"done":true')
        told = [row for row in corral.log() if "no further connection" in row["event"]]
        assert len(told) < 5, "it is told once a shortage"
        assert cpu_ticks(corral.pid) - before < 5 * os.sysconf("SC_CLK_TCK"), "it does not spin"
        await corral.hang_up()
        await corral.assert_all_is_back()
