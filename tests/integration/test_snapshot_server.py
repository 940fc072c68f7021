from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from supervisor.contract.fleet import FleetSnapshot, decode, encode
from supervisor.contract.reports import Known, encode_report
from supervisor.core.fleet import first_snapshot
from supervisor.host.snapshots import SnapshotServer
from tests.support.fake_engine import fake_spec

FLEET = first_snapshot("boot", [fake_spec(f"worker{n}") for n in range(20)], since_unix=0.0)


def generation(number: int) -> FleetSnapshot:
    """Return a later snapshot."""
    return FLEET.model_copy(update={"generation": number})


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[SnapshotServer]:
    """Serve the fleet there."""
    server = SnapshotServer(path, encode(FLEET))
    await server.start()
    try:
        yield server
    finally:
        server.close()


async def test_a_reader_gets_the_present_and_then_each_change(tmp_path: Path) -> None:
    """Whole lines, in order."""
    async with serving(tmp_path / "s") as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert decode(await reader.readline()) == FLEET
        server.publish(generation(2))
        server.publish(generation(3))
        assert [decode(await reader.readline()).generation for _ in range(2)] == [2, 3]
        writer.close()


async def test_a_slow_reader_neither_blocks_nor_piles_up(tmp_path: Path) -> None:
    """Others get every change meanwhile; the slow one skips to the newest when it reads again."""
    async with serving(tmp_path / "s") as server:
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(str(tmp_path / "s"))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=2**20)
        assert decode(await reader.readline()) == FLEET
        for number in range(2, 200):
            server.publish(generation(number))
            assert decode(await reader.readline()).generation == number
        slow.settimeout(0)
        late = await asyncio.open_unix_connection(sock=slow)
        seen = [1]
        while seen[-1] < 199:
            seen.append(decode(await late[0].readline()).generation)
        assert seen == sorted(seen)
        assert len(seen) < 150
        writer.close()
        late[1].close()


async def test_the_socket_is_for_us_alone_and_replaces_a_stale_one(tmp_path: Path) -> None:
    """A killed supervisor leaves its socket behind."""
    (tmp_path / "s").touch()
    async with serving(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "s").exists()


async def test_a_reader_that_leaves_is_forgotten(tmp_path: Path) -> None:
    """Without waiting for the next change."""
    async with serving(tmp_path / "s") as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await reader.readline()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while server.readers:  # noqa: ASYNC110 -- the server has no event for this
                await asyncio.sleep(0)


async def test_what_gateways_know_is_told_until_they_hang_up(tmp_path: Path) -> None:
    """The last word of each that is connected; lines that say nothing change nothing."""
    told: list[tuple[Known, ...]] = []
    first, second = (Known(boot_id="b", generation=n, settings=1) for n in (1, 2))
    async with serving(tmp_path / "s") as server:
        server.on_known = told.append
        _, one = await asyncio.open_unix_connection(tmp_path / "s")
        _, other = await asyncio.open_unix_connection(tmp_path / "s")
        one.write(encode_report(first) + encode_report(second))
        await reached(lambda: told[-1:] == [(second,)])
        other.write(b"nonsense\n" + encode_report(first))
        await reached(lambda: bool(told) and set(told[-1]) == {first, second})
        one.close()
        await one.wait_closed()
        await reached(lambda: told[-1] == (first,))
        other.close()
        await other.wait_closed()
        await reached(lambda: told[-1] == ())


async def reached(condition: Callable[[], bool]) -> None:
    """Wait for what the server is told by sockets."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- the server has no event for this
            await asyncio.sleep(0)
