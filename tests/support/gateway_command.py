"""`corral gateway` in a process of its own, in front of fake workers, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.support.corral import COMMAND, plain_environment
from tests.support.fake_ollama import FakeOllama
from tests.support.supervisor import ROOT

PATIENCE_S: Final = 20.0
GATEWAY: Final = (COMMAND, "gateway")
CONFIG: Final = {"runtime_dir": "run", "state_dir": "state"}


@asynccontextmanager
async def up(worker: FakeOllama) -> AsyncIterator[FakeOllama]:
    """Run a fake worker that was not wronged at the end."""
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
    assert worker.offences == []


def config_file(directory: Path, *workers: FakeOllama, listen: str = "127.0.0.1:0", **more: Any) -> Path:
    """Write a configuration that fronts these workers."""
    external = [{"name": worker.name, "url": worker.url, "memory": "1GiB"} for worker in workers]
    file = directory / "external.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, "listen": listen, "external": external, **more}))
    return file


@dataclass(slots=True)
class Command:
    """A command that runs, with standard output and error as they came."""

    process: asyncio.subprocess.Process

    async def greeting(self) -> str:
        """Return the URL of the ready line."""
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)).decode()
        assert line.startswith("Corral is ready: "), line + await self.said()
        return line.split()[3]

    async def said(self) -> str:
        """Return standard error once it has ended."""
        return (await asyncio.wait_for(self.process.communicate(), PATIENCE_S))[1].decode()

    async def refusal(self) -> str:
        """Return why it ended with 2."""
        said = await self.said()
        assert self.process.returncode == 2, said
        return said


@asynccontextmanager
async def command(*argv: str | Path) -> AsyncIterator[Command]:
    """Run a command; it is gone afterwards."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=pipe, stderr=pipe, env=plain_environment(), cwd=ROOT
    )
    try:
        yield Command(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def ask(url: str) -> str:
    """Send one request and return the worker that answered it."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/api/generate", json={"model": "count", "prompt": "x"}) as response,
    ):
        assert response.status == 200, await response.text()
        await response.read()
        return response.headers["X-Corral-Worker"]
