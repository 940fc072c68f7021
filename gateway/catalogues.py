"""Keeps the workers' model lists fresh enough for a person, without making anybody wait for a slow worker.

Decides when a worker's /api/tags is read: when somebody wants to see lists older than he accepts, and at
once after a change of a store. Readers that ask at the same time join; whoever waits does so only for a
moment and then takes what is known, while the reading goes on. A worker that did not answer the last time is
not waited for, and one that loads or unloads is left alone unless the reader must know. Knows no
model: the roster takes the lists in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import structlog

from gateway.roster import Roster, instance_of
from gateway.scheduling.names import Instance
from gateway.workers.client import WorkerUnreachableError
from supervisor.contract.fleet import WorkerStatus

_log = structlog.get_logger("fleet")

_LIST_S: Final = 4.0
"""For one worker's list: clients give up after 10 s."""
_MOMENT_S: Final = 0.5
"""How long somebody who wants to see the lists waits for fresh ones."""


@dataclass(slots=True)
class _Reading:
    """The last reading of one process's list."""

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
        self._readings: dict[Instance, _Reading] = {}
        self._changed_at = -inf
        """When a store was last changed through the gateway."""

    async def refresh(self, max_age_s: float) -> None:
        """See to it that the lists are no older than this; returns after a moment in any case."""
        due = [status for status in self._due(max_age_s) if not self._left_alone(status)]
        readings = [self._begin(status) for status in due]
        awaited = {reading.task: reading for reading in readings if reading.task and not reading.slow}
        if awaited:
            _, late = await asyncio.wait(awaited, timeout=_MOMENT_S)
            for task in late:
                awaited[task].slow = True

    async def search(self, max_age_s: float) -> None:
        """The same for who must know whether a model is there: all workers are asked and waited for."""
        tasks = [task for status in self._due(max_age_s) if (task := self._begin(status).task)]
        if tasks:
            await asyncio.wait(tasks)

    def store_changed(self) -> None:
        """Read all lists anew: what a reading under way brings may be older than the change."""
        self._changed_at = self._now()
        for status in self._roster.ready():
            self._begin(status)

    async def close(self) -> None:
        """Stop reading."""
        tasks = [reading.task for reading in self._readings.values() if reading.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _due(self, max_age_s: float) -> list[WorkerStatus]:
        ready = self._roster.ready()
        living = {instance_of(status) for status in ready}
        for instance in [i for i, r in self._readings.items() if i not in living and not r.under_way]:
            del self._readings[instance]
        oldest = self._now() - max_age_s
        return [s for s in ready if self._reading(s).under_way or not self._is_fresh(s, oldest)]

    def _is_fresh(self, status: WorkerStatus, oldest: float) -> bool:
        reading = self._reading(status)
        return reading.began_at >= max(oldest, self._changed_at)

    def _left_alone(self, status: WorkerStatus) -> bool:
        """After a change it is asked nevertheless, or a new model would be missing until the load ends.

        That asks /api/tags only; what can crash an Ollama that loads is /api/ps.
        """
        changed = self._reading(status).began_at < self._changed_at
        return self._is_moving(instance_of(status)) and not changed

    def _begin(self, status: WorkerStatus) -> _Reading:
        """Return the reading under way, or a new one."""
        reading = self._reading(status)
        if not reading.under_way:
            reading.task = asyncio.get_running_loop().create_task(self._read(status, reading))
        return reading

    async def _read(self, status: WorkerStatus, reading: _Reading) -> None:
        """Read the list, and once more if a store was changed meanwhile."""
        while True:
            reading.began_at = self._now()
            tags = await self._tags(status)
            reading.slow = tags is None
            if tags is not None:
                self._learn(status, tags)
            if reading.began_at >= self._changed_at:
                return

    async def _tags(self, status: WorkerStatus) -> Mapping[str, Any] | None:
        try:
            async with asyncio.timeout(_LIST_S):
                return await self._ask(status)
        except (WorkerUnreachableError, TimeoutError) as error:
            _log.warning(
                "model list not readable; the last one stays", worker=status.worker, error=str(error)
            )
            return None

    def _reading(self, status: WorkerStatus) -> _Reading:
        return self._readings.setdefault(instance_of(status), _Reading())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
