"""Carries loads and unloads out at the workers, as the scheduler orders them, and notes what each then holds.

Decides when one has failed, never what is loaded where.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from gateway.roster import Held, ModelRow, Roster
from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import Resident
from gateway.workers.client import WorkerClient, WorkerRefusedError, WorkerUnreachableError
from supervisor.contract.fleet import WorkerStatus

_log = structlog.get_logger("fleet")

_AGAIN_S: Final = 0.5
"""Before an unload that failed is asked for again."""


class Moves:
    """Models on their way into memory and out of it."""

    def __init__(
        self,
        roster: Roster,
        client: Callable[[WorkerStatus], WorkerClient],
        doubt: Callable[[Instance, str], None],
        timeout_s: float,
    ) -> None:
        """`doubt` is told of a worker that holds something else than it should, and why."""
        self.timeout_s = timeout_s
        self.on_timeout: Callable[[Instance, str], None] = lambda _, __: None
        """Told of each load that came to no end in time."""
        self._roster = roster
        self._client = client
        self._doubt = doubt
        self._begun: Counter[Instance] = Counter()
        self._under_way: Counter[Instance] = Counter()

    def begun(self, instance: Instance) -> int:
        """Return how many loads and unloads were begun there."""
        return self._begun[instance]

    def under_way(self, instance: Instance) -> bool:
        """Whether one is under way there."""
        return self._under_way[instance] > 0

    async def load(self, instance: Instance, variant: Variant) -> Resident:
        """Load a model and return what became of it.

        Raises:
            WorkerRefusedError: the engine says no, or needs longer than `load_timeout`.
            WorkerUnreachableError: the worker went away.
        """
        status, row = self._target(instance, variant)
        try:
            with self._move(instance), self._roster.passed.used(variant):
                async with asyncio.timeout(self.timeout_s):
                    after = await self._client(status).load(
                        row,
                        embedding=self._roster.embeds(variant),
                        slots=status.num_parallel,
                        or_listed_as=self._roster.listed_on(status.worker, variant),
                    )
        except TimeoutError as error:
            text = f"loading {row.name} took longer than gateway.load_timeout ({self.timeout_s:g} s)"
            self.on_timeout(instance, text)
            raise WorkerRefusedError(text) from error
        self._compare(instance, Held(variant, after.resident.context_length), after.listed)
        return self._roster.judged(status, variant, after.resident)

    def _compare(self, instance: Instance, loaded: Held, listed: Iterable[str]) -> None:
        """An Ollama that made room by itself shows it in the list that ends a load."""
        held = self._roster.held.setdefault(instance, {})
        held[loaded.variant.digest] = loaded
        if self._roster.weights_listed(listed) != held.keys():
            self._doubt(instance, "holds other models than were loaded there")

    async def unload(self, instance: Instance, variant: Variant) -> None:
        """Unload a model; returns when it, or the worker, is gone."""
        try:
            with self._move(instance), self._roster.passed.used(variant):
                await self._unload(instance, variant)
        finally:
            held = self._roster.held.get(instance, {})
            there = held.get(variant.digest)
            if there is not None and there.variant == variant:
                del held[variant.digest]

    async def _unload(self, instance: Instance, variant: Variant) -> None:
        while True:
            try:
                status, row = self._target(instance, variant)
            except WorkerUnreachableError:
                return
            try:
                async with asyncio.timeout(self.timeout_s):
                    await self._client(status).unload(
                        row,
                        embedding=self._roster.embeds(variant),
                        slots=status.num_parallel,
                        or_listed_as=self._roster.listed_on(status.worker, variant),
                    )
                    return
            except (WorkerRefusedError, WorkerUnreachableError, TimeoutError) as error:
                _log.warning("unload failed; trying again", worker=str(instance), error=str(error))
                await asyncio.sleep(_AGAIN_S)

    @contextmanager
    def _move(self, instance: Instance) -> Iterator[None]:
        self._begun[instance] += 1
        self._under_way[instance] += 1
        try:
            yield
        finally:
            self._under_way[instance] -= 1

    def _target(self, instance: Instance, variant: Variant) -> tuple[WorkerStatus, ModelRow]:
        status = self._roster.status(instance)
        row = self._roster.model_on(instance.worker, variant)
        if status is None or row is None or not status.base_url:
            raise WorkerUnreachableError(f"{instance} is gone")
        return status, row
