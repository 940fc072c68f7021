"""Carries loads and unloads out at the workers, as the scheduler orders them, and notes what each then holds.

Decides when one has failed, never what is loaded where.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.fleet.roster import Held, ModelRow, Roster, instance_of
from gateway.fleet.views import judged
from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import Resident
from gateway.workers.client import WorkerClient, WorkerRefusedError, WorkerUnreachableError
from supervisor.contract.fleet import FleetSnapshot, WorkerStatus

_log = structlog.get_logger("fleet")

_AGAIN_S: Final = 0.5
"""Before an unload that failed is asked for again."""
_DIED: Final = "the process that was to hold it died while it started"


@dataclass(eq=False, slots=True)
class _Loading:
    """A load that is under way."""

    limit: asyncio.Timeout
    is_stuck: bool = False
    """It was found to come to no end."""


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
        self._loading: dict[Instance, set[_Loading]] = {}

    def begun(self, instance: Instance) -> int:
        """Return how many loads and unloads were begun there."""
        return self._begun[instance]

    def under_way(self, instance: Instance) -> bool:
        """Whether one is under way there."""
        return self._under_way[instance] > 0

    async def load(self, instance: Instance, variant: Variant) -> Resident:
        """Load a model and return what became of it.

        Raises:
            WorkerRefusedError: the engine says no, needs longer than `load_timeout`, or will never be done.
            WorkerUnreachableError: the worker went away.
        """
        status, row = self._target(instance, variant)
        loading = _Loading(asyncio.timeout(self.timeout_s))
        try:
            with (
                self._move(instance),
                self._roster.passed.used(variant),
                self._given_up_if_stuck(instance, loading),
            ):
                async with loading.limit:
                    after = await self._client(status).load(
                        row,
                        embedding=self._roster.embeds(variant),
                        slots=status.num_parallel,
                        or_listed_as=self._roster.listed_on(status.worker, variant),
                    )
        except TimeoutError as error:
            if loading.is_stuck:
                raise WorkerRefusedError(_DIED) from error
            text = f"loading {row.name} took longer than gateway.load_timeout ({self.timeout_s:g} s)"
            self.on_timeout(instance, text)
            raise WorkerRefusedError(text) from error
        self._compare(instance, Held(variant, after.resident.context_length), after.listed)
        return judged(self._roster, status, variant, after.resident)

    def give_up_stuck(self, instance: Instance) -> None:
        """End the loads that are under way there: they wait for a process that died.

        The worker notices nothing but that who asked has left, and can then load something else.
        """
        for loading in self._loading.get(instance, ()):
            loading.is_stuck = True
            if not loading.limit.expired():
                loading.limit.reschedule(asyncio.get_running_loop().time())

    @contextmanager
    def _given_up_if_stuck(self, instance: Instance, loading: _Loading) -> Iterator[None]:
        there = self._loading.setdefault(instance, set())
        there.add(loading)
        try:
            yield
        finally:
            there.discard(loading)
            if not there:
                del self._loading[instance]

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


def stuck_since(before: FleetSnapshot | None, now: FleetSnapshot) -> list[Instance]:
    """Return the processes of which was heard between two snapshots that a load there is stuck."""
    known = {instance_of(status): status.stuck_loads for status in (() if before is None else before.workers)}
    return [
        instance_of(status)
        for status in now.workers
        if status.stuck_loads > known.get(instance_of(status), status.stuck_loads)
    ]
