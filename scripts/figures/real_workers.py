"""Policies of the simulator on workers that are there: the same objects, but what they begin is really done.

The machine keeps the simulator's books and its rules. What a policy starts, loads or unloads goes to the
worker as HTTP, and the policy hears of it when the worker has done it. A client's time to first token is
taken from the moment at which its request was due, so that nothing hides in a client that comes late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from math import isinf
from random import Random
from typing import Final

import aiohttp

from gateway.fleet.roster import ModelRow
from gateway.scheduling.names import Variant
from gateway.simulate.machine import Machine, Replica, Worker
from gateway.simulate.model import Fleet, Job, Model, Request
from gateway.simulate.policies.ollama import Ollama
from gateway.simulate.policies.policy import Policy
from gateway.simulate.policies.push import LeastConnections
from gateway.workers.client import WorkerClient
from scripts.figures.asking import Clock, ask
from scripts.figures.streams import client
from scripts.figures.zipf import SLOTS

_NO_TIES: Final = 1
"""Seed of the chance that policies break ties by."""


class RealMachine(Machine):
    """The simulator's machine, of which nothing happens by itself: workers do it, and tell."""

    def __init__(self, fleet: Fleet, jobs: Sequence[Job], workers: RealWorkers) -> None:
        """`workers` in the order of the fleet's."""
        super().__init__(fleet, jobs)
        self._real = workers

    def start(self, request: Request, worker: Worker) -> None:
        """Send the request to a worker that holds its model."""
        super().start(request, worker)
        self._real.answer(request, worker)

    def hand_over(self, request: Request, worker: Worker) -> None:
        """Send the request to a worker that loads and evicts as it sees fit."""
        self._jobs[request.index].granted_at = self.now
        self._real.answer(request, worker)

    def load(self, model: Model, worker: Worker) -> None:
        """Have the worker load the model."""
        super().load(model, worker)
        self._real.load(model, worker)

    def unload(self, model: Model, worker: Worker) -> None:
        """Have the worker unload the model."""
        super().unload(model, worker)
        self._real.unload(model, worker)


class OnItsOwn(Ollama):
    """In place of the simulator's idea of an Ollama: the worker itself, which gets requests and no orders."""

    def __init__(self, machine: RealMachine, worker: Worker) -> None:
        super().__init__(machine, [worker])
        self._real, self._worker = machine, worker

    def add(self, request: Request) -> None:
        """Send it at once."""
        self._requests += 1
        self._real.hand_over(request, self._worker)

    def loaded(self, model: Model, worker: Worker) -> None:
        """Do nothing: whom it serves next is the worker's business."""


class LeastConnectionsForReal(LeastConnections):
    """The simulator's least-connections, in front of workers that schedule by themselves."""

    def __init__(self, machine: RealMachine, chance: Random) -> None:
        super().__init__(machine, chance)
        self.ollamas = {worker: OnItsOwn(machine, worker) for worker in machine.workers}


PolicyMaker = Callable[[RealMachine, Random], Policy]


async def run_policy(fleet: Fleet, jobs: Sequence[Job], urls: Sequence[str], policy: PolicyMaker) -> None:
    """Let a policy have all jobs answered by the workers at these URLs, in the order of the fleet's."""
    async with client() as session:
        hands = [await Hand.of(url, session) for url in urls]
        try:
            async with asyncio.TaskGroup() as tasks:
                await RealWorkers(fleet, jobs, hands, tasks).run(policy)
        finally:
            for hand in hands:
                await hand.close()


class Hand:
    """What the driver asks of one worker: as the gateway does, and through the gateway's own client."""

    def __init__(self, url: str, session: aiohttp.ClientSession, models: dict[str, ModelRow]) -> None:
        self.url, self.session = url, session
        self._models = models
        self._client = WorkerClient(url, session)

    @classmethod
    async def of(cls, url: str, session: aiohttp.ClientSession) -> Hand:
        """Ask the worker which models it has."""
        hand = cls(url, session, {})
        for row in (await hand._client.tags())["models"]:
            name = str(row["name"])
            hand._models[name.removesuffix(":latest")] = ModelRow(name, Variant(row["digest"]), row)
        return hand

    async def load(self, model: Model) -> None:
        """Return when the model is loaded."""
        await self._client.load(self._models[model.name], embedding=False, slots=SLOTS)

    async def unload(self, model: Model) -> None:
        """Return when the model is gone."""
        await self._client.unload(self._models[model.name], embedding=False, slots=SLOTS)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


class RealWorkers:
    """Does what a policy wants done, and tells it what happens."""

    def __init__(
        self, fleet: Fleet, jobs: Sequence[Job], hands: Sequence[Hand], tasks: asyncio.TaskGroup
    ) -> None:
        self._jobs, self._hands, self._tasks = jobs, hands, tasks
        self._machine = RealMachine(fleet, jobs, self)
        self._clock = Clock()
        self._timer: asyncio.TimerHandle | None = None
        self._unfinished = len(jobs)
        self._done = asyncio.Event()
        self._policy: Policy

    async def run(self, policy: PolicyMaker) -> None:
        """Return when all is answered."""
        self._policy = policy(self._machine, Random(_NO_TIES))  # noqa: S311 -- to be repeatable
        for job in self._jobs:
            await self._clock.wait_until(job.request.arrived_at)
            self._tell(self._policy.arrived, job.request)
        await self._done.wait()
        if self._timer is not None:
            self._timer.cancel()

    # What the policy begins ---------------------------------------------------------

    def answer(self, request: Request, worker: Worker) -> None:
        """Have the request answered there."""
        self._begin(self._answer(self._jobs[request.index], worker))

    def load(self, model: Model, worker: Worker) -> None:
        """Have the model loaded there."""
        self._begin(self._load(model, worker))

    def unload(self, model: Model, worker: Worker) -> None:
        """Have the model unloaded there."""
        self._begin(self._unload(model, worker))

    # What happens -------------------------------------------------------------------

    async def _answer(self, job: Job, worker: Worker) -> None:
        request, hand = job.request, self._hands[worker.index]
        await ask(
            hand.session, hand.url, job, self._clock, lambda: self._tell(self._policy.answering, request)
        )
        replica = worker.replicas.get(request.model)
        if replica is not None:
            _give_back(replica, worker, self._clock.now)
        self._unfinished -= 1
        if not self._unfinished:
            self._done.set()
        self._tell(self._policy.finished, request, worker, job.output_tokens)

    async def _load(self, model: Model, worker: Worker) -> None:
        await self._hands[worker.index].load(model)
        replica, worker.loading = worker.replicas[model], None
        replica.ready = True
        replica.since = replica.last_used = self._clock.now
        self._tell(self._policy.loaded, model, worker)

    async def _unload(self, model: Model, worker: Worker) -> None:
        await self._hands[worker.index].unload(model)
        del worker.replicas[model]
        worker.used_bytes -= model.size_bytes
        self._tell(self._policy.unloaded, model, worker)

    def _begin(self, act: Coroutine[None, None, None]) -> None:
        self._tasks.create_task(act)

    def _tell(self, hear: Callable[..., None], *what: object) -> None:
        self._machine.now = self._clock.now
        hear(*what)
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self._policy.wake_at
        self._timer = None if isinf(wake_at) else self._clock.call_at(wake_at, self._wake)

    def _wake(self) -> None:
        if self._unfinished:
            self._tell(self._policy.woken)


def _give_back(replica: Replica, worker: Worker, now: float) -> None:
    replica.running -= 1
    worker.running -= 1
    replica.last_used = now
    if not replica.running:
        worker.active.remove(replica)
