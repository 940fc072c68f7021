"""Asks a worker what `rounds.py` finds right at this moment.

A question for a token takes a lease of the scheduler's, so that it never takes a slot from somebody who
waits; only where an open circuit keeps clients away anyway it takes none. Decides nothing about what the
answer means.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import instance_of
from gateway.health.questions import Questions
from gateway.health.rounds import Question, Sight, question_for
from gateway.health.signs import Alive, NotNow, Sign
from gateway.relay.upstream import Upstream
from gateway.runtime import HandedOverError, RejectedError, Runtime
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.residency import LOADING, RESIDENT, Replica, WorkerResidency
from gateway.scheduling.types import Arrived
from supervisor.contract.config import GatewayConfig
from supervisor.contract.fleet import WorkerStatus

_TENANT: Final = "@health"
_AT_ONCE_S: Final = 1.0
"""A free slot is given in the moment it is asked for; a deadline that has come is given none."""
_numbers: Final = count(1)


class Asker:
    """One per gateway."""

    def __init__(self, fleet: Fleet, runtime: Runtime, upstream: Upstream, settings: GatewayConfig) -> None:
        """Look at roster and scheduler; change neither."""
        self.settings = settings
        self._fleet = fleet
        self._runtime = runtime
        self._questions = Questions(upstream)

    async def ask(self, instance: Instance, *, suspected: bool) -> Sign:
        """Ask what can be asked without taking anything from anybody."""
        status = self._fleet.roster.status(instance)
        if status is None or not status.base_url:
            return NotNow()
        sight = self._sight(instance, suspected=suspected)
        question = question_for(sight, patience_s=self.settings.first_byte_timeout)
        if question is Question.NOTHING:
            return NotNow()
        sign = await self._questions.version(status.base_url, self.settings.probe_timeout)
        if not isinstance(sign, Alive):
            return sign
        if question is Question.TOKEN:
            return await self._ask_token(instance, status)
        # That its server lives clears a suspected worker only where no model is there to prove itself.
        return NotNow() if suspected and sight.busy else sign

    def residency(self, instance: Instance) -> WorkerResidency | None:
        """Return what the worker holds, if it is still there."""
        workers = self._runtime.scheduler.workers
        return next((worker for worker in workers if worker.instance == instance), None)

    def load_s(self, instance: Instance, variant: Variant) -> float:
        """Return what a load of the model is expected to take there."""
        learned = self._runtime.scheduler.estimates.of(variant)
        return learned.load_s(instance.worker, learned.size_bytes or 0)

    async def _ask_token(self, instance: Instance, status: WorkerStatus) -> Sign:
        """Ask in a slot that is free now: which was free before the last question may not be any more."""
        worker = self.residency(instance)
        replica = None if worker is None else _free_replica(worker)
        if worker is None or replica is None:
            return NotNow()
        variant = replica.model.variant
        if not worker.view.ready:
            sign = await self._token(status, variant)
        else:
            try:
                async with self._runtime.lease(self._arrival(worker, variant)):
                    sign = await self._token(status, variant)
            except (RejectedError, HandedOverError):
                return NotNow()
        return sign if isinstance(sign, Alive) or not worker.busy else NotNow()  # it may just be slow

    def _arrival(self, worker: WorkerResidency, variant: Variant) -> Arrived:
        """Return a request for a slot of this worker, at once or never."""
        now = asyncio.get_running_loop().time()
        return Arrived(
            request=RequestId(f"health.{next(_numbers)}"),
            variant=variant,
            arrived_at=now,
            deadline=now + _AT_ONCE_S,
            avoid=frozenset(w.instance for w in self._runtime.scheduler.workers if w is not worker),
            tenant=_TENANT,
            probe=True,
        )

    async def _token(self, status: WorkerStatus, variant: Variant) -> Sign:
        row = self._fleet.roster.model_on(status.worker, variant)
        if row is None:
            return NotNow()
        patience_s = self.settings.probe_timeout + self.load_s(instance_of(status), variant)
        embeds = self._fleet.roster.embeds(variant)
        return await self._questions.token(
            status.base_url, row.name, variant, embeds=embeds, within_s=patience_s
        )

    def _sight(self, instance: Instance, *, suspected: bool) -> Sight:
        worker = self.residency(instance)
        if worker is None:
            return Sight(suspected=suspected, busy=0, loading_s=None)
        coming = worker.replicas.get(worker.coming) if worker.coming is not None else None
        loading = coming if coming is not None and coming.phase is LOADING else None
        now = asyncio.get_running_loop().time()
        return Sight(
            suspected=suspected,
            busy=worker.busy,
            loading_s=None if loading is None else now - loading.since,
            load_s=0.0 if loading is None else self.load_s(instance, loading.model.variant),
            has_free_slot=_free_replica(worker) is not None,
        )


def _free_replica(worker: WorkerResidency) -> Replica | None:
    """Return a model that is there and to stay, with a free slot for which nobody waits."""
    for replica in worker.replicas.values():
        leaving = replica.draining or replica.unload_asked or replica.resident is None
        is_free = len(replica.busy) < replica.slots and not replica.model.queue.waiting
        if replica.phase is RESIDENT and is_free and not leaving:
            return replica
    return None
