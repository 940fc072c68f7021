from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from gateway.external.health import Timings
from gateway.relay import sockets
from supervisor.contract.config import GatewayConfig
from tests.support.fake_ollama import FakeOllama
from tests.support.far_host import FarHost, FarWorker, NoNamespaceError, far_host
from tests.support.gateway import DEADLINE_S, Bench, gateway, until

LAZY: Final = Timings(probe_interval_s=3600.0, look_interval_s=3600.0)
"""No probe comes to the help of a request."""
NEAR: Final = "beside"
"""Of two workers that are as good the first by name is taken."""
CONNECT_S: Final = 0.3
SILENCE_S: Final = 2.0
SLACK_S: Final = 3.0
"""Keepalive counts whole seconds, and machines that test are slow."""


@pytest.fixture
def host() -> Iterator[FarHost]:
    """Return a host that can vanish."""
    try:
        with far_host() as host:
            yield host
    except NoNamespaceError as error:
        pytest.skip(f"no network namespace can be made here: {error}")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a silent connection sooner than in earnest, so that tests are quick."""
    monkeypatch.setattr(sockets, "SILENCE_S", int(SILENCE_S))
    monkeypatch.setattr(sockets, "IDLE_S", 1)


@dataclass(slots=True)
class Pair:
    """A gateway before a worker on a host that can vanish and one beside it, both with the model loaded."""

    bench: Bench
    far: FarWorker
    near: FakeOllama

    async def ask(self, model: str = "count") -> tuple[str, float]:
        """Send one request; return the worker that answered it to the end, and the seconds that took."""
        started = time.monotonic()
        asked = {"model": model, "prompt": "hello"}
        async with self.bench.http.post(f"{self.bench.url}/api/generate", json=asked) as response:
            assert '"done":true' in await response.text()
            return response.headers["X-Corral-Worker"], time.monotonic() - started

    async def keep_near_busy(self) -> asyncio.Task[tuple[str, float]]:
        """Hold the one slot of the near worker, so that requests go far; return what holds it."""
        self.near.script.append("hold")
        asking = asyncio.create_task(self.ask())
        await until(lambda: bool(self.near.running), "the near worker is busy")
        return asking

    async def sent_far(self, count: int) -> list[asyncio.Task[tuple[str, float]]]:
        """Send requests while only the far worker has free slots; return them once all have one."""
        asking = [asyncio.create_task(self.ask()) for _ in range(count)]
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if await self._busy_far() == count:
                    return asking
                await asyncio.sleep(0.01)

    async def _busy_far(self) -> int:
        async with self.bench.http.get(f"{self.bench.url}/api/ps") as response:
            rows = (await response.json())["models"]
        return sum(int(row["busy"]) for row in rows if row["worker"] == "far")


@asynccontextmanager
async def pair(directory: Path, host: FarHost, *actions: str) -> AsyncIterator[Pair]:
    """Run both; the far one has two slots and does this with the first requests."""
    near = FakeOllama(NEAR, slots=1, loaded={"count"})
    config = GatewayConfig(connect_timeout=CONNECT_S)
    async with host.worker("far", *actions) as far:
        await near.start()
        try:
            external = [far.description.external(max_loaded_models=2), near.external()]
            async with gateway(directory, config=config, external=external, timings=LAZY) as bench:
                await until_ready(bench, 2)
                yield Pair(bench, far, near)
        finally:
            await near.stop()
    assert near.offences == []


async def test_a_vanished_host_is_noticed_on_a_pooled_connection_and_on_a_new_one(
    tmp_path: Path, host: FarHost
) -> None:
    """Of two requests one finds a connection that was good before; the other's SYN is never answered."""
    async with pair(tmp_path, host) as corral:
        held = await corral.keep_near_busy()
        host.vanish()
        asking = await corral.sent_far(2)
        corral.near.hold.set()
        answers = await asyncio.gather(*asking)
        await held
    assert [name for name, _ in answers] == [NEAR, NEAR]
    new_s, pooled_s = sorted(seconds for _, seconds in answers)
    assert CONNECT_S <= new_s < SILENCE_S
    assert SILENCE_S <= pooled_s < SILENCE_S + SLACK_S


async def test_a_request_that_the_vanished_host_had_received_moves_on(tmp_path: Path, host: FarHost) -> None:
    """Everything was acknowledged and no byte of an answer came: only keepalive can tell."""
    async with pair(tmp_path, host, "mute") as corral:
        held = await corral.keep_near_busy()
        asking = await corral.sent_far(1)
        await corral.far.until_running(1)
        host.vanish()
        corral.near.hold.set()
        [(name, seconds)] = await asyncio.gather(*asking)
        await held
    assert name == NEAR
    assert seconds < SILENCE_S + SLACK_S


async def test_an_answer_that_a_vanished_host_had_begun_ends_as_an_error(
    tmp_path: Path, host: FarHost
) -> None:
    """Long before the idle timeout; the client cannot take the stump for an answer."""
    async with pair(tmp_path, host, "hold") as corral:
        held = await corral.keep_near_busy()
        [asking] = await corral.sent_far(1)
        await corral.far.until_running(1)
        host.vanish()
        with pytest.raises(aiohttp.ClientPayloadError):
            await asyncio.wait_for(asking, SILENCE_S + SLACK_S)
        corral.near.hold.set()
        await held


async def test_a_load_on_it_breaks_off(tmp_path: Path, host: FarHost) -> None:
    """Long before the load timeout, so that the model can be loaded elsewhere."""
    async with pair(tmp_path, host) as corral:
        held = await corral.keep_near_busy()
        asking = asyncio.create_task(corral.ask("other"))
        await until_far(corral.bench, "count:latest", "other:latest")
        host.vanish()
        await until_far(corral.bench, "count:latest")
        corral.near.hold.set()
        assert (await asking)[0] == NEAR
        await held


async def until_ready(bench: Bench, workers: int) -> None:
    """Wait until so many workers can take requests."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with bench.http.get(f"{bench.url}/corral/health") as response:
                if (await response.json())["workers_ready"] == workers:
                    return
            await asyncio.sleep(0.01)


async def until_far(bench: Bench, *models: str) -> None:
    """Wait until just these are on the far worker, or on their way there."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.timeout(DEADLINE_S):
        while True:
            async with http.get("http://corral/corral/fleet") as response:
                workers = {worker["worker"]: worker for worker in (await response.json())["workers"]}
            if {row["name"] for row in workers["far"]["resident"]} == set(models):
                return
            await asyncio.sleep(0.01)


async def test_the_worker_on_it_counts_as_gone(tmp_path: Path, host: FarHost) -> None:
    """The request that failed has it asked, and two silent probes are proof."""
    timings = Timings(probe_interval_s=3600.0, probe_timeout_s=0.3)
    async with host.worker("far") as far:
        external = [far.description.external()]
        async with gateway(tmp_path, external=external, timings=timings) as bench:
            corral = Pair(bench, far, FakeOllama(NEAR))
            await corral.ask()
            host.vanish()
            asking = asyncio.create_task(corral.ask())
            async with asyncio.timeout(SILENCE_S + SLACK_S):
                while True:
                    async with bench.http.get(f"{bench.url}/corral/health") as response:
                        if response.status == 503:
                            break
                    await asyncio.sleep(0.01)
            asking.cancel()
