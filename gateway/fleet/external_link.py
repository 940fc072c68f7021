"""Follows the workers that somebody else runs: asks whether they are there, and tells the fleet.

The shell of `external/health.py`, which decides when. One `Watch` per worker; the first question goes out
at once, so that a worker that is there serves after one round trip.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import assert_never

import aiohttp
import structlog

from gateway.external.health import (
    USUAL,
    Announce,
    Answered,
    DeadlinePassed,
    Effect,
    Event,
    Failed,
    Health,
    Look,
    Looked,
    Probe,
    RequestFailed,
    Timings,
    step,
)
from gateway.external.merging import status_of
from gateway.scheduling.names import Instance
from supervisor.contract.config import ExternalWorker
from supervisor.contract.fleet import WorkerState, WorkerStatus
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("external")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What watching needs of the rest of the gateway."""

    session: aiohttp.ClientSession
    on_statuses: Callable[[Sequence[WorkerStatus]], None]
    """Gets all external workers, whole, whenever one changed."""
    look: Callable[[Instance], Awaitable[bool]]
    """Reads what a worker holds; False when this was not the moment."""
    timings: Timings = USUAL


@dataclass(slots=True)
class Watch:
    """One worker: what is believed of it, the next deadline, and what is under way."""

    worker: ExternalWorker
    surroundings: Surroundings
    announce: Callable[[], None]
    health: Health = field(default_factory=Health)
    since_unix: float = field(default_factory=time.time)
    _timer: asyncio.TimerHandle | None = None
    _questions: BackgroundTasks = field(default_factory=BackgroundTasks)

    @property
    def status(self) -> WorkerStatus:
        """How it stands in the fleet."""
        return status_of(self.worker, self.health, since_unix=self.since_unix)

    def feed(self, event: Event) -> None:
        """Take an event and start what follows from it."""
        loop = asyncio.get_running_loop()
        before = self.health
        self.health, effects = step(before, event, loop.time(), self.surroundings.timings)
        if (self.health.state, self.health.incarnation) != (before.state, before.incarnation):
            self.since_unix = time.time()
        for effect in effects:
            self._carry_out(effect)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.health.due is not None:
            self._timer = loop.call_at(self.health.due, self.feed, DeadlinePassed())

    async def close(self) -> None:
        """Stop asking."""
        if self._timer is not None:
            self._timer.cancel()
        await self._questions.close()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Probe():
                self._questions.start(self._probe())
            case Look():
                self._questions.start(self._look())
            case Announce():
                self._tell()
            case _:
                assert_never(effect)

    def _tell(self) -> None:
        log = _log.info if self.health.state is WorkerState.READY else _log.warning
        log("external worker", worker=self.worker.name, state=self.health.state, why=self.health.reason)
        self.announce()

    async def _probe(self) -> None:
        self.feed(await probe(self.surroundings, self.worker.url))

    async def _look(self) -> None:
        if await self.surroundings.look(Instance(self.worker.name, self.health.incarnation)):
            self.feed(Looked())


class ExternalLink:
    """All external workers."""

    def __init__(self, workers: Sequence[ExternalWorker], surroundings: Surroundings) -> None:
        """Nothing is asked before `running` is entered."""
        self._surroundings = surroundings
        self._watches = [Watch(worker, surroundings, self._announce) for worker in workers]
        self._incarnations: dict[str, int] = {}
        """Of workers that were left out, so that no later one is taken for them."""
        self._closing = BackgroundTasks()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch as long as the block lasts."""
        self._announce()
        for watch in self._watches:
            watch.feed(DeadlinePassed())
        try:
            yield
        finally:
            await asyncio.gather(self._closing.wait(), *(watch.close() for watch in self._watches))

    def use(self, workers: Sequence[ExternalWorker]) -> None:
        """Watch these from now on; those that answer where they did before stay as they are."""
        known = {watch.worker.name: watch for watch in self._watches}
        kept = {
            w.name: known[w.name] for w in workers if w.name in known and known[w.name].worker.url == w.url
        }
        for watch in self._watches:
            if kept.get(watch.worker.name) is not watch:
                self._leave(watch)
        self._watches = [kept.get(worker.name) or self._new(worker) for worker in workers]
        for watch, worker in zip(self._watches, workers, strict=True):
            watch.worker = worker
        self._announce()
        for watch in self._watches:
            if watch.worker.name not in kept:
                watch.feed(DeadlinePassed())

    def _new(self, worker: ExternalWorker) -> Watch:
        health = Health(incarnation=self._incarnations.get(worker.name, 0))
        return Watch(worker, self._surroundings, self._announce, health)

    def _leave(self, watch: Watch) -> None:
        self._incarnations[watch.worker.name] = watch.health.incarnation
        self._closing.start(watch.close())

    def request_failed(self, url: str) -> None:
        """Take note that a request to this URL broke off; nothing happens when it is no external worker's."""
        for watch in self._watches:
            if url.startswith(f"{watch.worker.url}/"):
                watch.feed(RequestFailed())

    def _announce(self) -> None:
        self._surroundings.on_statuses([watch.status for watch in self._watches])


async def probe(surroundings: Surroundings, url: str) -> Answered | Failed:
    """Ask for the version and return what that tells of the worker."""
    timeout = aiohttp.ClientTimeout(total=surroundings.timings.probe_timeout_s)
    try:
        async with surroundings.session.get(
            f"{url}/api/version", timeout=timeout, allow_redirects=False
        ) as response:
            return _judge(response.status, await response.json(content_type=None))
    except TimeoutError:
        return Failed(f"gave no answer within {timeout.total:g} s", silent=True)
    except ValueError:
        return Failed("answers, but not as an Ollama does: no JSON on GET /api/version", silent=False)
    except (aiohttp.ClientError, OSError) as error:
        return Failed(str(error) or type(error).__name__, silent=False)


def _judge(status: int, answer: object) -> Answered | Failed:
    version = answer.get("version") if isinstance(answer, dict) else None
    if status == HTTPStatus.OK and isinstance(version, str):
        return Answered(version)
    return Failed(
        f"answers, but not as an Ollama does: {status} without a version on GET /api/version", silent=False
    )
