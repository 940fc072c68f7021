"""Asks what a trace says when it says so, however the requests before fare, and notes what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp

from gateway.simulate.model import Job
from scripts.figures.streams import client
from scripts.figures.zipf import body

_LEAD_S: Final = 0.5
"""Between the start of the clock and the first request."""


class Clock:
    """Seconds since the first request was due."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begin = self._loop.time() + _LEAD_S

    @property
    def now(self) -> float:
        """The time now; below 0 at first."""
        return self._loop.time() - self._begin

    async def wait_until(self, at: float) -> None:
        """Sleep until that moment, if it is to come."""
        await asyncio.sleep(at - self.now)

    def call_at(self, at: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Have something done at that moment."""
        return self._loop.call_at(self._begin + at, act)


async def ask(
    session: aiohttp.ClientSession, url: str, job: Job, clock: Clock, answering: Callable[[], None]
) -> None:
    """Stream one answer and fill in the job's times; `answering` is called at its first token.

    Raises:
        aiohttp.ClientError: the worker or gateway refused or broke off.
        ValueError: the answer is not as long as was asked for.
    """
    last = b""
    async with session.post(f"{url}/api/generate", json=body(job)) as response:
        response.raise_for_status()
        async for line in response.content:
            if not last:
                job.first_token_at = clock.now
                answering()
            last = line
    job.finished_at = clock.now
    frame = json.loads(last)
    if frame.get("eval_count") != job.output_tokens:
        raise ValueError(f"{job.output_tokens} tokens of {job.request.model.name} were asked for: {frame}")


async def ask_all(url: str, jobs: Sequence[Job]) -> None:
    """Ask all jobs of one URL, each when it is due."""
    clock = Clock()
    async with client() as session, asyncio.TaskGroup() as asks:
        for job in jobs:
            await clock.wait_until(job.request.arrived_at)
            asks.create_task(ask(session, url, job, clock, lambda: None))
