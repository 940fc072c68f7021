"""Lets models leave the workers' memory, and knows when they are gone.

Decides nothing: the scheduler unloads what is asked for as soon as it is idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from gateway.fleet.fleet import Fleet
from gateway.runtime import HandedOverError, Runtime
from gateway.scheduling.residency import Replica
from gateway.scheduling.types import Event, UnloadAsked


class Place(NamedTuple):
    """Weights on a worker."""

    worker: str
    digest: str


class Departures:
    """Follows the scheduler's events."""

    def __init__(self, fleet: Fleet, runtime: Runtime) -> None:
        """Stand behind whoever is told of events already."""
        self._roster = fleet.roster
        self._runtime = runtime
        self._told_before = runtime.on_event
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        runtime.on_event = self._saw

    def places_of(self, key: str, workers: Collection[str]) -> frozenset[Place]:
        """Return where a model has to leave when its name goes: not where another name has its weights."""
        return frozenset(
            Place(status.worker, row.variant.digest)
            for status in self._roster.statuses
            if status.worker in workers
            and (row := self._roster.catalogues.get(status.worker, {}).get(key)) is not None
            and not any(
                other.variant.digest == row.variant.digest and named != key
                for named, other in self._roster.allowed_rows(status).items()
            )
        )

    async def leave(self, places: Collection[Place], within_s: float) -> bool:
        """Ask the scheduler to unload what is there; whether all was gone in time.

        Raises:
            HandedOverError: this gateway has nothing unloaded any more.
        """
        for variant in {replica.model.variant for replica in self._held(places)}:
            self._runtime.feed(UnloadAsked(variant))
        gone = asyncio.get_running_loop().create_future()
        waiting = (lambda: next(self._held(places), None) is None, gone)
        self._waiting.append(waiting)
        over = asyncio.create_task(self._runtime.over.wait())
        try:
            self._look()
            await asyncio.wait([gone, over], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            self._waiting.remove(waiting)
        if not gone.done() and self._runtime.over.is_set():
            raise HandedOverError
        return gone.done()

    def busy(self, places: Collection[Place]) -> dict[str, int]:
        """Return how many answers each worker still computes there."""
        return {r.worker.view.instance.worker: len(r.busy) for r in self._held(places) if r.busy}

    def busy_on(self) -> dict[str, int]:
        """Return how many answers each worker computes in all."""
        return {worker.view.instance.worker: worker.busy for worker in self._runtime.scheduler.workers}

    def _held(self, places: Collection[Place]) -> Iterator[Replica]:
        for worker in self._runtime.scheduler.workers:
            for variant, replica in worker.replicas.items():
                if Place(worker.view.instance.worker, variant.digest) in places:
                    yield replica

    def _saw(self, event: Event) -> None:
        self._told_before(event)
        if self._waiting:
            self._look()

    def _look(self) -> None:
        for holds, future in self._waiting:
            if not future.done() and holds():
                future.set_result(None)
