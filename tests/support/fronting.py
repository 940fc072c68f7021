"""`corral gateway` as a process with limits of its own, before a worker that lives in the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import yaml
from aiohttp import web

from tests.support.aftermath import assert_gateway_is_back
from tests.support.fake_ollama import FakeOllama, frame
from tests.support.gateway_command import GATEWAY, command
from tests.support.raw_http import head

LOOPBACK: Final = "127.0.0.1"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Front:
    """The gateway, seen by clients and by the kernel."""

    url: str
    pid: int
    runtime_dir: Path
    log_file: Path
    connections: list[Streams] = field(default_factory=list)

    @property
    def port(self) -> int:
        """For clients."""
        return urlsplit(self.url).port or 0

    async def connect(self, *, limit: int = 2**16) -> Streams:
        """Open a connection; its reader takes no more than twice `limit` bytes by itself."""
        connection = await asyncio.open_connection(LOOPBACK, self.port, limit=limit)
        self.connections.append(connection)
        return connection

    async def hang_up(self) -> None:
        """End all connections that were opened here, as a client does that is killed."""
        for _, writer in self.connections:
            writer.transport.abort()
        for _, writer in self.connections:
            with suppress(OSError):
                await writer.wait_closed()
        self.connections.clear()

    def order(self, path: str = "/api/generate", **body: Any) -> bytes:
        """Return the bytes of a request, which names the model `count` unless it says otherwise."""
        content = json.dumps({"model": "count", "prompt": "go", **body}).encode()
        return head("POST", path, {"Host": "localhost", "Content-Length": str(len(content))}) + content

    async def ask(self, path: str = "/api/generate", **body: Any) -> tuple[int, str, dict[str, str]]:
        """Send one request on a connection of its own; return status, text and headers of the answer."""
        asked = {"model": "count", "prompt": "go", **body}
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.url + path, json=asked) as response,
        ):
            return response.status, await response.text(), dict(response.headers)

    async def assert_all_is_back(self) -> None:
        """No slot, no waiting request and no connection of a client is left."""
        await asyncio.to_thread(assert_gateway_is_back, self.runtime_dir, self.pid, self.url)

    def log(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@asynccontextmanager
async def front(
    directory: Path,
    worker: FakeOllama,
    *,
    descriptors: int | None = None,
    gateway: Mapping[str, Any] | None = None,
    **external: Any,
) -> AsyncIterator[Front]:
    """Run both; at the end no worker may have been wronged.

    Args:
        directory: For the runtime directory and the log.
        worker: Is started here.
        descriptors: The gateway's limit of open files; without it that of the test.
        gateway: The section of that name.
        external: Further keys of the worker in the configuration.
    """
    await worker.start()
    row = {"name": worker.name, "url": worker.url, "memory": "1GiB", "num_parallel": worker.slots, **external}
    file = directory / "corral.yaml"
    config = {"runtime_dir": "run", "state_dir": "state", "listen": f"{LOOPBACK}:0", "external": [row]}
    file.write_text(yaml.safe_dump({**config, "gateway": dict(gateway or {})}))
    log_file = directory / "log"
    limit = "" if descriptors is None else f"ulimit -n {descriptors}; "
    shell = f'{limit}exec "$@" 2>"$0"'
    try:
        async with command("sh", "-c", shell, log_file, *GATEWAY, "--config", file) as process:
            url = await process.greeting()
            corral = Front(url, process.process.pid, directory / "run", log_file)
            try:
                yield corral
            finally:
                await corral.hang_up()
    finally:
        await worker.stop()
    assert worker.offences == []


class Flood(FakeOllama):
    """Answers `flood` with so many bytes as fast as they are taken, and anything else as usual."""

    bytes_each: int = 100 * 2**20

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("prompt") != "flood":
            return await super().answer(request, body)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        line = frame("x" * 60_000, done=False)
        for _ in range(self.bytes_each // len(line)):
            await response.write(line)
        await response.write(frame("", done=True))
        await response.write_eof()
        return response
