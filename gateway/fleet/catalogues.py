"""Keeps the workers' model lists fresh enough for a person, without making anybody wait for a slow worker.

Decides when a worker's /api/tags is read: when somebody wants to see lists older than he accepts, and at
once after a change of a store. Of workers that share a store one is asked for all, and another if that one
does not answer. Readers that ask at the same time join; whoever waits does so only for a moment and then
takes what is known, while the reading goes on. What was waited for in vain is not waited for again until it
comes, and a worker that loads or unloads is left alone unless the reader must know. Knows no model: the
roster takes the lists in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import structlog

from gateway.fleet.roster import Roster, instance_of
from gateway.scheduling.names import Instance
from gateway.workers.client import WorkerUnreachableError
from supervisor.contract.fleet import WorkerStatus

_log = structlog.get_logger("fleet")

_LIST_S: Final = 4.0
"""For one worker's list: clients give up after 10 s."""
_MOMENT_S: Final = 0.5
"""How long somebody who wants to see the lists waits for fresh ones."""

Store = tuple[str, ...]
"""What tells apart stores that need reading each for itself."""


@dataclass(slots=True)
class _Reading:
    """The last reading of one store."""

    began_at: float = -inf
    slow: bool = False
    """It failed, or somebody waited for it in vain."""
    task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        return self.task is not None and not self.task.done()


class Catalogues:
    """The only reader of the lists once a worker has been introduced."""

    def __init__(
        self,
        roster: Roster,
        ask: Callable[[WorkerStatus], Awaitable[Mapping[str, Any]]],
        learn: Callable[[WorkerStatus, Mapping[str, Any]], None],
        is_moving: Callable[[Instance], bool],
    ) -> None:
        """`ask` reads a worker's list, `learn` takes it in, `is_moving` tells of loads and unloads."""
        self._roster = roster
        self._ask = ask
        self._learn = learn
        self._is_moving = is_moving
        self._readings: dict[Store, _Reading] = {}
        self._silent: set[str] = set()
        """Those that did not answer when they were last asked."""
        self._changed_at = -inf
        """When a store was last changed through the gateway."""

    async def refresh(self, max_age_s: float) -> None:
        """See to it that the lists are no older than this; returns after a moment in any case."""
        due = [store for store in self._due(max_age_s) if not self._left_alone(store)]
        readings = [self._begin(store) for store in due]
        awaited = {reading.task: reading for reading in readings if reading.task and not reading.slow}
        if awaited:
            _, late = await asyncio.wait(awaited, timeout=_MOMENT_S)
            for task in late:
                awaited[task].slow = True

    async def search(self, max_age_s: float) -> None:
        """The same for who must know whether a model is there: all stores are read and waited for."""
        tasks = [task for store in self._due(max_age_s) if (task := self._begin(store).task)]
        if tasks:
            await asyncio.wait(tasks)

    def store_changed(self) -> None:
        """Read all lists anew: what a reading under way brings may be older than the change."""
        self._changed_at = self._now()
        for store in self._stores():
            self._begin(store)

    async def close(self) -> None:
        """Stop reading."""
        tasks = [reading.task for reading in self._readings.values() if reading.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stores(self) -> dict[Store, list[WorkerStatus]]:
        """Return the ready workers by what they see; engines list the same directory each in its own way."""
        stores: dict[Store, list[WorkerStatus]] = {}
        for status in self._roster.ready():
            shared = (status.engine, status.store) if status.store else (status.worker,)
            stores.setdefault(shared, []).append(status)
        return stores

    def _due(self, max_age_s: float) -> list[Store]:
        oldest = max(self._now() - max_age_s, self._changed_at)
        readings = {store: self._reading(store) for store in self._stores()}
        return [store for store, read in readings.items() if read.under_way or read.began_at < oldest]

    def _left_alone(self, store: Store) -> bool:
        """After a change it is read nevertheless, or a new model would be missing until the load ends.

        That asks /api/tags only; what can crash an Ollama that loads is /api/ps.
        """
        changed = self._reading(store).began_at < self._changed_at
        return not changed and all(self._is_moving(instance_of(s)) for s in self._stores()[store])

    def _begin(self, store: Store) -> _Reading:
        """Return the reading under way, or a new one."""
        reading = self._reading(store)
        if not reading.under_way:
            reading.task = asyncio.get_running_loop().create_task(self._read(store, reading))
        return reading

    async def _read(self, store: Store, reading: _Reading) -> None:
        """Read the list, and once more if a store was changed meanwhile."""
        while True:
            reading.began_at = self._now()
            tags = await self._first_answer(store)
            reading.slow = tags is None
            if tags is not None:
                for status in self._stores().get(store, []):
                    self._learn(status, tags)
            if reading.began_at >= self._changed_at:
                return

    async def _first_answer(self, store: Store) -> Mapping[str, Any] | None:
        """Ask those first that have nothing else to do and answered before."""
        for status in sorted(self._stores().get(store, []), key=self._reluctance):
            tags = await self._tags(status)
            if tags is not None:
                return tags
        return None

    def _reluctance(self, status: WorkerStatus) -> tuple[bool, bool]:
        return status.worker in self._silent, self._is_moving(instance_of(status))

    async def _tags(self, status: WorkerStatus) -> Mapping[str, Any] | None:
        self._silent.add(status.worker)
        try:
            async with asyncio.timeout(_LIST_S):
                tags = await self._ask(status)
        except (WorkerUnreachableError, TimeoutError) as error:
            _log.warning(
                "model list not readable; the last one stays", worker=status.worker, error=str(error)
            )
            return None
        self._silent.discard(status.worker)
        return tags

    def _reading(self, store: Store) -> _Reading:
        return self._readings.setdefault(store, _Reading())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
