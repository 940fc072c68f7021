"""Clients that ask one question after another while a test does things to Corral, and note what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import ollama

from tests.support.corral import COMMAND, Corral

GO = [{"role": "user", "content": "go"}]


@dataclass(slots=True)
class Load:
    """What the clients saw."""

    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def grows(self, by: int = 8) -> None:
        """Wait until so many more answers have come."""
        wanted = len(self.answers) + by
        async with asyncio.timeout(60):
            while len(self.answers) < wanted and not self.failures:  # noqa: ASYNC110 -- a list has no event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(running: Corral, *, clients: int = 8, model: str = "count") -> AsyncIterator[Load]:
    """Keep asking as long as the block lasts; at its end every answer must have been whole and the same."""
    seen, ended = Load(), asyncio.Event()
    tasks = [asyncio.create_task(_ask(running.url, model, seen, ended, number)) for number in range(clients)]
    try:
        yield seen
    finally:
        ended.set()
        await asyncio.gather(*tasks)
    assert seen.failures == []
    assert len(set(seen.answers)) == 1, set(seen.answers)


async def _ask(url: str, model: str, seen: Load, ended: asyncio.Event, number: int) -> None:
    client = ollama.AsyncClient(url, timeout=120)
    while not ended.is_set():
        try:
            if number % 2:
                whole = await client.chat(model, GO, options={"temperature": 0})
                parts, done = [whole.message.content or ""], whole.done_reason
            else:
                stream = await client.chat(model, GO, stream=True, options={"temperature": 0})
                chunks = [chunk async for chunk in stream]
                parts, done = [chunk.message.content or "" for chunk in chunks], chunks[-1].done_reason
        except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
            seen.failures.append(f"{type(error).__name__}: {error}")
            break
        if done != "stop":
            seen.failures.append(f"ended with {done!r} after {''.join(parts)[-40:]!r}")
        seen.answers.append("".join(parts))
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


async def order(running: Corral, *words: str) -> tuple[int, str]:
    """Run an operator's command against it; return exit code and output."""
    argv = (COMMAND, *words, "--runtime-dir", str(running.directory / "run"))
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(90):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
