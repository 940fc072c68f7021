"""A central queue per model with late binding, and residency by least recent use: the usual way to do it.

A model has one replica. One that is waited for and resident nowhere takes the place of what was used least
recently, or, where that does not suffice, of busy models that are drained for it. Nothing is weighed
against a time to first token, so that models take turns under load.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import Final

from gateway.simulate.machine import Machine, Replica, Worker
from gateway.simulate.model import Model, Request
from gateway.simulate.policies.policy import Policy

_FIRST_SERVICE_S: Final = 5.0
_SERVICE_GAIN: Final = 0.1
_TICK_S: Final = 1.0
"""Loads are considered so often even when nothing happens: what waits grows older."""
_OLD_S: Final = 300.0
"""A model that waits longer than this comes first, oldest first; busy models that it takes the place of
must have been there for one load time."""
_DRAINED_SHARE: Final = 0.6
"""Of the mean service time: what an answer still takes when its model begins to drain."""
_DRAIN_COST: Final = 0.5
"""What a second of draining costs, against a second of waiting."""
_CROWD_COST: Final = 0.5
"""What each other active model costs, in seconds."""
_KEEP: Final = 1e-3
"""The scale of recency, which is small against draining."""


@dataclass(frozen=True, slots=True)
class _Victim:
    replica: Replica
    cost: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class _Swap:
    """A model that comes to a worker as soon as its victims are gone."""

    model: Model
    victims: tuple[Replica, ...]


class CentralLru(Policy):
    """Late binding, least recently used goes."""

    def __init__(self, machine: Machine, chance: Random) -> None:
        super().__init__(machine, chance)
        self._queues: dict[Model, deque[Request]] = {}
        self._service_s = dict.fromkeys(machine.models, _FIRST_SERVICE_S)
        self._swaps: dict[Worker, _Swap] = {}

    def arrived(self, request: Request) -> None:
        """Let it wait for a slot of its model, if only for no time."""
        self.wake_at = min(self.wake_at, self.machine.now + _TICK_S)
        self._queues.setdefault(request.model, deque()).append(request)
        self._bind(request.model)
        self._place()

    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:  # noqa: ARG002 -- lengths do not matter here
        """Use the slot, or the worker if it was waited for."""
        served_s = self.machine.now - self.machine.granted_at(request)
        self._service_s[request.model] += _SERVICE_GAIN * (served_s - self._service_s[request.model])
        self._unload_drained(worker)
        self._bind(request.model)
        self._place()

    def loaded(self, model: Model, worker: Worker) -> None:  # noqa: ARG002 -- protocol
        """Use the model."""
        self._bind(model)
        self._place()

    def unloaded(self, model: Model, worker: Worker) -> None:  # noqa: ARG002 -- protocol
        """Load what the room was made for."""
        swap = self._swaps[worker]
        if not any(victim.model in worker.replicas for victim in swap.victims):
            del self._swaps[worker]
            self.machine.load(swap.model, worker)

    def woken(self) -> None:
        """Look again: ages have grown."""
        self.wake_at = self.machine.now + _TICK_S
        self._place()

    # Slots ------------------------------------------------------------------------

    def _bind(self, model: Model) -> None:
        queue = self._queues.get(model)
        while queue and (worker := self._free_worker(model)) is not None:
            self.machine.start(queue.popleft(), worker)
        if not queue:
            self._queues.pop(model, None)

    def _free_worker(self, model: Model) -> Worker | None:
        """Return the worker with a free slot of the model where the fewest others compute."""
        options = []
        for worker in self.machine.workers:
            replica = worker.replicas.get(model)
            if replica is not None and replica.free_slots > 0 and not self._drains(worker, replica):
                others = len(worker.active) - (replica.running > 0)
                options.append((others, replica.running, worker.index, worker))
        return min(options)[3] if options else None

    def _drains(self, worker: Worker, replica: Replica) -> bool:
        swap = self._swaps.get(worker)
        return swap is not None and replica in swap.victims

    # Residency --------------------------------------------------------------------

    def _place(self) -> None:
        """Begin loads of the models that are waited for and neither there nor coming, weightiest first."""
        for model in sorted(filter(self._is_nowhere, self._queues), key=self._urgency):
            age_s = self.machine.now - self._queues[model][0].arrived_at
            best: tuple[float, int, Worker, tuple[Replica, ...]] | None = None
            for worker in self.machine.workers:
                option = self._option(model, worker, age_s)
                if option is not None and (best is None or option[:2] < best[:2]):
                    best = option
            if best is not None:
                self._begin(model, best[2], best[3])

    def _is_nowhere(self, model: Model) -> bool:
        for worker in self.machine.workers:
            swap = self._swaps.get(worker)
            replica = worker.replicas.get(model)
            if swap is not None and swap.model is model:
                return False
            if replica is not None and not self._drains(worker, replica):
                return False
        return True

    def _urgency(self, model: Model) -> tuple[float, int]:
        queue = self._queues[model]
        age_s = self.machine.now - queue[0].arrived_at
        if age_s >= _OLD_S:
            return -1e9 - age_s, model.index
        load_s = self.machine.workers[0].plan.speeds[model.index].load_s
        return -len(queue) * (age_s + load_s) / sqrt(model.size_bytes), model.index

    def _option(
        self, model: Model, worker: Worker, age_s: float
    ) -> tuple[float, int, Worker, tuple[Replica, ...]] | None:
        """Return what it costs to bring the model to the worker, and who goes for it."""
        if worker.loading is not None or worker in self._swaps or model in worker.replicas:
            return None
        victims = self._victims(model, worker, age_s)
        if victims is None:
            return None
        going = tuple(victim.replica for victim in victims)
        crowd = sum(replica not in going for replica in worker.active)
        cost = worker.plan.speeds[model.index].load_s + _CROWD_COST * crowd
        cost += sum(victim.cost for victim in victims)
        cost += max((victim.drain_s for victim in victims), default=0.0)
        return cost, worker.index, worker, going

    def _victims(self, model: Model, worker: Worker, age_s: float) -> list[_Victim] | None:
        """Return who goes for the model, the cheapest by the byte; None when not enough may go."""
        if not worker.can_ever_hold(model):
            return None
        allowed = (self._victim(worker, replica, age_s) for replica in worker.replicas.values())
        cheapest = sorted(
            (victim for victim in allowed if victim is not None),
            key=lambda victim: victim.cost / victim.replica.model.size_bytes,
        )
        chosen: list[_Victim] = []
        for victim in cheapest:
            if _fits(model, worker, chosen):
                break
            chosen.append(victim)
        if not _fits(model, worker, chosen):
            return None
        for victim in sorted(chosen, key=lambda victim: -self._keep(victim.replica)):
            others = [other for other in chosen if other is not victim]
            if _fits(model, worker, others):
                chosen = others
        return chosen

    def _victim(self, worker: Worker, replica: Replica, age_s: float) -> _Victim | None:
        keep = self._keep(replica)
        if not replica.running and replica.model not in self._queues:
            return _Victim(replica, keep, 0.0)
        tenure_s = self.machine.now - replica.since
        if age_s >= _OLD_S and tenure_s < worker.plan.speeds[replica.model.index].load_s:
            return None
        drain_s = self._service_s[replica.model] * _DRAINED_SHARE if replica.running else 0.0
        return _Victim(replica, keep + _DRAIN_COST * drain_s, drain_s)

    def _keep(self, replica: Replica) -> float:
        return _KEEP + _KEEP * replica.last_used / (self.machine.now + 1)

    def _begin(self, model: Model, worker: Worker, victims: tuple[Replica, ...]) -> None:
        if not victims:
            self.machine.load(model, worker)
            return
        self._swaps[worker] = _Swap(model, victims)
        self._unload_drained(worker)

    def _unload_drained(self, worker: Worker) -> None:
        """Let the victims go as soon as all of them are idle."""
        swap = self._swaps.get(worker)
        if swap is None or any(victim.running or victim.leaving for victim in swap.victims):
            return
        for victim in swap.victims:
            self.machine.unload(victim.model, worker)


def _fits(model: Model, worker: Worker, going: list[_Victim]) -> bool:
    freed = sum(victim.replica.model.size_bytes for victim in going)
    few = len(worker.replicas) - len(going) < worker.plan.max_loaded_models
    return few and worker.free_bytes + freed >= model.size_bytes
