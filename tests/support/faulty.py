"""`corral gateway` before worker processes of which some misbehave, as its clients see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.support.aftermath import ask_gateway, assert_gateway_is_back
from tests.support.corral import plain_environment
from tests.support.gateway_command import GATEWAY
from tests.support.supervisor import ROOT

DEADLINE_S: Final = 20.0
GOOD: Final = ("none", "0")
"""Arguments of a worker without a fault."""
QUICK: Final[dict[str, Any]] = {
    "first_byte_timeout": 0.5,
    "idle_timeout": 0.5,
    "connect_timeout": 2,
    "probe_interval": 3600,
    "probe_timeout": 0.5,
}
"""Times of the gateway's that make tests short; nobody is asked of whom nothing is suspected."""


@dataclass(slots=True)
class WorkerProcess:
    """A worker and the requests that it was sent so far."""

    process: asyncio.subprocess.Process
    port: int
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and the number of the connection."""

    def count(self, path: str = "/api/generate") -> int:
        """Return how many requests it was sent there."""
        return sum(asked == path for _, asked, _ in self.requests)

    async def read(self) -> None:
        """Take note of what it says."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            method, path, number = json.loads(line)
            self.requests.append((method, path, number))


@asynccontextmanager
async def worker_process(*argv: str) -> AsyncIterator[WorkerProcess]:
    """Run `run_faulty_worker.py`; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.run_faulty_worker", *argv),
        stdout=asyncio.subprocess.PIPE,
        env=plain_environment(),
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S))
        worker = WorkerProcess(process, port)
        reading = asyncio.create_task(worker.read())
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await reading


@dataclass(frozen=True, slots=True)
class Told:
    """What a client got."""

    status: int
    body: bytes
    worker: str
    whole: bool
    """The connection ended as HTTP wants it."""

    @property
    def text(self) -> str:
        """All pieces of the answer."""
        return "".join(str(frame.get("response", "")) for frame in self.frames)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The lines."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def well(self) -> bool:
        """It is the whole, right answer."""
        return self.status == 200 and self.whole and self.frames[-1].get("done") is True and self.text == "1"


@dataclass(slots=True)
class Stage:
    """A running gateway and its workers: `w0`, `w1`... in their order."""

    url: str
    pid: int
    run: Path
    workers: Sequence[WorkerProcess]
    http: aiohttp.ClientSession

    async def ask(self, **changes: Any) -> Told:
        """Send one request and read as much of the answer as comes."""
        asked = {"model": "count", "prompt": "hello", **changes}
        body, whole = b"", True
        async with (
            asyncio.timeout(DEADLINE_S),
            self.http.post(f"{self.url}/api/generate", json=asked) as response,
        ):
            try:
                async for chunk in response.content.iter_any():
                    body += chunk
            except aiohttp.ClientPayloadError:
                whole = False
            return Told(response.status, body, response.headers.get("X-Corral-Worker", ""), whole)

    async def ask_many(self, count: int, **changes: Any) -> list[Told]:
        """The same at once."""
        return await asyncio.gather(*(self.ask(**changes) for _ in range(count)))

    async def fleet(self) -> dict[str, dict[str, Any]]:
        """Return the workers as the operator sees them, by name."""
        fleet = await asyncio.to_thread(ask_gateway, self.run, "/corral/fleet")
        return {worker["worker"]: worker for worker in fleet["workers"]}

    async def until_ready(self) -> None:
        """Wait until all workers can take requests."""
        async with asyncio.timeout(DEADLINE_S):
            while await self._ready() != len(self.workers):  # noqa: ASYNC110 -- another process's state has no event
                await asyncio.sleep(0.02)

    async def _ready(self) -> int:
        async with self.http.get(f"{self.url}/corral/health") as response:
            return int((await response.json())["workers_ready"])

    async def until_left_out(self, *names: str) -> None:
        """Wait until just these workers get no requests because of how they answered."""
        async with asyncio.timeout(DEADLINE_S):
            while await self._left_out() != set(names):  # noqa: ASYNC110 -- another process's state has no event
                await asyncio.sleep(0.02)

    async def _left_out(self) -> set[str]:
        return {name for name, row in (await self.fleet()).items() if row["left_out"]}

    def log(self) -> list[dict[str, Any]]:
        """Return the gateway's log so far."""
        lines = (self.run.parent / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def all_is_back(self) -> None:
        """Assert that no slot is taken, nobody waits and no client is connected."""
        await self.http.close()
        await asyncio.to_thread(assert_gateway_is_back, self.run, self.pid, self.url)


@asynccontextmanager
async def stage(
    directory: Path, *workers: Sequence[str], slots: int = 2, **settings: Any
) -> AsyncIterator[Stage]:
    """Run a gateway before workers with these arguments; `settings` are of the section `gateway`."""
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(worker_process(*argv)) for argv in workers]
        external = [
            {"name": f"w{n}", "url": f"http://127.0.0.1:{one.port}", "memory": "1GiB", "num_parallel": slots}
            for n, one in enumerate(processes)
        ]
        config: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "runtime_dir": "run",
            "state_dir": "state",
            "external": external,
        }
        file = directory / "corral.yaml"
        file.write_text(yaml.safe_dump(config | {"gateway": QUICK | settings}))
        gateway = await stack.enter_async_context(_gateway(file, directory / "log"))
        assert gateway.stdout is not None
        greeting = (await asyncio.wait_for(gateway.stdout.readline(), DEADLINE_S)).decode()
        assert greeting.startswith("Corral is ready: "), greeting + (directory / "log").read_text()
        url = greeting.split()[3]
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        stage = Stage(url, gateway.pid, directory / "run", processes, http)
        await stage.until_ready()
        yield stage
        await stage.all_is_back()


@asynccontextmanager
async def _gateway(config: Path, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("w") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(*GATEWAY, "--config", config),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=plain_environment(),
            cwd=ROOT,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
