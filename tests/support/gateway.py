"""The real gateway in this process, in front of fake workers, with a snapshot source of the test's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from gateway.app import Ports, Served, running
from gateway.external.health import USUAL, Timings
from supervisor.contract.config import Config, ExternalWorker, GatewayConfig, ModelConfig, SchedulingConfig
from supervisor.contract.fleet import FleetSnapshot, WorkerStatus, encode
from supervisor.contract.runtime_dir import SUPERVISOR_SOCKET
from tests.support.fake_ollama import FakeOllama

DEADLINE_S = 20.0
_LOOK_S = 0.01


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition of the world outside; fail with its name when it does not come true.

    A look may start a process. The loop gets as much time as the looks take, since the condition may wait for
    what this process has yet to send.
    """
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(DEADLINE_S):
            began = now()
            while not condition():
                await asyncio.sleep(max(_LOOK_S, now() - began))
                began = now()
    except TimeoutError:
        raise AssertionError(f"did not happen: {what}") from None


@dataclass
class Snapshots:
    """The supervisor's end of the fleet link."""

    path: Path
    generation: int = 0
    line: bytes = b""
    told: list[bytes] = field(default_factory=list)
    """What gateways reported."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self.connected, str(self.path))

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(self.line)
        while line := await reader.readline():
            self.told.append(line)

    def publish(self, *statuses: WorkerStatus) -> None:
        self.generation += 1
        snapshot = FleetSnapshot(boot_id="test", generation=self.generation, workers=tuple(statuses))
        self.line = encode(snapshot)
        for writer in self.writers:
            writer.write(self.line)

    async def stop(self) -> None:
        for writer in self.writers:
            writer.close()
        if self.server is not None:
            self.server.close()


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    text: str
    headers: dict[str, str]


@dataclass
class Bench:
    """A running gateway and what a test needs around it."""

    url: str
    admin_socket: str
    snapshots: Snapshots
    workers: Sequence[FakeOllama]
    http: aiohttp.ClientSession
    config: Config
    ports: Ports
    served: Served

    def waiting(self) -> list[dict[str, Any]]:
        """Return all who wait for a slot."""
        return self.served.runtime.waiting()

    @asynccontextmanager
    async def another(self, generation: int = 2) -> AsyncIterator[Served]:
        """Have another gateway take over, and serve as long as the block lasts."""
        ports = replace(self.ports, listener=self.ports.listener.dup(), generation=generation)
        async with running(self.config, ports) as served:
            yield served

    def publish(self, **changes: object) -> None:
        self.snapshots.publish(*(worker.status(**changes) for worker in self.workers))  # type: ignore[arg-type]  # any field

    async def post(self, path: str = "/api/generate", **body: object) -> Answer:
        """Send one request, which names the model `count` unless it says otherwise."""
        asked = {"model": "count", "prompt": "hello", **body}
        async with self.http.post(self.url + path, json=asked) as response:
            return Answer(response.status, await response.text(), dict(response.headers))

    async def resident(self) -> dict[str, dict[str, Any]]:
        """Return what the gateway believes to be loaded, by worker and name."""
        async with self.http.get(f"{self.url}/api/ps") as response:
            rows = (await response.json())["models"]
        return {f"{row['worker']} {row['name'].removesuffix(':latest')}": row for row in rows}

    async def until_resident(self, *names: str) -> None:
        """Wait until it believes just these to be loaded; names are as in `resident`."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if set(await self.resident()) == set(names):
                    return
                await asyncio.sleep(0.01)

    def check(self) -> None:
        assert [offence for worker in self.workers for offence in worker.offences] == []


@asynccontextmanager
async def gateway(
    directory: Path,
    *workers: FakeOllama,
    config: GatewayConfig | None = None,
    external: Sequence[ExternalWorker] = (),
    wishes: Mapping[str, ModelConfig] | None = None,
    scheduling: SchedulingConfig | None = None,
    timings: Timings = USUAL,
    **changes: object,
) -> AsyncIterator[Bench]:
    """Run a gateway before these workers; at the end no worker may have been wronged.

    Without any there is no supervisor either; `external` ones are the test's to start.
    """
    snapshots = Snapshots(directory / SUPERVISOR_SOCKET)
    async with AsyncExitStack() as stack:
        for worker in workers:
            await worker.start()
            stack.push_async_callback(worker.stop)
        await snapshots.start()
        stack.push_async_callback(snapshots.stop)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        whole = Config(
            gateway=config or GatewayConfig(),
            external=tuple(external),
            models=dict(wishes or {}),
            scheduling=scheduling or SchedulingConfig(),
        )
        ports = Ports(listener.dup(), directory, supervised=bool(workers), timings=timings)
        served = await stack.enter_async_context(running(whole, ports))
        kept = replace(ports, listener=listener)
        bench = Bench(url, str(directory / "gateway.sock"), snapshots, workers, http, whole, kept, served)
        bench.publish(**changes)
        yield bench
        bench.check()
